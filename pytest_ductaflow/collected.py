"""``load_outputs``: one file of every run, as one data frame."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from pytest_ductaflow import context, regular
from pytest_ductaflow.errors import ConfigError, OutputError, RecordError, describe_error, in_words
from pytest_ductaflow.leftovers import currency
from pytest_ductaflow.record import RECORD_NAME, Record, read_record
from pytest_ductaflow.status import Status

if TYPE_CHECKING:
    import pandas

#: Of more runs, the rest is counted.
_MOST_NAMED: Final = 5


def load_outputs(
    name: str,
    runs: str | os.PathLike[str] = "runs",
    *,
    missing: Literal["raise", "skip"] = "raise",
    **options: Any,
) -> pandas.DataFrame:
    """That file of every run in a directory as one data frame: the runs' rows one below the other.

    Its first columns are ``instance`` and the scenario's dimensions; then come the file's own. A column with
    the name of one before it is prefixed: ``scenario.instance``, ``output.rate``. Red runs have no results:
    they are left out, and so are leftovers and runs that go on. What is left out, leftovers apart, is named
    in a warning; in a flow that makes its run orange.

    In a flow the runs are inputs: it runs again when one of them has run again, or another one is there. What
    it was seen to read also orders: from the next session on, those runs come before it. If its config names
    the directory, as in ``"runs": "runs/savings"``, they do so in the first session, too.

    :param name: path of the file in each run directory, with ``/``: ``balance.csv``, or, of a run nested in
        a build, ``runs/fit/model.json``. Its ending says how it is read: ``.csv``, ``.parquet``,
        ``.feather`` and ``.xlsx`` by pandas; ``.json`` as a list of objects, as one object (one row, inner
        keys with dots), or as pandas writes it.
    :param runs: the directory of all runs, or one below it, such as ``runs/savings``; in a flow a relative
        path is looked up below the project root, too. Runs nested in those are not meant.
    :param missing: ``raise`` if a run has no such file, or ``skip`` that run and name it.
    :param options: keyword arguments for pandas' reader, such as ``sep=";"``.
    :raises ConfigError: for a name that is no such path, or has another ending.
    :raises OutputError: if there is nothing to read, a file is missing, or it cannot be read.
    :raises RecordError: if it is not known which runs are current, because an instance file is in error.
    """
    if missing not in ("raise", "skip"):
        raise ConfigError(f"load_outputs: missing is 'raise' or 'skip', not {missing!r}")
    read = _reader(name)
    import pandas as pd  # slow to import, and only frames need it

    root = _directory(runs)
    found: list[tuple[Path, Record]] = []
    left_out: list[str] = []
    without: list[str] = []
    for path, made in _runs_in(root):
        if isinstance(made, RecordError) or made.light not in (Status.SUCCESS, Status.WARNING):
            left_out.append(f"{_shown(path)} ({_why(made)})")
        elif (path / name).is_file():
            found.append((path, made))
        else:
            without.append(_shown(path))
    if without and missing == "raise":
        raise OutputError(f"no {name} in {_some(without)}")
    if not found:
        others = f"; not read: {_some([*left_out, *without])}" if left_out or without else ""
        raise OutputError(f"no run in {root} has {name}{others}")
    _tell(name, left_out, without)
    frames = [_frame(path / name, read, options) for path, _ in found]
    given = [_columns_of(made) for _, made in found]
    taken = dict.fromkeys(key for columns in given for key in columns)
    for frame, columns in zip(frames, given, strict=True):
        frame.columns = pd.Index([_free(str(column), "output", taken) for column in frame.columns])
        for position, key in enumerate(taken):
            frame.insert(position, key, pd.Series([columns.get(key)] * len(frame), index=frame.index))
    return pd.concat(frames, ignore_index=True)


# --- the runs ------------------------------------------------------------------------------------


def _directory(runs: str | os.PathLike[str]) -> Path:
    around = context.current()
    places = [Path(runs)]
    if around is not None:
        places.append(Path(around.project_root, runs))
    for place in places:
        if place.is_dir():
            return place
    raise OutputError(f"there is no directory {' or '.join(map(str, places))}")


def _runs_in(root: Path) -> Iterator[tuple[Path, Record | RecordError]]:
    """The current runs in a directory, without those nested in them or around this one; sorted."""
    is_current = currency(root)
    around = context.current()
    own = Path(around.run_directory) if around is not None else None

    def look(path: Path) -> Iterator[tuple[Path, Record | RecordError]]:
        if not isinstance(is_current, str) and not is_current(path):
            return
        if (path / RECORD_NAME).is_file():
            if own is None or not own.is_relative_to(path.resolve()):
                try:
                    yield path, read_record(path)
                except RecordError as error:
                    yield path, error
            return
        names = sorted(os.listdir(path))
        with context.unseen():  # of a leftover nothing is read
            folders = [path / name for name in names if (path / name).is_dir()]
        for folder in folders:
            yield from look(folder)

    for path, made in look(root):
        if isinstance(is_current, str) and not isinstance(made, RecordError) and made.node_id is not None:
            raise RecordError(f"it is not known which runs are current: {is_current}")
        yield path, made


def _columns_of(made: Record) -> dict[str, Any]:
    columns: dict[str, Any] = {"instance": made.instance}
    for key, value in made.scenario.items():
        columns[_free(key, "scenario", columns)] = value
    return columns


def _free(name: str, prefix: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name = f"{prefix}.{name}"
    return name


def _shown(path: Path) -> str:
    around = context.current()
    if around is not None and path.is_relative_to(around.project_root):
        path = path.relative_to(around.project_root)
    return path.as_posix()


def _why(made: Record | RecordError) -> str:
    if isinstance(made, RecordError):
        return f"red: {made}"
    if made.light is Status.RUNNING:
        return "it is being executed"
    return f"red: {describe_error(made.error or {})}"


def _some(names: list[str]) -> str:
    more = f", … and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _tell(name: str, left_out: list[str], without: list[str]) -> None:
    """Name the runs that are not in the frame: printed in a flow, whose run that makes orange."""
    texts = [f"{name} of red runs is left out: {_some(left_out)}"] if left_out else []
    texts += [f"there is no {name} in {_some(without)}"] if without else []
    for text in texts:
        if context.current() is not None:
            print(f"⚠️ load_outputs: {text}")
        else:
            warnings.warn(f"load_outputs: {text}", stacklevel=3)


# --- the files -----------------------------------------------------------------------------------

_Reader = Callable[..., "pandas.DataFrame"]


def _reader(name: str) -> _Reader:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name:
        raise ConfigError(f"load_outputs: {name!r} is no path below a run directory")
    kind = path.suffix.lower()
    if kind == ".json":
        return _read_json
    if kind not in _READERS:
        endings = ", ".join((*_READERS, ".json"))
        raise ConfigError(f"load_outputs: {name!r} does not end in one of {endings}")
    import pandas as pd  # slow to import, and only frames need it

    reader: _Reader = getattr(pd, _READERS[kind])
    return reader


_READERS: Final = {
    ".csv": "read_csv",
    ".parquet": "read_parquet",
    ".feather": "read_feather",
    ".xlsx": "read_excel",
}


def _read_json(file: IO[bytes], **options: Any) -> pandas.DataFrame:
    import pandas as pd  # slow to import, and only frames need it

    if not options:
        data = json.load(file)
        if isinstance(data, list) and all(isinstance(row, dict) for row in data):
            return pd.DataFrame(data)
        if not isinstance(data, dict):
            raise ValueError("holds neither objects nor a table")
        if not all(isinstance(value, (dict, list)) for value in data.values()):
            return pd.json_normalize(data)
        file.seek(0)
    frame: pandas.DataFrame = pd.read_json(file, **options)
    return frame


def _frame(path: Path, read: _Reader, options: Mapping[str, Any]) -> pandas.DataFrame:
    """A file as a frame. Python opens it, because what C++ opens a flow's trace may not see."""
    try:
        with regular.open_file(path) as file:
            return read(file, **options)
    except ImportError as error:
        raise OutputError(
            f"{_shown(path)} needs another package: {error} (pip install 'pytest-ductaflow[tables]')"
        ) from None
    except Exception as error:  # the readers raise many types; their text is what helps
        said = getattr(error, "strerror", None) or in_words(error)
        raise OutputError(f"{_shown(path)} cannot be read: {said}") from error
