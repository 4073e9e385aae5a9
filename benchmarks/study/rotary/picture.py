"""Draws which patches merge in a rotary model, and where the merged tokens are.

    python -m benchmarks.study.rotary.picture dinov3=FILE [--output PICTURE]

``tools/train_digits.py --model KIND`` writes such a file. The picture has a row for some held-out
digits, and a column for each metric: the mean of the keys after their rotation, which is the
library's, and before it. A dot marks each token that holds several patches.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.common import RESULTS
from dsm_ext import Schedule, digits, reference
from dsm_ext.pictures import enlarge, sheet, to_image, visualize
from dsm_ext.reference import RotaryRule

SCHEDULE = "dsm:r=16,skip=2,local=5,window=7"
METRICS = {"rotated": "rotated keys (ours)", "unrotated": "keys before their rotation"}
DIGITS = [3, 11, 47]
GRID, SIDE = (14, 14), 308


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="KIND=FILE, such as dinov3=weights.safetensors")
    parser.add_argument("--output", type=Path, default=RESULTS / "rotary_groups.png")
    args = parser.parse_args()
    kind, _, file = args.weights.partition("=")
    model = digits.create_rotary_model(kind, Path(file))
    schedule = Schedule.parse(SCHEDULE, len(model.blocks))
    rows = []
    for image in digits.load_digits("test")[0][DIGITS]:
        large = enlarge((image + 1) / 2, GRID, SIDE).expand(3, -1, -1)
        row = [to_image(large)]
        for metric in METRICS:
            _, source, _, location = reference.trace(
                model, image[None], schedule, rotary=RotaryRule(metric)
            )
            row.append(visualize(large, source[0], GRID, location=location[0]))
        rows.append(row)
    sheet(rows, ["input", *METRICS.values()], SIDE).save(args.output)
    print(args.output)


if __name__ == "__main__":
    main()
