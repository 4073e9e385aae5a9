"""The tolerances of all tests, and their reasons."""

import torch

# The largest difference of two float32 forwards, in units of the largest value. Both sum the same
# products in another order, with some hundred roundings of 6e-8. Seen: 2e-7 to 2e-6.
FLOAT32 = 1e-5

# The fast path's mean error in float32 against float64, in units of eager PyTorch's mean error.
# Both add the same products, but not equally many of them in a row. Seen: 0.8 to 1.1, in tests of
# 100,000 values and more.
FLOAT32_ERROR = 1.2

# The same for a single layer with 768 inputs or more. For speed the fast path adds 768 products in
# a row, where eager PyTorch adds 384. Seen: 1.35. Whole models stay below FLOAT32_ERROR.
FLOAT32_ERROR_OF_LONG_SUMS = 1.45

# Two float32 forwards may order two similarities differently if their difference is smaller than
# this: the keys differ by about 1e-6 of their length. Seen: such flips at differences up to 1e-7.
NEAR_TIE = 2e-6

# The largest share of a test's images that may have a near-tie among hundreds of decisions.
NEAR_TIE_SHARE = 0.05

# bfloat16 and int8 against the reference that rounds at the same places. Before a rounding, the two
# differ by about 1e-6, because they add in another order. So two values near the middle of a
# rounding step may be rounded apart by one step: a quantum flips. Results without a flip are equal
# within FLOAT32. A flip changes what follows it by up to a rounding step, so that more may flip. At
# most, results differ as much as by all their rounding errors: FLIPPED, in units of the largest
# value. The reference in float64 differs from the reference in float32 in the same way.
# Seen with 4 blocks of 128 channels: 0.0026 in bfloat16, 0.013 in int8. Errors: 0.003, 0.016.
FLIPPED = {"bfloat16": 0.006, "int8": 0.03}

# The mean difference from that reference, in units of the mean rounding error, over all features
# of timm's models. A rounding that is left out, or made elsewhere, gives about 1. Seen: in bfloat16
# 0.01, 0.04, 0.1; in int8 0.03, 0.1, 0.2 with 1, 2 and 4 blocks.
FLIPPED_MEAN = {1: 0.1, 2: 0.25, 4: 0.4}

# Differences of two resized pictures, in levels from 0 to 255. ATen and Pillow use integer weights
# with different numbers of bits, and round after the rows and after the columns. Seen: 2; 0.01 in
# the mean.
PIXEL_LEVELS = 2.01
PIXEL_LEVELS_MEAN = 0.02


def assert_close(actual, expected, scale=None):
    """The largest difference is at most FLOAT32 of the largest expected value, or of ``scale``."""
    assert actual.shape == expected.shape
    if expected.numel() == 0:
        return
    scale = expected.abs().max().item() if scale is None else scale
    error = (actual.double() - expected.double().to(actual.device)).abs().max().item()
    assert error <= FLOAT32 * scale, f"off by {error / scale:.1e} of the scale"


def assert_error_at_most_twice(actual, eager, exact):
    """The mean error against float64 is at most twice that of eager PyTorch in the same dtype."""
    own = (actual.double() - exact).abs().mean().item()
    other = (eager.double() - exact).abs().mean().item()
    assert own <= 2 * other + 1e-9, f"off by {own:.2e}, eager by {other:.2e}"


def assert_as_exact_as_eager(actual, eager, exact, factor=FLOAT32_ERROR):
    """The mean error against float64 is at most ``factor`` times that of eager PyTorch."""
    own = (actual.double() - exact).abs().mean().item()
    other = (eager.double() - exact).abs().mean().item()
    assert own <= factor * other, f"off by {own:.2e}, eager by {other:.2e}"


def far_from_ties(margins: torch.Tensor) -> torch.Tensor:
    """A mask [B] of the images without a near-tie. Nearly all images must be without one."""
    clear = margins > NEAR_TIE
    near = (~clear).sum().item()
    allowed = 1 + NEAR_TIE_SHARE * len(margins)
    assert near <= allowed, f"{near} of {len(margins)} images with near-ties"
    return clear
