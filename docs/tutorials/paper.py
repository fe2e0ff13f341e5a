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
# # Reproduce the paper's tables and read them
#
# **Conclusion.** One command regenerates the tables of Yu et al. (2021), with tests. On the logs
# that were tried, the paper's MMNet is strong without a history, and not ahead of simple rules
# with one. One added head repairs that. The factors of 4 and 10 that the paper reports were not
# found. A table of single runs cannot settle such questions: even with five seeds each, MMNet and a
# GRU that is trained in the same way cannot be told apart.
#
# This page shows the protocol on a small simulated log first, where a network trains in seconds,
# and reads the real tables afterwards.

# %%
import mmnet

print("mmnet", mmnet.__version__)

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

workspace = Path(tempfile.mkdtemp())
SCENARIOS = ["normal", "cold_start", "noisy"]

# %% [markdown]
# ## A small log
#
# The simulator draws items whose categories, tags and authors have a known effect on the share
# rate. All systems below get this one dataset, so they share examples, splits and inputs.

# %%
dataset = mmnet.Dataset.from_source(
    "simulated",
    source_set={"items": 400, "periods": 24, "clicks": 600_000},
    taxonomies=["category", "tags"],
    categoricals=["author"],
    release="release",
    min_test_rows=50,
)
dataset.describe()

# %% [markdown]
# ## Four runs
#
# `ha`, the historical average, brings the other simple rules with it. The GRU is trained with two
# seeds: nothing else differs between these two runs. The networks are small and train for a few
# passes only, so their order here says nothing about the systems.

# %%
small = {"set": {"units": 8, "field_width": 4}, "epochs": 4, "jit": False, "batch_size": 32}
runs = {"simple rules": mmnet.Run.train(workspace / "rules", dataset, model="ha", verbose=False)}
for name, model, seed in (("MMNet", "mmnet", 0), ("GRU", "gru", 0), ("GRU, seed 1", "gru", 1)):
    runs[name] = mmnet.Run.train(
        *(workspace / name, dataset),
        model=model,
        seed=seed,
        outputs="predictions",
        verbose=False,
        **small,
    )

# %% [markdown]
# ## The table of three scenarios
#
# The columns of the paper's Table 1: mean squared error (percent²) and P@10, the part of the true
# top 10 % that is found in the predicted top 10 %, for items as they are (normal), without a
# history (cold start), and with half of it hidden (noisy).

# %%
rows = []
for name, run in runs.items():
    found = run.systems
    if name != "simple rules":
        found = found.assign(system=name)
    rows.append(found)
systems = pd.concat(rows)
table = systems.pivot(index="system", columns="scenario", values=["mse", "precision_at_10"])
table = table.reindex(columns=SCENARIOS, level="scenario")
table.round(2)

# %% [markdown]
# Three questions to ask of such a table, in this order:
#
# 1. **Is it ahead of a simple rule?** `ha_taxonomy` uses the item's own average, and the mean of
#    its taxonomies where it has none. In the normal scenario it is hard to beat.
# 2. **Would another seed say the same?** The two GRU rows differ in their seed only. A difference
#    between two systems that is not much larger than theirs says nothing.
# 3. **How much of the error is sampling error?** The observed rates of the test items are
#    themselves estimates. Their error alone is a part of every row:

# %%
limit = runs["MMNet"].metrics["normal"]["sampling_noise_mse"]
print(f"mean squared error caused by sampling alone: {limit:.1f} percent²")

# %%
figure, axes = plt.subplots(figsize=(7, 3.5))
for number, name in enumerate(["ha_taxonomy", "GRU", "GRU, seed 1", "MMNet"]):
    places = [place + 0.2 * number - 0.3 for place in range(3)]
    axes.bar(places, table["mse"].loc[name, SCENARIOS], 0.2, label=name)
axes.axhline(limit, color="grey", linestyle=":", label="sampling error")
axes.set_xticks(range(3), SCENARIOS)
axes.set_ylabel("mean squared error, percent²")
axes.legend(frameon=False)
figure.tight_layout()

# %% [markdown]
# ## The real tables
#
# The experiments in the repository train every system with five seeds and test the differences on
# the same test windows. The command for the public log of GitHub repositories:
#
# ```bash
# python -m mmnet.experiment --experiment=experiments/github_tables --source_dir=DIR --jobs=2
# ```
#
# It is finished when its table is; interrupted, the same command continues. Its results are stored
# in the repository, and the rest of this page reads these files.

# %%
results = Path(mmnet.__file__).parents[1] / "experiments" / "github_tables" / "results"
headline = pd.read_csv(results / "headline.csv")
mse = headline[headline["metric"] == "mse"]
mse.pivot(index="system", columns="scenario", values="value")[SCENARIOS].round(1)

# %% [markdown]
# A row of this table is a mean over seeds. Its interval counts both the seeds and the choice of the
# test items, so it says how much another log of the same kind could differ. `letters` says what can
# be concluded: rows that share a letter cannot be told apart at the 1 % level.

# %%
normal = mse[mse["scenario"] == "normal"].sort_values("value")
normal[["system", "n_seeds", "value", "low", "high", "letters"]].round(1)

# %%
figure, axes = plt.subplots(figsize=(7, 3))
places = range(len(normal))
error = [normal["value"] - normal["low"], normal["high"] - normal["value"]]
axes.errorbar(normal["value"], places, xerr=error, fmt="o", capsize=3)
axes.set_yticks(places, normal["system"])
axes.invert_yaxis()
axes.set_xlabel("normal scenario: mean squared error, percent², with 95 % interval")
figure.tight_layout()

# %% [markdown]
# The first row is MMNet with the head that was added (`--set=smoothed_history=true`): the network
# predicts a prior, and the item's own clicks correct it. A GRU with the same head is next to it, so
# the gain comes from the head and not from the architecture.
#
# ## Which claims hold
#
# Each experiment also checks the claims of the paper, as ratios of mean squared errors with their
# intervals.

# %%
claims = json.loads((results / "claims.json").read_text())
for claim in claims[:2]:
    print(f"{claim['claim']}: {claim['text']} -> {claim['verdict']}")
    for part in claim["parts"]:
        print("   ", part["text"])

# %% [markdown]
# "Not decidable" means that the interval contains both answers. With five seeds, most differences
# between two networks are of this kind. All tables, with what was learned from them, are on the
# [results page](../experiments/README.md).
