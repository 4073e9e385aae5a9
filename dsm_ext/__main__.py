"""``python -m`` with this package runs the command line."""

import sys

from dsm_ext_cli import main

if __name__ == "__main__":
    sys.exit(main())
