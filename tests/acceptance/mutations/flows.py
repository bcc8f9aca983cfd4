"""What a generated project is made of: flows that read and write in many ways, and the files they read.

What a flow read is all that it writes, into ``out.json``.
"""

from __future__ import annotations

from typing import Any, Final

HEAD: Final = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\n'
WRITE: Final = "json.dump(result, open('out.json', 'w'), sort_keys=True)\n"
_ROOT: Final = 'import glob, json, os, shutil, subprocess\nroot = config["_project_root"]\n'
#: What is below a directory: directories, links with where they lead, files with their contents.
_TREE: Final = """
def tree(top):
    found = {}
    for folder, directories, files in os.walk(top):
        for name in sorted(directories + files):
            path = os.path.join(folder, name)
            shown = os.path.relpath(path, top)
            if os.path.islink(path):
                found[shown] = "-> " + os.readlink(path)
            else:
                found[shown] = None if os.path.isdir(path) else open(path).read()
    return found
"""
#: The ``out.json`` of what a reference names: a file, a directory, a pattern.
_GATHER: Final = """
def files(place):
    if any(character in place for character in "*?["):
        found = glob.glob(place, recursive=True)
        return [file for one in found for file in ([one + "/out.json"] if os.path.isdir(one) else [one])]
    if os.path.isdir(place):
        return [os.path.join(top, name) for top, _, names in os.walk(place) for name in names if name == "out.json"]
    return [place]

def gathered(places):
    found = [file for place in places for file in files(place) if file.endswith("out.json")]
    return {os.path.relpath(file, root + "/runs"): json.load(open(file)) for file in sorted(found)}
"""

_BODIES: Final = {
    "literal": """
FACTOR = 3
result = {"text": open(root + "/data/a.csv").read(), "factor": FACTOR, "x": config["x"]}
""",
    "configured": """
FACTOR = 2
text = open(os.path.join(root, config["file"])).read()
result = {"text": text, "factor": FACTOR, "x": config["x"], "fails for 3": 1 / (3 - config["x"])}
""",
    "listing": """
FACTOR = 5
result = {os.path.basename(p): open(p).read() for p in sorted(glob.glob(root + "/data/many/*.txt"))}
result["factor"] = FACTOR
""",
    "optional": """
from pathlib import Path
FACTOR = 7
result = {"there": (Path(root) / "data/flag").exists(), "factor": FACTOR}
try:
    result["extra"] = open(Path(root) / "data/extra.csv").read()
except FileNotFoundError:
    result["extra"] = None
try:
    import local_settings
    result["local"] = local_settings.VALUE
except ImportError:
    result["local"] = None
""",
    "modules": """
import helpers
from package import deep
FACTOR = 11
result = {"helpers": helpers.value(), "deep": deep.value(), "factor": FACTOR, "x": config["x"]}
""",
    "shadowed": """
import colorsys
FACTOR = 13
result = {"rgb": colorsys.rgb_to_hsv(0.1, 0.2, 0.3), "factor": FACTOR}
""",
    "command": """
FACTOR = 17
shown = subprocess.run(["cat", root + "/data/a.csv"], capture_output=True, text=True).stdout
result = {"shown": shown, "factor": FACTOR}
""",
    "walking": _TREE
    + """
FACTOR = 41
result = {"tree": tree(root + "/data/tree"), "linked": open(root + "/data/linked").read(), "factor": FACTOR}
""",
    "making": _TREE
    + """
FACTOR = 43
os.makedirs("made/deep")
open("made/deep/a.txt", "w").write(open(root + "/data/a.csv").read())
os.symlink("a.txt", "made/deep/link")
os.symlink("made", "shortcut")
os.mkdir("empty")
if not os.path.isdir("cache"):
    os.mkdir("cache")
shutil.copytree(root + "/data/tree", "copied", symlinks=True)
result = {name: tree(name) for name in ("made", "empty", "cache", "copied")}
result |= {"shortcut": os.readlink("shortcut"), "factor": FACTOR}
""",
    "needing": _GATHER
    + """
FACTOR = 19
result = {"factor": FACTOR, "inputs": gathered(config["inputs"])}
""",
    "globbing": _GATHER
    + """
FACTOR = 47
result = {"factor": FACTOR, "inputs": gathered([root + "/runs/" + config["pattern"]])}
""",
    "loading": """
import pandas
from pytest_ductaflow import load_outputs
FACTOR = 53
frame = load_outputs("out.json", runs="runs/configured")
result = {"factor": FACTOR, "inputs": json.loads(frame.to_json(orient="records"))}
""",
    "inner_first": """
FACTOR = 23
result = {"text": open(root + "/data/b.csv").read(), "factor": FACTOR, "x": config["x"]}
""",
    "inner_next": """
FACTOR = 29
result = {"factor": FACTOR, "before": json.load(open("../first/out.json"))["x"]}
""",
    "inner_last": """
import helpers
FACTOR = 31
result = {"factor": FACTOR, "before": json.load(open("../next/out.json")), "helpers": helpers.value()}
""",
}
_BUILD: Final = """
from pytest_ductaflow import run_notebook
FACTOR = 37
for name in ("first", "next", "last"):
    run_notebook(f"{root}/flows/inner_{name}.py", config={"x": config["x"]}, execution_dir=f"runs/{name}")
result = {"factor": FACTOR, "last": json.load(open("runs/last/out.json"))}
"""

#: All files that a project begins with, but its instances.
FILES: Final = {
    **{f"flows/{name}.py": HEAD + _ROOT + body.lstrip("\n") + WRITE for name, body in _BODIES.items()},
    "builds/pipeline.py": HEAD + _ROOT + _BUILD.lstrip("\n") + WRITE,
    "helpers.py": "import package.base\n\n\ndef value():\n    return package.base.NUMBER * 2\n",
    "package/__init__.py": "",
    "package/base.py": '"""Numbers."""\nNUMBER = 41  # a number\n',
    "package/deep.py": "from package.base import NUMBER\n\n\ndef value():\n    return NUMBER + 1\n",
    "data/a.csv": "a,1\n",
    "data/b.csv": "b,1\n",
    "data/c.csv": "c,1\n",
    "data/many/1.txt": "one",
    "data/many/2.txt": "two",
    "data/tree/leaf.txt": "leaf",
    "data/tree/branch/twig.txt": "twig",
    "data/unused.csv": "nobody reads this",
}
#: Links that it begins with, and where they lead.
LINKS: Final = {"data/linked": "a.csv", "data/tree/loop": "branch"}
#: What may be there and is not at first.
OPTIONAL: Final = {
    "data/flag": "",
    "data/extra.csv": "extra",
    "local_settings.py": "VALUE = 1\n",
    "colorsys.py": "def rgb_to_hsv(*_):\n    return 'mine'\n",
    "data/many/3.txt": "three",
    "flows/colorsys.py": "def rgb_to_hsv(*_):\n    return 'flows'\n",
    "package/other.py": "",
}

#: Of these a project has some, which run by themselves.
SOURCES: Final = ("literal", "listing", "optional", "modules", "shadowed", "command", "walking", "making")
_ONE: Final = "runs/configured/1"
_EACH: Final = "runs/configured/*/out.json"
#: Ways to need the scenarios of ``configured``; a project has some. ``ROOT`` is where the project lies.
FANS: Final[dict[str, dict[str, Any]]] = {
    "step": {"config": {"inputs": ["runs/configured"]}},
    "slash": {"config": {"inputs": ["runs/configured/"]}},
    "dotted": {"config": {"inputs": ["./runs/configured/*/"]}},
    "star": {"config": {"inputs": [_EACH]}},
    "bracket": {"config": {"inputs": ["runs/configured/[0-9v]*/out.json"]}},
    "deep": {"config": {"inputs": ["runs/configured/**/out.json"]}},
    "steps": {"config": {"inputs": ["runs/c*/*/out.json"]}},
    "all": {"config": {"inputs": ["runs/**/out.json"]}},
    "directory": {"config": {"inputs": [_ONE]}},
    "upward": {"config": {"inputs": [f"../../{_ONE.removeprefix('runs/')}/out.json"]}},
    "absolute": {"config": {"inputs": [f"ROOT/{_EACH}"]}},
    "paths": {"config": {"inputs": {"$paths": _EACH}}},
    "places": {"config": {"inputs": {"$paths": "runs/configured/*"}}},
    "finished": {"config": {"inputs": {"$paths": _EACH}}, "needs": "finished"},
    "some": {"config": {"inputs": [_EACH]}, "needs": "finished"},
    "declared": {"flow": "globbing", "config": {"pattern": "configured/*/out.json"}, "inputs": [_EACH]},
    "seen": {"flow": "globbing", "config": {"pattern": "configured/*/out.json"}},
    "loaded": {"flow": "loading"},
}
