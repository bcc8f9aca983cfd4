"""The progress line, on a pseudo-terminal whose screen is emulated."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

pyte = pytest.importorskip("pyte")

if TYPE_CHECKING:
    from tests.conftest import Project

#: A run waits for the test, so that the line is on the screen when the test looks.
WAIT = """
import pathlib, time
print("noise")

# %%
while not pathlib.Path(config["go"]).exists():
    time.sleep(0.02)
if config.get("fails"):
    raise ValueError("on purpose")
"""


def _control_the_terminal() -> None:
    """Ctrl-C reaches this process, and those that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a shell's background job
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """pytest in a pseudo-terminal, and what is on its screen and was scrolled off it."""

    def __init__(
        self, project: Project, *options: str, columns: int = 100, lines: int = 24, **environment: str
    ) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000, ratio=1)
        self.stream = pyte.Stream(self.screen)
        self.raw = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {
            key: value for key, value in project.environment().items() if key not in ("COLUMNS", "PY_COLORS")
        }
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pytest",
                "-p",
                "no:hypothesispytest",
                "-p",
                "no:pytest_cov",
                "-p",
                "no:terminalprogress",
                *options,
            ],
            cwd=project.root,
            env={**kept, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=_control_the_terminal,
        )
        os.close(slave)

    def read(self, seconds: float = 0.05) -> bool:
        """Take what was written; whether it goes on."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has the other end any more
                return False
            text = self._decode(data)
            self.raw += text
            self.stream.feed(text)
            return bool(data)
        return True

    def until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Read until something is to be seen."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text
            assert self.read(), self.text

    def end(self, seconds: float = 60) -> str:
        """Read to the end; return all that stands on the screen and above it."""
        deadline = time.monotonic() + seconds
        while self.read(0.2):
            assert time.monotonic() < deadline, self.text
        self.process.wait(10)
        os.close(self._master)
        return self.text

    def type(self, data: bytes) -> None:
        """Type something."""
        os.write(self._master, data)

    def resize(self, columns: int) -> None:
        """Make it wider or narrower."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.lines, columns, 0, 0))
        self.screen.resize(columns=columns)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """What was scrolled off the screen, and what is on it."""
        above = [
            "".join(line[n].data for n in range(self.screen.columns)).rstrip()
            for line in self.screen.history.top
        ]
        return "\n".join([*above, *self.lines]).rstrip("\n")

    @property
    def line(self) -> str:
        """The progress line, if it is there."""
        return next((line for line in self.lines if re.match(r"\d+/\d+  |0/\d+", line)), "")


def plain(text: str) -> str:
    """A session's output without what differs from run to run."""
    text = re.sub(r"\d+\.\d+ ?s\b|\(\d:\d\d:\d\d\)", "T", text)
    text = re.sub(r"(=+) (.*) in T (=+)", r"= \2 in T =", text)
    text = re.sub(r"gw\d|\[ *\d+%\]", "#", text)
    return re.sub(r"slowest: .*", "slowest", text)


@pytest.fixture
def waits(project: Project) -> Project:
    project.flow("wait", WAIT)
    go = str(project.root / "go")
    project.instance("wait", scenarios={"n": [1, 2, 3]}, config={"go": go}, name="n{n}")
    project.instance("red", flow="flows/wait.py", config={"go": go, "fails": True})
    return project


def go(project: Project) -> None:
    project.write("go", "")


@pytest.mark.parametrize(
    ("options", "lines"),
    [((), 8), (("-v",), 60), (("-n", "2"), 60), (("-n", "2", "-v"), 8)],
    ids=["dots", "verbose", "xdist", "xdist-verbose"],
)
def test_the_line_is_below_and_nothing_is_left_of_it(
    waits: Project, options: tuple[str, ...], lines: int
) -> None:
    terminal = Terminal(waits, "instances", *options, lines=lines)
    terminal.until(lambda: "(cell" in terminal.line)
    assert terminal.line.startswith("0/4  running: ")
    place = terminal.lines.index(terminal.line)
    assert place > terminal.screen.cursor.y
    assert not any(terminal.lines[place + 1 :])
    go(waits)
    with_line = plain(terminal.end())
    assert not [word for word in ("running:", "(cell", " left") if word in with_line]
    without = Terminal(waits, "instances", "--ductaflow-force", *options, lines=lines, TERM="dumb")
    expected = plain(without.end())
    assert "\x1b" not in without.raw
    if "-n" in options:  # results come as workers have them
        assert sorted(map(sorted, with_line.splitlines())) == sorted(map(sorted, expected.splitlines()))
    else:
        assert with_line == expected


def test_the_line_says_how_far_it_is(waits: Project) -> None:
    go(waits)
    waits.run_apart("instances")
    (waits.root / "go").unlink()
    waits.instance("later", flow="flows/wait.py", config={"go": str(waits.root / "later")})
    waits.instance("a", flow="flows/wait.py", config={"go": str(waits.root / "pytest.ini")})
    terminal = Terminal(waits, "instances", "--ductaflow-force")
    terminal.until(lambda: terminal.line.startswith("1/6  ● 1  running: later (cell 4/4)"))
    waits.write("later", "")
    terminal.until(lambda: terminal.line.startswith("2/6  ● 2  running: red (cell 4/4)  about "))
    assert terminal.line.endswith(" left")
    assert "\x1b[32m● 2\x1b[0m" in terminal.raw
    go(waits)
    terminal.end()
    assert terminal.process.returncode == 1


def test_a_narrow_terminal_is_never_wrapped(waits: Project) -> None:
    waits.instance(
        "数据数据数据数据",
        flow="flows/wait.py",
        config={"go": str(waits.root / "go")},
        name="数据数据数据数据",
    )
    terminal = Terminal(waits, "instances", "-n", "4", columns=40, lines=12)
    terminal.until(lambda: terminal.line.startswith("0/5"))
    terminal.until(lambda: "running" in terminal.line)
    place = terminal.lines.index(terminal.line)
    assert not any(terminal.lines[place + 1 :])
    go(waits)
    assert "running" not in terminal.end()


def test_ctrl_c_leaves_nothing(waits: Project) -> None:
    terminal = Terminal(waits, "instances")
    terminal.until(lambda: "(cell" in terminal.line)
    terminal.type(b"\x03")
    text = terminal.end()
    assert terminal.process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in text
    assert "running:" not in text


def test_what_others_print_stands_where_it_would(waits: Project) -> None:
    waits.write(
        "conftest.py",
        """
import sys
def pytest_runtest_logreport(report):
    print("out", report.when)
    print("err", report.when, file=sys.stderr)
""",
    )
    terminal = Terminal(waits, "instances/red.json", lines=10)
    terminal.until(lambda: "(cell" in terminal.line)
    go(waits)
    with_line = terminal.end()
    expected = Terminal(waits, "instances/red.json", "--ductaflow-force", lines=10, TERM="dumb").end()
    assert "err call" in with_line
    assert plain(with_line) == plain(expected)


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        (("-s",), {}),
        (("-q",), {}),
        (("--pdb",), {}),
        ((), {"TERM": "dumb"}),
        ((), {"CI": "true"}),
        (("-p", "no:terminal"), {}),
        (("--collect-only",), {}),
        (("--ductaflow-explain",), {}),
    ],
    ids=str,
)
def test_otherwise_there_is_no_line(
    waits: Project, options: tuple[str, ...], environment: dict[str, str]
) -> None:
    waits.write(
        "conftest.py",
        "import threading\ndef pytest_runtest_logreport(): assert 'ductaflow-progress' not in {t.name for t in threading.enumerate()}\n",
    )
    go(waits)
    terminal = Terminal(waits, "instances/wait.json", *options, **environment)
    terminal.end()
    assert "\x1bD" not in terminal.raw
    assert terminal.process.returncode == 0


def test_a_session_without_instances_has_no_line(waits: Project) -> None:
    waits.write("test_slow.py", "import time\ndef test_slow(): time.sleep(0.6)\n")
    terminal = Terminal(waits, "test_slow.py")
    terminal.end()
    assert "\x1bD" not in terminal.raw


def test_a_breakpoint_has_the_terminal_for_itself(waits: Project) -> None:
    waits.write("test_stops.py", "def test_stops():\n    breakpoint()\n")
    go(waits)
    terminal = Terminal(waits, "instances/wait.json", "test_stops.py")
    terminal.until(lambda: "(Pdb)" in terminal.text)
    before = terminal.text
    deadline = time.monotonic() + 0.8
    while time.monotonic() < deadline:
        terminal.read()
    assert terminal.text == before
    terminal.type(b"c\n")
    assert "4 passed" in terminal.end()


def test_a_terminal_that_becomes_narrower_has_a_shorter_line(waits: Project) -> None:
    terminal = Terminal(waits, "instances", "-n", "4")
    terminal.until(lambda: "4/4), " in terminal.line)
    terminal.resize(40)
    terminal.until(lambda: 0 < len(terminal.line) < 40)
    assert "running" in terminal.line
    go(waits)
    assert "running" not in terminal.end()
