"""``dsm-ext export``: a folder that a C++ program loads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dsm_ext.cli import common
from dsm_ext.export import export
from dsm_ext.from_timm import from_timm


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="a folder that a C++ program loads",
        description="Write model.safetensors and config.json, which dsm_ext::load and "
        "dsm_ext.load read, schedule included.",
    )
    common.add_model(parser)
    parser.add_argument("--schedule", default="dsm", help="default: %(default)s")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    timm_model = common.trained_model(args)
    model = from_timm(timm_model, args.schedule)
    print(export(model, args.output, timm_model))
