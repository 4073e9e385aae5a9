"""All tolerances, and their reasons."""

import torch

# Two float32 forwards that sum the same products in another order: each of some hundred roundings
# of 6e-8 moves the output's scale by a little. Seen: 2e-7 to 2e-6 of the largest logit.
FLOAT32 = 1e-5

# In float32, how much further from float64 than eager PyTorch in the same dtype, in the mean: both
# add the same products, and how many one after the other is alike but not the same. Seen: 0.8 to
# 1.1, where 100,000 values and more are looked at.
FLOAT32_ERROR = 1.2

# The same for a layer of 768 inputs or more by itself: 768 products are added in a row, for speed,
# where eager adds 384. Seen: 1.35. Whole models stay below FLOAT32_ERROR.
FLOAT32_ERROR_OF_LONG_SUMS = 1.45

# Two similarities closer than this may be ordered differently by two float32 forwards, whose keys
# differ by about 1e-6 of their length. Seen: differences up to 1e-7 flipped, none above.
NEAR_TIE = 2e-6

# Of the images of a test, how many may have a near-tie among their hundreds of decisions.
NEAR_TIE_SHARE = 0.05

# Of 256: ATen and Pillow resize with integer weights of another number of bits, and each rounds
# twice, behind the rows and behind the columns. Seen: 2, and 0.01 in the mean.
PIXEL_LEVELS = 2.01
PIXEL_LEVELS_MEAN = 0.02


def assert_close(actual, expected, scale=None):
    """Equal within FLOAT32 of the largest magnitude expected."""
    assert actual.shape == expected.shape
    if expected.numel() == 0:
        return
    scale = expected.abs().max().item() if scale is None else scale
    error = (actual.double() - expected.double().to(actual.device)).abs().max().item()
    assert error <= FLOAT32 * scale, f"off by {error / scale:.1e} of the scale"


def assert_error_at_most_twice(actual, eager, exact):
    """In low precision: no further from float64 than twice eager PyTorch in the same dtype."""
    own = (actual.double() - exact).abs().mean().item()
    other = (eager.double() - exact).abs().mean().item()
    assert own <= 2 * other + 1e-9, f"off by {own:.2e}, eager by {other:.2e}"


def assert_as_exact_as_eager(actual, eager, exact, factor=FLOAT32_ERROR):
    """In float32: no further from float64 than ``factor`` times eager PyTorch."""
    own = (actual.double() - exact).abs().mean().item()
    other = (eager.double() - exact).abs().mean().item()
    assert own <= factor * other, f"off by {own:.2e}, eager by {other:.2e}"


def far_from_ties(margins: torch.Tensor) -> torch.Tensor:
    """The images [B] whose decisions were all clear; that nearly all are is checked."""
    clear = margins > NEAR_TIE
    near = (~clear).sum().item()
    allowed = 1 + NEAR_TIE_SHARE * len(margins)
    assert near <= allowed, f"{near} of {len(margins)} images with near-ties"
    return clear
