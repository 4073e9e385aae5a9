"""Tests of GPUs that no machine here has: the stand-in can pretend to be one."""

import os

import pytest
import torch
from models import images_for, small
from tolerance import assert_close

import dsm_ext

# run.sh sets both: the first where the stand-in runs, the second where it cannot.
MISSING = os.environ.get("DSM_EXT_STAND_IN_MISSING", "needs the stand-in: run make stand-in")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif("DSM_EXT_STAND_IN" not in os.environ, reason=MISSING),
]


def test_an_old_gpu_is_named(monkeypatch):
    monkeypatch.setenv("DSM_EXT_STAND_IN_CAPABILITY", "7")
    with pytest.raises(NotImplementedError, match=r"capability 8\.0 or newer, got 7\.0"):
        dsm_ext.match(torch.zeros(1, 5, 2, device="cuda"), 1)
    model = small().cuda()
    with pytest.raises(NotImplementedError, match=r"capability 8\.0 or newer, got 7\.0"):
        dsm_ext.from_timm(model, "dense")(images_for(model, 1).cuda())


def test_products_without_an_algorithm_are_atens(monkeypatch):
    monkeypatch.setenv("DSM_EXT_STAND_IN_NO_ALGORITHM", "1")
    for embed_dim in (24, 40):  # no other test has chosen an algorithm for these shapes
        model = small(embed_dim=embed_dim)
        images = images_for(model, 2)
        expected = dsm_ext.from_timm(model, "dsm:r=16")(images)
        fast = dsm_ext.from_timm(model.cuda(), "dsm:r=16")
        for _ in range(4):
            assert_close(fast(images.cuda()).cpu(), expected)
