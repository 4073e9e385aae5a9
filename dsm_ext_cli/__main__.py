"""Runs the command line: ``python -m dsm_ext_cli``."""

import sys

from dsm_ext_cli import main

if __name__ == "__main__":
    sys.exit(main())
