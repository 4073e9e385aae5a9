"""The commands of ``dsm-ext``: a module for each, with its ``run``.

Their arguments are in ``dsm_ext_cli``, a module beside this package, which imports one of these
when its command runs.
"""

from dsm_ext_cli import main

__all__ = ["main"]
