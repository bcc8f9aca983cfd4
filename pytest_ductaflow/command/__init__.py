"""The command ``ductaflow VERB``. It never runs instances: pytest does.

A verb is a module with ``add``, which declares its options, and ``run``, which does the work, prints to
stdout, and returns an exit status.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_ductaflow.command import prune
from pytest_ductaflow.errors import DuctaflowError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: those of the command line without the program's name; by default that of this process.
    :returns: 0, or 1 if something could not be done (stderr says what); 2 for a wrong command line.
    """
    parser = argparse.ArgumentParser(
        prog="ductaflow", description="Looks after the runs of a project. (To run instances, use pytest.)"
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    prune.add(verbs)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except DuctaflowError as error:
        print(f"ductaflow: {error}", file=sys.stderr)
        return 1
    return status
