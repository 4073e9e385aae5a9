"""The command line: ``dsm-ext``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dsm_ext._native import build_info
from dsm_ext.cli import bench, classify, demo, evaluate, export, plan, show


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; bad input ends with one line on stderr and status 2."""
    parser = argparse.ArgumentParser(
        prog="dsm-ext", description="Delayed Spatial Merging for Vision Transformers."
    )
    parser.add_argument("--version", action="version", version=str(build_info()))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (plan, classify, show, evaluate, export, bench, demo):
        module.add_parser(commands)
    args = parser.parse_args(arguments)
    try:
        return args.run(args) or 0
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"dsm-ext {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
