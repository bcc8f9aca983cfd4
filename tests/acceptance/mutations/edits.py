"""Random edits of a generated project. Each returns what it did, ``None`` if there was nothing to do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.command import main as ductaflow

from .flows import FANS, FILES, HEAD, OPTIONAL
from .generated import Project, files_below


def _code_files(project: Project) -> list[Path]:
    files = [*project.root.glob("flows/*.py"), *project.root.glob("builds/*.py")]
    files += [project.root / "helpers.py", *project.root.glob("package/*.py")]
    return sorted(file for file in files if file.exists())


def _instance(project: Project) -> tuple[Path, dict[str, Any]]:
    file = project.random.choice(sorted((project.root / "instances").glob("*.json")))
    return file, json.loads(file.read_text())


def _write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1))


def change_constant(project: Project) -> str | None:
    """Another number in a flow, build or module."""
    file = project.random.choice(_code_files(project))
    text = file.read_text()
    for name in ("FACTOR = ", "NUMBER = "):
        if name in text:
            head, _, tail = text.partition(name)
            number, end, rest = tail.partition("\n")
            new = str(project.random.randrange(100)) + number.lstrip("0123456789")
            file.write_text(head + name + new + end + rest)
            return f"{name}{new} in {file.name}"
    return None


def comment(project: Project) -> str | None:
    """A comment, at the end or after the header."""
    file = project.random.choice(_code_files(project))
    file.write_text(file.read_text() + f"# {project.random.random()}\n")
    return f"comment in {file.name}"


def reformat(project: Project) -> str | None:
    """Blank lines, another quoting, a cell split or a markdown cell."""
    file = project.random.choice(_code_files(project))
    text = file.read_text()
    if "FACTOR = " in text and HEAD in text:
        new = project.random.choice(["\n\n# %%\nFACTOR = ", "\n# %% [markdown]\n# Words\n\n# %%\nFACTOR = "])
        text = text.replace("\nFACTOR = ", new, 1)
    else:
        text = text.replace("\n\n", "\n\n\n", 1)
    file.write_text(text)
    return f"reformat {file.name}"


def docstring(project: Project) -> str | None:
    """Other words at the top of a module."""
    file = project.root / "package/base.py"
    if not file.exists():
        return None
    body = file.read_text().split("\n", 1)[1]
    file.write_text(f'"""Numbers, {project.random.random()}."""\n{body}')
    return "docstring"


def touch(project: Project) -> str | None:
    """Only times change."""
    files = [path for path in sorted(project.root.rglob("*.*")) if path.is_file()]
    file = project.random.choice(files)
    os.utime(file)
    return f"touch {file.name}"


def unrelated(project: Project) -> str | None:
    """A file that nobody looks for."""
    project.write(f"data/new{project.random.randrange(1000)}.csv", "x")
    return "unrelated file"


def config(project: Project) -> str | None:
    """Another value in an instance file."""
    file, data = _instance(project)
    if "x" in data.get("config", {}):
        data["config"]["x"] = project.random.randrange(9)
    elif "scenarios" in data:
        data["config"]["file"] = project.random.choice(["data/a.csv", "data/c.csv"])
    else:
        return None
    _write(file, data)
    return f"config of {file.name}"


def scenarios(project: Project) -> str | None:
    """Scenarios come and go: that of 3 fails."""
    file = project.root / "instances/configured.json"
    data = json.loads(file.read_text())
    data["scenarios"]["x"] = sorted(
        project.random.sample([1, 2, 3, 4, 5], project.random.choice([1, 2, 2, 3]))
    )
    _write(file, data)
    return f"scenarios {data['scenarios']['x']}"


def rename_scenarios(project: Project) -> str | None:
    """All scenarios have other names, or another step."""
    file = project.root / "instances/configured.json"
    data = json.loads(file.read_text())
    if project.random.random() < 0.3:
        data["step"] = "renamed" if data.get("step", "configured") == "configured" else "configured"
        _write(file, data)
        return f"step {data['step']}"
    data["name"] = "v{x}" if data["name"] == "{x}" else "{x}"
    _write(file, data)
    return f"name {data['name']}"


def fan(project: Project) -> str | None:
    """A way to need others comes, or goes."""
    name = project.random.choice(sorted(FANS))
    file = project.root / f"instances/by_{name}.json"
    if file.exists():
        file.unlink()
        return f"remove {file.name}"
    if len(list(file.parent.glob("by_*.json"))) > 5:
        return None
    project.fan(name)
    return f"add {file.name}"


def rename_instance(project: Project) -> str | None:
    """An instance file has another name, and so has its instance."""
    file = project.random.choice(sorted((project.root / "instances").glob("by_*.json")) or [None])
    if file is None:
        return None
    new = file.with_name(f"by_{project.random.randrange(10)}.json")
    if new.exists():
        return None
    file.rename(new)
    return f"rename {file.name} to {new.name}"


def prune(project: Project) -> str | None:
    """Leftovers are deleted."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ductaflow(["prune", "--delete", f"--rootdir={project.root}"])
    return "prune"


def content(project: Project) -> str | None:
    """Another content of an input, perhaps of the same size and with the old times."""
    files = [path for path in sorted((project.root / "data").rglob("*.[ct][sx][vt]")) if path.is_file()]
    file = project.random.choice(files)
    info = file.stat()
    text = file.read_text()
    file.write_text(text[:-1] + project.random.choice("0123456789"))
    if project.random.random() < 0.5:
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    return f"content of {file.name}"


def tree(project: Project) -> str | None:
    """A directory or a link within an input directory comes, or goes."""
    path = project.root / "data/tree" / project.random.choice(["branch", "branch/bud", "new", "loop"])
    shown = path.relative_to(project.root)
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.parent.mkdir(exist_ok=True)
        kind = project.random.choice(["directory", "link", "dangling link", "file"])
        if kind == "directory":
            path.mkdir()
        elif kind == "file":
            path.write_text("new")
        else:
            path.symlink_to("nowhere" if kind == "dangling link" else "../many")
        return f"add {kind} {shown}"
    return f"remove {shown}"


def relink(project: Project) -> str | None:
    """A link leads elsewhere, or is what it led to."""
    link = project.root / "data/linked"
    if link.is_symlink() and project.random.random() < 0.3 and link.exists():
        content = link.read_bytes()
        link.unlink()
        link.write_bytes(content)
        return "a file for the link"
    link.unlink(missing_ok=True)
    link.symlink_to(project.random.choice(["a.csv", "b.csv", "c.csv"]))
    return f"link to {os.readlink(link)}"


def made(project: Project) -> str | None:
    """A directory or link that a run made goes, or is another one."""
    run = project.root / "runs/making/making"
    place = run / project.random.choice(
        ["made", "made/deep", "made/deep/link", "shortcut", "empty", "cache", "copied"]
    )
    if not os.path.lexists(place):
        return None
    shown = place.relative_to(run)
    if place.is_symlink():
        place.unlink()
    else:
        shutil.rmtree(place)
    if project.random.random() < 0.5:
        return f"delete {shown}"
    place.symlink_to(project.root / "data")  # what is written through it would be found
    return f"a link for {shown}"


def optional(project: Project) -> str | None:
    """Something appears, or goes."""
    name = project.random.choice(sorted(OPTIONAL))
    path = project.root / name
    if path.exists():
        path.unlink()
        return f"remove {name}"
    project.write(name, OPTIONAL[name])
    return f"add {name}"


def remove_input(project: Project) -> str | None:
    """An input goes, or comes back."""
    name = project.random.choice(["data/a.csv", "data/b.csv", "data/many/2.txt", "package/deep.py"])
    path = project.root / name
    if path.exists():
        path.unlink()
        return f"remove {name}"
    project.write(name, FILES[name])
    return f"restore {name}"


def rename_input(project: Project) -> str | None:
    """A listed file has another name."""
    files = sorted((project.root / "data/many").glob("*.txt"))
    if not files:
        return None
    file = project.random.choice(files)
    file.rename(file.with_name(f"{project.random.randrange(10, 99)}.txt"))
    return f"rename {file.name}"


def output(project: Project) -> str | None:
    """An output is edited or deleted."""
    files = sorted((project.root / "runs").rglob("out.json"))
    if not files:
        return None
    file = project.random.choice(files)
    if project.random.random() < 0.5:
        file.unlink()
        return f"delete {file.relative_to(project.root)}"
    file.write_text('{"x": 99, "tampered": 1}')
    return f"tamper with {file.relative_to(project.root)}"


def record(project: Project) -> str | None:
    """A record is cut short, or gone, or a notebook is."""
    pattern = project.random.choice(["run.json", "run.json", "*.ipynb"])
    files = sorted((project.root / "runs").rglob(pattern))
    if not files:
        return None
    file = project.random.choice(files)
    if pattern == "run.json" and project.random.random() < 0.5:
        file.write_text(file.read_text()[: project.random.randrange(200)])
        return f"cut {file.relative_to(project.root)}"
    file.unlink()
    return f"delete {file.relative_to(project.root)}"


def remove_run(project: Project) -> str | None:
    """A whole run directory goes."""
    files = sorted((project.root / "runs").rglob("run.json"))
    if not files:
        return None
    directory = project.random.choice(files).parent
    shutil.rmtree(directory)
    return f"delete {directory.relative_to(project.root)}"


def version(project: Project) -> str | None:
    """A run was made with another version of a library, or of Python."""
    files = sorted((project.root / "runs").rglob("run.json"))
    if not files:
        return None
    file = project.random.choice(files)
    try:
        data = json.loads(file.read_text())
    except ValueError:
        return None
    data["environment"]["python"] = "3.2.1"
    file.write_text(json.dumps(data))
    return f"version in {file.relative_to(project.root)}"


def rename_flow(project: Project) -> str | None:
    """A flow's file has another name, and the instances that run it say so."""
    file = project.root / "flows/needing.py"
    new = project.root / "flows/gathering.py"
    if not file.exists():
        file, new = new, file
    file.rename(new)
    for instance in sorted((project.root / "instances").glob("*.json")):
        data = json.loads(instance.read_text())
        if data.get("flow") == f"flows/{file.name}":
            data |= {"flow": f"flows/{new.name}", "step": "needing"}
            _write(instance, data)
    return f"rename {file.name}"


def move(project: Project) -> str | None:
    """The whole project lies elsewhere. Its absolute paths follow, which is another config."""
    old, new = project.root, Path(tempfile.mkdtemp(prefix="moved-"))
    if any(str(old) in file.read_text() for file in (old / "instances").glob("*.json")):
        return None
    shutil.copytree(old, new, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(old)
    project.root = new
    return "move"


def change_and_back(project: Project) -> str | None:
    """Another content, and the old one again."""
    files = [path for path in files_below(project.root) if path.is_file() and not path.is_symlink()]
    file = project.random.choice(files)
    content = file.read_bytes()
    file.write_bytes(b"changed")
    file.write_bytes(content)
    return f"change {file.name} and back"


def nothing(project: Project) -> str | None:
    """No edit."""
    return "nothing"


Edit = Callable[[Project], "str | None"]
#: After these alone nothing may run.
COSMETIC: Final[Sequence[Edit]] = (
    comment,
    reformat,
    docstring,
    touch,
    unrelated,
    move,
    change_and_back,
    nothing,
    prune,
)
EDITS: Final[Sequence[Edit]] = (
    *COSMETIC,
    change_constant,
    config,
    content,
    optional,
    remove_input,
    rename_input,
    output,
    record,
    remove_run,
    version,
    rename_flow,
    scenarios,
    scenarios,
    rename_scenarios,
    fan,
    rename_instance,
    tree,
    relink,
    made,
)
