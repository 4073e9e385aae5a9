"""``dsm-ext export``: write a folder that a C++ program loads."""

from __future__ import annotations

import argparse
import sys

from dsm_ext.cli.open_model import open_model
from dsm_ext.cli.output import check_output_folder
from dsm_ext.model.export import export


def run(args: argparse.Namespace) -> None:
    opened = open_model(args)
    check_output_folder(args.output, "--output")
    if opened.model._pretrained_cfg is None:
        print(
            f"{opened.name} does not say how pictures are prepared for it, so the folder will not "
            "say it either",
            file=sys.stderr,
        )
    print(export(opened.model, args.output))
