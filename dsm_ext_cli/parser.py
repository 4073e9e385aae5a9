"""The parser of the command line."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from dsm_ext_cli.build_version import version
from dsm_ext_cli.commands import COMMANDS

FAILED = 2  # the exit status after bad input


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line without the usage, like all other errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(FAILED, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse's own method hides the errors of a full disk and a closed pipe
        stream = file or sys.stderr
        if message and stream is not None:
            stream.write(message)


class Version(argparse.Action):
    """``--version``: prints what CMake wrote into the package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        print(version())
        parser.exit()


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    whole = Parser(prog="dsm-ext", description="Delayed Spatial Merging for Vision Transformers.")
    whole.add_argument("--version", action=Version, nargs=0, help="show what was built and exit")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, add_arguments, line, text) in COMMANDS.items():
        form: Any = argparse.RawDescriptionHelpFormatter if "\n" in text else argparse.HelpFormatter
        command = commands.add_parser(name, help=line, description=text, formatter_class=form)
        add_arguments(command)
        command.set_defaults(module=module)
    return whole
