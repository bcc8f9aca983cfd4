"""Random edits of random projects, each followed by a session and checked against a forced re-run.

    python -m tests.acceptance.mutations --steps 2000 --seed 1
    python -m tests.acceptance.mutations --steps 500 --seeds 1 2 3 --projects 10

What is checked after each step:

- no instance that was taken for up to date (nor any other) has other outputs, warnings or another light than
  after a forced run of the same project without ``runs``: else it is *falsely fresh*;
- nothing was executed that had no reason to: each edit says which instances it may reach, and an instance that
  needs another one's output may run only if that output changed: else it is *needless*.

A finding prints the seed, the step and the edits of that step, and keeps the project before and after it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pytest_ductaflow import digests, engines, execution, freshness, graph
from pytest_ductaflow.engines import preload, warm
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.instance import Instance, load_instances
from pytest_ductaflow.record import Record, RunDirectory, read_record

# --- what flows are made of ----------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A way in which a flow depends on something.

    :param body: its code. :param imports: import lines. :param config: what its config needs.
    :param reach: patterns of files that may change what it does, besides those that its config names.
    :param raw: those of them that are ``.py`` files read as data. :param docstrings: whether it shows some.
    :param inputs: what its instance declares.
    """

    body: str
    reach: tuple[str, ...] = ()
    imports: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    raw: tuple[str, ...] = ()
    docstrings: bool = False
    inputs: tuple[str, ...] = ()


def _module(*names: str) -> tuple[str, ...]:
    """Where modules may be found: they themselves, and what would be found instead."""
    found = [name.replace(".", "/") for name in names]
    places = ("", "flows/", "builds/")
    return tuple(
        f"{place}{name}{end}" for name in found for place in places for end in (".py", "/__init__.py")
    )


_SHARED = _module("shared", "shared.core", "shared.mid", "shared.extra")
_HELPERS = (*_module("helpers"), *_SHARED, "data/table.json")
_OPTIONAL = ("data/optional.txt",)
_PARTS = ("data/parts/*",)
_LITERAL, _COMPUTED = 'root / "data/optional.txt"', 'root.joinpath("data", "-".join(["optional"]) + ".txt")'
_OPTIONALS = {
    "exists": "found['o'] = path.read_text() if path.exists() else None",
    "is_file": "found['o'] = path.read_text() if path.is_file() else None",
    "ospath": "found['o'] = path.read_text() if os.path.exists(path) else None",
    "isfile": "found['o'] = open(path).read() if os.path.isfile(str(path)) else None",
    "only": "found['o'] = path.exists()",
    "isdir": "found['o'] = os.path.isdir(path) or path.is_dir() or os.path.isfile(path)",
    "open": "try:\n    found['o'] = path.read_text()\nexcept FileNotFoundError:\n    found['o'] = None",
    "suppress": "with contextlib.suppress(OSError), open(path, 'rb') as file:\n    found['o'] = digest(file.read())",
    "getsize": "try:\n    found['o'] = os.path.getsize(path)\nexcept OSError:\n    found['o'] = None",
    "stat": "try:\n    found['o'] = path.stat().st_size\nexcept FileNotFoundError:\n    found['o'] = None",
    "access": "found['o'] = path.read_text() if os.access(path, os.R_OK) else None",
    "lexists": "found['o'] = path.read_text() if os.path.lexists(path) else None",
}

KINDS: dict[str, Kind] = {
    "literal": Kind("found['a'] = numbers(root / 'data/a.csv')", ("data/a.csv",)),
    "formatted": Kind("found['b'] = numbers(f'{root}/data/b.csv')", ("data/b.csv",)),
    "named": Kind("found['c'] = numbers(root / config['file'])", config={"file": "data/c.csv"}),
    "helper": Kind("found['h'] = helpers.load('b')", (*_HELPERS, "data/b.csv"), "import helpers"),
    "packaged": Kind("found['p'] = scaled(K)", _SHARED, "from shared.core import scaled"),
    "transitive": Kind("found['t'] = shared.mid.twice(K)", _SHARED, "import shared.mid"),
    "glob": Kind("found['g'] = [[p.name, numbers(p)] for p in sorted((root / 'data/parts').glob('*.csv'))]", _PARTS),
    "globbed": Kind("found['g'] = [numbers(p) for p in sorted(glob.glob(str(root / 'data' / 'parts' / '*.csv')))]", _PARTS),
    "listdir": Kind("found['l'] = sorted(os.listdir(root / 'data/parts'))", _PARTS),
    "scandir": Kind("with os.scandir(root / 'data/parts') as entries:\n    found['s'] = sorted(e.name for e in entries)", _PARTS),
    "iterdir": Kind("found['i'] = {p.name: digest(p.read_bytes()) for p in (root / 'data/parts').iterdir() if p.is_file()}", _PARTS),
    "walk": Kind("found['w'] = sorted(n for _, _, names in os.walk(root / 'data') for n in names)", ("data/*",)),
    "rglob": Kind("found['r'] = sorted(p.name for p in (root / 'data').rglob('*.csv'))", ("data/*",)),
    "directory": Kind("found['d'] = sum(numbers(p) for p in (root / config['folder']).glob('p*'))", _PARTS, config={"folder": "data/parts"}),
    "command": Kind("found['cmd'] = subprocess.run(['cat', str(root / 'data' / 'a.csv')], capture_output=True, text=True, check=True).stdout", ("data/a.csv",), "import subprocess"),
    "shell": Kind("lines = !cat {root}/data/b.csv\nfound['sh'] = list(lines)", ("data/b.csv",)),
    "run": Kind("%run {root}/scripts/step.py\nfound['run'] = STEP", ("scripts/step.py",), raw=("scripts/step.py",)),
    "runpy": Kind("found['rp'] = runpy.run_path(str(root / 'scripts' / 'step.py'))['STEP']", ("scripts/step.py",), "import runpy", raw=("scripts/step.py",)),
    "documented": Kind("found['doc'] = helpers.load.__doc__", (*_HELPERS, "data/b.csv"), "import helpers", docstrings=True),
    "local": Kind("found['local'] = getattr(local_settings, 'VALUE', 'odd') if local_settings else None", (*_module("local_settings"), "local_settings/*"), "try:\n    import local_settings\nexcept ImportError:\n    local_settings = None"),
    "extra": Kind("found['extra'] = shared.mid.EXTRA", _SHARED, "import shared.mid"),
    "frompackage": Kind("found['fp'] = extra.VALUE if extra else None", _SHARED, "try:\n    from shared import extra\nexcept ImportError:\n    extra = None"),
    "plugin": Kind("try:\n    found['plugin'] = importlib.import_module('plugins.' + config['plugin']).VALUE\nexcept ImportError:\n    found['plugin'] = None", ("plugins/*",), "import importlib", {"plugin": "late"}),
    "discover": Kind("found['plugins'] = {info.name: importlib.import_module(f'plugins.{info.name}').VALUE for info in pkgutil.iter_modules(plugins.__path__)}", ("plugins/*",), "import importlib, pkgutil\nimport plugins"),
    "resource": Kind("found['res'] = json.loads(pkgutil.get_data('shared', 'defaults.json'))", (*_SHARED, "shared/defaults.json"), "import pkgutil"),
    "lazy": Kind("if config['lazy']:\n    import lazy\n    found['lazy'] = lazy.VALUE", (*_module("lazy"),), config={"lazy": False}),
    "shadowed": Kind("found['hsv'] = list(colorsys.rgb_to_hsv(0.2, 0.4, 0.6))", _module("colorsys"), "import colorsys"),
    "spaced": Kind("found['ns'] = [spaces.tools.TOOL, getattr(spaces, 'FLAG', None)]", ("spaces/*", *_module("spaces")), "import spaces.tools"),
    "warning": Kind("total = numbers(root / 'data/a.csv')\nprint(f'⚠️ odd: {total}' if total % 2 else 'even')", ("data/a.csv",)),
    "more": Kind("Path('deep').mkdir(exist_ok=True)\nPath('deep/more.txt').write_text(str(K))\nif config['flag']:\n    Path('flag.txt').write_text(str(K))", config={"flag": True}),
    "outside": Kind("(root / 'made').mkdir(exist_ok=True)\n(root / 'made' / f\"{config['as']}.txt\").write_text(str(K))", config={"as": "@name"}),
    "forked": Kind("read, write = os.pipe()\nif os.fork() == 0:\n    os.write(write, str(numbers(root / 'data' / 'c.csv')).encode())\n    os._exit(0)\nos.close(write)\nos.wait()\nfound['f'] = os.read(read, 100).decode()\nos.close(read)", ("data/c.csv",)),
    "chdir": Kind("here = os.getcwd()\nos.chdir(root / 'data')\nfound['cd'] = open('c.csv').read()\nos.chdir(here)", ("data/c.csv",)),
    "link": Kind("found['ln'] = numbers(root / 'data' / 'link.csv')", ("data/link.csv", "data/a.csv", "data/b.csv")),
    "copied": Kind("shutil.copy(root / 'data' / 'a.csv', 'copy.csv')\nfound['cp'] = digest(Path('copy.csv').read_bytes())", ("data/a.csv",), "import shutil"),
    "sqlite": Kind("connection = sqlite3.connect(f'file:{root}/data/base.db?mode=ro', uri=True)\nfound['db'] = connection.execute('select sum(x) from t').fetchone()\nconnection.close()", ("data/base.db",), "import sqlite3"),
    "library": Kind("found['y'] = yaml.safe_load((root / 'data' / 'c.csv').read_text().splitlines()[0])", ("data/c.csv",), "import yaml"),
    "frame": Kind("found['df'] = int(pd.read_csv(root / 'data' / 'b.csv', header=None).to_numpy().sum())", ("data/b.csv",), "import pandas as pd"),
    "array": Kind("found['np'] = float(np.loadtxt(root / 'data' / 'a.csv', delimiter=',').sum())", ("data/a.csv",), "import numpy as np"),
    "declared": Kind("found['u'] = subprocess.run('cat $PLACE/un*.csv', shell=True, env={**os.environ, 'PLACE': str(root / 'data')}, capture_output=True, text=True).stdout", ("data/un*.csv",), "import subprocess", inputs=("data/un*.csv",)),
    **{
        f"{name}_{how}": Kind(f"path = {path}\n{body}", _OPTIONAL)
        for name, body in _OPTIONALS.items()
        for how, path in (("literal", _LITERAL), ("computed", _COMPUTED))
    },
}  # fmt: skip

#: Kinds of flows, and names of new modules, that are known not to be seen. Left out unless asked for by name.
KNOWN: dict[str, str] = {
    "stat_computed": "Path.stat() of a file that is not there",
    "access_computed": "os.access()",
    "lexists_computed": "os.path.lexists()",
    "spaced": "a namespace package that becomes a regular one",
    "declared_nested": "`inputs` of a build count for the build only, not for its flows",
    "shared/core/__init__.py": "a package that shadows a module which is imported relatively",
    "local_settings/notes.txt": "a directory that becomes a namespace package",
    "flows/colorsys.py": "a module beside the flows that shadows one that only a build's flow imports",
    "flows/helpers.py": "the same",
}

_FLOW = '''# %% [markdown]
# # A flow, version 0

# %% tags=["parameters"]
config = {{}}

# %%
import contextlib, glob, hashlib, json, os
from pathlib import Path
{imports}
# note 0
root = Path(config["_project_root"])
K = {k}
found = {{}}

# %%
def digest(data):
    """Short digest, version 0."""
    return hashlib.sha256(data).hexdigest()[:12]

def numbers(path):
    return sum(int(word) for word in Path(path).read_text().replace(",", " ").split() if word.isdigit())

# %%
{body}

# %%
for pattern in config.get("inputs", []):
    paths = sorted(glob.glob(pattern)) if "*" in pattern else [pattern]
    found.setdefault("inputs", []).extend(json.loads(Path(path).read_text())["value"] for path in paths)
found["k"], found["x"] = K, config.get("x")
found["value"] = int(digest(json.dumps(found, sort_keys=True).encode()), 16) % 1000
Path("out.json").write_text(json.dumps(found, sort_keys=True))
'''

_BUILD = '''# %% [markdown]
# # A build, version 0

# %% tags=["parameters"]
config = {{}}

# %%
import json
from pathlib import Path
from pytest_ductaflow import run_notebook, run_step_flow
# note 0
root = Path(config["_project_root"])
K = {k}
found = {{}}

# %%
def value(path):
    """What a flow made, version 0."""
    return json.loads(Path(path).read_text())["value"]

# %%
{body}

# %%
found["k"], found["x"] = K, config.get("x")
found["value"] = sum(found["made"]) + K
Path("out.json").write_text(json.dumps(found, sort_keys=True))
'''

_FILES: dict[str, str] = {
    "helpers.py": '''"""Helpers, version 0."""
import json
from pathlib import Path
from shared.mid import twice
# note 0
DATA = Path(__file__).parent / "data"
TABLE = json.loads((DATA / "table.json").read_text())
K = 2

def load(name):
    """Load a file, version 0."""
    text = (DATA / f"{name}.csv").read_text()
    return K * twice(len(text)) + TABLE["offset"]
''',
    "shared/__init__.py": "# note 0\nK = 1\n",
    "shared/core.py": '"""Core, version 0."""\n# note 0\nK = 3\n\ndef scaled(x):\n    """Scaled, version 0."""\n    return x * K\n',
    "shared/mid.py": '"""Middle, version 0."""\nfrom .core import scaled\n# note 0\nK = 4\ntry:\n    from .extra import VALUE as EXTRA\nexcept ImportError:\n    EXTRA = None\n\ndef twice(x):\n    return 2 * scaled(x) + K\n',
    "shared/defaults.json": '{"a": 1}\n',
    "lonely.py": '"""Imported by nobody, version 0."""\n# note 0\nK = 1\n',
    "lazy.py": '"""Imported if asked for, version 0."""\n# note 0\nVALUE = K = 1\n',
    "plugins/__init__.py": "# note 0\nK = 1\n",
    "plugins/early.py": "# note 0\nK = 7\nVALUE = K\n",
    "spaces/tools.py": "# note 0\nK = 5\nTOOL = K\n",
    "scripts/step.py": "# note 0\nK = 6\nSTEP = K\n",
    "data/a.csv": "1,2\n3,4\n",
    "data/b.csv": "5,6\n7,8\n",
    "data/c.csv": "9,1\n2,3\n",
    "data/unseen.csv": "4,4\n",
    "data/table.json": '{"offset": 1}\n',
    "data/parts/p1.csv": "1,1\n",
    "data/parts/p2.csv": "2,2\n",
    "notes/readme.txt": "nobody reads this\n",
}  # fmt: skip

#: Never part of a project's content: what runs leave.
_LEFT = ("runs", "made", "__pycache__")


@dataclass
class Reach:
    """What may change what a flow's file does."""

    patterns: tuple[str, ...]
    raw: tuple[str, ...] = ()
    docstrings: bool = False
    calls: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()


#: What projects consist of.
SHAPES = ("chain", "build", "chain and build")


# --- a project -----------------------------------------------------------------------------------


class World:
    """A generated project on disk and what the test knows about it.

    :param root: an empty directory. :param kinds: the kinds of flows to choose from.
    """

    def __init__(
        self, root: Path, rng: random.Random, kinds: Sequence[str], shape: str | None = None
    ) -> None:
        self.root, self.rng = root, rng
        self.with_known = any(kind in KNOWN for kind in kinds)
        self.reach: dict[str, Reach] = {}
        self.past: list[tuple[str, bytes | None]] = []
        self._tick = 0
        self._kinds = list(kinds)
        for name, text in _FILES.items():
            self.write(name, text)
        (root / "data/link.csv").symlink_to("a.csv")
        _make_base(root / "data/base.db", 1)
        shape = shape or rng.choice(SHAPES)
        if shape == "single":
            config, declared = self._flow("prepare", 1)
            config["x"] = 1
            self._instance(
                "prepare", declared, flow="flows/prepare.py", step="prepare", name="p", config=config
            )
        if "chain" in shape:
            self._chain()
        if "build" in shape:
            self._builds()
        self.past.clear()

    # --- generating ---

    def _flow(
        self, name: str, how_many: int = 2, *, nested: bool = False
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Write ``flows/<name>.py``; give the config that it needs, and what its instance declares."""
        known = [kind for kind in self._kinds if nested and f"{kind}_nested" in KNOWN and not self.with_known]
        names = [kind for kind in self._kinds if kind not in known]
        names = self.rng.sample(names, min(how_many, len(names)))
        kinds = [KINDS[kind] for kind in names]
        imports = "\n".join(dict.fromkeys(kind.imports for kind in kinds if kind.imports))
        body = "\n\n# %%\n".join(kind.body for kind in kinds)
        self.write(f"flows/{name}.py", _FLOW.format(imports=imports, body=body, k=self.rng.randrange(9)))
        self.reach[f"flows/{name}.py"] = Reach(
            (f"flows/{name}.py", *(pattern for kind in kinds for pattern in kind.reach)),
            tuple(pattern for kind in kinds for pattern in kind.raw),
            any(kind.docstrings for kind in kinds),
            kinds=tuple(names),
        )
        config = {key: value for kind in kinds for key, value in kind.config.items()}
        config = {key: name if value == "@name" else value for key, value in config.items()}
        return config, tuple(pattern for kind in kinds for pattern in kind.inputs)

    def _instance(self, file: str, inputs: Sequence[str] = (), /, **keys: Any) -> None:
        if inputs:
            keys["inputs"] = list(inputs)
        self.write(f"instances/{file}.json", json.dumps(keys, indent=1))

    def _chain(self) -> None:
        config, declared = self._flow("prepare")
        self.write("config/base.json", json.dumps({**config, "x": 1}, indent=1))
        self._instance(
            "prepare", declared, flow="flows/prepare.py", step="prepare", name="p", config="config/base.json"
        )
        config, declared = self._flow("fit")
        config["inputs"] = ["runs/prepare/p/out.json"]
        scenarios = [{"label": f"s{number}", "x": number} for number in range(self.rng.choice((1, 2, 3)))]
        self._instance(
            "fit",
            declared,
            flow="flows/fit.py",
            step="fit",
            name="{label}",
            config=config,
            scenarios=scenarios,
        )
        config, declared = self._flow("report", 1)
        wild = self.rng.random() < 0.5
        config["inputs"] = (
            ["runs/fit/*/out.json"] if wild else [f"runs/fit/{s['label']}/out.json" for s in scenarios]
        )
        self._instance("report", declared, flow="flows/report.py", step="report", name="r", config=config)

    def _builds(self) -> None:
        inner = self._build("inner", 3, ["a", "b", "c"])
        keys = {"build": "builds/inner.py", "step": "inner", "name": "i"}
        if self.rng.random() < 0.6:
            self._instance("inner", inner[1], config={**inner[0], "x": 1}, **keys)
        else:  # a build that runs a build
            config, declared = self._build("outer", 2, ["d", "e"], "builds/inner.py")
            config = {**inner[0], **config, "x": 1}
            declared = (*inner[1], *declared)
            self._instance("outer", declared, build="builds/outer.py", step="outer", name="o", config=config)

    def _build(
        self, name: str, number: int, flows: Sequence[str], also: str | None = None
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        configs: dict[str, Any] = {}
        declared: tuple[str, ...] = ()
        lines, before = ["found['made'] = []"], ""
        for flow in flows[:number]:
            own, inputs = self._flow(flow, 1, nested=True)
            configs |= own
            declared += inputs
            given = "**{key: value for key, value in config.items() if key != 'inputs'}"
            way = self.rng.choice(("relative", "absolute", "step", "caught", "shared"))
            if not before:
                source = repr([])
            elif way == "relative":
                source = repr([os.path.relpath(before, f"runs/{flow}")])
            else:
                source = f"[str(Path({before!r}).resolve())]"
            settings = f"{{{given}, 'inputs': {source}, 'step': {flow!r}}}"
            call = f"run_notebook(root / 'flows/{flow}.py', config={settings}, execution_dir='runs/{flow}')"
            place = f"runs/{flow}"
            if way == "step":
                call = f"run_step_flow(root / 'flows/{flow}.py', 'steps', {flow!r}, config={settings})"
                place = f"runs/steps/{flow}"
                call = call.replace(f"../{before.split('/')[1]}/" if before else "\0", "../")
            lines.append(call)
            lines.append(f"found['made'].append(value({place + '/out.json'!r}))")
            before = f"{place}/out.json"
        if also:
            lines.append(
                f"run_notebook(root / {also!r}, config={{**config, 'step': 'also'}}, execution_dir='runs/also')"
            )
            lines.append("found['made'].append(value('runs/also/out.json'))")
        cells = "\n\n# %%\n".join(lines)
        self.write(f"builds/{name}.py", _BUILD.format(body=cells, k=self.rng.randrange(9)))
        calls = (*(f"flows/{flow}.py" for flow in flows[:number]), *([also] if also else []))
        self.reach[f"builds/{name}.py"] = Reach((f"builds/{name}.py",), calls=calls)
        return configs, declared

    # --- files ---

    def write(self, name: str, content: str | bytes | None) -> None:
        """Write a file of the project, or delete it; what it was can be reverted to."""
        path = self.root / name
        self.past.append((name, path.read_bytes() if path.is_file() else None))
        if content is None:
            path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.encode()
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)
        if name.endswith(".py"):  # Python takes a .pyc for current by seconds and size: no two edits in one
            self._tick += 1
            os.utime(path, (self._tick, time.time() - 1e6 + self._tick))

    def text(self, name: str) -> str:
        """The text of a file."""
        return (self.root / name).read_text("utf-8")

    def files(self, *patterns: str) -> list[str]:
        """The project's own files that match."""
        return [name for name in tree(self.root) if any(fnmatchcase(name, pattern) for pattern in patterns)]

    def instances(self) -> list[Instance]:
        """All instances as the plugin loads them."""
        files = sorted((self.root / "instances").glob("*.json"))
        return [instance for file in files for instance in load_instances(file, self.root)]

    # --- what an edit can reach ---

    def reaches(self, flow: str, name: str, edit: str) -> bool:
        """Whether an edit of this kind of this file may change what a flow does, called flows included."""
        reach = self.reach[flow]
        if edit in NEUTRAL:
            hit = any(fnmatchcase(name, pattern) for pattern in reach.raw) or (
                edit == "docstring"
                and reach.docstrings
                and name.endswith(".py")
                and self._matches(reach, name)
            )
        else:
            hit = self._matches(reach, name)
        return hit or any(self.reaches(called, name, edit) for called in reach.calls)

    def calls(self, flow: str) -> list[str]:
        """The flows that a build runs, and those that they run."""
        called = self.reach[flow].calls if flow in self.reach else ()
        return [*called, *(inner for other in called for inner in self.calls(other))]

    @staticmethod
    def _matches(reach: Reach, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in reach.patterns)


def _make_base(path: Path, value: int) -> None:
    import sqlite3

    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("create table t (x int)")
    connection.execute("insert into t values (?)", (value,))
    connection.commit()
    connection.close()


def tree(root: Path) -> dict[str, bytes]:
    """The project's own files."""
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT)
        for name in sorted(names):
            path = Path(folder, name)
            found[path.relative_to(root).as_posix()] = (
                os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            )
        if not names and not folders:
            found[f"{Path(folder).relative_to(root).as_posix()}/"] = b""
    return found


# --- edits ---------------------------------------------------------------------------------------

Edit = Callable[[World], "str | None"]
EDITS: dict[str, tuple[Edit, int]] = {}
#: Kinds of edits after which nothing may run.
NEUTRAL: set[str] = set()
#: Run directories that the last edit spoilt.
_spoilt: set[str] = set()


def edit(weight: int = 2, *, neutral: bool = False) -> Callable[[Edit], Edit]:
    """Register an edit. It says what it did, or ``None`` if it found nothing to do."""

    def register(function: Edit) -> Edit:
        name = function.__name__.strip("_")
        EDITS[name] = function, weight
        if neutral:
            NEUTRAL.add(name)
        return function

    return register


def _pick(world: World, *patterns: str) -> str | None:
    names = world.files(*patterns)
    return world.rng.choice(names) if names else None


_CODE = ("flows/*.py", "builds/*.py", "helpers.py", "shared/*.py", "lazy.py", "lonely.py", "plugins/*.py", "spaces/*.py", "scripts/*.py")  # fmt: skip


def _replace(world: World, name: str, pattern: str, new: Callable[[re.Match[str]], str]) -> str | None:
    text = world.text(name)
    places = list(re.finditer(pattern, text, re.M))
    if not places:
        return None
    match = world.rng.choice(places)
    world.write(name, text[: match.start()] + new(match) + text[match.end() :])
    return name


@edit(8)
def constant(world: World) -> str | None:
    name = _pick(world, *_CODE)
    return name and _replace(world, name, r"(?<=\bK = )\d+", lambda m: str((int(m[0]) + 1) % 10))


@edit(4, neutral=True)
def comment(world: World) -> str | None:
    name = _pick(world, *_CODE)
    return name and _replace(world, name, r"^# note \d+$", lambda m: f"# note {int(m[0][7:]) + 1}")


@edit(4, neutral=True)
def docstring(world: World) -> str | None:
    name = _pick(world, *_CODE)
    return name and _replace(
        world, name, r"version \d+(?=\.\"\"\")", lambda m: f"version {int(m[0][8:]) + 1}"
    )


@edit(3, neutral=True)
def markdown(world: World) -> str | None:
    name = _pick(world, "flows/*.py", "builds/*.py")
    return name and _replace(world, name, r"^# # (.*)$", lambda m: f"# # {m[1]}!\n# More of it.")


@edit(3, neutral=True)
def markdown_cell(world: World) -> str | None:
    name = _pick(world, "flows/*.py", "builds/*.py")
    return name and _replace(world, name, r"^# %%$", lambda m: "# %% [markdown]\n# A remark.\n\n# %%")


@edit(4, neutral=True)
def formatting(world: World) -> str | None:
    name = _pick(world, *_CODE)
    if name is None:
        return None
    forms = {r"^K = (\d+)$": "K  =  (\n    {}\n)", r"^K  =  \(\n    (\d+)\n\)$": "K = {}"}
    for pattern, new in forms.items():
        if _replace(world, name, pattern, lambda m, new=new: new.format(m[1])):  # type: ignore[misc]
            return name
    world.write(name, world.text(name).rstrip("\n") + "\n" * world.rng.choice((1, 2, 3)))
    return name


#: Lines before which a cell may begin.
_SPLIT = r"^(?:found = \{\}|root = .*|K = \d+|from pathlib import Path|found\[\"k\"\].*)$"


@edit(4, neutral=True)
def split(world: World) -> str | None:
    name = _pick(world, "flows/*.py", "builds/*.py")
    return name and _replace(world, name, _SPLIT, lambda m: f"\n# %%\n{m[0]}")


@edit(2, neutral=True)
def join(world: World) -> str | None:
    """The reverse of a split."""
    name = _pick(world, "flows/*.py", "builds/*.py")
    if name is None:
        return None
    cells = world.text(name).split("\n# %%")
    places = [
        index
        for index in range(1, len(cells))
        if re.match(rf"\n{_SPLIT}", cells[index], re.M) and cells[index - 1].startswith("\n")
    ]
    if not places:
        return None
    index = world.rng.choice(places)
    cells[index - 1 : index + 1] = [cells[index - 1] + cells[index]]
    world.write(name, "\n# %%".join(cells))
    return name


@edit(4, neutral=True)
def touch(world: World) -> str | None:
    names = [*world.files("*"), *_run_files(world)]
    name = world.rng.choice([name for name in names if not name.endswith("/")])
    if (world.root / name).is_symlink():
        return None
    os.utime(
        world.root / name, None if world.rng.random() < 0.5 else (1e9, time.time() - 5e6 + world.rng.random())
    )
    return name


@edit(2, neutral=True)
def rewrite(world: World) -> str | None:
    """The same content in a new file, as an editor saves it."""
    name = world.rng.choice(
        [name for name in [*world.files("*"), *_run_files(world)] if not name.endswith("/")]
    )
    path = world.root / name
    if path.is_symlink() or not path.is_file():
        return None
    data, info = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    if name.endswith(".py"):
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return name


@edit(3, neutral=True)
def unrelated(world: World) -> str | None:
    name = world.rng.choice(("notes/{}.txt", "elsewhere/{}.csv", "notes/more/{}.py", "{}.md")).format(
        world.rng.randrange(99)
    )
    world.write(name, str(world.rng.random()))
    return name


@edit(2, neutral=True)
def unused_module(world: World) -> str | None:
    return _replace(world, "lonely.py", r"(?<=\bK = )\d+", lambda m: str(int(m[0]) + 1))


@edit(2, neutral=True)
def key_order(world: World) -> str | None:
    name = _pick(world, "instances/*.json", "config/*.json")
    if name is None:
        return None
    data = json.loads(world.text(name))

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    world.write(name, json.dumps(turned(data), indent=world.rng.choice((None, 2, 4))))
    return name


@edit(2, neutral=True)
def edit_and_back(world: World) -> str | None:
    name = world.rng.choice(
        [name for name in world.files("*.py", "data/*", "instances/*", "config/*") if not name.endswith("/")]
    )
    path = world.root / name
    if path.is_symlink():
        return None
    data = path.read_bytes()
    world.write(name, data + b"\nK = 99\n")
    world.write(name, data)
    return name


@edit(2, neutral=True)
def nothing(world: World) -> str | None:
    return "at all"


@edit(1, neutral=True)
def caches(world: World) -> str | None:
    (world.root / "runs" / digests.NAME).unlink(missing_ok=True)
    for path in [path for path in world.root.rglob("__pycache__") if path.is_dir()]:
        shutil.rmtree(path)
    return "deleted .digests and __pycache__"


@edit(2, neutral=True)
def move(world: World) -> str | None:
    number = int(world.root.name.rpartition("-")[2]) + 1
    new = world.root.with_name(f"project-{number}")
    copy = world.rng.choice((shutil.copy2, shutil.copy))  # a checkout and a cache of CI, or a plain copy
    shutil.copytree(world.root, new, symlinks=True, copy_function=copy)
    for name in world.files("*.py"):  # see World.write
        info = (world.root / name).stat()
        os.utime(new / name, ns=(info.st_atime_ns, info.st_mtime_ns))
    shutil.rmtree(world.root)
    world.root = new
    return new.name


@edit(1, neutral=True)
def worked_in_notebook(world: World) -> str | None:
    names = [name for name in _run_files(world) if name.endswith(".ipynb")]
    if not names:
        return None
    name = world.rng.choice(names)
    data = json.loads(world.text(name))
    data["cells"].append({"cell_type": "markdown", "id": "mine", "metadata": {}, "source": "mine"})
    (world.root / name).write_text(json.dumps(data))
    return name


@edit(8)
def data(world: World) -> str | None:
    name = _pick(world, "data/*.csv", "data/*.txt", "data/*/*.csv", "*/*.json")
    if name is None or name.startswith(("instances/", "config/")) or (world.root / name).is_symlink():
        return None
    return _replace(
        world, name, r"\d+", lambda m: str((int(m[0]) * 3 + 1) % 10 ** world.rng.choice((1, 1, 2)))
    )


@edit(3)
def data_same_sum(world: World) -> str | None:
    """Other content, but for who adds up: the same."""
    name = _pick(world, "data/*.csv")
    if name is None or (world.root / name).is_symlink():
        return None
    lines = world.text(name).splitlines()
    world.write(name, "\n".join(reversed(lines)) + world.rng.choice(("\n", "\n\n")))
    return name


@edit(4)
def data_unnoticed(world: World) -> str | None:
    """Same size, same modification time."""
    name = _pick(world, "data/*.csv", "data/*/*.csv")
    if name is None or (world.root / name).is_symlink():
        return None
    info = (world.root / name).stat()
    _replace(world, name, r"\d", lambda m: str((int(m[0]) + 1) % 10))
    os.utime(world.root / name, ns=(info.st_atime_ns, info.st_mtime_ns))
    return name


@edit(2)
def data_replaced(world: World) -> str | None:
    """Another file moved over it, as old as the one before."""
    name = _pick(world, "data/*.csv", "data/*/*.csv")
    if name is None or (world.root / name).is_symlink():
        return None
    path, info = world.root / name, (world.root / name).stat()
    new = path.with_name(f".{path.name}.new")
    world.past.append((name, path.read_bytes()))
    new.write_text(re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), world.text(name), count=1))
    os.utime(new, ns=(info.st_atime_ns, info.st_mtime_ns))
    os.replace(new, path)
    return name


@edit(1)
def database(world: World) -> str | None:
    _make_base(world.root / "data/base.db", world.rng.randrange(1000))
    return "data/base.db"


@edit(2)
def link(world: World) -> str | None:
    path = world.root / "data/link.csv"
    target = "b.csv" if os.readlink(path) == "a.csv" else "a.csv"
    path.unlink()
    path.symlink_to(target)
    return f"data/link.csv → {target}"


@edit(5)
def optional(world: World) -> str | None:
    name = "data/optional.txt"
    there = (world.root / name).exists()
    world.write(name, None if there and world.rng.random() < 0.6 else str(world.rng.randrange(100)))
    return name


@edit(4)
def part(world: World) -> str | None:
    """A file more or less in a directory that is listed."""
    if world.rng.random() < 0.6:
        name = f"data/parts/{world.rng.choice(('p3.csv', 'p4.csv', 'q.txt'))}"
        world.write(name, f"{world.rng.randrange(100)},1\n")
        return name
    name = _pick(world, "data/parts/*") or ""
    if not name or name.endswith("/"):
        return None
    world.write(name, None)
    return f"deleted {name}"


@edit(2)
def rename_data(world: World) -> str | None:
    name = _pick(world, "data/parts/*.csv", "data/un*.csv")
    if name is None:
        return None
    new = f"{name[:-4]}x.csv" if not name.endswith("x.csv") else f"{name[:-5]}.csv"
    content = (world.root / name).read_bytes()
    world.write(name, None)
    world.write(new, content)
    return f"{name} → {new}"


@edit(3)
def delete_data(world: World) -> str | None:
    name = _pick(
        world,
        "data/*.csv",
        "data/table.json",
        "shared/defaults.json",
        "shared/extra.py",
        "plugins/*.py",
        "lazy.py",
    )
    if name is None or (world.root / name).is_symlink():
        return None
    world.write(name, None)
    return name


@edit(6)
def restore(world: World) -> str | None:
    """What is missing of the original comes back."""
    missing = [name for name in _FILES if not (world.root / name).exists()]
    if not missing:
        return None
    name = world.rng.choice(missing)
    world.write(name, _FILES[name])
    return name


@edit(5)
def new_module(world: World) -> str | None:
    """A file that an import would find, or find first."""
    value = f"VALUE = K = {world.rng.randrange(10)}\n"
    hsv = f"K = {world.rng.randrange(10)}\ndef rgb_to_hsv(*_):\n    return (K, K, K)\n"
    mine = f"K = {world.rng.randrange(10)}\ndef load(name):\n    return K\n"
    core = f"K = {world.rng.randrange(10)}\ndef scaled(x):\n    return K\n"
    choices = {
        "local_settings.py": value,
        "flows/local_settings.py": value,
        "local_settings/__init__.py": value,
        "local_settings/notes.txt": "a directory is a package, too",
        "shared/extra.py": value,
        "shared/extra/__init__.py": value,
        "plugins/late.py": value,
        "plugins/late/__init__.py": value,
        "colorsys.py": hsv,
        "flows/colorsys.py": hsv,
        "colorsys/__init__.py": hsv,
        "helpers/__init__.py": mine,
        "flows/helpers.py": mine,
        "shared/core/__init__.py": core,
        "spaces/__init__.py": f"FLAG = K = {world.rng.randrange(10)}\n",
        "spaces.py": f"K = {world.rng.randrange(10)}\nclass tools:\n    TOOL = K\n",
    }
    name = world.rng.choice([name for name in choices if name not in KNOWN or world.with_known])
    if (world.root / name).exists():
        if name == "spaces/__init__.py" or world.rng.random() < 0.7:
            world.write(name, None)
            if not os.listdir((world.root / name).parent):
                (world.root / name).parent.rmdir()
            return f"deleted {name}"
        return None
    world.write(name, choices[name])
    return name


@edit(3)
def no_module(world: World) -> str | None:
    """A module that was added goes again."""
    name = _pick(world, "local_settings*", "*colorsys*", "shared/extra*", "plugins/late*", "helpers/*", "flows/helpers.py", "shared/core/*", "spaces.py", "spaces/__init__.py")  # fmt: skip
    if name is None or name.endswith("/"):
        return None
    world.write(name, None)
    parent = (world.root / name).parent
    shutil.rmtree(parent / "__pycache__", ignore_errors=True)
    if not os.listdir(parent):
        parent.rmdir()
    return name


@edit(5)
def value(world: World) -> str | None:
    """A config value, inline, in a scenario or in the base file."""
    name = _pick(world, "instances/*.json", "config/*.json")
    return name and _replace(world, name, r'(?<="x": )\d+', lambda m: str(int(m[0]) + 1))


@edit(3)
def other_value(world: World) -> str | None:
    name = _pick(world, "instances/*.json", "config/*.json")
    if name is None:
        return None
    turned = {"true": "false", "false": "true", '"late"': '"early"', '"early"': '"late"', "data/c.csv": "data/a.csv", "data/a.csv": "data/c.csv"}  # fmt: skip
    return _replace(world, name, "|".join(map(re.escape, turned)), lambda m: turned[m[0]])


@edit(2)
def new_key(world: World) -> str | None:
    name = _pick(world, "instances/*.json")
    if name is None:
        return None
    keys = json.loads(world.text(name))
    if not isinstance(keys["config"], dict) or keys["config"].pop("new", None) is None:
        keys.setdefault("overrides", {})["new"] = world.rng.randrange(10)
    world.write(name, json.dumps(keys, indent=1))
    return name


@edit(2)
def scenario(world: World) -> str | None:
    """One more, or one less together with its runs."""
    name = "instances/fit.json"
    if not (world.root / name).exists():
        return None
    keys = json.loads(world.text(name))
    scenarios = keys["scenarios"]
    wild = "*" in world.text("instances/report.json")
    if len(scenarios) > 1 and world.rng.random() < 0.5 and wild:
        gone = scenarios.pop()
        shutil.rmtree(world.root / "runs" / keys["step"] / gone["label"], ignore_errors=True)
    elif len(scenarios) < 4:
        used = {entry["label"] for entry in scenarios}
        label = next(f"s{number}" for number in range(9) if f"s{number}" not in used)
        scenarios.append({"label": label, "x": world.rng.randrange(10)})
    world.write(name, json.dumps(keys, indent=1))
    return f"{name}: {[entry['label'] for entry in scenarios]}"


@edit(2)
def rename_flow(world: World) -> str | None:
    name = _pick(world, "flows/*.py", "builds/*.py")
    if name not in world.reach:
        return None
    stem = name[:-3].removesuffix("_n")
    new = f"{stem}.py" if name.endswith("_n.py") else f"{stem}_n.py"
    world.write(new, (world.root / name).read_bytes())
    world.write(name, None)
    world.reach[new] = world.reach.pop(name)
    for reach in world.reach.values():
        reach.patterns = tuple(new if pattern == name else pattern for pattern in reach.patterns)
        reach.calls = tuple(new if called == name else called for called in reach.calls)
    for other in world.files("instances/*.json", "builds/*.py"):
        text = world.text(other)
        if name in text:
            world.write(other, text.replace(name, new))
    world.past.clear()
    return f"{name} → {new}"


@edit(2)
def rename_instance(world: World) -> str | None:
    """A step, and the references to it; the old runs stay, or go, or are renamed with it."""
    name = world.rng.choice(("prepare", "fit"))
    if not (world.root / "instances/fit.json").exists():
        return None
    keys = json.loads(world.text(f"instances/{name}.json"))
    old, new = keys["step"], f"{keys['step'].rstrip('2')}2" if keys["step"][-1] != "2" else keys["step"][:-1]
    keys["step"] = new
    world.write(f"instances/{name}.json", json.dumps(keys, indent=1))
    for other in world.files("instances/*.json"):
        world.write(other, world.text(other).replace(f"runs/{old}/", f"runs/{new}/"))
    shutil.rmtree(world.root / "runs" / new, ignore_errors=True)
    what = world.rng.choice(("stay", "go"))
    if what == "go":
        shutil.rmtree(world.root / "runs" / old, ignore_errors=True)
    world.past.clear()
    return f"{old} → {new}, runs {what}"


@edit(6)
def revert(world: World) -> str | None:
    """A file becomes what it was at some time."""
    if not world.past:
        return None
    name, content = world.rng.choice(world.past)
    if content is None and (not (world.root / name).exists() or name.startswith(("flows/", "builds/"))):
        return None
    if content is None and name in _FILES:
        return None
    if name.startswith("instances/") or (content is None and name.startswith("config/")):
        return None  # would need the references to be reverted as well
    world.write(name, content)
    return name


def _run_files(world: World) -> list[str]:
    """Files in run directories, without locks and caches."""
    found = []
    for folder, _, names in os.walk(world.root / "runs"):
        found += [Path(folder, name).relative_to(world.root).as_posix() for name in names if name[0] != "."]
    return sorted(found)


def _spoil(world: World, name: str) -> None:
    """Something in this run directory is not as it was: that run, and those around it."""
    path = (world.root / name).parent
    while path != world.root:
        _spoilt.add(path.relative_to(world.root).as_posix())
        path = path.parent


def _outputs(world: World) -> list[str]:
    names = [
        name for name in _run_files(world) if name.endswith(("out.json", "more.txt", "flag.txt", "copy.csv"))
    ]
    return [*names, *(f"made/{name}" for name in _names(world.root / "made"))]


def _names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


@edit(3)
def output(world: World) -> str | None:
    """An output is edited or deleted."""
    names = _outputs(world)
    if not names:
        return None
    name = world.rng.choice(names)
    if name.startswith("made/"):
        _spoilt.add(name)
    else:
        _spoil(world, name)
    path = world.root / name
    how = world.rng.choice(("deleted", "edited", "unnoticed"))
    if how == "deleted":
        path.unlink()
    else:
        info = path.stat()
        path.write_text(re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10), path.read_text(), count=1))
        if how == "unnoticed":
            os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return f"{name} {how}"


@edit(3)
def own_file(world: World) -> str | None:
    """A record is deleted or cut; a notebook, a config, an output file is deleted."""
    names = [
        name
        for name in _run_files(world)
        if name.endswith(("run.json", ".ipynb", "_config.json", "_output.txt"))
    ]
    if not names:
        return None
    name = world.rng.choice(names)
    _spoil(world, name)
    path = world.root / name
    if name.endswith("run.json") and world.rng.random() < 0.5:
        how = world.rng.choice(("cut", "empty", "list"))
        data = path.read_bytes()
        path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "list": b"[]"}[how])
        return f"{name} {how}"
    path.unlink()
    return f"{name} deleted"


@edit(2)
def run_directory(world: World) -> str | None:
    """A run directory is deleted as a whole, or everything."""
    names = [name for name in _run_files(world) if name.endswith("run.json")]
    if not names:
        return None
    name = world.rng.choice(names)
    if world.rng.random() < 0.1:
        name = "runs/x"
        _spoilt.add("runs")
    _spoil(world, name)
    for other in names:
        if other.startswith(f"{Path(name).parent.as_posix()}/"):
            _spoil(world, other)
    shutil.rmtree((world.root / name).parent)
    return f"{Path(name).parent} deleted"


@edit(3)
def version(world: World) -> str | None:
    """The last run had another version of a library, or of Python."""
    names = [name for name in _run_files(world) if name.endswith("run.json")]
    world.rng.shuffle(names)
    for name in names:
        try:
            made = json.loads(world.text(name))
            libraries = made["environment"]["libraries"]
        except (ValueError, KeyError, TypeError):
            continue
        if libraries:
            which = world.rng.choice(sorted(libraries))
            libraries[which] = "0.0"
        else:
            which = made["environment"]["python"] = "3.1.0"
        (world.root / name).write_text(json.dumps(made))
        _spoil(world, name)
        return f"{name}: {which}"
    return None


# --- sessions ------------------------------------------------------------------------------------

#: A run's light, warnings, outputs and nested runs.
Result = tuple[str, tuple[str, ...], dict[str, str], dict[str, Any]]


@dataclass
class Session:
    """What a session did: by run directory."""

    records: dict[str, Record] = field(default_factory=dict)
    executed: dict[str, list[str]] = field(default_factory=dict)  # and why
    fresh: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def run_session(
    root: Path, identifier: str, *, force: bool = False, only: frozenset[str] | None = None
) -> Session:
    """What ``pytest instances/`` does, in this process.

    :param only: the run directories that are selected, with all that they need.
    """
    done = Session()
    _forget()
    files = sorted((root / "instances").glob("*.json"))
    instances = {i.run_directory: i for file in files for i in load_instances(file, root)}
    needs = graph.needs({key: instance.references for key, instance in instances.items()})
    for key in graph.order(list(instances), needs)[0]:
        if only is not None and key not in only:
            continue
        request = request_of(instances[key], root, identifier, force=force)
        if any(done.records[needed].light.is_red for needed in needs.get(key, ())):
            done.records[key] = execution.refuse(request, "needs what failed")
            done.refused.append(key)
            continue
        found, reasons = (None, ["forced"]) if force else execution.up_to_date(request)
        if found is not None:
            done.fresh.append(key)
        else:
            done.executed[key] = reasons
            found = execution.execute(request)
        done.records[key] = found
    if (root / "runs").is_dir():
        digests.of_project(root).save()
    return done


def request_of(instance: Instance, root: Path, identifier: str, *, force: bool) -> execution.Request:
    """As ``session.Session.request`` makes it."""
    return execution.Request(
        kind=instance.kind,
        flow=root / instance.flow,
        instance=instance.name,
        directory=root / instance.run_directory,
        config=instance.config,
        project_root=root,
        session=identifier,
        engine=engines.default(),
        inputs=(*instance.inputs, *instance.references),
        scenario=instance.scenario,
        reuse=not force,
    )


def _forget() -> None:
    """Each session is a new process: it knows what is on the disk."""
    digests._projects.clear()
    freshness._directories.clear()
    freshness._is_installed.cache_clear()
    importlib.invalidate_caches()


def result_of(directory: Path, root: Path) -> Result:
    """What a run left behind."""
    try:
        made = read_record(directory)
    except RecordError:
        return ("no record", (), {}, {})
    if made.light.is_red:
        return ("error", (), {}, {})
    outputs = {name: _digest(directory / name) for name in sorted(made.outputs)}
    notebook = RunDirectory(directory, Path(made.flow).stem).notebook
    outputs["the notebook"] = "there" if notebook.exists() else "missing"
    nested = {name: result_of(directory / name, root) for name in made.runs}
    return (made.status, tuple(str(w["text"]) for w in made.warnings), outputs, nested)


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return "missing"


def nested_runs(result: Result, place: str = "") -> Iterator[tuple[str, Result]]:
    """The nested runs of a run, in order: path below its directory, and result."""
    for name, inner in result[3].items():
        yield f"{place}{name}", inner
        yield from nested_runs(inner, f"{place}{name}/")


# --- the test ------------------------------------------------------------------------------------


@dataclass
class Finding:
    """Something that is not as it should be.

    :param what: ``falsely fresh``, ``wrong result``, ``needless``, ``needless (nested)`` or ``crash``.
    """

    what: str
    seed: int
    step: int
    edits: list[str]
    where: str
    details: str

    def __str__(self) -> str:
        edits = "; ".join(self.edits)
        return (
            f"{self.what}: {self.where}\n    seed {self.seed}, step {self.step}: {edits}\n    {self.details}"
        )


@dataclass
class Tally:
    """What was counted."""

    steps: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    executed: int = 0
    fresh: int = 0
    red: int = 0
    nested_executed: int = 0
    nested_reused: int = 0
    listed: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Mutation:
    """One project and its way through many edits.

    :param scratch: a directory of its own. :param kinds: the kinds of flows; by default all that are not known.
    """

    def __init__(
        self,
        scratch: Path,
        seed: int,
        kinds: Sequence[str] | None = None,
        edits: Iterable[str] | None = None,
        shape: str | None = None,
    ) -> None:
        self.seed, self.scratch, self.rng = seed, scratch, random.Random(seed)
        self.tally = Tally()
        kinds = kinds or [kind for kind in KINDS if kind not in KNOWN]
        self.world = World(_made(scratch / "project-0"), self.rng, kinds, shape)
        self._edits = list(edits or EDITS)
        self._memo: dict[str, dict[str, Result]] = {}
        self._pending: dict[str, set[str]] = {}  # run directory to the edits that reach it since it last ran
        self._last: dict[str, Result] = {}
        self._step = 0
        self._now: list[str] = []
        self._check(run_session(self.world.root, "start"))

    def run(self, steps: int) -> Tally:
        """So many steps, or fewer if something crashes."""
        for _ in range(steps):
            if not self.step():
                break
        return self.tally

    def step(self) -> bool:
        """Some edits, a session, the check; whether to go on."""
        self._step += 1
        self.tally.steps += 1
        self._now = []
        for _ in range(self.rng.choice((1, 1, 1, 1, 2, 3))):
            self._edit()
        selected = self._selected()
        before = self.scratch / "before"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(self.world.root, before, symlinks=True)
        count = len(self.tally.findings)
        try:
            self._check(run_session(self.world.root, f"step {self._step}", only=selected))
        except Exception:
            self._find("crash", self.world.root.name, traceback.format_exc())
        if len(self.tally.findings) > count:
            kept = self.scratch / f"finding-{self._step}"
            shutil.copytree(before, kept, symlinks=True)
            return all(finding.what.startswith("needless") for finding in self.tally.findings[count:])
        return True

    def _edit(self) -> None:
        names = [name for name in self._edits for _ in range(EDITS[name][1])]
        while True:
            name = self.rng.choice(names)
            files, instances = tree(self.world.root), self._plain()
            _spoilt.clear()
            said = EDITS[name][0](self.world)
            if said is not None:
                break
        self._now.append(f"{name} {said}")
        self.tally.edits[name] += 1
        now = tree(self.world.root)
        changed = [path for path in {*files, *now} if files.get(path) != now.get(path)]
        changed += [path for path in _spoilt if path.startswith("made/")]
        reached = self._reached(name, changed, instances)
        for key in (*reached, *_spoilt):
            self._mark(key, name)
        if name in NEUTRAL and not reached and _key(files) in self._memo:  # a forced run gives nothing else
            self._memo[_key(now)] = self._memo[_key(files)]

    def _reached(self, name: str, changed: Sequence[str], before: dict[str, tuple[Any, ...]]) -> set[str]:
        """The run directories, nested ones too, that an edit of these files gives a reason to run."""
        found: set[str] = set()
        real = name not in NEUTRAL
        outside = any(path.startswith("made/") for path in changed)  # whose it is does not matter here
        for key, (flow, *rest) in self._plain().items():
            other = before.get(key) != (flow, *rest) or outside
            config = json.loads(rest[0])
            if (
                other
                or any(self.world.reaches(flow, path, name) for path in changed)
                or (real and any(_names_it(config, path) for path in changed))
            ):
                found.add(key)
            other = other or (real and any(path.startswith("builds/") for path in changed))
            for nested, run, config in self._nested_of(key):
                if (
                    other
                    or run not in self.world.reach  # renamed
                    or any(self.world.reaches(run, path, name) for path in changed)
                    or (real and any(_names_it(config, path) for path in changed))
                ):
                    found.add(nested)
        return found

    def _mark(self, key: str, name: str) -> None:
        self._pending.setdefault(key, set()).add(name)

    def _plain(self) -> dict[str, tuple[Any, ...]]:
        """What an instance file makes of each instance, wherever the project is."""
        root = str(self.world.root)
        found = {}
        instances = {i.run_directory: i for i in self.world.instances()}
        needs = graph.needs({key: instance.references for key, instance in instances.items()})
        for key, i in instances.items():
            config = json.dumps(i.config, sort_keys=True).replace(root, ".")
            found[key] = (i.flow, config, list(i.inputs), sorted(i.references), sorted(needs.get(key, ())))
        return found

    def _nested_of(self, key: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """The nested runs of an instance as they were last: run directory, flow and config, if that is there."""
        for name, _ in nested_runs(self._last.get(key, ("", (), {}, {}))):
            with contextlib.suppress(RecordError):
                made = read_record(self.world.root / key / name)
                yield f"{key}/{name}", made.flow, made.config

    def _selected(self) -> frozenset[str] | None:
        """Mostly all; sometimes some, with all that they need."""
        if self.rng.random() < 0.85:
            return None
        instances = {i.run_directory: i for i in self.world.instances()}
        needs = graph.needs({key: instance.references for key, instance in instances.items()})
        chosen = {self.rng.choice(sorted(instances))}
        pending = list(chosen)
        while pending:
            more = set(needs.get(pending.pop(), ())) - chosen
            chosen |= more
            pending += more
        self._now.append(f"(only {', '.join(sorted(chosen))})")
        return frozenset(chosen)

    # --- the check ---

    def _check(self, done: Session) -> None:
        root = self.world.root
        results = {key: result_of(root / key, root) for key in done.records}
        self._compare(done, results)
        self._judge(done, results)
        self.tally.executed += len(done.executed)
        self.tally.fresh += len(done.fresh)
        self.tally.red += sum(record.light.is_red for record in done.records.values())
        for key in done.records:
            self._pending.pop(key, None)
        needs = {key: entry[-1] for key, entry in self._plain().items()}
        for key, result in results.items():
            if result != self._last.get(key):
                for other, needed in needs.items():
                    if key in needed and other not in done.records:
                        self._mark(other, "input changed")
        self._last = {key: value for key, value in {**self._last, **results}.items() if key in needs}

    def _compare(self, done: Session, results: dict[str, Result]) -> None:
        forced = self._forced()
        for key, result in results.items():
            expected = forced[key]
            if result == expected:
                continue
            if expected[0] == "error" == result[0]:
                continue
            what = "falsely fresh" if key in done.fresh else "wrong result"
            self._find(what, key, f"{_difference(result, expected)}; run because {done.executed.get(key)}")

    def _forced(self) -> dict[str, Result]:
        key = _key(tree(self.world.root))
        if key not in self._memo:
            copy = self.scratch / "forced"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(self.world.root, copy, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT))
            done = run_session(copy, "forced", force=True)
            self._memo[key] = {name: result_of(copy / name, copy) for name in done.records}
        return self._memo[key]

    def _judge(self, done: Session, results: dict[str, Result]) -> None:
        """Find what was executed for no reason."""
        needs = {key: entry[-1] for key, entry in self._plain().items()}
        for key, reasons in done.executed.items():
            before = self._last.get(key)
            allowed = (
                before is None
                or before[0] in ("error", "no record")
                or bool(self._pending.get(key))
                or any(results[needed] != self._last.get(needed) for needed in needs[key])
            )
            if not allowed:
                self._find("needless", key, f"{reasons}")
            elif before is not None:
                self._judge_nested(done, key, before, results[key])

    def _judge_nested(self, done: Session, key: str, before: Result, result: Result) -> None:
        earlier = dict(nested_runs(before))
        session = done.records[key].session
        changed = False
        for name, inner in nested_runs(result):
            path = f"{key}/{name}"
            with contextlib.suppress(RecordError):
                made = read_record(self.world.root / path)
                if made.session != session:
                    self.tally.nested_reused += 1
                    continue
                self.tally.nested_executed += 1
                was = earlier.get(name)
                around = [other for other in earlier if other.startswith(f"{name}/")]
                allowed = (
                    was is None
                    or was[0] in ("error", "no record")
                    or bool(self._pending.get(path))
                    or any(self._pending.get(f"{key}/{other}") for other in around)
                    or changed
                )
                if not allowed:
                    why = _why_stale(self.scratch / "before", path, self.world.root)
                    self._find("needless (nested)", path, f"{why}; its build ran: {done.executed[key]}")
            changed = changed or inner != earlier.get(name)
            self._pending.pop(path, None)

    def _find(self, what: str, where: str, details: str) -> None:
        flow = ""
        with contextlib.suppress(RecordError):
            flow = read_record(self.world.root / where).flow
        files = [flow, *self.world.calls(flow)]
        kinds = [kind for file in files if file in self.world.reach for kind in self.world.reach[file].kinds]
        where = f"{where} ({flow}: {', '.join(kinds)})"
        self.tally.findings.append(Finding(what, self.seed, self._step, list(self._now), where, details))


def _names_it(config: Any, path: str) -> bool:
    """Whether a config names a file, or a directory that holds it."""
    if isinstance(config, dict):
        return any(_names_it(value, path) for key, value in config.items() if key != "_project_root")
    if isinstance(config, list):
        return any(_names_it(value, path) for value in config)
    return isinstance(config, str) and bool(config) and (path == config or path.startswith(f"{config}/"))


def _why_stale(root: Path, name: str, was: Path) -> list[str]:
    """Why a nested run was not up to date in this project, a copy of one that was elsewhere."""
    made = read_record(root / name)
    config = json.loads(json.dumps(made.config).replace(str(was), str(root)))
    config.pop("_project_root")
    request = execution.Request(
        made.kind,
        root / made.flow,
        made.instance,
        root / name,
        config=config,
        project_root=root,
        python_path=tuple(str(root / path) for path in made.environment.get("import_path", ())),
    )
    return execution.up_to_date(request)[1]


def _key(files: dict[str, bytes]) -> str:
    content = hashlib.sha256()
    for name, data in sorted(files.items()):
        content.update(f"{name} {len(data)} ".encode() + data)
    return content.hexdigest()


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _difference(result: Result, expected: Result, place: str = "") -> str:
    """The first difference, that of a nested run before what follows from it."""
    for name in {**result[3], **expected[3]}:
        inner, other = result[3].get(name), expected[3].get(name)
        if inner is None or other is None:
            return f"{place}{name}: {inner}, forced {other}"
        if inner != other:
            return _difference(inner, other, f"{place}{name}: ")
    for index, part in enumerate(("status", "warnings")):
        if result[index] != expected[index]:
            return f"{place}{part}: {result[index]!r}, forced {expected[index]!r}"
    for name in {**result[2], **expected[2]}:
        if result[2].get(name) != expected[2].get(name):
            return f"{place}{name}: {result[2].get(name)}, forced {expected[2].get(name)}"
    return "?"


def start_warm_process() -> None:
    """Have imported what flows use, before the first of them runs."""
    if engines.default() == "fork":
        warm.current().preload(
            [*preload.FOR_BUILDS, "pandas", "numpy"], Path(tempfile.gettempdir(), "nowhere")
        )
        warm.current().ensure()


def main(arguments: Sequence[str]) -> int:
    """Run and print what was found; 0 if that is nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.mutations")
    parser.add_argument("--steps", type=int, default=2000, help="in all")
    parser.add_argument("--seed", type=int, default=1, help="of the first project; each has the next")
    parser.add_argument("--length", type=int, default=50, help="steps with one project")
    parser.add_argument("--kinds", nargs="*", help="kinds of flows", choices=list(KINDS))
    parser.add_argument("--edits", nargs="*", help="kinds of edits", choices=list(EDITS))
    parser.add_argument("--shape", choices=["single", *SHAPES], help="of projects; by default each at random")
    parser.add_argument("--keep", type=Path, help="directory for projects with findings")
    options = parser.parse_args(arguments)
    total, seed, started = Tally(), options.seed, time.monotonic()
    start_warm_process()
    while total.steps < options.steps:
        with tempfile.TemporaryDirectory(prefix="mutations-") as place:
            length = min(options.length, options.steps - total.steps)
            mutation = Mutation(Path(place), seed, options.kinds, options.edits, options.shape)
            tally = mutation.run(length)
            for finding in tally.findings:
                print(finding, flush=True)
            if tally.findings and options.keep:
                for kept in Path(place).glob("finding-*"):
                    shutil.copytree(
                        kept, options.keep / f"{seed}-{kept.name}", symlinks=True, dirs_exist_ok=True
                    )
        for name in ("steps", "executed", "fresh", "red", "nested_executed", "nested_reused"):
            setattr(total, name, getattr(total, name) + getattr(tally, name))
        total.edits += tally.edits
        total.findings += tally.findings
        total.steps = max(total.steps, 1)
        seed += 1
    counts = Counter(finding.what for finding in total.findings)
    print(
        f"{total.steps} steps, seeds {options.seed}–{seed - 1}, {time.monotonic() - started:.0f} s: "
        f"{total.fresh} instances fresh, {total.executed} executed, {total.red} red; of nested runs "
        f"{total.nested_reused} reused, {total.nested_executed} executed"
    )
    print("edits: " + ", ".join(f"{count} {name}" for name, count in total.edits.most_common()))
    print("findings: " + (", ".join(f"{count} {what}" for what, count in counts.items()) or "none"))
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
