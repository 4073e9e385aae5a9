"""``Predictor``: its outputs are the model's own for the same pixels, from every kind of model."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from models import prepared, small
from safetensors.torch import save_file
from test_precision import low
from timm.models.vision_transformer import ParallelScalingBlock
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import transform_for
from dsm_ext.predict.outputs import Outputs

SCHEDULE = "dsm:r=16,skip=1,local=2,window=7"
ALL = ("embedding", "logits", "top5", "tokens")


@pytest.fixture
def model():
    return dsm_ext.from_timm(prepared(), SCHEDULE)


def pixels_for(model, batch=3, seed=0):
    (height, width), channels = model.config.img_size, model.config.in_chans
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, height, width, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def expected(model, pixels):
    """The outputs by the model's own methods."""
    images = transform_for(model).normalise(pixels).to(next(model.parameters()).dtype)
    logits, _, features, size = model.forward_with_features(images)
    trace = model.trace(images)
    likely = logits.float().softmax(1).topk(min(5, logits.shape[1]))
    return {
        "embedding": model.forward_head(features, pre_logits=True, size=size),
        "logits": model(images), "top5_class": likely.indices, "top5_score": likely.values,
        "tokens": features, "token_size": size, "token_source": trace.source,
    }  # fmt: skip


def check(predictor, model, pixels):
    columns, wanted = predictor.pixels(pixels), expected(model, pixels)
    assert list(columns) == list(predictor.columns)
    for name, (shape, dtype) in predictor.columns.items():
        assert columns[name].shape == (len(pixels), *shape) and columns[name].dtype == dtype
        if dtype == "int32":
            assert np.array_equal(columns[name], wanted[name])
        else:
            assert_close(torch.from_numpy(columns[name]), wanted[name].float())
    return columns


KINDS = {
    "class token": {},
    "average": {"global_pool": "avg"},
    "average, prefix": {"global_pool": "avg", "fc_norm": False, "reg_tokens": 2},
    "attention": {"global_pool": "map", "class_token": False},
    "distilled": {"distilled": True},
    "parallel": {"block_fn": ParallelScalingBlock},
    "three classes": {"num_classes": 3},
    "grey, not square": {"in_chans": 1, "img_size": (56, 28)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "outputs",
    ["embedding", "logits", "top5", "tokens", "embedding,top5", "logits,tokens", ",".join(ALL)],
)
def test_outputs_are_the_models_own(kind, outputs):
    model = dsm_ext.from_timm(prepared(**KINDS[kind]), SCHEDULE)
    predictor = dsm_ext.Predictor(model, outputs=outputs)
    columns = check(predictor, model, pixels_for(model))
    assert {name.partition("_")[0].replace("token", "tokens").replace("tokenss", "tokens")
            for name in columns} == set(outputs.split(","))  # fmt: skip
    assert predictor.pixels(pixels_for(model, 0)).keys() == columns.keys()


def test_a_model_without_classes_gives_its_features():
    model = dsm_ext.from_timm(prepared(num_classes=0), SCHEDULE)
    predictor = dsm_ext.Predictor(model)
    pixels = pixels_for(model)
    assert predictor.class_names is None
    assert_close(
        torch.from_numpy(predictor.pixels(pixels)["embedding"]),
        model(transform_for(model).normalise(pixels)),
    )


def test_pixels_are_normalised_with_the_same_bits(model, monkeypatch):
    predictor = dsm_ext.Predictor(model)
    pixels = torch.arange(256, dtype=torch.uint8).repeat(56 * 56 * 3 // 256 + 1)[: 56 * 56 * 3]
    pixels = pixels.view(1, 56, 56, 3)
    seen = []
    monkeypatch.setattr(Outputs, "__call__", lambda self, images: seen.append(images) or {})
    predictor.pixels(pixels)
    assert torch.equal(seen[0], transform_for(model).normalise(pixels))


def test_tokens_can_be_unmerged(model):
    columns = dsm_ext.Predictor(model, outputs="tokens").pixels(pixels_for(model))
    dense = model.forward_features(
        transform_for(model).normalise(pixels_for(model)), dense=True
    ).numpy()
    assert columns["tokens"].shape[1] == model.plan.tokens_out < model.plan.tokens_dense
    for row in range(3):
        source = columns["token_source"][row]
        assert np.array_equal(columns["tokens"][row][source], dense[row, 1:])
        assert np.array_equal(
            columns["token_size"][row][1:], np.bincount(source, minlength=model.plan.tokens_out)[1:]
        )


@pytest.mark.parametrize("precision", [low("bfloat16"), low("int8")])
def test_precisions(model, precision):
    predictor = dsm_ext.Predictor(model, precision=precision, outputs="embedding,logits")
    assert predictor.precision == precision and model.precision == "float32"
    pixels = pixels_for(model)
    columns = predictor.pixels(pixels)
    model.precision = precision
    images = transform_for(model).normalise(pixels)
    assert_close(torch.from_numpy(columns["embedding"]), model.forward_with_features(images).pooled)
    difference = np.abs(columns["logits"] - model(images).numpy()).max()
    assert difference < 0.02 * np.abs(columns["logits"]).max()  # our head is in float32
    alone = dsm_ext.Predictor(model, outputs="logits")
    assert torch.equal(torch.from_numpy(alone.pixels(pixels)["logits"]), model(images))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_weights_in_low_precision(model, dtype):
    predictor = dsm_ext.Predictor(model, dtype=dtype, outputs=ALL)
    dtype = torch.bfloat16 if dtype == "bfloat16" else dtype
    pixels = pixels_for(model)
    wanted = expected(copy.deepcopy(model).to(dtype), pixels)
    columns = predictor.pixels(pixels)
    assert columns["tokens"].dtype == columns["logits"].dtype == np.float32
    assert np.array_equal(columns["tokens"], wanted["tokens"].float())
    assert np.array_equal(columns["token_source"], wanted["token_source"])
    assert next(model.parameters()).dtype == torch.float32


def test_embeddings_in_half_precision(model):
    predictor = dsm_ext.Predictor(model, embedding_dtype="float16", outputs="embedding,tokens")
    columns = predictor.pixels(pixels_for(model))
    wanted = expected(model, pixels_for(model))
    for name in ("embedding", "tokens"):
        assert np.array_equal(columns[name], wanted[name].half()), name
    assert columns["token_size"].dtype == np.float32


def test_names_of_classes(model):
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": [f"n{i}" for i in range(10)]}
    predictor = dsm_ext.Predictor(model, outputs="top5,embedding")
    assert predictor.columns["top5_name"] == ((5,), "str")
    columns = predictor.pixels(pixels_for(model))
    assert columns["top5_name"].tolist() == [
        [f"n{i}" for i in row] for row in columns["top5_class"].tolist()
    ]
    assert predictor.class_names == [f"n{i}" for i in range(10)]


def test_the_given_model_stays_as_it_is(model):
    images = torch.randn(2, 3, 56, 56)
    before = model(images)
    dsm_ext.Predictor(model, schedule="dense", dtype="bfloat16").pixels(pixels_for(model))
    dsm_ext.Predictor(model).pixels(pixels_for(model))
    assert torch.equal(model(images), before)
    assert model.config.num_classes == 10 and len(model.state_dict()["head.weight"]) == 10


def test_the_weights_are_freed(model):
    predictor = dsm_ext.Predictor(model, outputs=ALL)
    assert predictor._outputs.model._core.frozen
    assert not dsm_ext.Predictor(
        dsm_ext.from_timm(prepared(block_fn=ParallelScalingBlock))
    )._outputs.model._core.frozen


def test_streams_give_a_result_for_each_batch_in_order(model):
    predictor = dsm_ext.Predictor(model)
    batches = [pixels_for(model, n, n) for n in (2, 0, 3, 1)]
    results = list(predictor.stream(iter(batches)))
    for result, batch in zip(results, batches, strict=True):
        assert np.array_equal(result["embedding"], predictor.pixels(batch)["embedding"])


# Where the model comes from


@pytest.fixture
def folder(model, tmp_path):
    model.precision = "auto"
    dsm_ext.export(model, tmp_path / "folder")
    return tmp_path / "folder"


def test_folders_and_files_keep_their_schedule_and_precision(model, folder):
    pixels = pixels_for(model)
    for path in (folder, str(folder / "model.safetensors")):
        predictor = dsm_ext.Predictor(path, outputs=ALL)
        assert predictor.schedule == model.schedule and predictor.precision == model.precision
        images = transform_for(model).normalise(pixels)
        tokens = torch.from_numpy(predictor.pixels(pixels)["tokens"])
        assert torch.equal(tokens, model.forward_features(images))
    other = dsm_ext.Predictor(folder, schedule="dense", precision="float32")
    assert other.schedule == dsm_ext.Schedule.parse("dense", 4) and other.precision == "float32"


def test_names_of_timms_with_a_weight_file(deit_tiny, deit_tiny_file):
    predictor = dsm_ext.Predictor(
        "deit_tiny_patch16_224", weights=deit_tiny_file, schedule="dense", outputs="logits"
    )
    assert predictor.size == (224, 224, 3)
    pixels = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        wanted = deit_tiny(transform_for(deit_tiny).normalise(pixels))
    assert_close(torch.from_numpy(predictor.pixels(pixels)["logits"]), wanted)


def test_options_go_with_names(tmp_path):
    model = prepared(img_size=224, patch_size=16, embed_dim=192, depth=12, num_heads=3)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    predictor = dsm_ext.Predictor(
        "deit_tiny_patch16_224", weights=tmp_path / "a.safetensors", num_classes=10, img_size=208,
        outputs="logits",
    )  # fmt: skip
    assert predictor.size == (208, 208, 3) and predictor.columns["logits"] == ((10,), "float32")
    assert predictor.schedule == dsm_ext.Schedule.parse("dsm", 12)


def test_models_of_timms(model):
    source = prepared()
    check(dsm_ext.Predictor(source, schedule=SCHEDULE), dsm_ext.from_timm(source, SCHEDULE),
          pixels_for(model))  # fmt: skip


def test_folders_of_transformers(saved, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    saved(transformers.ViTForImageClassification(config).eval())
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    predictor = dsm_ext.Predictor(tmp_path, schedule="dense", outputs="embedding,logits")
    model = dsm_ext.from_transformers(tmp_path, "dense")
    check(predictor, model, pixels_for(model))


@pytest.mark.parametrize(
    "error, message, arguments",
    [
        (ValueError, "expected either weights=FILE or pretrained=True",
         {"model": "deit_tiny_patch16_224"}),
        (ValueError, "timm has no model named 'nothing'", {"model": "nothing", "weights": "a"}),
        (FileNotFoundError, "no such folder or file: not/there", {"model": "not/there"}),
        (TypeError, "a name, a path or a model, got 3", {"model": 3}),
        (ValueError, "expected dtype to be one of float32, bfloat16, float16, got 'int8'",
         {"dtype": "int8"}),
        (ValueError, "expected device to be one that torch knows, got 'gpu'", {"device": "gpu"}),
        (ValueError, "embedding, logits, top5, tokens, got 'logit'", {"outputs": ["logit"]}),
        (ValueError, "embedding, logits, top5, tokens, got none", {"outputs": ()}),
        (ValueError, "embedding_dtype to be float32 or float16, got 'int8'",
         {"embedding_dtype": "int8"}),
        (ValueError, "expected threads to be positive, got 0", {"threads": 0}),
        (ValueError, "has its own weights and shape: drop weights, num_classes",
         {"weights": "a.safetensors", "num_classes": 3}),
        (ValueError, "expected r of block 1 to be in", {"schedule": "dsm:r=1000"}),
        (TypeError, "unexpected keyword", {"model": "vit", "pretrained": True, "colour": 3}),
    ],
)  # fmt: skip
def test_bad_arguments(model, error, message, arguments):
    with pytest.raises(error, match=message):
        dsm_ext.Predictor(**{"model": model} | arguments)


def test_bad_models(model, folder, tmp_path):
    with pytest.raises(ValueError, match="has its own weights and shape: drop img_size"):
        dsm_ext.Predictor(folder, img_size=64)
    (tmp_path / "a.pth").touch()
    with pytest.raises(ValueError, match="got the file .*a.pth; the weights of a timm model"):
        dsm_ext.Predictor(tmp_path / "a.pth")
    features = dsm_ext.from_timm(prepared(num_classes=0))
    with pytest.raises(ValueError, match="a model with classes for the output top5"):
        dsm_ext.Predictor(features, outputs="embedding,top5")
    tokens = dsm_ext.from_timm(prepared(num_classes=0, global_pool=""))
    with pytest.raises(ValueError, match="a model that pools its tokens"):
        dsm_ext.Predictor(tokens)
    assert dsm_ext.Predictor(tokens, outputs="tokens").columns["token_source"] == ((196,), "int32")
    with pytest.raises(ValueError, match="how pictures are prepared for this model is not known"):
        dsm_ext.Predictor(dsm_ext.from_timm(small()))
    with pytest.raises(ValueError, match="got a frozen one"):
        dsm_ext.Predictor(model.freeze())


@pytest.mark.parametrize(
    "error, pixels",
    [
        (ValueError, torch.zeros(1, 3, 56, 56, dtype=torch.uint8)),
        (ValueError, torch.zeros(56, 56, 3, dtype=torch.uint8)),
        (TypeError, torch.zeros(1, 56, 56, 3)),
        (TypeError, np.zeros((1, 56, 56, 3), np.uint8)),
    ],
)
def test_bad_pixels(model, error, pixels):
    with pytest.raises(error, match="dsm_ext.Predictor: expected pixels"):
        dsm_ext.Predictor(model).pixels(pixels)


# Processes


def test_arguments_and_predictors_can_be_pickled(model, folder):
    pixels = pixels_for(model)
    made = dsm_ext.Predictor(str(folder), outputs=ALL, embedding_dtype="float16")
    twin = pickle.loads(pickle.dumps(made))
    for name, column in twin.pixels(pixels).items():
        assert np.array_equal(column, made.pixels(pixels)[name])
    with pytest.raises(TypeError, match="cannot be pickled: give other processes the class"):
        pickle.dumps(dsm_ext.Predictor(model))


def test_a_spawned_process_takes_the_class_and_a_model(model):
    file = io.BytesIO()
    pickle.dump((dsm_ext.Predictor, model, pixels_for(model)), file)
    program = (
        "import pickle, sys; kind, model, pixels = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(kind(model).pixels(pixels)['embedding'].tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=file.getvalue(), capture_output=True, check=True
    )
    own = dsm_ext.Predictor(model).pixels(pixels_for(model))["embedding"]
    assert np.array_equal(np.frombuffer(done.stdout, np.float32).reshape(own.shape), own)


class _Ray:
    """A stand-in for the module of Ray in an actor's process."""

    def __init__(self, assigned, actor="a1"):
        self.assigned, self.actor = assigned, actor

    def is_initialized(self):
        return True

    def get_runtime_context(self):
        return self

    def get_actor_id(self):
        return self.actor

    def get_assigned_resources(self):
        return self.assigned


@pytest.mark.parametrize(
    "ray, given, threads",
    [
        (None, None, 1),
        (None, 2, 2),
        (_Ray({"CPU": 3.0}), None, 3),
        (_Ray({"CPU": 3.0}), 2, 2),
        (_Ray({"CPU": 0.5}), None, 1),
        (_Ray({}), None, 1),
        (_Ray({"CPU": 3.0}, actor=None), None, 1),
    ],
)
def test_threads(model, monkeypatch, ray, given, threads):
    monkeypatch.setitem(sys.modules, "ray", ray)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        dsm_ext.Predictor(model, threads=given)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
def test_a_gpu_that_ray_assigned_is_not_left_unused(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", _Ray({"GPU": 1.0}))
    with pytest.raises(ValueError, match="no CUDA device is present for device cuda"):
        dsm_ext.Predictor(model)
    assert dsm_ext.Predictor(model, device="cpu").device == torch.device("cpu")
