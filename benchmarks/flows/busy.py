# %% [markdown]
# # Busy: computes for some CPU time, in Python
# ruff: noqa: D100, E402

# %% tags=["parameters"]
config = {}

# %%
import json
import sys
import time
from pathlib import Path

if not config:  # nobody injected it: `python busy.py CONFIG`
    config = json.loads(Path(sys.argv[1]).read_text())

# %%
turns = 0
end = time.process_time() + config["cpu_seconds"]
while time.process_time() < end:
    for _ in range(1_000):
        turns += 1

# %%
Path("result.csv").write_text(f"seed\n{config['seed']}\n")
