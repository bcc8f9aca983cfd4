"""Threads that libraries start when they are imported: ended before a fork, started again in it.

A fork takes only the thread that forks. BLAS libraries end theirs by themselves; of the others, those that
are here can be told to.
"""

from __future__ import annotations

import sys
from typing import Any


def end() -> None:
    """End the threads of libraries that start them again when asked to."""
    numexpr: Any = sys.modules.get("numexpr")
    if hasattr(numexpr, "set_num_threads"):
        numexpr.set_num_threads(1)


def start() -> None:
    """In a fork: start them again, as many as importing the library starts."""
    numexpr: Any = sys.modules.get("numexpr")
    if hasattr(numexpr, "set_num_threads"):
        numexpr.set_num_threads(numexpr.nthreads)
