"""Random edits of generated projects: nothing that is called up to date may differ from a forced run.

    python -m tests.acceptance.mutations --steps 2000 --seed 1

Each step edits a project at random, runs what is not up to date, runs a copy of the project without its
``runs/``, and compares what the flows wrote. Of edits that change nothing, nothing may run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import execution, graph, project
from pytest_ductaflow.execution import Request
from pytest_ductaflow.instance import Instance
from pytest_ductaflow.record import Record

HEAD: Final = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\n'
WRITE: Final = "json.dump(result, open('out.json', 'w'), sort_keys=True)\n"

#: Bodies of flows: each reads in other ways; what it read is all that it writes.
BODIES: Final = {
    "literal": """
import json, os
root = config["_project_root"]
FACTOR = 3
result = {"text": open(root + "/data/a.csv").read(), "factor": FACTOR, "x": config["x"]}
""",
    "configured": """
import json, os
root = config["_project_root"]
FACTOR = 2
result = {"text": open(os.path.join(root, config["file"])).read(), "factor": FACTOR, "x": config["x"]}
""",
    "listing": """
import glob, json, os
root = config["_project_root"]
FACTOR = 5
result = {os.path.basename(p): open(p).read() for p in sorted(glob.glob(root + "/data/many/*.txt"))}
result["factor"] = FACTOR
""",
    "optional": """
import json, os
from pathlib import Path
root = Path(config["_project_root"])
FACTOR = 7
result = {"there": (root / "data/flag").exists(), "factor": FACTOR}
try:
    result["extra"] = open(root / "data/extra.csv").read()
except FileNotFoundError:
    result["extra"] = None
try:
    import local_settings
    result["local"] = local_settings.VALUE
except ImportError:
    result["local"] = None
""",
    "modules": """
import json
import helpers
from package import deep
FACTOR = 11
result = {"helpers": helpers.value(), "deep": deep.value(), "factor": FACTOR, "x": config["x"]}
""",
    "shadowed": """
import json
import colorsys
FACTOR = 13
result = {"rgb": colorsys.rgb_to_hsv(0.1, 0.2, 0.3), "factor": FACTOR}
""",
    "command": """
import json, subprocess
FACTOR = 17
shown = subprocess.run(["cat", config["_project_root"] + "/data/a.csv"], capture_output=True, text=True).stdout
result = {"shown": shown, "factor": FACTOR}
""",
    "needing": """
import json
FACTOR = 19
result = {"factor": FACTOR, "inputs": [json.load(open(path)) for path in config["inputs"]]}
""",
    "inner_first": """
import json
FACTOR = 23
result = {"text": open(config["_project_root"] + "/data/b.csv").read(), "factor": FACTOR, "x": config["x"]}
""",
    "inner_next": """
import json
FACTOR = 29
result = {"factor": FACTOR, "before": json.load(open("../first/out.json"))["x"]}
""",
    "inner_last": """
import json
import helpers
FACTOR = 31
result = {"factor": FACTOR, "before": json.load(open("../next/out.json")), "helpers": helpers.value()}
""",
}
BUILD: Final = """
from pytest_ductaflow import run_notebook
FACTOR = 37
root = config["_project_root"]
for name in ("first", "next", "last"):
    run_notebook(f"{root}/flows/inner_{name}.py", config={"x": config["x"]}, execution_dir=f"runs/{name}")
import json
result = {"factor": FACTOR, "last": json.load(open("runs/last/out.json"))}
"""
FILES: Final = {
    "helpers.py": "import package.base\n\n\ndef value():\n    return package.base.NUMBER * 2\n",
    "package/__init__.py": "",
    "package/base.py": '"""Numbers."""\nNUMBER = 41  # a number\n',
    "package/deep.py": "from package.base import NUMBER\n\n\ndef value():\n    return NUMBER + 1\n",
    "data/a.csv": "a,1\n",
    "data/b.csv": "b,1\n",
    "data/c.csv": "c,1\n",
    "data/many/1.txt": "one",
    "data/many/2.txt": "two",
    "data/unused.csv": "nobody reads this",
}
#: What may be there and is not at first.
OPTIONAL: Final = {
    "data/flag": "",
    "data/extra.csv": "extra",
    "local_settings.py": "VALUE = 1\n",
    "colorsys.py": "def rgb_to_hsv(*_):\n    return 'mine'\n",
    "data/many/3.txt": "three",
    "flows/colorsys.py": "def rgb_to_hsv(*_):\n    return 'flows'\n",
}


class FalselyFresh(AssertionError):
    """Something that was called up to date is not what a run gives."""


class Needless(AssertionError):
    """Something ran after an edit that changes nothing."""


@dataclass
class Project:
    """A generated project, and what was done to it."""

    root: Path
    random: random.Random
    history: list[str] = field(default_factory=list)
    runs: int = 0

    def create(self) -> None:
        """Write the project: some flows of each way to read, chains, fans and builds."""
        choose = self.random
        for name, body in BODIES.items():
            self.write(f"flows/{name}.py", HEAD + body.lstrip("\n") + WRITE)
        self.write("builds/pipeline.py", HEAD + BUILD.lstrip("\n") + WRITE)
        for name, content in FILES.items():
            self.write(name, content)
        sources = choose.sample(["literal", "listing", "optional", "modules", "shadowed", "command"], 3)
        for name in sources:
            self.instance(name, config={"x": 1})
        self.instance("configured", config={"file": "data/c.csv"}, scenarios={"x": [1, 2]}, name="{x}")
        first = f"runs/{sources[0]}/{sources[0]}/out.json"
        self.instance("chain", flow="flows/needing.py", config={"inputs": [first]})
        fan = ["runs/configured/1/out.json", "runs/configured/2/out.json", "runs/needing/chain/out.json"]
        self.instance("fan", flow="flows/needing.py", config={"inputs": fan})
        self.instance("all", build="builds/pipeline.py", config={"x": 1})

    def write(self, name: str, content: str) -> None:
        """Write a file, in place of what is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def instance(self, name: str, /, **keys: Any) -> None:
        """Write an instance file."""
        if not {"flow", "build"} & keys.keys():
            keys["flow"] = f"flows/{name}.py"
        self.write(f"instances/{name}.json", json.dumps(keys, indent=1))

    # --- running ---

    def instances(self) -> list[Instance]:
        """All instances, what is needed first."""
        found = project.resolve(project.load(self.root, ["instances/*.json"])[0], self.root).instances
        order, _ = graph.order(list(found), {key: list(found[key].needed) for key in found})
        return [found[key] for key in order]

    def run(self, *, force: bool) -> tuple[dict[str, str], dict[str, Any]]:
        """Run what has to; give for each instance why (or ``fresh``, ``refused``), and what there is then."""
        verdicts: dict[str, str] = {}
        results: dict[str, Any] = {}
        for instance in self.instances():
            key = instance.run_directory
            if any(verdicts.get(other) in ("red", "refused") for other in instance.needed):
                verdicts[key] = "refused"
                continue
            request = self.request(instance, force=force)
            found, reasons = (None, ["forced"]) if force else execution.up_to_date(request)
            if found is None:
                found = execution.execute(request)
                self.runs += 1
            red = found.light.is_red
            verdicts[key] = "red" if red else "fresh" if not reasons else "; ".join(reasons)
            results[key] = self.outcome(request.directory, found)
        return verdicts, results

    def request(self, instance: Instance, *, force: bool) -> Request:
        """As a session makes it."""
        return Request(
            kind=instance.kind,
            flow=self.root / instance.flow,
            instance=instance.name,
            directory=self.root / instance.run_directory,
            config=instance.config,
            project_root=self.root,
            engine="fork",
            inputs=instance.inputs,
            reuse=not force,
        )

    def outcome(self, directory: Path, record: Record) -> Any:
        """What a run left: its light, and what it and its nested runs wrote."""
        outputs = sorted(directory.rglob("out.json"))
        return record.status, {str(path.relative_to(directory)): path.read_text() for path in outputs}

    # --- a step ---

    def step(self) -> None:
        """Edit, run, compare."""
        edits = [edit for edit in EDITS for _ in range(2 if edit in COSMETIC else 3)]
        chosen = [self.random.choice(edits) for _ in range(self.random.choice([1, 1, 1, 2, 3]))]
        said = [(edit, text) for edit in chosen if (text := edit(self)) is not None]
        self.history.append(" + ".join(text for _, text in said) or "nothing")
        same = all(edit in COSMETIC for edit, _ in said)
        verdicts, results = self.run(force=False)
        ran = {key: why for key, why in verdicts.items() if why not in ("fresh", "red", "refused")}
        if same and ran and not self.was_behind:
            raise Needless(f"{self.history[-1]}: {ran}")
        self.was_behind = any(why in ("red", "refused") for why in verdicts.values())
        self.compare(verdicts, results)

    was_behind = False

    def compare(self, verdicts: dict[str, str], results: dict[str, Any]) -> None:
        """Against a forced run of a copy without ``runs/``."""
        sources = {
            str(p.relative_to(self.root)): p.read_bytes()
            for p in sorted(self.root.rglob("*"))
            if p.is_file() and "runs" not in p.relative_to(self.root).parts and "__pycache__" not in p.parts
        }
        key = repr(sorted(sources.items()))
        if key not in _forced:
            copy = Project(Path(tempfile.mkdtemp(prefix="forced-")), self.random)
            shutil.copytree(
                self.root, copy.root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", "__pycache__")
            )
            _forced[key] = copy.run(force=True)
            shutil.rmtree(copy.root)
        _, wanted = _forced[key]
        for name, result in wanted.items():
            red = result[0] == "error" and verdicts.get(name) == "red"  # what it left does not count
            if results.get(name) != result and not red:
                verdict = verdicts.get(name)
                raise FalselyFresh(
                    f"{name} was {verdict!r}\nis:     {results.get(name)}\nforced: {result}\n"
                    f"edits: {' | '.join(self.history[-6:])}"
                )


_forced: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}

# --- edits ---------------------------------------------------------------------------------------


def _code_files(project: Project) -> list[Path]:
    files = [*project.root.glob("flows/*.py"), *project.root.glob("builds/*.py")]
    files += [project.root / "helpers.py", *project.root.glob("package/*.py")]
    return sorted(file for file in files if file.exists())


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
    files = [
        p for p in project.root.rglob("*") if p.is_file() and p.suffix in (".py", ".csv", ".json", ".txt")
    ]
    file = project.random.choice(sorted(files))
    os.utime(file)
    return f"touch {file.name}"


def unrelated(project: Project) -> str | None:
    """A file that nobody looks for."""
    project.write(f"data/new{project.random.randrange(1000)}.csv", "x")
    return "unrelated file"


def config(project: Project) -> str | None:
    """Another value in an instance file."""
    file = project.random.choice(sorted((project.root / "instances").glob("*.json")))
    data = json.loads(file.read_text())
    if "x" in data.get("config", {}):
        data["config"]["x"] = project.random.randrange(9)
    elif "scenarios" in data:
        data["config"]["file"] = project.random.choice(["data/a.csv", "data/c.csv"])
    else:
        data["config"]["more"] = project.random.randrange(9)
    file.write_text(json.dumps(data, indent=1))
    return f"config of {file.name}"


def content(project: Project) -> str | None:
    """Another content of an input, perhaps of the same size and with the old times."""
    file = project.random.choice(sorted((project.root / "data").rglob("*.[ct][sx][vt]")))
    info = file.stat()
    text = file.read_text()
    file.write_text(text[:-1] + project.random.choice("0123456789"))
    if project.random.random() < 0.5:
        os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))
    return f"content of {file.name}"


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
            instance.write_text(json.dumps(data, indent=1))
    return f"rename {file.name}"


def move(project: Project) -> str | None:
    """The whole project lies elsewhere."""
    new = Path(tempfile.mkdtemp(prefix="moved-"))
    shutil.copytree(project.root, new, dirs_exist_ok=True)
    shutil.rmtree(project.root)
    project.root = new
    return "move"


def change_and_back(project: Project) -> str | None:
    """Another content, and the old one again."""
    files = [p for p in sorted(project.root.rglob("*.*")) if p.is_file() and "runs" not in p.parts]
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
)


def mutate(seed: int, steps: int) -> Project:
    """Edit one project so many times. :raises AssertionError: with what led to it."""
    project = Project(Path(tempfile.mkdtemp(prefix="mutations-")), random.Random(seed))
    try:
        project.create()
        project.run(force=False)
        for _ in range(steps):
            project.step()
    except AssertionError as error:
        raise type(error)(f"seed {seed}, step {len(project.history)}: {error}") from None
    finally:
        shutil.rmtree(project.root, ignore_errors=True)
    return project


def main() -> int:
    """Many projects."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.mutations")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--each", type=int, default=50, help="steps with one project")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = failed = runs = 0
    started = time.monotonic()
    seed = options.seed
    while done < options.steps:
        try:
            runs += mutate(seed, options.each).runs
        except AssertionError as error:
            failed += 1
            print(f"{type(error).__name__}: {error}\n", flush=True)
        done += options.each
        seed += 1
        _forced.clear()
    seconds = time.monotonic() - started
    print(f"{done} steps, {runs} runs, {failed} projects with a finding, {seconds:.0f} s")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
