"""Some models of timm's registry, and the committed result of tools/registry.py."""

import json

import pytest
import registry


@pytest.mark.parametrize(
    "name",
    [
        "test_vit", "test_vit2", "test_vit3", "test_vit4", "vit_pwee_patch16_reg1_gap_256",
        "eva02_tiny_patch14_224", "vit_tiny_patch16_dinov3_qkvb",
    ],
)  # fmt: skip
def test_entries_equal_timm_and_the_reference(name):
    if name not in registry.names():
        pytest.skip(f"this timm has no {name}")
    row = registry.walk(name)
    assert row["built"] == row["depth"]
    assert max(row["dense"], row["merged"]) <= 1e-5
    assert row["tokens"][1] < row["tokens"][0]


def test_what_is_not_supported_is_refused_by_name():
    row = registry.walk("vit_small_patch16_18x2_224")
    assert "blocks of type ParallelThingsBlock is not supported" in row["refused"]


def test_large_models_are_built_with_fewer_blocks():
    depth, arguments = registry.depth_for("vit_giant_patch16_sapiens2")
    assert (depth, arguments) == (40, {"depth": 4, "num_kv_heads": (24, 12, 12, 24)})
    assert registry.depth_for("vit_large_patch16_224") == (24, {"depth": 11})
    assert registry.depth_for("vit_tiny_patch16_224") == (12, {})


def test_the_committed_walk_is_whole():
    result = json.loads(registry.RESULTS.read_text())
    rows = {row["model"]: row for row in result["rows"]}
    assert not [row for row in rows.values() if "failed" in row]
    vits = [rows[name] for name in rows if not name.startswith("deit")]
    run = [row for row in vits if "dense" in row]
    assert len(run) >= 0.95 * len(vits)
    assert all(max(row["dense"], row["merged"]) <= 1e-5 for row in run)
    if result["versions"]["timm"] == registry.timm.__version__:
        assert set(rows) == set(registry.names())
