"""``python -m pytest_ductaflow``: the command ``ductaflow``."""

import sys

from pytest_ductaflow.command import main

if __name__ == "__main__":
    sys.exit(main())
