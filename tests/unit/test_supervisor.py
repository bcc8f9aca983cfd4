"""Killing what a run left, and nothing else."""

import subprocess
import sys

import pytest

from pytest_ductaflow.engines import launcher

pytestmark = pytest.mark.skipif(not launcher.available(), reason="Linux only")

SCRIPT = """
import os, signal
from pytest_ductaflow.engines.supervisor import kill_descendants

def child(group):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    os.setpgid(pid, group)
    return pid

kept = child(0)
stray, other = child(kept), child(0)
assert kill_descendants(frozenset({kept}))
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (stray, other)] == [-9, -9]
assert not kill_descendants(frozenset({kept}))
print(os.waitpid(kept, os.WNOHANG))
os.kill(kept, signal.SIGKILL)
"""


def test_a_stray_in_the_group_of_one_that_stays_is_killed_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("(0, 0)\n", 0), done.stderr
