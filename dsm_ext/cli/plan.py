"""``dsm-ext plan``: what a schedule does to a model, block by block."""

from __future__ import annotations

import argparse
from typing import Any

import torch

from dsm_ext._native import Schedule
from dsm_ext.cli import common
from dsm_ext.timm_features import config_of


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "plan", help="tokens and multiply-adds of each block", description=__doc__
    )
    common.add_model(parser, weights=False)
    parser.add_argument("--schedule", default="dsm", help="default: %(default)s")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    with torch.device("meta"):  # no weights are needed
        model = common.timm_model(args.model)
    config = config_of(model)
    plan = Schedule.parse(args.schedule, config.depth).plan(config)
    print(f"{args.model}, {args.schedule}\n{plan}", end="")
