# %% [markdown]
# # Compare the airports
#
# One table and one figure from the results of all runs of the build `delays`. The instance names their files
# with `{"$paths": …}`: that is all it takes for this flow to run after them.

# %% tags=["parameters"]
# Parameters cell - injected by papermill
config = {}

# %% CLI Mode - same file works as notebook AND script
from pytest_ductaflow import is_notebook_execution, load_cli_config, unpack_config

if not is_notebook_execution():
    config = load_cli_config(
        "config/flows/compare_origins.json", "Compare the delays of all airports and months"
    )

# %%
vars().update(unpack_config(config, "Compare the airports", locals()))

# %% [markdown]
# ## Read
#
# `models` is a list of files, as from an instance, or one pattern, relative to the project root, as for a
# script: then whatever is there gets compared.

# %%
import calendar
import glob
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

project_root = Path(config["_project_root"])
files = glob.glob(str(project_root / models)) if isinstance(models, str) else models
results = [json.loads((project_root / file).read_text(encoding="utf-8")) for file in files]
if not results:
    raise FileNotFoundError(f"no results at {models}: run the build delays first")

# %%
table = pd.DataFrame(results).drop(columns="coefficients").sort_values(["month", "origin"])
table.insert(2, "month_name", [calendar.month_name[month] for month in table["month"]])
table.to_csv("comparison.csv", index=False)

shown = ["origin", "month_name", "flights", "mean_delay", "share_delayed", "r2_held_out"]
print(table[shown].round(3).to_string(index=False))
if table["threshold"].nunique() > 1:
    print("Warning: the runs used different thresholds, their shares of late flights cannot be compared")

# %% [markdown]
# ## Which airport is worst?

# %%
ranked = table.sort_values("mean_delay", ascending=False)
for _, row in ranked.drop_duplicates("month").sort_values("month").iterrows():
    print(f"{row['month_name']}: the worst mean delay is {row['mean_delay']:.1f} minutes, at {row['origin']}")

worst, best = ranked.iloc[0], ranked.iloc[-1]
print(f"Worst of all: {worst['origin']} in {worst['month_name']}, {worst['mean_delay']:.1f} minutes")
print(f"Best of all: {best['origin']} in {best['month_name']}, {best['mean_delay']:.1f} minutes")

# %% [markdown]
# ## The figure

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
fig.suptitle("Departure delays at the New York airports, 2013")
months = list(table["month_name"].unique())
colors = ["#4477aa", "#ee6677", "#ccbb44"]

mean_delay = table.pivot(index="month_name", columns="origin", values="mean_delay").loc[months]
mean_delay.plot.bar(ax=left, rot=0, color=colors, title="Mean delay")
left.set_ylabel("Mean departure delay (minutes)")

late = table.pivot(index="month_name", columns="origin", values="share_delayed").loc[months]
(100 * late).plot.bar(ax=right, rot=0, color=colors, title="Late departures")
right.set_ylabel(f"Departures more than {table['threshold'].iloc[0]} minutes late (%)")

for axes in (left, right):
    axes.set_xlabel("")
    axes.legend(title="Airport")

fig.savefig("comparison.png", dpi=120)
print("Wrote comparison.csv and comparison.png")
