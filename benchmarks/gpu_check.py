"""Every CUDA kernel of ours once, on awkward sizes: what compute-sanitizer looks at."""

import torch

import dsm_ext

for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for tokens, channels, windows in ((197, 64, None), (50, 24, [25, 12, 12]), (3, 1, None)):
        x = torch.randn(3, tokens, channels, device="cuda", dtype=dtype)
        size = torch.ones(3, tokens, device="cuda")
        r = 1 if windows or tokens < 10 else 49
        destination = dsm_ext.match(x, r, prefix=1, windows=windows)
        left = tokens - r * (len(windows) if windows else 1)
        merged, sizes = dsm_ext.merge(x, size, destination, left)
        back = dsm_ext.unmerge(merged, destination)
        assert back.shape == x.shape
        assert sizes.sum().item() == size.sum().item()
torch.cuda.synchronize()
print("checked")
