"""Many projects."""

import argparse
import sys
import time

from . import mutate
from .generated import forget


def main() -> int:
    """:returns: 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.mutations")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--each", type=int, default=50, help="steps with one project")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = failed = runs = 0
    started = time.monotonic()
    for seed in range(options.seed, options.seed + -(-options.steps // options.each)):
        try:
            runs += mutate(seed, options.each).runs
        except AssertionError as error:
            failed += 1
            print(f"{type(error).__name__}: {error}\n", flush=True)
        done += options.each
        forget()
    seconds = time.monotonic() - started
    print(f"{done} steps, {runs} runs, {failed} projects with a finding, {seconds:.0f} s")
    return min(failed, 1)


sys.exit(main())
