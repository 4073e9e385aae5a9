"""The commands of ``dsm-ext`` and their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dsm_ext_cli import analyze_arguments, predict_arguments
from dsm_ext_cli.argument_types import image_size, integers, precision, precisions, schedules


def _add_model(parser: argparse.ArgumentParser, weights: bool = True) -> None:
    """Add the arguments that ``dsm_ext.cli.open_model`` reads."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a timm name, such as deit_small_patch16_224; or a folder that `export` wrote or the "
        "model hub has, or its model.safetensors",
    )
    named = parser.add_argument_group("with a timm name")
    if weights:
        named.add_argument("--weights", metavar="F", help=".safetensors, .pt or .pth file")
        named.add_argument(
            "--pretrained", action="store_true", help="the weights that timm downloads"
        )
        named.add_argument(
            "--weights-prefix", metavar="P", help="the prefix of the model's names in F"
        )
        named.add_argument(
            "--no-ema",
            action="store_true",
            help="take the trained weights of F, not their moving average",
        )
    named.add_argument(
        "--img-size", type=image_size, metavar="N", help="a side in pixels, or HEIGHTxWIDTH"
    )
    named.add_argument(
        "--num-classes", type=int, metavar="N", help="0: no head, the model gives features"
    )
    named.add_argument("--in-chans", type=int, metavar="N", help="channels of the images")
    named.add_argument("--global-pool", metavar="POOL", help='token, avg, map or ""')


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--schedule", help="default: the folder's, or dsm")


def _add_schedules(parser: argparse.ArgumentParser, usual: str) -> None:
    parser.add_argument(
        "--schedule",
        type=schedules,
        help=f'one or several, such as "dense dsm:r=16"; default: {usual}',
    )


PRECISION = "what the CPU's products take: float32, bfloat16, int8 or auto (the fastest here)"


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", type=precision, help=f"{PRECISION}; default: the model's")


def _add_precisions(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        type=precisions,
        help=f"one or several, such as int8,float32: {PRECISION}; default: the model's",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="of the weights"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="of the CPU; default: torch's own choice")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", type=Path, help="also write the result to this file")


def _add_chart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--chart",
        metavar="F",
        type=Path,
        help="also draw the errors against the measured time into this picture, such as x.png",
    )


def _plan(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, weights=False)
    _add_schedule(parser)


def _classify(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    _add_schedule(parser)
    _add_precision(parser)
    _add_run(parser)


def _show(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    _add_schedules(parser, "the folder's, or dsm")
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="created if it does not exist",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also draw the class token's attention in the last block, head by head",
    )
    parser.add_argument(
        "--locations",
        action="store_true",
        help="mark in the sheet where each merged token is: the mean of its patches' centres",
    )
    _add_precision(parser)
    _add_run(parser)


def _eval(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--images",
        metavar="DIR",
        required=True,
        help="a folder for each class, or file names that start with a WordNet id",
    )
    _add_schedules(parser, "the folder's, or dsm")
    parser.add_argument("--batch", type=int, default=16, help="default: %(default)s")
    _add_precisions(parser)
    _add_run(parser)
    _add_json(parser)
    _add_chart(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    predict_arguments.add(parser)
    _add_schedule(parser)
    _add_precision(parser)
    _add_run(parser)


def _tune(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--images", metavar="DIR", required=True, help="a folder with pictures; no labels needed"
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument(
        "--speedup", type=float, metavar="X", help="times fewer multiply-adds; default: 1.7"
    )
    target.add_argument("--gmacs", type=float, metavar="G", help="multiply-adds, in billions")
    target.add_argument(
        "--latency",
        type=float,
        metavar="MS",
        help="milliseconds of a forward of --batch pictures on this machine",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        help="pictures in the forward whose time counts; default: %(default)s",
    )
    parser.add_argument("--schedule", type=schedules, help="others to compare, one or several")
    parser.add_argument("--minutes", type=float, metavar="M", help="end the search after this time")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the order of the search; default: %(default)s"
    )
    parser.add_argument(
        "--state",
        metavar="F",
        type=Path,
        help="keep what was measured in this file, and go on from it",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=1000,
        metavar="N",
        help="use at most so many, evenly spread; default: %(default)s",
    )
    _add_precision(parser)
    _add_run(parser)
    _add_json(parser)
    _add_chart(parser)


def _analyze(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    analyze_arguments.add(parser)
    _add_json(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_schedule(parser)
    _add_precision(parser)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)


def _bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument(
        "--batch", type=integers, default=[1, 8], help="one or several; default: 1,8"
    )
    _add_schedules(parser, "dense, and the folder's or dsm")
    parser.add_argument(
        "--peers", help="any of timm,reference; default: both, if timm knows the model"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="only show where the time of our forward goes, by block and stage",
    )
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    _add_precisions(parser)
    _add_run(parser)
    _add_json(parser)


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("demo.png"), help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of timing; default: %(default)s")


SHOW = """Pictures of which patches merge, at the end and block by block.

sheet.png has a row for each picture: the input, then the tokens that each schedule leaves. If there
are more than eight pictures, there are several sheets: sheet-1.png and so on.
PICTURE-SCHEDULE.png shows one picture with one schedule: the input, then the tokens after each
block. A token is drawn as its patches in their mean colour.
--attention also draws PICTURE-SCHEDULE-attention.png: the picture, bright where the class token's
attention in the last block is high, for all heads together and for each head.
--locations marks the location of each merged token in the sheet by a dot. Rotary models turn the
queries and keys of a merged token by this location.
"""
TUNE = """Find the schedule of a wanted cost whose answers are nearest to the dense model's.

The pictures need no labels. One half of them chooses, the other half judges. The schedule is the
only text on stdout, so that another command can take it; all else goes to stderr:

  dsm-ext export MODEL --schedule "$(dsm-ext tune MODEL --images DIR --speedup 1.7)" -o folder
"""
# For each command: the module with its `run`, a function that adds its arguments, a line of help,
# and a description. These texts are not docstrings, because `python -OO` removes docstrings.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], str, str]] = {
    "plan": (
        "plan", _plan, "tokens and multiply-adds of each block",
        "What a schedule does to a model, block by block.",
    ),
    "classify": (
        "classify", _classify, "the five likeliest classes of pictures, dense and merged",
        "The five likeliest classes of each picture, dense and merged side by side.",
    ),
    "show": ("show", _show, "pictures of which patches merge", SHOW),
    "eval": (
        "evaluate", _eval, "accuracy of schedules on labelled pictures",
        "Accuracy of schedules and precisions on labelled pictures, compared with the dense model "
        "in the precision of its weights.",
    ),
    "predict": (
        "predict", _predict, "embeddings or classes of many pictures, as Parquet",
        predict_arguments.TEXT,
    ),
    "tune": ("tune", _tune, "a schedule for your model, found on pictures without labels", TUNE),
    "analyze": (
        "analyze", _analyze, "where a model can merge, block by block", analyze_arguments.TEXT,
    ),
    "export": (
        "export", _export, "a folder that a C++ program loads",
        "Write model.safetensors and config.json, with the schedule. dsm_ext::load and "
        "dsm_ext.load read them.",
    ),
    "bench": (
        "bench", _bench, "images per second, compared with peers",
        "Images per second, compared with timm (eager and dense) and with the reference (the same "
        "schedule in plain PyTorch). All take turns.",
    ),
    "demo": (
        "demo", _demo, "the methods side by side on digits",
        "Dense, ToMe, DFE and DSM side by side on handwritten digits.",
    ),
}  # fmt: skip
