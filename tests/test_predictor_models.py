"""Where the model of a ``Predictor`` comes from, bad arguments, and other processes."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from models import prepared, small
from safetensors.torch import save_file
from test_predictor import ALL, SCHEDULE, check, pixels_for
from tolerance import assert_close

import dsm_ext
from dsm_ext.images import transform_for


@pytest.fixture
def model():
    return dsm_ext.from_timm(prepared(), SCHEDULE)


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
