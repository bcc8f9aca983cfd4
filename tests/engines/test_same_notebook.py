"""A flow gives the same notebook whoever executes it: each engine of ours, and papermill alone.

Where papermill alone differs on purpose, its case says what it shows and why; ``DIFFERENCES`` is the list.
"""

import hashlib
import itertools
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import IPython
import pytest

from .shown import (
    EVERYONE,
    OURS,
    PLAIN,
    Case,
    Executed,
    Like,
    Notebooks,
    Shown,
    case,
    compared,
    complained,
    displayed,
    execute_cases,
    execute_cells,
    failing,
    once_each,
    printed,
    raised,
    result,
    sources,
)

IN_ORDER = (
    "text of subprocesses and C code stands where it was printed, as stdout; papermill shows it when it comes, "
    "perhaps in a later cell, perhaps never"
)
LATE_TEXT = "what a thread or task prints late stands in the cell that ran then; papermill may lose it"

CONFIG = {"number": 1.5, "text": "ü\n"}
STDIN = "{} was called, but this frontend does not support input requests."

AT_THE_START = {
    "what is defined": case(
        """
        %who
        sorted(name for name in globals() if not name.startswith("_")), __name__, "__file__" in globals()
        """,
        printed("config\t \n"),
        result("(['In', 'Out', 'config', 'exit', 'get_ipython', 'open', 'quit'],\n '__main__',\n False)"),
    ),
    "the config": case("config['number'], config['text']", result("(1.5, 'ü\\n')")),
    "the first cells": case(
        "In[1:3], Out.keys()",
        result(Like(r"\(\['config = \{\}',\s+'# Parameters.*\],\s+dict_keys\(\[3, 4\]\)\)")),
        plainly=(result(Like(r"\(\['config = \{\}',\s+'# Parameters.*\],\s+dict_keys\(\[3, 4\]\)\)")),),
        because="the injected cell also puts what can be imported on the path, for who runs it by hand",
    ),
}

DISPLAY = {
    "every mime type": case(
        """
        from IPython.display import display
        display(
            {
                "text/plain": "plain", "text/html": "<b>ü</b>", "text/markdown": "*m*", "text/latex": "$x$",
                "application/json": {"a": [1, 2.5, None, True, "ü"]}, "application/javascript": "1 + 1",
                "application/geo+json": {"type": "Point"}, "application/vnd.mine.v1+json": {"b": []},
                "image/svg+xml": "<svg></svg>", "image/png": b"\\x89PNG", "image/jpeg": b"\\xff\\xd8",
                "image/gif": b"GIF89a", "application/pdf": b"%PDF", "application/x-own": "own",
            },
            raw=True,
            metadata={"image/png": {"width": 3}, "own": [1]},
        )
        """,
        displayed(
            {
                "text/plain": "plain",
                "text/html": "<b>ü</b>",
                "text/markdown": "*m*",
                "text/latex": "$x$",
                "application/json": {"a": [1, 2.5, None, True, "ü"]},
                "application/javascript": "1 + 1",
                "application/geo+json": {"type": "Point"},
                "application/vnd.mine.v1+json": {"b": []},
                "image/svg+xml": "<svg></svg>",
                "image/png": "iVBORw==",
                "image/jpeg": "/9g=",
                "image/gif": "R0lGODlh",
                "application/pdf": "JVBERg==",
                "application/x-own": "own",
            },
            {"image/png": {"width": 3}, "own": [1]},
        ),
    ),
    "IPython's display classes": case(
        """
        from IPython.display import HTML, IFrame, Image, JSON, Javascript, Latex, Markdown, Math, Pretty, SVG
        display(HTML("<i>i</i>"), Markdown("# m"), Latex("$$y$$"), Math("z"), JSON({"k": 1}, expanded=True))
        display(SVG('<svg xmlns="http://www.w3.org/2000/svg"/>'), Javascript("f()"), Pretty("p"))
        display(Image(data=b"\\x89PNG", format="png", width=7), IFrame("http://x", 1, 2))
        """,
        displayed({"text/html": "<i>i</i>", "text/plain": "<IPython.core.display.HTML object>"}),
        displayed({"text/markdown": "# m", "text/plain": "<IPython.core.display.Markdown object>"}),
        displayed({"text/latex": "$$y$$", "text/plain": "<IPython.core.display.Latex object>"}),
        displayed({"text/latex": "$\\displaystyle z$", "text/plain": "<IPython.core.display.Math object>"}),
        displayed(
            {"application/json": {"k": 1}, "text/plain": "<IPython.core.display.JSON object>"},
            {"application/json": {"expanded": True, "root": "root"}},
        ),
        displayed(
            {
                "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"/>',
                "text/plain": "<IPython.core.display.SVG object>",
            }
        ),
        displayed(
            {"application/javascript": "f()", "text/plain": "<IPython.core.display.Javascript object>"}
        ),
        displayed("p"),
        displayed(
            {"image/png": "iVBORw==", "text/plain": "<IPython.core.display.Image object>"},
            {"image/png": {"width": 7}},
        ),
        displayed(
            {
                "text/html": Like(r"\s*<iframe.*src=\"http://x\".*</iframe>\s*"),
                "text/plain": "<IPython.lib.display.IFrame at 0x…>",
            }
        ),
    ),
    "objects that know how to show themselves": case(
        """
        class Bundle:
            def _repr_mimebundle_(self, include=None, exclude=None):
                return {"text/plain": "b", "text/x-own": "o"}, {"m": 1}
        class Several:
            def __repr__(self): return "several"
            def _repr_html_(self): return "<p>"
            def _repr_png_(self): return b"\\x89PNG", {"height": 1}
            def _repr_latex_(self): return None
        class Itself:
            def _ipython_display_(self): print("itself")
        display(Bundle(), Itself())
        Several()
        """,
        displayed({"text/plain": "b", "text/x-own": "o"}, {"m": 1}),
        printed("itself\n"),
        result(
            {"text/plain": "several", "text/html": "<p>", "image/png": "iVBORw=="},
            {"image/png": {"height": 1}},
        ),
    ),
    "the last expression": case("6 * 7", result("42")),
    "no expression": case("6 * 7;"),
    "what was shown before": case("_, Out[max(Out)]", result("(42, 42)")),
    "an object that cannot be shown": failing(
        """
        class Broken:
            def _repr_html_(self): raise ValueError("no html")
            def __repr__(self): return "still shown"
        Broken()
        """,
        raised("ValueError", "no html"),
        result("still shown"),
    ),
    "a display to be updated": case(
        """
        handle = display("first", display_id="mine")
        print("between")
        other = display("x", display_id=True)
        display("second", display_id="mine", update=True);
        """,
        displayed("'fourth'"),
        printed("between\n"),
        displayed({"text/html": "<b>now html</b>", "text/plain": "<IPython.core.display.HTML object>"}),
    ),
    "an update from a later cell": case(
        """
        handle.update("third")
        display("again", display_id="mine")
        handle.update("fourth")
        other.update(HTML("<b>now html</b>"))
        """,
        displayed("'fourth'"),
    ),
    "output cleared at once": case(
        """
        from IPython.display import clear_output
        print("gone"); display("gone too")
        clear_output()
        print("stays")
        """,
        printed("stays\n"),
    ),
    "output cleared when there is more": case(
        """
        for i in range(3):
            clear_output(wait=True)
            print("step", i)
            display(i)
        """,
        printed("step 2\n"),
        displayed("2"),
    ),
    "output cleared when there is more, by a display": case(
        "print('gone'); clear_output(wait=True); display('instead')", displayed("'instead'")
    ),
    "output to be cleared, but no more comes": case(
        "print('stays'); clear_output(wait=True)", printed("stays\n")
    ),
    "no clearing in the next cell": case("print('stays, too')", printed("stays, too\n")),
    "updates after clearing": case(
        """
        print("gone")
        one = display("gone", display_id="cleared")
        clear_output()
        print("kept")
        two = display("new", display_id="cleared")
        two.update("newer")
        """,
        printed("kept\n"),
        displayed("'newer'"),
    ),
    "a message to a widget that nobody has": case(
        "from comm import create_comm; create_comm(target_name='nobody').send({'x': 1}); 'sent'",
        result("'sent'"),
    ),
    "a pager": case("len?"),
    "a cell to be put next": case("get_ipython().set_next_input('print(1)')"),
    "data frames": case(
        """
        import pandas as pd
        df = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=["r", "s"])
        display(df["a"], df.iloc[:0])
        df
        """,
        displayed("r    1\ns    2\nName: a, dtype: int64"),
        displayed(
            {
                "text/plain": "Empty DataFrame\nColumns: [a, b]\nIndex: []",
                "text/html": Like(r"<div>.*<th>b</th>.*<tbody>\s*</tbody>.*</div>"),
            }
        ),
        result(
            {
                "text/plain": Like(r"   a +b\nr  1 +x\ns  2 +(NaN|None)"),
                "text/html": Like(r"<div>.*<td>x</td>.*<td>(NaN|None)</td>.*</div>"),
            }
        ),
    ),
    "a styled data frame": case(
        "df.style.format({'a': '{:.1f}'})",
        result(
            {
                "text/plain": "<pandas.io.formats.style.Styler at 0x…>",
                "text/html": Like(r'<style.*<table id="T_\{id\}">.*2\.0</td>.*</table>\n'),
            }
        ),
        needs=("jinja2",),
    ),
}

FIGURES = {
    "figures, text and results in order": case(
        """
        import matplotlib.pyplot as plt
        print("before")
        plt.plot([1, 3, 2]); plt.show()
        print("between")
        plt.figure(figsize=(2, 1)); plt.plot([0, 1])
        """,
        printed("before\n"),
        displayed({"text/plain": "<Figure size 640x480 with 1 Axes>", "image/png": Like(r"iVBORw0KGgo.*")}),
        printed("between\n"),
        result("[<matplotlib.lines.Line2D at 0x…>]"),
        displayed({"text/plain": "<Figure size 200x100 with 1 Axes>", "image/png": Like(r"iVBORw0KGgo.*")}),
    ),
    "no figure is shown twice": case("print(plt.get_fignums())", printed("[]\n")),
    "a figure as a result": case(
        """
        %matplotlib inline
        %config InlineBackend.figure_formats = ["svg"]
        plt.rcParams["svg.hashsalt"] = "same"
        figure, axes = plt.subplots(1, 2, figsize=(2, 1))
        plt.close()
        figure
        """,
        result(
            {
                "text/plain": "<Figure size 200x100 with 2 Axes>",
                "image/svg+xml": Like(r"<\?xml.*<svg.*</svg>\n?"),
            }
        ),
    ),
    "the backend": case(
        "import matplotlib; matplotlib.get_backend()",
        result(Like(r"'(module://matplotlib_inline.*|inline)'")),
    ),
}

TEXT = {
    "both streams": case(
        """
        import sys
        print("one"); print("two", file=sys.stderr); print("three"); print("four", file=sys.stderr)
        """,
        printed("one\n"),
        complained("two\n"),
        printed("three\n"),
        complained("four\n"),
    ),
    "text and results in order": case(
        "print('a'); display(1); print('b', file=sys.stderr); display(2); print('c', end=''); 3",
        printed("a\n"),
        displayed("1"),
        complained("b\n"),
        displayed("2"),
        printed("c"),
        result("3"),
    ),
    "lines that do not end": case(
        "print('a', end=''); sys.stdout.write('b'); print(); print('c\\r\\nd', end='')", printed("ab\nc\r\nd")
    ),
    "written by another name": case(
        "sys.stdout.writelines(['1\\n', '2\\n']); sys.__stdout__.write('3\\n'); sys.__stdout__.flush(); None",
        printed("1\n2\n3\n"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "unicode": case(
        r"print('ü €  \U0001f680  \u2028 \t \x07 \x00|')", printed("ü €  🚀  \u2028 \t \x07 \x00|\n")
    ),
    "a progress bar": case(
        "for i in range(4): print(f'\\r{i}/3', end='', flush=True)", printed("\r0/3\r1/3\r2/3\r3/3")
    ),
    "a progress bar of tqdm": case(
        "from tqdm import tqdm\nfor i in tqdm(range(3), mininterval=0, bar_format='{n}/{total}'): pass",
        complained(Like(r"\r0/3(\r1/3)?.*\r3/3\n")),
        needs=("tqdm",),
    ),
    "tqdm notices the notebook": case(
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import tqdm.autonotebook
        "IProgress not found" in str([w.message for w in caught]) or tqdm.autonotebook.tqdm.__name__
        """,
        result(Like(r"True|'tqdm_notebook'")),
        needs=("tqdm",),
    ),
    "colours": case("print('\\x1b[1;31mred\\x1b[0m \\x1b[2Kx')", printed("\x1b[1;31mred\x1b[0m \x1b[2Kx\n")),
    "subprocesses": case(
        """
        import os, subprocess
        print("before")
        subprocess.run(["echo", "child"])
        os.system("echo shell; echo shell says >&2")
        print("after")
        """,
        printed("before\nchild\nshell\nshell says\nafter\n"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "a subprocess after half a line": case(
        "print('half', end=' '); subprocess.run(['echo', 'whole']); print('next')",
        printed("half whole\nnext\n"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "a subprocess between displays": case(
        "display(1); subprocess.run(['echo', 'middle']); display(2)",
        displayed("1"),
        printed("middle\n"),
        displayed("2"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "a subprocess that outlives its cell": case(
        """
        import threading
        reading, writing = os.pipe()
        child = subprocess.Popen(["cat"], stdin=reading)
        os.close(reading)
        """
    ),
    "is heard in the cell in which it prints": case(
        "os.write(writing, b'late\\n'); os.close(writing); child.wait()",
        printed("late\n"),
        result("0"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "C code": case(
        """
        import ctypes
        libc = ctypes.CDLL(None)
        print("python")
        libc.puts(b"puts"); libc.printf(b"printf %d\\n", 7); libc.fflush(None)
        print("python again")
        """,
        printed("python\nputs\nprintf 7\npython again\n"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "C code that does not flush": case(
        "print('python'); libc.puts(b'unflushed'); print('python again')",
        printed("python\nunflushed\npython again\n"),
        unsteady=True,
        because=IN_ORDER,
    ),
    "bytes": case(
        "os.write(1, b'raw \\xff \\xc3\\n'); os.write(2, b'\\xe2\\x82\\xac\\n'); None",
        printed("raw \\xff \\xc3\n€\n"),
        unsteady=True,
        because="bytes that are not UTF-8 appear as \\xff; papermill shows �",
    ),
    "bytes by Python": failing(
        "print('a'); sys.stdout.buffer.write(b'\\xfe\\n'); print('b')",
        printed("a\n\\xfe\nb\n"),
        plainly=(printed("a\n"), raised("AttributeError", "'OutStream' object has no attribute 'buffer'")),
        because="sys.stdout.buffer is there; papermill's sys.stdout has none",
    ),
    "standard output as a file": case(
        "[(s.encoding, s.isatty(), s.writable(), s.fileno()) for s in (sys.stdout, sys.stderr)]",
        result("[('utf-8', False, True, 1), ('utf-8', False, True, 2)]"),
        plainly=(result(Like(r"\[\('UTF-8', False, True, \d+\), \('UTF-8', False, True, \d+\)\]")),),
        because="sys.stdout is an ordinary text stream on descriptor 1; papermill's is ipykernel's OutStream",
    ),
    "redirected and captured": case(
        """
        import contextlib, io
        with contextlib.redirect_stdout(io.StringIO()) as held:
            print("held")
        held.getvalue()
        """,
        result("'held\\n'"),
    ),
    "a captured cell": case("%%capture caught\nprint('out'); display(1); 2"),
    "what was captured": case(
        "(caught.stdout, len(caught.outputs)), caught.outputs[0].data",
        result("(('out\\n', 2), {'text/plain': '1'})"),
    ),
    "standard input": case(
        "sys.stdin.read(), os.read(0, 1), subprocess.run(['cat'], capture_output=True).stdout",
        result("('', b'', b'')"),
    ),
}

MAGICS = {
    "a shell command": case(
        "word = 'two'\n!echo one {word} $word; echo three >&2", printed("one two two\r\nthree\r\n")
    ),
    "its exit status": case("!exit 3"),
    "known afterwards": case("_exit_code", result("3")),
    "a shell command's output as a value": case(
        "lines = !echo a; echo b\nlines, lines.n", result(r"(['a', 'b'], 'a\nb')")
    ),
    "%%bash": case("%%bash\nfor i in 1 2; do\n  echo line $i\ndone", printed("line 1\nline 2\n")),
    "%%bash to stderr": case("%%bash\necho oh >&2", complained("oh\n")),
    "%%bash into a variable": case("%%bash --out held\necho out"),
    "a variable from %%bash": case("held", result(r"'out\n'")),
    "%%bash with an argument": case("%%bash -s {word}\necho got $1", printed("got two\n")),
    "%%bash that fails": failing(
        "%%bash\necho so far\nexit 3",
        printed("so far\n"),
        raised(
            "CalledProcessError", Like(r"Command 'b'echo so far\\nexit 3\\n?'' returned .* exit status 3\.")
        ),
    ),
    "%%script": case("%%script sed s/a/b/\naaa", printed("baa\n")),
    "%time": case("%time 1 + 1", printed("CPU times: …\nWall time: …\n"), result("2")),
    "%%time": case(
        "%%time\nprint('x')\nkept = 3\nkept + 1", printed("x\nCPU times: …\nWall time: …\n"), result("4")
    ),
    "%timeit": case("%timeit -n1 -r1 None", printed("… per loop (mean ± std. dev. of 1 run, 1 loop each)\n")),
    "%%writefile": case(
        "%%writefile script.py\nimport sys\nprint(__name__, sys.argv)\nfound = 1\ndef fail():\n    raise KeyError('k')\n",
        printed("Writing script.py\n"),
    ),
    "%run": case(
        "%run script.py a -b",
        printed("__main__ ['script.py', 'a', '-b']\n"),
        displayed("<Figure size 640x480 with 0 Axes>"),
    ),
    "what %run defined": case("found, __name__, sys.argv[1]", result("(1, '__main__', '-f')")),
    "an error in what %run defined": failing("fail()", raised("KeyError", "'k'")),
    "%cd": case(
        """
        import warnings
        warnings.filterwarnings("ignore", ".*optional IPython functionality")  # IPython 8 keeps no directories
        os.mkdir("below")
        %cd below
        """,
        printed("{run}/below\n"),
    ),
    "where %cd leads": case("%pwd", result("'{run}/below'")),
    "what a command sees of %cd": case("!pwd", printed("{run}/below\r\n")),
    "%cd back": case("%cd -q ..\nos.getcwd()", result("'{run}'")),
    "where %cd has been": case(
        "%dhist", printed("Directory history (kept in _dh)\n0: {run}\n1: {run}/below\n2: {run}\n")
    ),
    "%env": case("%env DUCTAFLOW_TEST=value", printed("env: DUCTAFLOW_TEST=value\n")),
    "what %env set": case("%env DUCTAFLOW_TEST", result("'value'")),
    "what a command sees of %env": case("!echo $DUCTAFLOW_TEST", printed("value\r\n")),
    "%%html and the like": case(
        "%%html\n<b>b</b>",
        displayed({"text/html": "<b>b</b>\n", "text/plain": "<IPython.core.display.HTML object>"}),
    ),
    "%%latex": case(
        "%%latex\n$a$",
        displayed({"text/latex": "$a$\n", "text/plain": "<IPython.core.display.Latex object>"}),
    ),
    "%%markdown": case(
        "%%markdown\n*a*",
        displayed({"text/markdown": "*a*\n", "text/plain": "<IPython.core.display.Markdown object>"}),
    ),
    "%%javascript": case(
        "%%javascript\nf()",
        displayed(
            {"application/javascript": "f()\n", "text/plain": "<IPython.core.display.Javascript object>"}
        ),
    ),
    "%%svg": case(
        "%%svg\n<svg/>",
        displayed({"image/svg+xml": "<svg/>", "text/plain": "<IPython.core.display.SVG object>"}),
    ),
    "%precision": case("%precision 2\n1 / 3", result("0.33")),
    "%precision again": case("%precision\n1 / 3", result("0.3333333333333333")),
    "a magic of one's own": case(
        """
        from IPython.core.magic import register_cell_magic, register_line_magic
        @register_line_magic
        def double(line): return 2 * line
        @register_cell_magic
        def shout(line, cell): print(cell.upper())
        get_ipython().run_line_magic("double", "ab")
        """,
        result("'abab'"),
    ),
    "a cell magic of one's own": case("%%shout\nhello", printed("HELLO\n\n")),
    "what was entered": case(
        "In[-1], In[-2], get_ipython().execution_count", result(Like(r"\('In\[-1\].*hello.*\)"))
    ),
    "%history": case("%history -n 4", printed("   4: config['number'], config['text']\n")),
    "a hook of one's own": case(
        """
        def after(result): print("after", result.success)
        get_ipython().events.register("post_run_cell", after)
        """,
        printed("after True\n"),
    ),
    "which goes": case("get_ipython().events.unregister('post_run_cell', after)"),
}

AT_ONCE = {
    "await": case(
        """
        import asyncio
        async def one(value):
            await asyncio.sleep(0)
            print("one", value)
            return value
        await asyncio.gather(one(1), one(2))
        """,
        printed("one 1\none 2\n"),
        result("[1, 2]"),
    ),
    "async for and async with": case(
        """
        async def numbers():
            for i in range(2):
                await asyncio.sleep(0)
                yield i
        async with asyncio.Lock() as nothing:
            print([i async for i in numbers()])
        """,
        printed("[0, 1]\n"),
    ),
    "an error while awaiting": failing(
        "await asyncio.wait_for(asyncio.Event().wait(), 0)", raised("TimeoutError")
    ),
    "asyncio.run": case(
        """
        coroutine = one(3)
        try:
            asyncio.run(coroutine)
        except RuntimeError as error:
            print(error)
        coroutine.close()
        """,
        printed("asyncio.run() cannot be called from a running event loop\n"),
    ),
    "asyncio.run in a thread": case(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(asyncio.run, one(4)).result())
        """,
        printed("one 4\n4\n"),
    ),
    "asyncio's subprocesses": case(
        """
        process = await asyncio.create_subprocess_exec("echo", "child", stdout=subprocess.PIPE)
        (await process.communicate())[0], process.returncode
        """,
        result(r"(b'child\n', 0)"),
    ),
    "asyncio's threads": case("await asyncio.to_thread(sum, [1, 2])", result("3")),
    "the loop": case(
        "loop = asyncio.get_running_loop(); asyncio.get_event_loop() is loop, type(loop).__name__, loop.get_debug()",
        result("(True, '_UnixSelectorEventLoop', False)"),
    ),
    "a task that goes on": case(
        """
        go_on, gone_on = asyncio.Event(), asyncio.Event()
        async def later():
            await go_on.wait()
            print("the task prints")
            gone_on.set()
        task = asyncio.create_task(later())
        """
    ),
    "in the next cell": case(
        "go_on.set(); await gone_on.wait(); print('awaited')",
        printed("the task prints\nawaited\n"),
        plainly=(printed("awaited\n"),),
        because=LATE_TEXT,
    ),
    "threads": case(
        """
        import threading
        def work(): print("in", threading.current_thread().name); display("shown")
        thread = threading.Thread(target=work, name="the thread"); thread.start(); thread.join()
        print(threading.current_thread() is threading.main_thread())
        """,
        printed("in the thread\n"),
        displayed("'shown'"),
        printed("True\n"),
    ),
    "a thread that goes on": case(
        """
        proceed = threading.Event()
        def late(): proceed.wait(); print("the thread prints"); print("errors", file=sys.stderr)
        thread = threading.Thread(target=late); thread.start()
        """
    ),
    "in a later cell": case(
        "proceed.set(); thread.join(); print('joined')",
        printed("the thread prints\n"),
        complained("errors\n"),
        printed("joined\n"),
        unsteady=True,
        because=LATE_TEXT,
    ),
    "an error in a thread": case(
        "thread = threading.Thread(target=lambda: 1 / 0, name='T'); thread.start(); thread.join()",
        complained(
            Like(
                r"Exception in thread T:\n.*Traceback .*\{flow\}.*thread = threading.Thread.*division by zero.*\n"
            )
        ),
        plainly=(complained(Like(r"Exception in thread T:\n.*Traceback .*division by zero.*\n")),),
        because="a thread's traceback shows the lines of the flow; papermill only their numbers",
    ),
    "signals": failing(
        """
        import signal, time
        def handle(number, frame): raise TimeoutError("by alarm")
        previous = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, .01)
        signal.pause()
        """,
        raised("TimeoutError", "by alarm"),
    ),
    "an interrupt": failing("signal.raise_signal(signal.SIGINT)", raised("KeyboardInterrupt")),
}

ERRORS = {
    "an error": failing(
        "print('first')\ndef invert(x):\n    return 1 / x\n\ninvert(0)",
        printed("first\n"),
        raised("ZeroDivisionError", "division by zero"),
    ),
    "an error in a library": failing(
        "import json\njson.loads('{')",
        raised(
            "JSONDecodeError", Like("Expecting property name enclosed in double quotes: line 1 column 2.*")
        ),
    ),
    "a syntax error": failing("x = 1\ny = = 2", raised("SyntaxError", "invalid syntax ({flow}, line 2)")),
    "an indentation error": failing(
        "x = 1\n  y = 2", raised("IndentationError", "unexpected indent ({flow}, line 2)")
    ),
    "an assertion": failing("assert 1 == 2, 'sums'", raised("AssertionError", "sums")),
    "a cause": failing(
        "try:\n    {}['k']\nexcept KeyError as error:\n    raise ValueError('no k') from error",
        raised("ValueError", "no k"),
    ),
    "a context": failing(
        "try:\n    {}['k']\nexcept KeyError:\n    raise ValueError('no k')", raised("ValueError", "no k")
    ),
    "a hidden context": failing(
        "try:\n    {}['k']\nexcept KeyError:\n    raise ValueError('no k') from None",
        raised("ValueError", "no k"),
    ),
    "an error that is no Exception": failing(
        "class Own(BaseException): pass\nraise Own('b', 2)", raised("Own", "('b', 2)")
    ),
    "an error without a text": failing(
        "class Mute(Exception):\n    def __str__(self): raise ValueError('none')\nraise Mute",
        *[raised("ValueError", "none")] * (2 if IPython.version_info >= (9,) else 1),
    ),
    "an error that shows itself": failing(
        "class Shown(Exception):\n    def _render_traceback_(self): return ['as', 'it likes']\nraise Shown('x')",
        raised("Shown", "x"),
    ),
    "too much recursion": failing(
        "def deeper(n): return deeper(n + 1)\ndeeper(0)",
        raised("RecursionError", Like("maximum recursion depth exceeded.*")),
    ),
    "a warning made an error": failing(
        "with warnings.catch_warnings():\n    warnings.simplefilter('error')\n    warnings.warn('strict')",
        raised("UserWarning", "strict"),
    ),
    "an error in a display": failing(
        "class Bad:\n    def _repr_png_(self): raise KeyError('png')\n    def __repr__(self): return 'bad'\nBad()",
        raised("KeyError", "'png'"),
        result("bad"),
    ),
    "the last error": case(
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    import traceback; traceback.print_exc()",
        complained(
            Like(
                r"Traceback \(most recent call last\):\n  File \"\{flow\}\", line 2, in <module>\n    1 / 0\n"
                r"(    ~~\^~~\n)?ZeroDivisionError: division by zero\n"
            )
        ),
    ),
    "an error that was expected but did not come": failing("'fine'", result("'fine'")),
    "input()": failing("input('name?')", raised("StdinNotImplementedError", STDIN.format("raw_input"))),
    "getpass()": failing(
        "import getpass; getpass.getpass()", raised("StdinNotImplementedError", STDIN.format("getpass"))
    ),
    "a cell that is skipped": case("print('skipped'); never = 1", tags=("skip-execution",)),
    "nothing of it is there": case("'never' in globals()", result("False")),
    "a tag that means nothing": case("'tagged'", result("'tagged'"), tags=("some-tag", "hide-input")),
    "markdown": case("# A *heading*\n\n- and {braces}", kind="markdown"),
    "an empty cell": case(""),
    "only a comment": case("# nothing"),
}

MESSAGES = {
    "logging that nobody set up": case(
        "import logging\nlog = logging.getLogger('mine'); log.warning('careful'); log.info('unheard')",
        complained("careful\n"),
    ),
    "logging by default": case(
        "logging.error('oh'); logging.info('unheard'); log.warning('careful')",
        complained("ERROR:root:oh\nWARNING:mine:careful\n"),
    ),
    "logging as set up": case(
        "logging.basicConfig(level='INFO', stream=sys.stdout, format='%(levelname)s|%(message)s', force=True)\n"
        "log.info('heard'); log.debug('unheard')",
        printed("INFO|heard\n"),
    ),
    "warnings": case(
        "def odd():\n"
        "    warnings.warn('mine', stacklevel=2)\n"
        "for i in range(2):\n"
        "    odd()\n"
        "warnings.warn('old', DeprecationWarning)\n"
        "warnings.warn('unheard', ImportWarning)",
        complained(
            "{flow}:4: UserWarning: mine\n  odd()\n"
            "{flow}:5: DeprecationWarning: old\n  warnings.warn('old', DeprecationWarning)\n"
        ),
    ),
    "warnings about the code": case(
        "('x' is 'x')",
        complained(Like(r'(<.*)?\{flow\}:1: SyntaxWarning: "is" with .*literal.*')),
        result("True"),
    ),
    "warnings as messages": case(
        "logging.captureWarnings(True); warnings.warn('logged'); logging.captureWarnings(False)",
        printed(Like(r"WARNING\|\{flow\}:1: UserWarning: logged\n.*")),
    ),
}
if sys.version_info >= (3, 11):
    ERRORS |= {
        "several errors": failing(
            "raise ExceptionGroup('several', [ValueError(1), TypeError('two')])",
            complained(
                Like(
                    r"  \+ Exception Group Traceback .*File \"\{flow\}\", line 1, in <module>.*"
                    r"ExceptionGroup: several \(2 sub-exceptions\).*ValueError: 1.*TypeError: two.*"
                )
            ),
        ),
        "an error with notes": failing(
            "error = ValueError('v'); error.add_note('a note'); raise error", raised("ValueError", "v")
        ),
    }

CASES: dict[str, Case] = {
    **AT_THE_START,
    **DISPLAY,
    **FIGURES,
    **TEXT,
    **MAGICS,
    **AT_ONCE,
    **MESSAGES,
    **ERRORS,
}


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Notebooks:
    """The notebook of all cases, as somebody executed it."""
    root = tmp_path_factory.mktemp("project")

    def execute(by: str) -> Executed:
        with pytest.MonkeyPatch.context() as patch:
            if by == PLAIN:  # whose kernel else keeps what C prints for any later cell
                patch.setenv("PYTHONUNBUFFERED", "1")
            return execute_cases(by, root, CASES, config=CONFIG)

    return once_each(execute)


@pytest.mark.parametrize("by", EVERYONE)
@pytest.mark.parametrize("name", CASES)
def test_a_cell_shows_what_it_should(notebooks: Notebooks, name: str, by: str) -> None:
    shown, wanted = compared(CASES[name], name, notebooks(by))
    assert shown == wanted


@pytest.mark.parametrize("by", EVERYONE)
@pytest.mark.parametrize(
    ("name", "frames"),
    list(
        {
            "an error": [("{flow}", 5, ""), ("{flow}", 3, "invert(x)")],
            "an error in what %run defined": [("{flow}", 1, ""), ("script.py", 5, "fail()")],
            "a hidden context": [("{flow}", 4, "")],
            "a syntax error": [("{flow}", 2, "")],
        }.items()
    ),
)
def test_a_traceback_leads_to_the_lines_of_the_cell(
    notebooks: Notebooks, name: str, frames: list[tuple[str, int, str]], by: str
) -> None:
    assert notebooks(by).frames(name) == frames


@pytest.mark.parametrize("by", OURS)
def test_a_cause_is_shown_where_it_was_raised(notebooks: Notebooks, by: str) -> None:
    assert notebooks(by).frames("a cause") == [("{flow}", 2, ""), ("{flow}", 4, "")]


@pytest.mark.parametrize("by", EVERYONE)
@pytest.mark.parametrize(
    ("name", "says"),
    list(
        {
            "a cause": "The above exception was the direct cause of the following exception",
            "a context": "During handling of the above exception, another exception occurred",
            "an error that shows itself": "as\nit likes",
            "too much recursion": "RecursionError",
        }.items()
    ),
)
def test_a_traceback_tells_the_whole_story(notebooks: Notebooks, name: str, says: str, by: str) -> None:
    assert says in notebooks(by).traceback(name)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("one", "other"), list(itertools.pairwise(EVERYONE)))
def test_two_engines_make_the_same_cell(notebooks: Notebooks, name: str, one: str, other: str) -> None:
    """Everything there is in a cell: the images' bytes, all data, counts; among ours also tracebacks."""
    if CASES[name].missing:
        pytest.skip(f"without {', '.join(CASES[name].missing)}")
    plainly = PLAIN in (one, other)
    if plainly and (CASES[name].unsteady or CASES[name].plainly is not None):
        pytest.skip("differs on purpose")
    assert notebooks(one).whole(name, plainly) == notebooks(other).whole(name, plainly)


@pytest.mark.parametrize("by", OURS)
def test_the_cells_metadata_are_as_papermill_s(notebooks: Notebooks, by: str) -> None:
    for name in CASES:
        if not CASES[name].missing:
            assert notebooks(by).metadata(name) == notebooks(PLAIN).metadata(name)


@pytest.mark.parametrize("by", OURS)
def test_the_notebook_itself_is_like_papermill_s(notebooks: Notebooks, by: str) -> None:
    ours, plain = notebooks(by).notebook, notebooks(PLAIN).notebook
    assert ours.metadata.language_info == plain.metadata.language_info
    assert ours.metadata.keys() >= plain.metadata.keys()
    assert ours.metadata.papermill.keys() == plain.metadata.papermill.keys()
    assert (ours.nbformat, ours.nbformat_minor) == (plain.nbformat, plain.nbformat_minor)


@pytest.mark.parametrize("by", OURS)
def test_the_output_file_holds_the_text_of_the_notebook_in_its_order(notebooks: Notebooks, by: str) -> None:
    notebook = notebooks(by)
    cleared = r"^(gone|step [01])\n"
    text = notebook.printed.decode("utf-8", "backslashreplace")
    assert re.sub(cleared, "", text, flags=re.MULTILINE) == notebook.text


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("by", OURS)
def test_leaving_ends_the_notebook(tmp_path: Path, by: str, code: int) -> None:
    cells = {"leave": f"print('bye')\nimport sys; sys.exit({code})", "never": "print('never')"}
    notebook = execute_cells(by, tmp_path, sources(cells))
    exits = complained(Like(r".*UserWarning: To exit: use 'exit', 'quit', or Ctrl-D\..*"))
    assert notebook.shows("leave") == [printed("bye\n"), raised("SystemExit", str(code)), exits]
    assert notebook.notebook.cells[-1].outputs == []
    assert notebook.error["type"] == "SystemExit"
    assert b"never" not in notebook.printed


def test_leaving_with_status_0_is_a_success_in_plain_papermill(tmp_path: Path) -> None:
    cells = {"leave": "import sys; sys.exit(0)", "never": "print('never')"}
    notebook = execute_cells(PLAIN, tmp_path, sources(cells))
    assert notebook.error is None
    assert notebook.notebook.cells[-1].outputs == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="no exception groups")
@pytest.mark.parametrize("by", OURS)
def test_an_exception_group_ends_the_notebook(tmp_path: Path, by: str) -> None:
    cells = {"raise": "raise ExceptionGroup('several', [ValueError(1)])", "never": "print('never')"}
    notebook = execute_cells(by, tmp_path, sources(cells))
    assert (notebook.error["type"], notebook.error["cell"]) == ("ExceptionGroup", 2)
    assert "several (1 sub-exception)" in notebook.error["message"]
    assert "ValueError: 1" in notebook.error["traceback"]
    assert "ExceptionGroup: several" in notebook.text
    assert b"never" not in notebook.printed


@pytest.mark.parametrize("by", OURS)
def test_100_mb_are_whole_in_the_file_and_cut_in_the_notebook(tmp_path: Path, by: str) -> None:
    cells = {
        "small": "print('before')",
        "large": "line = 'x' * 999 + '\\n'\nfor _ in range(1_000): sys.stdout.write(100 * line)\nprint('the end')",
        "after": "print('after'); display(1)",
    }
    cells["small"] += "; import sys"
    notebook = execute_cells(by, tmp_path, sources(cells))
    assert notebook.error is None
    expected = hashlib.sha256(b"before\n")
    for _ in range(100_000):
        expected.update(b"x" * 999 + b"\n")
    expected.update(b"the end\nafter\n")
    assert hashlib.sha256(notebook.printed).digest() == expected.digest()
    assert notebook.shows("small") == [printed("before\n")]
    [(_, text)] = notebook.shows("large")
    assert re.fullmatch(
        r"(x{999}\n){500}\n\[… 99,4[\d,]+ bytes left out here; the whole output is in it_execution_output.txt …\]\n"
        r"x*\n(x{999}\n){49,50}the end\n",
        text,
    )
    assert notebook.shows("after") == [printed("after\n"), displayed("1")]


@pytest.mark.parametrize("by", OURS)
def test_2000_cells_are_executed_in_order(tmp_path: Path, by: str) -> None:
    cells = {str(i): f"print({i})" if i % 2 else f"{i}" for i in range(2000)}
    notebook = execute_cells(by, tmp_path, sources(cells), timeout=300)
    assert notebook.error is None
    assert [notebook.shows(name) for name in cells] == [
        [printed(f"{i}\n") if i % 2 else result(str(i))] for i in range(2000)
    ]
    assert [cell.execution_count for cell in notebook.notebook.cells] == list(range(1, 2003))
    assert notebook.printed == b"".join(b"%d\n" % i for i in range(1, 2000, 2))


@pytest.mark.parametrize("by", OURS)
def test_a_large_display_arrives_whole(tmp_path: Path, by: str) -> None:
    code = (
        "display({'text/plain': 'x' * 20_000_000, 'image/png': bytes(20_000_000)}, raw=True); print('after')"
    )
    [(_, data, _), after] = execute_cells(by, tmp_path, sources({"large": code})).shows("large")
    assert {mime: len(value) for mime, value in data.items()} == {
        "text/plain": 20_000_000,
        "image/png": 26_666_668,
    }
    assert after == printed("after\n")


@pytest.mark.parametrize("by", OURS)
def test_many_displays_and_lines_stay_in_order(tmp_path: Path, by: str) -> None:
    code = "import os\nfor i in range(1000): print(i); display(i); os.write(1, b'.\\n')"
    shows = execute_cells(by, tmp_path, sources({"many": code})).shows("many")
    between = [(displayed(str(i)), printed(f".\n{i + 1}\n" if i < 999 else ".\n")) for i in range(1000)]
    assert shows == [printed("0\n"), *itertools.chain.from_iterable(between)]


@pytest.mark.parametrize("by", OURS)
def test_runs_at_the_same_time_do_not_mix(tmp_path: Path, by: str) -> None:
    def execute(name: str) -> list[Shown]:
        code = f"import os\nfor i in range(500): print({name!r}, i); os.write(1, b'{name}\\n')\n{name!r}"
        return execute_cells(by, tmp_path, sources({"print": code}), name=name).shows("print")

    names = ["one", "two", "three"]
    with ThreadPoolExecutor(len(names)) as pool:
        shown = dict(zip(names, pool.map(execute, names), strict=True))
    for name in names:
        text = "".join(f"{name} {i}\n{name}\n" for i in range(500))
        assert shown[name] == [printed(text), result(repr(name))]


def test_the_differences_are_explained() -> None:
    differing = [c for c in CASES.values() if c.plainly is not None or c.unsteady]
    assert all(c.because for c in differing)
