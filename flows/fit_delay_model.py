# %% [markdown]
# # Fit a delay model
#
# How much of a flight's departure delay do the time of day and the weather explain? A linear model by least
# squares, small enough to read. It finds associations, not causes: where it rains, clouds are low and there
# are thunderstorms on the way. The results are `model.json`, and `days.csv` with a row per day.

# %% tags=["parameters"]
# Parameters cell - injected by papermill
config = {}

# %% CLI Mode - same file works as notebook AND script
from pytest_ductaflow import is_notebook_execution, load_cli_config, record_measure, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/fit_delay_model.json", "Departure delay from hour and weather")

# %%
vars().update(unpack_config(config, "Fit a delay model", locals()))

# %% [markdown]
# ## Read
#
# The upstream flow ran in the directory beside this one: a relative path is all that connects the two.

# %%
import json

import numpy as np
import pandas as pd

scheduled = pd.read_csv(flights)
departed = scheduled.dropna(subset="dep_delay")
mean_delay = departed["dep_delay"].mean()
share_delayed = (departed["dep_delay"] > threshold).mean()

print(f"{len(departed):,} of {len(scheduled):,} flights departed")
record_measure("mean_delay", mean_delay, unit="min")
record_measure("share_delayed", share_delayed)
print(f"Mean delay {mean_delay:.1f} minutes, {share_delayed:.1%} more than {threshold} minutes late")

# %% [markdown]
# ## What the model sees
#
# The scheduled hour, wind (mph), visibility (miles), and whether there was rain (or snow). Rain is yes or no:
# hours of heavy rain are so few that a slope per inch would be drawn by one or two storms.

# %%
known = departed.dropna(subset=["wind_speed", "precip", "visib"]).reset_index(drop=True)
known["rain"] = (known["precip"] > 0).astype(float)
features = ["hour", "wind_speed", "visib", "rain"]

X = np.column_stack([np.ones(len(known)), known[features]])
y = known["dep_delay"].to_numpy()

rain_days = int(known.loc[known["rain"] > 0, "day"].nunique())
print(
    f"{len(known):,} flights to learn from, {known['rain'].mean():.1%} of them in rain, on {rain_days} days"
)
if len(known) < min_flights:
    print(f"Warning: {len(known):,} flights to learn from are fewer than {min_flights:,}")
if rain_days < min_rain_days:
    print(f"Warning: rain on only {rain_days} days, fewer than {min_rain_days}: its effect is anecdote")

# %% [markdown]
# ## How good is it on days it has not seen?
#
# The flights of one day share one storm, so a random split would flatter the model. Each day is held out in
# turn and predicted from all others. R² compares with the plain mean of those other days: 1 is perfect, 0 is
# no better than the mean. Small values are normal: most of a delay has causes that this model cannot know.

# %%
predicted, mean_only = np.empty_like(y), np.empty_like(y)
for day in known["day"].unique():
    held_out = (known["day"] == day).to_numpy()
    coefficients, *_ = np.linalg.lstsq(X[~held_out], y[~held_out], rcond=None)
    predicted[held_out] = X[held_out] @ coefficients
    mean_only[held_out] = y[~held_out].mean()

r2_held_out = 1 - np.sum((y - predicted) ** 2) / np.sum((y - mean_only) ** 2)
record_measure("r2_held_out", r2_held_out)
print(f"R² on held-out days: {r2_held_out:.3f}")
if r2_held_out <= 0:
    print("Warning: on days it has not seen, the model is no better than the mean delay")

# %% [markdown]
# ## The model, from all days

# %%
coefficients, *_ = np.linalg.lstsq(X, y, rcond=None)
effects = dict(zip(["intercept", *features], coefficients.tolist(), strict=True))

print(f"An hour later in the day: {effects['hour']:+.1f} minutes")
print(f"Ten mph more wind:        {10 * effects['wind_speed']:+.1f} minutes")
print(f"A mile less visibility:   {-effects['visib']:+.1f} minutes")
print(f"Rain in that hour:        {effects['rain']:+.1f} minutes")

# %% [markdown]
# ## Write

# %%
by_day = known.assign(predicted=predicted).groupby("day")
by_day = by_day.agg({"flight": "size", "dep_delay": "mean", "predicted": "mean", "rain": "max"})
by_day.columns = ["flights", "observed", "predicted", "rain"]
by_day.round(3).to_csv("days.csv")

model = {
    "origin": str(scheduled["origin"].iloc[0]),
    "month": int(scheduled["month"].iloc[0]),
    "flights": len(departed),
    "mean_delay": mean_delay,
    "threshold": threshold,
    "share_delayed": share_delayed,
    "flights_modelled": len(known),
    "rain_days": rain_days,
    "r2_held_out": r2_held_out,
    "coefficients": effects,
}
with open("model.json", "w", encoding="utf-8") as file:
    json.dump(model, file, indent=2)
print("Wrote model.json and days.csv")
