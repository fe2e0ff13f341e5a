# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Every night
#
# **Conclusion.** `python -m mmnet.nightly` is the whole job in one command: it checks for drift,
# trains a challenger, compares it with the champion, promotes the better one, scores, and rolls
# back. This tutorial takes the steps one by one, for those who want to see what happens in each, or
# to build another job of them.
#
# The steps are: check for drift, score as of yesterday, compare the last scores with what happened,
# train again if one of the two checks asks for it, and publish the new export as a new version. The
# old version stays, so that a rollback is one path.

# %%
import mmnet

print("mmnet", mmnet.__version__)

# %%
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

rng = np.random.default_rng(1)
workspace = Path(tempfile.mkdtemp())

# %% [markdown]
# ## A log that grows
#
# 60 days of counts for 300 items in four categories. On day 30 the app starts to count a click for
# every autoplay: there are 2.5 times as many clicks, and the same number of shares.

# %%
ITEMS, DAYS, CHANGE = 300, 60, 30
dates = pd.date_range("2024-03-01", periods=DAYS)
items = pd.DataFrame({"item_id": [f"i{number:03}" for number in range(ITEMS)]})
items["category"] = rng.choice(["cats", "music", "news", "sports"], ITEMS)
rate = items["category"].map({"cats": 9.0, "music": 6.0, "news": 4.0, "sports": 2.0}).to_numpy()
rate = rate * rng.lognormal(0, 0.3, ITEMS)
popularity = rng.lognormal(3.2, 0.8, ITEMS)

factor = np.where(np.arange(DAYS) >= CHANGE, 2.5, 1.0)
clicks = rng.poisson(popularity[:, None] * factor)
shares = rng.binomial(clicks, rate[:, None] / factor / 100)

item, day = np.nonzero(clicks)
log = pd.DataFrame(
    {
        "item_id": items["item_id"].to_numpy()[item],
        "period": dates[day],
        "clicks": clicks[item, day],
        "shares": shares[item, day],
    }
)


def until(last):
    """The log as it was at the end of a day."""
    return log[log["period"] <= last]


# %% [markdown]
# ## The first night: train and publish a version
#
# A version is a directory with a number as its name, the layout of TensorFlow Serving. An export is
# copied next to its place and renamed, so that no reader ever sees half of one, and it is verified
# before that: `verify` compares checksums and scores the golden rows again.
#
# `smoothed_history` is empirical Bayes, which trains in seconds. Use `recipe="auto"` for your own
# log.

# %%
versions = workspace / "versions"
versions.mkdir()


def train(last, **options):
    """Trains on the log until a day, and returns the run."""
    return mmnet.Run.train(
        workspace / f"run-{last:%Y-%m-%d}",
        counts=until(last),
        items=items,
        taxonomies=["category"],
        model="smoothed_history",
        rules=["keep=0.3"],
        min_target_clicks=20,
        min_test_rows=50,
        verbose=False,
        **options,
    )


def publish(run):
    """Copies a verified export to the next version, and returns its path."""
    run.export.verify()
    number = 1 + max((int(path.name) for path in versions.iterdir()), default=0)
    beside = versions / f".{number}.copying"
    shutil.copytree(run.export.path, beside)
    return beside.rename(versions / str(number))


first = train(dates[25])
print("published version", publish(first).name)

# %% [markdown]
# ## Every night: score as of yesterday
#
# `Export.load` on the parent directory opens the newest version. `as_of` is the last day that may
# be read, so a night that is repeated later returns the same scores.


# %%
def score(last):
    """Scores all items for the day after `last`."""
    export = mmnet.Export.load(versions)
    return export.score(until(last), items, as_of=last, rule="stored")


tonight = score(dates[27])
print(tonight["period"].iloc[0], tonight["decision"].value_counts().to_dict())
tonight[["item_id", "predicted_share_rate", "decision"]].head(3)

# %% [markdown]
# ## The next evening: compare the scores with what happened
#
# The scores of a night can be evaluated when the counts of the next day have arrived. Only items
# with enough clicks say something about their rate. The comparison is the simplest rule there is:
# each item's average of the last six days.


# %%
def evaluate(last, fewest=20):
    """Mean squared error of one night's scores and of the average, percent²."""
    day = log[log["period"] == last + pd.Timedelta(days=1)].query("clicks >= @fewest")
    day = day.assign(share_rate=100 * day["shares"] / day["clicks"])
    window = until(last)[until(last)["period"] > last - pd.Timedelta(days=6)]
    sums = window.groupby("item_id")[["clicks", "shares"]].sum()
    average = (100 * sums["shares"] / sums["clicks"]).rename("average")
    rows = day.merge(score(last), on="item_id").merge(average, on="item_id")
    errors = {
        name: float(((rows[name] - rows["share_rate"]) ** 2).mean())
        for name in ("predicted_share_rate", "average")
    }
    bias = float((rows["predicted_share_rate"] - rows["share_rate"]).mean())
    return {"night": last, **errors, "bias": bias}


# The bias is the mean prediction minus the mean rate, percent.
nights = [dates[number] for number in (26, 28, 30, 32)]
history = pd.DataFrame([evaluate(night) for night in nights]).set_index("night")
history.round(2)

# %%
figure, axes = plt.subplots(figsize=(7, 3))
axes.plot(history["bias"], "o-")
axes.axhline(0, color="grey", linewidth=0.5)
axes.axvline(dates[CHANGE], color="grey", linestyle=":")
axes.annotate("the log changes  ", (dates[CHANGE], 1.5), ha="right")
axes.set_ylabel("bias, percent")
figure.autofmt_xdate()
figure.tight_layout()

# %% [markdown]
# ## Drift
#
# `drift` compares a day with what the model was trained on, without waiting for the outcome: the
# inputs, the volume, the predictions. Before the change nothing is found.

# %%
export = mmnet.Export.load(versions)
for number in (27, 31):
    report = export.drift(until(dates[number]), items, checked=dates[number])
    found = [finding for finding in report["findings"] if finding["drifted"]]
    print(
        report["period"], "drifted" if report["drifted"] else "no drift", f"({len(found)} findings)"
    )

pd.DataFrame(found)[["name", "measure", "value", "limit", "then", "now"]]

# %% [markdown]
# On the command line, exit code 3 means that drift was found, 0 that none was, and 1 that the input
# is wrong. A scheduler can branch on that.

# %%
log_file, items_file = workspace / "counts.parquet", workspace / "items.parquet"
until(dates[31]).to_parquet(log_file)
items.to_parquet(items_file)
done = subprocess.run(
    [
        *(sys.executable, "-m", "mmnet.drift", f"--saved_model={versions}"),
        *(f"--counts={log_file}", f"--items={items_file}", f"--output={workspace / 'drift'}"),
    ],
    capture_output=True,
)
print("exit code", done.returncode)

# %% [markdown]
# ## Train again, and keep the old version
#
# Autoplays will stay, so the job trains on the days after the change, once there are enough days.
# `first_period` leaves out the counts before it. The new run gets its own directory, and its export
# the next number.

# %%
if done.returncode == 3:
    second = train(dates[57], first_period=dates[CHANGE])
    print("published version", publish(second).name)

print("versions:", sorted(path.name for path in versions.iterdir()))

# %% [markdown]
# Compare the new version with the old one on the same night before readers move to it. A rollback
# is the path of the older version.

# %%
rows = {}
day = log[log["period"] == dates[59]].query("clicks >= 20")
truth = day.assign(share_rate=100 * day["shares"] / day["clicks"])
for number in (1, 2):
    scores = mmnet.Export.load(versions / str(number)).score(
        until(dates[58]), items, as_of=dates[58]
    )
    both = truth.merge(scores, on="item_id")
    difference = both["predicted_share_rate"] - both["share_rate"]
    rows[f"version {number}"] = {"mse": (difference**2).mean(), "bias": difference.mean()}
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# ## The same as one command for cron
#
# The command also compares challenger and champion with a test, on periods from which neither has
# learned; refuses fields that are filled in later; resumes what was killed; and keeps a history.
#
# ```bash
# python -m mmnet.nightly --models=models/mmnet --flagfile=flags.txt --counts=counts.parquet \
#     --items=items.parquet --rule=stored --output=scores.parquet
# python -m mmnet.nightly --models=models/mmnet --rollback
# ```
