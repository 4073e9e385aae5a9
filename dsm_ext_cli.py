"""The command line ``dsm-ext``: its arguments and its error messages.

This module is outside the package ``dsm_ext`` and imports it only when a command runs. Importing
torch takes seconds, and ``--help``, ``--version`` and wrong arguments must not wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

FAILED, INTERRUPTED, PIPE_CLOSED = 2, 130, 141  # the last two are what a shell reports


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


def version() -> str:
    """Version, torch, CUDA and compiler in one line. This does not import the package.

    Raises:
        ImportError: the package is not installed, or its compiled part is not built.
    """
    package = importlib.util.find_spec("dsm_ext")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "_build_info.py"
        if file.is_file():
            spec = importlib.util.spec_from_file_location("_dsm_ext_build_info", file)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module.text()
    raise ImportError(
        "dsm_ext is not built: its _build_info.py is missing; in a checkout run: "
        f"{sys.executable} -m pip install --no-build-isolation -e ."
    )


def schedules(text: str) -> list[str]:
    """Split a text at spaces and semicolons. (Commas separate the arguments of a schedule.)"""
    names = text.replace(";", " ").split()
    if not names:
        raise argparse.ArgumentTypeError("expected a schedule, got none")
    return names


def integers(text: str) -> list[int]:
    """Positive integers separated by commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise argparse.ArgumentTypeError(
            f"expected positive integers separated by commas, got {text!r}"
        )
    return values


def image_size(text: str) -> tuple[int, int]:
    """A side in pixels, or HEIGHTxWIDTH."""
    try:
        sides = [int(part) for part in text.lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise argparse.ArgumentTypeError(
            f"expected a side in pixels, such as 384, or HEIGHTxWIDTH, got {text!r}"
        )
    return sides[0], sides[-1]


def _add_model(parser: argparse.ArgumentParser, weights: bool = True) -> None:
    """Add the arguments that ``dsm_ext.cli.open_model`` reads."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a timm name, such as deit_small_patch16_224; or a folder of the model hub's layout, "
        "as `export` writes it, or its model.safetensors",
    )
    named = parser.add_argument_group("with a timm name")
    if weights:
        named.add_argument("--weights", metavar="F", help=".safetensors, .pt or .pth file")
        named.add_argument(
            "--pretrained", action="store_true", help="the weights that timm downloads"
        )
        named.add_argument(
            "--weights-prefix", metavar="P", help="what the model's names in F begin with"
        )
        named.add_argument(
            "--no-ema",
            action="store_true",
            help="of F, take the trained weights where their moving average is kept as well",
        )
    named.add_argument(
        "--img-size", type=image_size, metavar="N", help="a side in pixels, or HEIGHTxWIDTH"
    )
    named.add_argument("--num-classes", type=int, metavar="N", help="0: no head, features")
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


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, help="of torch; default: torch's own choice")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="F", type=Path, help="write the result there as well")


def _plan(parser: argparse.ArgumentParser) -> None:
    _add_model(parser, weights=False)
    _add_schedule(parser)


def _classify(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    _add_schedule(parser)
    _add_run(parser)


def _show(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+")
    _add_schedules(parser, "the folder's, or dsm")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="made if need be"
    )
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
    _add_run(parser)
    _add_json(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    _add_schedule(parser)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True)


def _bench(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--batch", type=integers, default=[1, 8], help="such as 1,8, the default")
    _add_schedules(parser, "dense, and the folder's or dsm")
    parser.add_argument(
        "--peers", help="any of timm,reference; default: both, where timm knows the model"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="instead, where the time of our forward goes, by block and stage",
    )
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    _add_run(parser)
    _add_json(parser)


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, default=Path("demo.png"), help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of timing; default: %(default)s")


SHOW = """Pictures of which patches merge, at the end and block by block.

Writes sheet.png, a row for each picture: the input, then the groups that each schedule ends with
(sheet-1.png and so on where there are more than eight pictures); and, for each picture and
schedule, PICTURE-SCHEDULE.png: the input, then the groups behind each block.
"""

# For each command: the module with its `run`, a function that adds its arguments, a line of help,
# and a description. These texts are not docstrings, because `python -OO` removes docstrings.
COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], str, str]] = {
    "plan": (
        "plan", _plan, "tokens and multiply-adds of each block",
        "What a schedule does to a model, block by block.",
    ),
    "classify": (
        "classify", _classify, "top five of pictures, dense beside merged",
        "The five likeliest classes of each picture, dense beside merged.",
    ),
    "show": ("show", _show, "pictures of which patches merge", SHOW),
    "eval": (
        "evaluate", _eval, "accuracy of schedules on labelled pictures",
        "Accuracy of schedules on labelled pictures, beside the dense model.",
    ),
    "export": (
        "export", _export, "a folder that a C++ program loads",
        "Write model.safetensors and config.json, which dsm_ext::load and dsm_ext.load read, "
        "schedule included.",
    ),
    "bench": (
        "bench", _bench, "images per second beside peers",
        "Images per second beside timm, which runs eagerly and dense, and beside the reference, "
        "which merges in plain PyTorch by the same schedule; all take turns.",
    ),
    "demo": (
        "demo", _demo, "the methods side by side on digits",
        "Dense, ToMe, DFE and DSM side by side on handwritten digits.",
    ),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status. 0: success. 1: some pictures could not be used. 2: bad input, which one
        line on stderr describes. 130: interrupted. 141: the reader of the output closed the pipe,
        as ``head`` does.
    """
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # else a closed pipe or full disk is reported at Python's exit
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except OSError as error:
        _drop_output()
        return _fail("dsm-ext", f"the output cannot be written: {error.strerror or error}")


def _run(arguments: Sequence[str] | None) -> int:
    prog = "dsm-ext"
    try:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # names of files and classes may be in any script
                stream.reconfigure(errors="backslashreplace")
        args = parser().parse_args(arguments)
        prog = f"dsm-ext {args.command}"
        return importlib.import_module(f"dsm_ext.cli.{args.module}").run(args) or 0
    except BrokenPipeError:
        raise
    except (ValueError, TypeError, RuntimeError, OSError, ImportError, MemoryError) as error:
        return _fail(prog, _one_line(error))
    except KeyboardInterrupt:
        return INTERRUPTED


def _one_line(error: BaseException) -> str:
    """The message of an error without the C++ frames that torch adds."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        place = error.filename or "the output"
        return f"{place} cannot be written: {error.strerror}"
    lines = [line.strip() for line in str(error).splitlines()]
    for i, line in enumerate(lines):
        if line.startswith(("Exception raised from ", "C++ CapturedTraceback")):
            lines = lines[:i]
            break
    return " ".join(line for line in lines if line) or type(error).__name__


def _fail(prog: str, message: str) -> int:
    print(f"{prog}: error: {message}", file=sys.stderr)
    return FAILED


def _drop_output() -> None:
    """Redirect the output to nothing, because Python flushes it at exit and would fail again."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)


if __name__ == "__main__":
    sys.exit(main())
