"""Runs the parts of the study and draws their charts. docs/study.md shows the results.

    python -m benchmarks.study [PART ...] [--images DIR --model NAME --weights F]

The parts are delay, convergence, shift, meaning, limits and sharpness; without a name, all run.
The figures of PART go into PART.json and its chart into PART.png. What was measured is kept at
once: after a stop, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.common import RESULTS, ROOT
from benchmarks.study.common.kept import Kept
from benchmarks.study.common.part import PARTS, Study, module
from benchmarks.study.common.subject import Subject, add_arguments, open_subject
from dsm_ext.cli.output import write_json
from dsm_ext.environment import environment


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description="Tests the claims made for token merging."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all"
    )
    add_arguments(parser)
    parser.add_argument("--results", type=Path, default=RESULTS / "study", metavar="DIR")
    parser.add_argument(
        "--state", type=Path, default=ROOT / "build" / "study", metavar="DIR",
        help="where measured values are kept until all are there",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--draw", action="store_true", help="the charts alone, from the results")
    args = parser.parse_args(arguments)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"expected parts of {', '.join(PARTS)}, got {', '.join(unknown)}")
    parts = args.parts or list(PARTS)
    if not args.draw:
        subject = open_subject(args)
        parts = [part for part in parts if run(part, subject, args)]
    for part in parts:
        draw(part, args.results)
    return 0


def run(part: str, subject: Subject | None, args: argparse.Namespace) -> bool:
    """Measure a part and write its results. False if it needs a model and pictures."""
    if PARTS[part] and subject is None:
        print(
            f"{part}: skipped, because it needs a model and pictures: give --images DIR --model "
            "NAME --weights F, or set DSM_EXT_DATA",
            file=sys.stderr,
        )
        return False
    print(f"{part}:", flush=True)
    of = {"part": part, "processor": environment()["machine"]["processor"]}
    if PARTS[part] and subject is not None:
        of |= subject.fingerprint()
    path = args.state / f"{part}.json"
    if args.fresh:
        path.unlink(missing_ok=True)
        shutil.rmtree(args.state / part, ignore_errors=True)
    kept = Kept(path, of)
    study = Study(subject, kept, args.state / part)
    result = module(part, "measure").measure(study)
    about = {"part": part, "seconds": round(kept.seconds)}
    if PARTS[part] and subject is not None:
        about |= {"model": subject.name, "pictures": len(subject.images)}
    write_json(args.results / f"{part}.json", {**about, **result, **environment()})
    print(f"{part}: measured in {kept.seconds / 60:.1f} minutes", flush=True)
    return True


def draw(part: str, results: Path) -> None:
    """Draw the charts of a part from its results."""
    file = results / f"{part}.json"
    if not file.is_file():
        print(f"{part}: no results in {file}", file=sys.stderr)
        return
    png = file.with_suffix(".png")
    module(part, "chart").draw(json.loads(file.read_text()), png)
    print(png)


if __name__ == "__main__":
    sys.exit(main())
