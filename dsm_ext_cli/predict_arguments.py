"""The arguments of ``dsm-ext predict``."""

from __future__ import annotations

import argparse
from pathlib import Path

OUTPUTS = ("embedding", "logits", "top5", "tokens")

TEXT = """Embeddings, logits, classes or tokens of many pictures, written as Parquet files.

Give the same command again after a stop, of whatever kind: it goes on where it was. A picture that
cannot be read or decoded is a row with its error in the column `error`, and the others go on.

SOURCE is a folder (with all folders below it), a glob, one picture, a text file with a path on each
line, Parquet files with a column of pictures or of paths, or tar archives (WebDataset). It may be
a URL, such as s3://BUCKET/FOLDER, that pyarrow or an installed package of fsspec can open.

OUT becomes a folder of Parquet files with the columns `key` (the picture's path, or --key-column),
`error`, and the outputs:
  embedding  the input of the classifier: a list of float32
  logits     a list of float32
  top5       top5_class, top5_score (probability), and top5_name if the classes have names
  tokens     the tokens after the last norm, with token_size (patches of each token) and
             token_source (each patch's token)

The exit status is 0 if all pictures have rows, also if some have errors, and 130 after Ctrl-C.
"""


def outputs(text: str) -> tuple[str, ...]:
    """Names of outputs separated by commas."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in OUTPUTS:
            raise argparse.ArgumentTypeError(
                f"expected outputs of {', '.join(OUTPUTS)}, got {name!r}"
            )
    return names


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that no other command has."""
    parser.add_argument("--images", metavar="SOURCE", nargs="+", required=True)
    parser.add_argument(
        "-o", "--out", metavar="OUT", required=True, help="a folder, or a URL; goes on if it exists"
    )
    parser.add_argument(
        "--output", dest="outputs", type=outputs, default=("embedding",), metavar="NAMES",
        help="any of embedding,logits,top5,tokens; default: embedding",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=32, help="default: %(default)s")
    parser.add_argument(
        "--float16", action="store_true", help="write embeddings and tokens as float16"
    )
    parser.add_argument(
        "--retry-errors", action="store_true", help="do pictures anew that have an error in OUT"
    )
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="S",
        help="seconds in which a picture must be read and decoded; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--max-pixels", type=int, default=179_000_000, metavar="N",
        help="larger pictures are errors; 0: no limit; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--image-column", metavar="C", help="of Parquet: the column of pictures or paths"
    )
    parser.add_argument("--key-column", metavar="C", help="of Parquet: the column of keys")
    parser.add_argument(
        "--workers", type=int, metavar="N",
        help="models that run at the same time, each with its share of the threads; default: 1, "
        "with --ray as many as fit",
    )  # fmt: skip
    parser.add_argument(
        "--decoders", type=int, metavar="N",
        help="processes that decode pictures; default: as many as threads",
    )  # fmt: skip
    parser.add_argument(
        "--shard-seconds", type=float, default=60, metavar="S",
        help="finish a file at least this often: a killed run loses no more; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--json", metavar="F", type=Path, help="also write a summary to this file")
    ray = parser.add_argument_group("on a Ray cluster")
    ray.add_argument(
        "--ray", metavar="ADDRESS",
        help="local (starts Ray on this machine), auto, or HOST:PORT of a cluster",
    )  # fmt: skip
    ray.add_argument(
        "--cpus-per-worker", type=float, default=2, metavar="N", help="default: %(default)s"
    )
    ray.add_argument(
        "--gpus-per-worker", type=float, default=0, metavar="N", help="default: %(default)s"
    )
