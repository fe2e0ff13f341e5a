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
# # From your two tables to a decision
#
# **Conclusion.** Two tables and one call are enough for a decision about every item: counts of
# clicks and shares per item and day, and the items with what is known at their release. A second
# call scores today's catalogue, items without any history included, and a rule keeps or drops each
# item. Look at the three scenarios and at what the rule loses before you trust it.
#
# The tables below are generated, so that this page runs anywhere in a minute. Replace them by your
# own: file paths, pandas DataFrames and Arrow tables all work.

# %%
import mmnet

print("mmnet", mmnet.__version__)

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
workspace = Path(tempfile.mkdtemp())

# %% [markdown]
# ## Two tables
#
# The items: a category, a creator, a title and the day of release. How often an item is shared
# depends on all of them, and on the item itself.

# %%
ITEMS, DAYS = 800, 30
CATEGORIES = {"cats": 8.0, "music": 5.0, "news": 3.0, "sports": 2.0}  # mean share rate, percent
WORDS = {"funny": 1.6, "new": 1.0, "long": 0.7, "live": 1.2}  # factor of the share rate

items = pd.DataFrame({"item_id": [f"i{number:03}" for number in range(ITEMS)]})
items["category"] = rng.choice(list(CATEGORIES), ITEMS)
items["creator"] = rng.integers(0, 60, ITEMS).astype(str)
word = rng.choice(list(WORDS), ITEMS)
items["title"] = "a " + pd.Series(word) + " clip about " + items["category"]
release = rng.integers(-15, DAYS, ITEMS)
items["release"] = pd.Timestamp("2024-05-01") + pd.to_timedelta(release, unit="D")

creator_factor = np.exp(rng.normal(0, 0.5, 60))
true_rate = (
    items["category"].map(CATEGORIES).to_numpy()
    * np.array([WORDS[one] for one in word])
    * creator_factor[items["creator"].astype(int)]
    * np.exp(rng.normal(0, 0.3, ITEMS))
)
items.head(3)

# %% [markdown]
# The counts: clicks and shares of each item on each day since its release. Most items have few
# clicks, so their observed rates are noisy.

# %%
age = np.arange(DAYS) - release[:, None]
popularity = rng.lognormal(3.5, 1.0, ITEMS)[:, None] * np.exp(-np.maximum(age, 0) / 10)
clicks = np.where(age >= 0, rng.poisson(popularity), 0)
shares = rng.binomial(clicks, np.clip(true_rate, 0, 60)[:, None] / 100)

item, day = np.nonzero(clicks)
counts = pd.DataFrame(
    {
        "item_id": items["item_id"].to_numpy()[item],
        "period": pd.Timestamp("2024-05-01") + pd.to_timedelta(day, unit="D"),
        "clicks": clicks[item, day],
        "shares": shares[item, day],
    }
)
print(
    f"{len(counts):,} rows, {counts['shares'].sum() / counts['clicks'].sum():.1%} of clicks shared"
)
counts.head(3)

# %% [markdown]
# `python -m mmnet.inspect --counts=counts.csv --items=items.csv` looks at tables of your own first:
# it proposes the options below with a reason for each, and points out mistakes and columns that may
# leak the future.
#
# ## Train
#
# `recipe="smoothed"` suits logs with few clicks per item and day: the network predicts a rate from
# the content and the trends, and the clicks of the item itself correct it. `recipe="auto"` tries
# the recipes and picks the best on validation; it takes longer. The network here is small for the
# same reason. `rules` are what a decision may follow; their thresholds are found on validation.

# %%
run = mmnet.Run.train(
    workspace / "run",
    counts=counts,
    items=items,
    taxonomies=["category"],
    categoricals=["creator"],
    texts=["title"],
    release="release",
    recipe="smoothed",
    rules=["recall=0.95", "keep=0.3"],
    set={"units": 8, "field_width": 4},
    epochs=4,
    jit=False,
    min_target_clicks=20,
    min_test_rows=50,
    verbose=False,
)
run.metrics["cold_start"]["mse"]

# %% [markdown]
# ## Is it better than a simple rule?
#
# The test days come after all training days. Every test example is predicted three times: as it is
# (normal), without its history (cold start), and with half of its history hidden (noisy). `ha` is
# the item's historical average, `ha_taxonomy` the same with the mean of the category for items
# without a history.

# %%
table = run.systems.pivot(index="system", columns="scenario", values="mse")
table[["normal", "cold_start", "noisy"]].round(1).sort_values("normal")

# %% [markdown]
# Read the columns one by one. In the normal scenario a good average of the item's own past is hard
# to beat. Without a history the average has nothing to offer, and the model predicts from content.
# Sampling error sets a limit that no forecast can pass: with few clicks, the observed rate itself
# is off. The report estimates that limit:

# %%
limit = run.metrics["normal"]["sampling_noise_mse"]
print(f"mean squared error caused by sampling alone: {limit:.1f} percent²")

# %% [markdown]
# `run.report()` is the path of one HTML file with all of this, calibration, errors by age and by
# category, and what happens when an input is missing. Open it in a browser, or send it to a
# colleague.

# %%
print(run.report().relative_to(workspace))

# %% [markdown]
# ## What does a filter keep and lose?
#
# The curve answers the question of a product owner: if only the best part of the items is kept, how
# much of all sharing is kept? The diagonal is a random choice.

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for scenario, style in {"normal": "-", "cold_start": "--"}.items():
    rows = run.predictions.query("scenario == @scenario")
    best_first = rows.sort_values("predicted_share_rate", ascending=False)
    kept = np.arange(1, len(rows) + 1) / len(rows)
    axes.plot(
        kept, best_first["share_rate"].cumsum() / rows["share_rate"].sum(), style, label=scenario
    )
axes.plot([0, 1], [0, 1], ":", color="grey", label="random")
axes.set_xlabel("part of the test examples that is kept")
axes.set_ylabel("part of the share rate that is kept")
axes.legend(frameon=False)
figure.tight_layout()

# %% [markdown]
# The rules that were asked for, with the thresholds found on validation. `recall=0.95` drops as
# many items as possible while 95 % of the true top 5 % stay; `keep=0.3` keeps the best 30 %.

# %%
export = run.export
pd.DataFrame(export.rules).T[["threshold", "kept_share"]]

# %% [markdown]
# ## Decide
#
# Score the catalogue as of the last day. Every row of the items table gets a score;
# `observed_periods` says how much history was behind it. The second rule decides.

# %%
scores = export.score(counts, items, rule="keep=0.3")
scores[["item_id", "predicted_share_rate", "observed_periods", "decision"]].head()

# %%
summary = scores.merge(items.assign(true_rate=true_rate), on="item_id").groupby("decision")
summary["true_rate"].agg(["count", "mean"]).round(2)

# %% [markdown]
# The last table is only possible because these tables are generated: it shows the true mean share
# rate of what is kept and what is dropped. With your own tables, wait for the next days and compare
# the scores with what happened; [every night](nightly.md) does that.
#
# A score can be asked for any earlier day, and then reads nothing later:

# %%
earlier = export.score(counts, items, as_of="2024-05-20", rule="keep=0.3")
print(earlier["period"].iloc[0], earlier["decision"].value_counts().to_dict())

# %% [markdown]
# ## The same on the command line
#
# ```bash
# python -m mmnet.train --counts=counts.csv --items=items.csv --taxonomies=category \
#     --categoricals=creator --texts=title --release=release --recipe=smoothed \
#     --rules=recall=0.95,keep=0.3 --run_dir=run
# python -m mmnet.predict --saved_model=run/export --counts=counts.csv --items=items.csv \
#     --rule=keep=0.3 --output=scores.parquet
# ```
