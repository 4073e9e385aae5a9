"""``dsm-ext export``: a folder that a C++ program loads."""

from __future__ import annotations

import argparse
import sys

from dsm_ext.cli import common
from dsm_ext.cli.open_model import Opened, open_model
from dsm_ext.export import export


def run(args: argparse.Namespace) -> None:
    opened = open_model(args)
    common.check_output_folder(args.output, "--output")
    print(export(opened.model, args.output, _timm_beside(opened)))


def _timm_beside(opened: Opened) -> object:
    """timm's model, whose preprocessing and labels are exported; None where timm knows it not."""
    try:
        return opened.timm_model()
    except (ValueError, NotImplementedError) as error:
        print(f"exported without timm's preprocessing and labels: {error}", file=sys.stderr)
        return None
