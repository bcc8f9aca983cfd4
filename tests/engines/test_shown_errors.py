"""What a cell shows as an error is an error, also where the cell itself did not raise it."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Outcome
from .shown import OURS, PLAIN, execute_cells, sources

Run = Callable[..., Outcome]

#: The first cell writes the files that ``%run`` runs.
FILES = """
with open("helper.py", "w") as file:
    file.write("def f():\\n    raise ValueError('in the helper')\\n\\nf()\\n")
with open("leave.py", "w") as file:
    file.write("import sys\\nsys.exit(3)\\n")
"""
THING = "class Thing:\n    def {}(self):\n        raise KeyError('bad')\n"
BAD = "KeyError: 'bad'"
ZERO = "ZeroDivisionError: division by zero"


@dataclass(frozen=True)
class Shown:
    """A cell that shows an error.

    :param error: type and message, as the record has them.
    :param line: where the record says it is, counted from the cell's first line.
    :param plainly: whether papermill's own command fails, too.
    """

    cell: str
    error: str
    line: int = 1
    plainly: bool = True
    needs: str = "sys"


SHOWN = {
    "captured": Shown("%%capture\nx = 1\nx / 0", ZERO, 3),
    "captured by a call": Shown("x = 1\nget_ipython().run_cell_magic('capture', '', '1 / 0')", ZERO, 2),
    "captured, of a function": Shown("%%capture\ndef f():\n    1 / 0\n\nf()", ZERO, 3),
    "%run": Shown("x = 1\n%run helper.py", "ValueError: in the helper", 2),
    "%run of what exits": Shown("%run leave.py", "SystemExit: 3"),
    "HTML": Shown(THING.format("_repr_html_") + "display(Thing())", BAD, 3),
    "PNG": Shown(THING.format("_repr_png_") + "display(Thing())", BAD, 3),
    "text": Shown(THING.format("__repr__") + "display(Thing())", BAD, 3),
    "the result's HTML": Shown(THING.format("_repr_html_") + "Thing()", BAD, 3),
    "the result's text": Shown(THING.format("__repr__") + "Thing()", BAD, 3),
    "an updated display": Shown(
        THING.format("_repr_html_") + "handle = display('good', display_id=True)\nhandle.update(Thing())",
        BAD,
        3,
    ),
    "%time": Shown("x = 1\n%time 1 / 0", ZERO, 2),
    "%%time": Shown("%%time\n1 / 0", ZERO),
    "%%timeit": Shown("%%timeit -n1 -r1\n1 / 0", ZERO),
    "%%prun": Shown("%%prun\n1 / 0", ZERO),
    "%%bash": Shown(
        "%%bash\nexit 3", "CalledProcessError: Command 'b'exit 3\\n'' returned non-zero exit status 3."
    ),
    "a cell in a cell": Shown("x = 1\nget_ipython().run_cell('1 / 0')\nx = 2", ZERO, 2),
    "a silent cell in a cell": Shown("get_ipython().run_cell('1 / 0', silent=True)", ZERO),
    "by hand": Shown("try:\n    1 / 0\nexcept Exception:\n    get_ipython().showtraceback()", ZERO, 2),
    "by hand, and cleared": Shown(
        "from IPython.display import clear_output\n"
        "try:\n    1 / 0\nexcept Exception:\n    get_ipython().showtraceback()\nclear_output()",
        ZERO,
        3,
        plainly=False,
    ),
    "by a library that shows tracebacks its own way": Shown(
        "shell = get_ipython()\nshell._showtraceback = lambda *_: print('an error')\nshell.run_cell('1 / 0')",
        ZERO,
        3,
        plainly=False,
    ),
    "IPython's hook": Shown(
        "def hook(*_):\n    1 / 0\n\nget_ipython().events.register('post_run_cell', hook)", ZERO, 2
    ),
    "a widget's output": Shown(
        "import ipywidgets\nwith ipywidgets.Output():\n    1 / 0", ZERO, 3, plainly=False, needs="ipywidgets"
    ),
    "a widget's function": Shown(
        "import ipywidgets\ndef f(x):\n    1 / x\n\nipywidgets.interact(f, x=(0, 0))",
        ZERO,
        3,
        plainly=False,
        needs="ipywidgets",
    ),
    "a widget's callback": Shown(
        "import ipywidgets\nbutton = ipywidgets.Button()\nbutton.on_click(lambda _: 1 / 0)\nbutton.click()",
        ZERO,
        3,
        needs="ipywidgets",
    ),
}
if sys.version_info >= (3, 11):  # IPython prints groups, and shows no error
    GROUP = "ExceptionGroup('two', [ValueError('a'), KeyError('b')])"
    SHOWN["a captured group"] = Shown(
        f"%%capture\nraise {GROUP}", "ExceptionGroup: two (2 sub-exceptions)", 2, plainly=False
    )
    SHOWN["a group of a result's HTML"] = Shown(
        f"class Thing:\n    def _repr_html_(self):\n        raise {GROUP}\nThing()",
        "ExceptionGroup: two (2 sub-exceptions)",
        3,
        plainly=False,
    )


@pytest.mark.parametrize("by", OURS)
@pytest.mark.parametrize("name", SHOWN)
def test_an_error_that_a_cell_shows_is_red(tmp_path: Path, name: str, by: str) -> None:
    shown = SHOWN[name]
    pytest.importorskip(shown.needs)
    done = execute_cells(by, tmp_path, sources({"files": FILES, "shows": shown.cell}))
    assert done.error is not None
    line = done.starts["shows"] + shown.line - 1
    kind, _, message = shown.error.format(line).partition(": ")
    error = {key: done.error[key] for key in ("type", "message", "file", "line", "cell")}
    assert error == {"type": kind, "message": message, "file": "flows/it.py", "line": line, "cell": 3}
    assert done.error["traceback"].rstrip("\n").endswith(shown.error.split(" (it.py")[0]) or "Group" in kind


@pytest.mark.parametrize("name", [name for name, shown in SHOWN.items() if shown.plainly])
def test_papermill_s_own_command_fails_too(tmp_path: Path, name: str) -> None:
    shown = SHOWN[name]
    pytest.importorskip(shown.needs)
    done = execute_cells(PLAIN, tmp_path, sources({"files": FILES, "shows": shown.cell}))
    assert shown.error.split(":")[0] in str(done.error)


def test_an_error_ends_the_run_as_if_it_had_been_raised(run: Run) -> None:
    result = run("get_ipython().run_cell('1 / 0')\nprint('rest of the cell')", "print('never')")
    assert result.printed == b"rest of the cell\n"
    statuses = [cell.metadata.papermill["status"] for cell in result.notebook.cells]
    assert statuses == ["completed", "completed", "failed", "pending"]


def test_a_cell_like_one_that_another_executed_has_its_own_line(run: Run) -> None:
    result = run("rest = [1]", "get_ipython().run_cell('rest.pop()')", "rest.pop()")
    assert (result.error["message"], result.error["line"]) == ("pop from empty list", 8)


def test_an_error_that_no_code_raised_is_told_as_it_was_sent(run: Run) -> None:
    result = run(
        "kernel = get_ipython().kernel\n"
        "content = {'ename': 'Odd', 'evalue': 'by hand', 'traceback': ['\\x1b[31mFirst', 'Odd: by hand']}\n"
        "kernel.send_response(kernel.iopub_socket, 'error', content)"
    )
    assert (result.status, result.error["type"]) == ("error", "Odd")
    assert result.error["message"] == "by hand, in the cell that starts at line 4"
    assert result.error["traceback"] == "First\nOdd: by hand\n"


def test_what_the_cell_raised_comes_before_what_it_only_showed(run: Run) -> None:
    result = run(
        "def hook(*_):\n    raise KeyError('later')\n\nget_ipython().events.register('post_execute', hook)\n"
        "get_ipython().run_cell('1 / 0')\nraise ValueError('raised')"
    )
    assert (result.error["type"], result.error["line"]) == ("ValueError", 9)


@pytest.mark.parametrize(
    "cell",
    [
        "# %% tags=['raises-exception']\nget_ipython().run_cell('1 / 0')\n",
        "# %% tags=['raises-exception']\nclass A:\n    def __repr__(self): 1 / 0\ndisplay(A())\n",
        "# %%\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    pass\n",
        "# %%\nimport threading\nthread = threading.Thread(target=lambda: 1 / 0)\nthread.start()\nthread.join()\n",
        "# %%\nimport asyncio, gc\nasync def fail():\n    1 / 0\n\n"
        "task = asyncio.ensure_future(fail())\nawait asyncio.sleep(0.01)\ndel task\ngc.collect()\n",
    ],
    ids=["tagged", "tagged, shown", "caught", "in a thread", "in a task"],
)
def test_an_error_that_is_expected_or_only_printed_is_none(run: Run, cell: str) -> None:
    result = run(cell, "print('the end')")
    assert (result.status, result.record.error) == ("success", None)
    assert result.printed.endswith(b"the end\n")
    assert (b"ZeroDivisionError" in result.printed) == ("thread" in cell or "task" in cell)


@pytest.mark.parametrize(
    "cell",
    [
        "raise ValueError('a\\ud800b')",
        THING.format("__repr__").replace("KeyError('bad')", "ValueError('a\\ud800b')") + "Thing()",
    ],
)
def test_a_lone_surrogate_in_its_text_does_not_change_an_error(run: Run, cell: str) -> None:
    result = run(cell)
    assert (result.error["type"], result.error["message"]) == ("ValueError", "a\\ud800b")
    shown = [output for cell in result.notebook.cells for output in cell.get("outputs", ())]
    assert [(output.ename, output.evalue) for output in shown] == [("ValueError", "a\\ud800b")]


def test_a_lone_surrogate_in_what_is_displayed_stays_visible(run: Run) -> None:
    result = run("display({'text/plain': 'a\\ud800b'}, raw=True)")
    assert result.status == "success", result.record.error
    [output] = result.notebook.cells[-1].outputs
    assert output.data["text/plain"] == "a\\ud800b"
