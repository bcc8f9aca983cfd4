"""Who may look at docstrings and at the numbers of lines; in doubt somebody does."""

import pytest

from pytest_ductaflow import looks

PLAIN = """import json, os
from pathlib import Path
import numpy as np
import pandas as pd
import matplotlib.pyplot as plt
from pytest_ductaflow import unpack_config
import helpers

config = {}
vars().update(unpack_config(config, "It", locals()))
def double(x):
    'Twice.'
    return x * 2
df = pd.DataFrame(); df.info(); df.eval("a = 1"); model.compile()
%matplotlib inline
"""


def test_what_most_flows_do_reads_no_docstrings() -> None:
    assert not looks.at_docstrings([PLAIN, "import helpers"], {"helpers"})
    assert not looks.at_lines([PLAIN])


@pytest.mark.parametrize(
    "text",
    [
        "f.__doc__",
        "f'{f.__doc__}'",
        "inspect.getdoc(f)",
        "help(f)",
        "import doctest",
        "docopt(__doc__)",
        "import click",
        "from typer import run",
        "def f():\n    import fire",
        "from ply import yacc",
        "from pydantic import BaseModel",
        "import pydoc",
        "from inspect import getmembers",
        "import unknown_library",
        "vars(Model)",
        "Model.__dict__",
        "dir(model)",
        "f.__code__.co_consts",
        "exec(text)",
        "__import__(name)",
        "%run other.py",
        "%load_ext something",
        "f?",
        "?f",
        "np.info(f)",
        "import numpy as n\nn.info(f)",
        "from numpy import array, info\ninfo(f)",
    ],
)
def test_code_that_may_read_docstrings(text: str) -> None:
    assert looks.at_docstrings([PLAIN, text], {"helpers"})


@pytest.mark.parametrize(
    "text",
    [
        "f.__code__.co_firstlineno",
        "inspect.currentframe().f_lineno",
        "sys._getframe()",
        "inspect.stack()[0]",
        "logging.basicConfig(format='%(lineno)d')",
        "error.__traceback__.tb_lineno",
        "inspect.getsourcelines(f)",
        "traceback.extract_stack()",
    ],
)
def test_code_that_may_look_at_the_numbers_of_lines(text: str) -> None:
    assert looks.at_lines([PLAIN, text])
