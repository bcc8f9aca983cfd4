"""Where imports would find modules: all that may come before what they found, or where they found nothing."""

from __future__ import annotations

import importlib.machinery
from pathlib import Path

import pytest

from pytest_ductaflow import modules

EXTENSION = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("src", "flows", "pk"):
        (tmp_path / name).mkdir()
    (tmp_path / "flows/it.py").write_text("from pk.sub import V\n")
    (tmp_path / "pk/sub.py").write_text("V = 1\n")
    return tmp_path


def found(root: Path, *loaded: str) -> set[str]:
    places = [str(root), str(root / "src"), str(root / "flows")]
    return modules.candidates([root / "flows/it.py"], loaded, places, root)


APPEARS = [
    "pk/__init__.py",
    "pk/__init__.pyc",
    "pk.py",
    "pk.pyc",
    f"pk{EXTENSION}",
    "pk/sub/__init__.py",
    f"pk/sub{EXTENSION}",
    "pk/sub.pyc",
    "pk/sub/V.py",
    "src/pk/sub.py",
    "src/pk/__init__.py",
    "flows/pk.py",
]


@pytest.mark.parametrize("name", APPEARS)
@pytest.mark.parametrize("named", [True, False], ids=["named by the code", "imported by name"])
def test_what_may_be_imported_instead_is_a_candidate(root: Path, name: str, named: bool) -> None:
    if not named:
        if name.endswith("V.py"):
            pytest.skip("nobody asks for it")
        (root / "flows/it.py").write_text("load('p' + 'k.sub')\n")
    before = found(root, "pk/sub.py")
    assert before == {"pk/sub.py"}
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    assert found(root, "pk/sub.py") - before == {name}


@pytest.mark.parametrize(
    "name", ["pk/other.py", "pk/data.csv", "sub.py", "src/pk.txt", "notes.py", "pk/sub.old.py"]
)
def test_what_nobody_would_import_is_none(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    assert found(root, "pk/sub.py") == {"pk/sub.py"}


@pytest.mark.parametrize(
    "name", ["random.py", "src/pytest.py", "json/__init__.py", f"flows/heapq{EXTENSION}"]
)
def test_what_hides_a_module_of_python_s_or_a_library_is_a_candidate(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).touch()
    assert found(root) == {"pk/sub.py", name}


def test_a_directory_hides_no_module(root: Path) -> None:
    (root / "random").mkdir()
    (root / "json").mkdir()
    (root / "json/a.csv").touch()
    assert found(root) == {"pk/sub.py"}


def test_what_an_import_in_vain_would_find(root: Path) -> None:
    (root / "src/there").mkdir()
    names = set(modules.in_vain(["settings", "there"], [str(root), str(root / "src"), "/elsewhere"], root))
    assert {"settings", "settings.py", "src/settings.pyc", f"src/settings{EXTENSION}", "there"} <= names
    assert "src/there" not in names
    assert all(not Path(name).is_absolute() for name in names)


def test_the_top_level_names_of_what_was_imported(root: Path) -> None:
    loaded = ["pk/sub.py", "src/deep/__init__.py", f"fast{EXTENSION}", "not-a-name.py"]
    places = [str(root), str(root / "src")]
    assert modules.top_level(loaded, places, root) == {"pk", "src", "deep", "fast"}
