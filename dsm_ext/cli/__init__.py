"""The commands of ``dsm-ext``: a module with a ``run`` function for each command.

Their arguments are in ``dsm_ext_cli``, outside this package. It imports the module of a command
when the command runs.
"""

from dsm_ext_cli import main

__all__ = ["main"]
