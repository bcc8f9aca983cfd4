"""pytest's configuration, read without pytest, is what pytest reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_ductaflow.errors import ConfigError
from pytest_ductaflow.settings import Settings, instance_files, settings_of

PATHS = 'pythonpath = ["src", "more lib"]\nductaflow_instances = ["here/*.json"]\n'
INI = "pythonpath = src 'more lib'\nductaflow_instances = here/*.json\n"
FILES = {
    "pytest.toml": f"[pytest]\n{PATHS}",
    ".pytest.toml": f"[pytest]\n{PATHS}",
    "pytest.ini": f"[pytest]\n{INI}",
    ".pytest.ini": f"[pytest]\n{INI}",
    "pyproject.toml": f"[tool.pytest]\n{PATHS}",
    "tox.ini": f"[pytest]\n{INI}",
    "setup.cfg": f"[tool:pytest]\n{INI}",
}
SAY = (
    "import pytest\n"
    "def pytest_configure(config):\n"
    "    print([str(config.rootpath), *map(str, config.getini('pythonpath')),"
    " *config.getini('ductaflow_instances')])\n"
)


def as_pytest_reads_it(start: Path) -> str:
    (start / "conftest.py").write_text(SAY)
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    shown = subprocess.run(command, cwd=start, capture_output=True, text=True, timeout=60)
    return next(line for line in shown.stdout.splitlines() if line.startswith("["))


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(FILES[name])
    below = tmp_path / "notebooks/of_mine"
    below.mkdir(parents=True)
    paths = (str(tmp_path / "src"), str(tmp_path / "more lib"))
    assert settings_of(below) == Settings(tmp_path, paths, ("here/*.json",))


@pytest.mark.parametrize(
    "files",
    [
        {"pytest.ini": "", "pyproject.toml": FILES["pyproject.toml"]},
        {"pyproject.toml": "[tool.ruff]\n", "tox.ini": FILES["tox.ini"]},
        {"pyproject.toml": f"[tool.pytest.ini_options]\n{PATHS}", "setup.cfg": FILES["setup.cfg"]},
        {"pyproject.toml": "[tool.pytest.ini_options]\npythonpath = 'src lib'\n"},
        {"pyproject.toml": "[tool.ruff]\n"},
        {"setup.py": "", "tox.ini": "[tox]\n"},
    ],
    ids=lambda files: "+".join(files),
)
def test_as_pytest_does(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    below = tmp_path / "below"
    below.mkdir()
    found = settings_of(below)
    assert str([str(found.root), *found.python_path, *found.instances]) == as_pytest_reads_it(below)


def test_without_any_the_directory_itself_is_the_root(tmp_path: Path) -> None:
    assert settings_of(tmp_path) == Settings(tmp_path)


@pytest.mark.parametrize("name", ["pytest.ini", "pyproject.toml"])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[[[\n")
    with pytest.raises(ConfigError, match=name):
        settings_of(tmp_path)


def test_files_stand_in_the_order_of_collection(tmp_path: Path) -> None:
    names = ["b.json", "a/z.json", "a-b/c.json", "a.json", "c/d/e.json", "c/d.json"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    files = instance_files(tmp_path, ["*.json", "**/*.json"])
    found = [file.relative_to(tmp_path).as_posix() for file in files]
    assert found == ["a/z.json", "a-b/c.json", "a.json", "b.json", "c/d/e.json", "c/d.json"]
