"""What pytest's configuration says of a project, read without pytest: for runs that pytest does not start.

They must be made as pytest would make them, or they would not be up to date for it: in the same project
root, with the same directories to import from. Options of the command line are not known here.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.errors import ConfigError

#: The instance files, unless the configuration says otherwise.
INSTANCES: Final = ("instances/*.json",)


@dataclass(frozen=True)
class Settings:
    """:param root: the project root, absolute.
    :param python_path: pytest's ``pythonpath``, absolute.
    :param instances: glob patterns of instance files, relative to the root.
    """

    root: Path
    python_path: tuple[str, ...] = ()
    instances: tuple[str, ...] = INSTANCES


def settings_of(start: Path) -> Settings:
    """The settings of the project that a directory is in.

    Its root is the nearest directory, at or above ``start``, with a configuration of pytest's; else the
    nearest with a ``pyproject.toml``, else with a ``setup.py``, else ``start`` itself.

    :raises ConfigError: if a configuration cannot be read.
    """
    for root in (start, *start.parents):
        for name, read in _FILES.items():
            path = root / name
            if not path.is_file():
                continue
            try:
                found = read(path)
            except Exception as error:  # of each reader its own; their text is what helps
                raise ConfigError(f"{path}: {error}") from None
            if found is not None:
                return _settings(root, found)
    for name in ("pyproject.toml", "setup.py"):
        for root in (start, *start.parents):
            if (root / name).is_file():
                return Settings(root)
    return Settings(start)


def instance_files(root: Path, patterns: Iterable[str]) -> list[Path]:
    """The instance files of a project, in the order in which pytest collects them.

    A pattern such as ``instances/*`` also matches what is none, the tables beside them for example.

    :param root: the project root, absolute. :param patterns: glob patterns relative to it.
    """
    found = {file for pattern in patterns for file in root.glob(pattern)}
    files = [file for file in found if file.suffix == ".json" and file.is_file()]
    return sorted(files, key=lambda file: file.relative_to(root).parts)


def project_of(flow: Path, directory: Path) -> Path | None:
    """The root of the project in which a flow runs, if nobody says which one.

    :param directory: the run directory. :returns: the working directory if it holds both; else what pytest
        would take as the root there, if that holds both.
    """

    def holds_both(root: Path) -> bool:
        return flow.is_relative_to(root) and directory.is_relative_to(root)

    if holds_both(here := Path.cwd()):
        return here
    root = settings_of(directory).root
    return root if holds_both(root) else None


def _settings(root: Path, found: dict[str, Any]) -> Settings:
    def words(key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = found.get(key, default)
        return tuple(shlex.split(value)) if isinstance(value, str) else tuple(map(str, value))

    python_path = tuple(str(root / path) for path in words("pythonpath", ()))
    return Settings(root, python_path, words("ductaflow_instances", INSTANCES))


def _read_ini(path: Path, section: str = "pytest") -> dict[str, Any] | None:
    import iniconfig  # as pytest reads it; comes with it

    found = iniconfig.IniConfig(str(path))
    return dict(found[section].items()) if section in found.sections else None


def _read_own_ini(path: Path) -> dict[str, Any]:
    return _read_ini(path) or {}


def _read_setup_cfg(path: Path) -> dict[str, Any] | None:
    return _read_ini(path, "tool:pytest")


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # comes with pytest there
    return tomllib.loads(path.read_text("utf-8"))


def _read_own_toml(path: Path) -> dict[str, Any]:
    return dict(_load_toml(path).get("pytest", {}))


def _read_pyproject(path: Path) -> dict[str, Any] | None:
    table = _load_toml(path).get("tool", {}).get("pytest")
    if table is None:
        return None
    return dict(table.get("ini_options", table))


#: In pytest's order. Files of its own count even if they say nothing.
_FILES: Final[dict[str, Callable[[Path], dict[str, Any] | None]]] = {
    "pytest.toml": _read_own_toml,
    ".pytest.toml": _read_own_toml,
    "pytest.ini": _read_own_ini,
    ".pytest.ini": _read_own_ini,
    "pyproject.toml": _read_pyproject,
    "tox.ini": _read_ini,
    "setup.cfg": _read_setup_cfg,
}
