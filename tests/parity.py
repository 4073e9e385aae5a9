"""Compares all results of a model with those of the reference."""

import os

import torch
from near_ties import recorded_margins
from tolerance import assert_close, far_from_ties

import dsm_ext
from dsm_ext import reference

# The stand-in computes the threads of a GPU one after another, so that time grows with the images.
MOST_IMAGES = 2 if "DSM_EXT_STAND_IN" in os.environ else 16


def compare(model, schedule, images):
    images = images[:MOST_IMAGES]
    fast = dsm_ext.from_timm(model, schedule)
    with recorded_margins() as margins:
        logits, source, size, location = reference.trace(model, images, fast.schedule)
    clear = torch.ones(len(images), dtype=torch.bool)
    if margins:
        clear = far_from_ties(torch.stack(margins).amin(0))
    trace = fast.trace(images)
    assert trace.source.dtype == torch.int32
    assert torch.equal(trace.source.long()[clear].cpu(), source[clear].cpu())
    assert torch.equal(trace.size[clear], size[clear])
    prefix = model.num_prefix_tokens
    assert trace.location.dtype == torch.float32
    assert trace.location[:, :prefix].isnan().all()
    assert_close(trace.location[clear, prefix:], location[clear, prefix:])
    assert_close(trace.logits[clear], logits[clear])
    assert_close(fast(images)[clear], logits[clear])
    features = reference.forward_features(model, images, fast.schedule)
    assert_close(fast.forward_features(images)[clear], features[clear])
    patches = model.patch_embed.num_patches
    assert (size.sum(1) == patches + prefix).all()
    assert fast.plan.tokens_out == size.shape[1]
    return fast
