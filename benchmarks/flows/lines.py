# %% [markdown]
# # Lines: prints, in one cell
# ruff: noqa: D100, E402

# %% tags=["parameters"]
config = {}

# %%
import json
import sys
from pathlib import Path

if not config:  # nobody injected it: `python lines.py CONFIG`
    config = json.loads(Path(sys.argv[1]).read_text())

# %%
for number in range(config["lines"]):
    print(f"line {number} of {config['lines']}")

# %%
Path("result.csv").write_text(f"lines\n{config['lines']}\n")
