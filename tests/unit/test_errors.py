import pickle

import pytest

from pytest_ductaflow import errors
from pytest_ductaflow.errors import DuctaflowError, FlowWarning, InstanceError, RunFailed, describe_error
from pytest_ductaflow.strict_json import JSONProblem

ERRORS = [
    DuctaflowError("plain"),
    errors.ConfigError("x: datetime.date is not a JSON type"),
    InstanceError("instances/a.json", 3, "scenarios.origin", "the dimension is empty"),
    errors.FlowError("has no parameters cell"),
    errors.RecordError("no usable record"),
    errors.RunBusy("another process"),
    RunFailed("/p/runs/fit/a", {"type": "ValueError", "message": "bad", "file": "flows/x.py", "line": 42}),
    FlowWarning("Warning: few rows"),
    JSONProblem("invalid JSON", 7, "config.a"),
    errors.FlowNotFound("there is no such file"),
    errors.HTMLError("HTML needs nbconvert"),
    errors.FileError("/p/runs/fit/a", "write run.json", OSError(30, "Read-only file system")),
    errors.OutputError("no a.csv in runs/x/y"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_survives_pickling_with_its_text_and_fields(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_error_of_the_module_is_pickled_by_a_case_above() -> None:
    defined = {
        value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined <= {type(error) for error in ERRORS}


@pytest.mark.parametrize(
    "error", [e for e in ERRORS if not isinstance(e, FlowWarning)], ids=lambda e: type(e).__name__
)
def test_one_except_clause_catches_every_error(error: Exception) -> None:
    assert isinstance(error, DuctaflowError)


def test_a_flow_warning_obeys_warning_filters() -> None:
    assert issubclass(FlowWarning, UserWarning)


def test_an_instance_error_names_file_line_and_key() -> None:
    assert str(ERRORS[2]) == "instances/a.json:3: scenarios.origin: the dimension is empty"


def test_an_instance_error_about_the_whole_file_has_no_key() -> None:
    assert str(InstanceError("a.json", 1, "", "cannot be read")) == "a.json:1: cannot be read"


def test_a_failed_run_names_the_place_the_error_and_its_directory() -> None:
    assert str(ERRORS[6]) == "flows/x.py:42: ValueError: bad\nRun directory: /p/runs/fit/a"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(
            {"type": "ValueError", "message": "negative flow", "file": "flows/x.py", "line": 42},
            "flows/x.py:42: ValueError: negative flow",
            id="all",
        ),
        pytest.param({"type": "KernelDied", "message": "signal 9"}, "KernelDied: signal 9", id="no place"),
        pytest.param({"type": "E", "message": "m", "file": "flows/x.py"}, "flows/x.py: E: m", id="no line"),
        pytest.param({"type": "E", "message": "", "file": "f.py", "line": 1}, "f.py:1: E", id="no message"),
        pytest.param(
            {"type": "E", "message": "\n first\nsecond"}, "E: first", id="first line of the message"
        ),
        pytest.param({"type": "E", "message": None}, "E", id="message is null"),
        pytest.param({}, "Error", id="nothing"),
    ],
)
def test_an_error_is_described_on_one_line(error: dict, text: str) -> None:
    assert describe_error(error) == text
