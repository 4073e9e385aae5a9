"""Runs every CUDA kernel once on awkward sizes, for compute-sanitizer.

python -m benchmarks.gpu.check_kernels [DEVICE]
"""

import sys

import torch

import dsm_ext
from dsm_ext import _C

own = torch.ops.dsm_ext
DEVICE = sys.argv[1] if len(sys.argv) > 1 else "cuda"


def operators(tokens: int, channels: int, windows: list[int], dtype: torch.dtype) -> None:
    """Runs the public operators, and the operators of the forward that have a kernel."""
    x = torch.randn(3, tokens, channels, device=DEVICE, dtype=dtype)
    size = torch.ones(3, tokens, device=DEVICE)
    weight, bias = torch.randn(2, channels, device=DEVICE, dtype=dtype)
    r = len(windows) or (1 if tokens < 10 else tokens // 4)
    left = tokens - r
    destination = dsm_ext.match(x, r, prefix=1, windows=windows)
    merged, sizes = dsm_ext.merge(x, size, destination, left)
    assert dsm_ext.unmerge(merged, destination).shape == x.shape
    assert sizes.sum().item() == size.sum().item()
    keys = torch.randn(3, tokens, 3, 2, channels, device=DEVICE, dtype=dtype)[:, :, 1]
    destination = own._match_keys(keys.transpose(1, 2), None, r, 1, windows, None, None)
    penalty = torch.rand(3, tokens, device=DEVICE)
    own._match_keys(keys.transpose(1, 2), x, r, 1, windows, None, penalty)
    normed = own._merge_norm(x, None, destination, left, weight, bias, 1e-6, False)[1]
    assert own._norm(normed, weight, None, 1e-6, True).shape == normed.shape
    for width in (32, 64):
        q, k, v = torch.randn(3, tokens, 3, 2, width, device=DEVICE, dtype=dtype).permute(
            2, 0, 3, 1, 4
        )
        bias = torch.zeros(3, (tokens + 15) // 16 * 16, device=DEVICE, dtype=dtype)[:, None, None]
        assert own._attend(q[:, :, :left], k, v, bias[..., :tokens]).shape == (3, left, 2 * width)


def forward(dtype: torch.dtype) -> None:
    """Runs a small model with local and global steps: the third call replays a CUDA graph."""
    config = dsm_ext.Config(
        img_size=(56, 56), patch_size=(4, 4), embed_dim=64, depth=3, num_heads=2, mlp_dim=128
    )
    schedule = dsm_ext.Schedule.parse("dsm:r=16,skip=1,local=1", 3)
    shapes = _C.VisionTransformer(config, schedule).named_parameters()
    weights = {
        name: torch.randn(value.shape, device=DEVICE, dtype=dtype) * 0.1 for name, value in shapes
    }
    model = dsm_ext.VisionTransformer(config, schedule, weights)
    images = torch.randn(2, 3, 56, 56, device=DEVICE, dtype=dtype)
    with torch.inference_mode():
        for _ in range(3):
            assert model(images).isfinite().all()


for dtype in (torch.float32, torch.float16, torch.bfloat16):
    operators(197, 64, [], dtype)
    operators(50, 24, [25, 12, 12], dtype)
    operators(3, 1, [], dtype)
    operators(900, 80, [], dtype)  # more rows than fit into shared memory
    forward(dtype)
if DEVICE == "cuda":
    torch.cuda.synchronize()
print("checked")
