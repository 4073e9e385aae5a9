"""``Predictor``: its outputs are the model's own for the same pixels."""

import copy

import numpy as np
import pytest
import torch
from models import prepared
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
