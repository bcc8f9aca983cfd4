# %% [markdown]
# # Delays of one airport in one month
#
# Three flows in order. Each runs in a directory of its own below `runs/` in this build's run directory, and
# finds its predecessor's files beside it: `../prepare_flights/flights.csv`.

# %% tags=["parameters"]
# Parameters cell - injected by papermill
config = {}

# %% CLI Mode - same file works as notebook AND script
from pytest_ductaflow import is_notebook_execution, load_cli_config, run_notebook, unpack_config

if not is_notebook_execution():
    config = load_cli_config(
        "config/builds/delays.json", "Prepare, model and plot the delays of one airport and month"
    )

# %%
vars().update(unpack_config(config, "Delays", locals()))

# %%
import calendar
import json
from pathlib import Path

project_root = Path(config["_project_root"])
flows_dir = project_root / "flows"
runs_dir = Path("runs")

# %% [markdown]
# ## Flights with their weather

# %%
run_notebook(
    flows_dir / "prepare_flights.py",
    config=config,
    execution_dir=runs_dir / "prepare_flights",
    project_root=project_root,
)

# %% [markdown]
# ## The model

# %%
run_notebook(
    flows_dir / "fit_delay_model.py",
    config=config,
    execution_dir=runs_dir / "fit_delay_model",
    project_root=project_root,
)

# %% [markdown]
# ## The figure

# %%
run_notebook(
    flows_dir / "plot_delays.py",
    config=config,
    execution_dir=runs_dir / "plot_delays",
    project_root=project_root,
)

# %% [markdown]
# ## Summary

# %%
model = json.loads((runs_dir / "fit_delay_model" / "model.json").read_text(encoding="utf-8"))

print(f"{model['origin']}, {calendar.month_name[model['month']]} 2013: {model['flights']:,} departures")
print(f"Mean delay {model['mean_delay']:.1f} minutes")
print(f"More than {model['threshold']} minutes late: {model['share_delayed']:.1%}")
print(f"R² on held-out days: {model['r2_held_out']:.3f}")
