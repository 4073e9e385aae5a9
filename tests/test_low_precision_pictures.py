"""What bfloat16 and int8 change in the answers of DeiT-tiny for photographs in DSM_EXT_DATA."""

import pytest
import timm
import torch
from safetensors.torch import load_file
from test_precision import LOW

import dsm_ext
from dsm_ext.evaluate import Score
from dsm_ext.images import Batches, find_images, transform_for

NAME = "deit_tiny_patch16_224"
MERGING = "dsm:r=16"


@pytest.fixture(scope="module")
def scores(data):
    """For each precision and schedule, a comparison with the dense model in float32."""
    model = timm.create_model(NAME).eval()
    model.load_state_dict(load_file(data / f"{NAME}.safetensors"))
    pictures = Batches(find_images(data / "imagenet_samples"), transform_for(model), 20)
    chosen = [("float32", "dense"), ("float32", MERGING), *((name, "dense") for name in LOW)]
    chosen += [("int8", MERGING)] if "int8" in LOW else []
    fast = {key: dsm_ext.from_timm(model, key[1], precision=key[0]) for key in chosen}
    found = {key: Score() for key in fast}
    for images, _ in pictures:
        dense = fast["float32", "dense"](images)
        for key, score in found.items():
            logits = dense if key == ("float32", "dense") else fast[key](images)
            score.add(logits, dense, torch.zeros(len(images), dtype=torch.long))
    return {key: score.summary() for key, score in found.items()}


# KL in nats. Seen on 500 photographs: 99.8 % and 0.0001 in bfloat16, 98.6 % and 0.0010 in int8.
@pytest.mark.parametrize("precision, agreement, kl", [("bfloat16", 99, 5e-4), ("int8", 98, 3e-3)])
def test_dense_answers_stay(scores, precision, agreement, kl):
    if precision not in LOW:
        pytest.skip(f"the processor has no {precision}")
    score = scores[precision, "dense"]
    assert score["agreement"] >= agreement
    assert score["kl"] <= kl


@pytest.mark.skipif("int8" not in LOW, reason="the processor has no int8")
def test_int8_adds_little_to_what_merging_costs(scores):
    """Seen: 91.2 % of the answers, in float32 90.8 %; KL 0.077 and 0.074. Some other tokens merge,
    so that the difference varies: it was -0.002 for one half of the photographs, 0.008 for the
    other."""
    low, float32 = scores["int8", MERGING], scores["float32", MERGING]
    assert low["kl"] - float32["kl"] <= 0.01
    assert low["agreement"] >= float32["agreement"] - 1.5
