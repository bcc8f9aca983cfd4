# %% [markdown]
# # Plot delays
#
# Two questions at a glance: at what time of day do flights leave late, and which days did the model not see
# coming? The figure is saved as `delays.png`.

# %% tags=["parameters"]
# Parameters cell - injected by papermill
config = {}

# %% CLI Mode - same file works as notebook AND script
from pytest_ductaflow import is_notebook_execution, load_cli_config, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/plot_delays.json", "Figure of the delays by hour and by day")

# %%
vars().update(unpack_config(config, "Plot delays", locals()))

# %%
import calendar

import matplotlib.pyplot as plt
import pandas as pd

departed = pd.read_csv(flights).dropna(subset="dep_delay")
by_day = pd.read_csv(days)
airport, month_name = departed["origin"].iloc[0], calendar.month_name[departed["month"].iloc[0]]

# %% [markdown]
# ## By hour
#
# The share of flights that left late. Hours with fewer than 30 departures in the month are left out: there a
# single flight would move the bar by several percent.

# %%
late = departed["dep_delay"] > threshold
by_hour = late.groupby(departed["hour"]).agg(["mean", "size"])
late_share = 100 * by_hour.loc[by_hour["size"] >= 30, "mean"]

print(f"Worst scheduled hour: {late_share.idxmax()}")
print(f"Then {late_share.max():.0f}% of the flights left more than {threshold} minutes late")

# %% [markdown]
# ## By day
#
# The bars are observed means; on a rainy day at least one hour of departures had rain. The line is what the
# model expects of each day, knowing its weather and all other days.

# %%
worst = by_day.loc[(by_day["observed"] - by_day["predicted"]).idxmax()]
print(f"Biggest surprise: {month_name} {worst['day']:.0f}")
print(f"Mean delay {worst['observed']:.0f} minutes, where the model expected {worst['predicted']:.0f}")

# %% [markdown]
# ## The figure

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
fig.suptitle(f"Departure delays at {airport}, {month_name} 2013")

left.bar(late_share.index, late_share, color="steelblue")
left.set_title("Late departures by hour")
left.set_xlabel("Scheduled hour of departure (local time)")
left.set_ylabel(f"Flights more than {threshold} minutes late (%)")
left.set_xticks(late_share.index)

dry, wet = by_day[by_day["rain"] == 0], by_day[by_day["rain"] > 0]
right.bar(dry["day"], dry["observed"], color="lightsteelblue", label="observed, dry day")
right.bar(wet["day"], wet["observed"], color="steelblue", label="observed, rainy day")
right.plot(
    "day", "predicted", data=by_day, color="darkorange", marker=".", label="model, from all other days"
)
right.axhline(0, color="black", linewidth=0.8)
right.set_title("Mean delay by day")
right.set_xlabel("Day of the month")
right.set_ylabel("Mean departure delay (minutes)")
right.set_xticks(range(1, 32, 2))
right.margins(x=0.02)
fig.legend(loc="outside lower right", ncols=3)

fig.savefig("delays.png", dpi=120)
print("Wrote delays.png")
