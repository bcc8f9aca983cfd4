# %% [markdown]
# # A table: 1,000 rows, grouped, written as CSV, 10 lines printed
# ruff: noqa: D100, E402

# %% tags=["parameters"]
config = {}

# %%
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

if not config:  # nobody injected it: `python table.py CONFIG`
    config = json.loads(Path(sys.argv[1]).read_text())

# %%
generator = np.random.default_rng(config["seed"])
frame = pd.DataFrame(
    {
        "group": generator.integers(0, 10, 1_000),
        "price": generator.normal(100, 15, 1_000),
        "amount": generator.poisson(5, 1_000),
    }
)

# %%
frame["value"] = frame["price"] * frame["amount"]
summary = frame.groupby("group").agg(rows=("value", "size"), mean=("price", "mean"), total=("value", "sum"))

# %%
summary.to_csv("result.csv")

# %%
for row in summary.itertuples():
    print(f"group {row.Index}: {row.rows} rows, mean price {row.mean:.2f}, total {row.total:.2f}")
