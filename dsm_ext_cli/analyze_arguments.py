"""The arguments of ``dsm-ext analyze``."""

from __future__ import annotations

import argparse
from pathlib import Path

TEXT = """Where a model can merge, block by block, measured on pictures without labels.

The table has a row for each block:
  partner, neighbours, strangers
                the mean cosine of patches' keys: to the partner that matching picks, to the four
                patches around, and to patches more than half of the picture apart
  distance, entropy
                how far the heads look, in patches, and how evenly (100 %: at all patches alike)
  change        the size of what one step of r tokens changes, over the size of the tokens
  KL, alone     what this step does to the answers, with all other blocks dense
  KL, noise     what noise of the same size does there
  amplified     how many times larger the relative change of the noise is at the end
A second table compares delays at equal multiply-adds. The last line suggests one, with a schedule
for --schedule, and says whether the pictures are enough to tell.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that no other command has."""
    parser.add_argument(
        "--images", metavar="DIR", required=True, help="a folder with pictures; no labels needed"
    )
    parser.add_argument(
        "--pictures", type=int, default=200, metavar="N",
        help="use at most so many, evenly spread; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--r", type=int, metavar="R",
        help="the tokens that one step merges; default: a twelfth of the patches",
    )  # fmt: skip
    parser.add_argument(
        "--speedup", type=float, default=1.7, metavar="X",
        help="of the delays: times fewer multiply-adds; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")
    parser.add_argument(
        "--chart", metavar="F", type=Path, help="also draw the figures into this picture"
    )
