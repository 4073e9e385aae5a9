"""The command line ``dsm-ext``: its arguments and its error messages.

This package is outside of ``dsm_ext`` and imports it only when a command runs. Importing torch
takes seconds, and ``--help``, ``--version`` and wrong arguments must not wait for it.
"""

from dsm_ext_cli.argument_types import integers, schedules
from dsm_ext_cli.build_version import version
from dsm_ext_cli.commands import COMMANDS
from dsm_ext_cli.run import main

__all__ = ["COMMANDS", "integers", "main", "schedules", "version"]
