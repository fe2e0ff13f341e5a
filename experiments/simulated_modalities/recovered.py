"""The part of what content can tell that each row recovers without history.

    python experiments/simulated_modalities/recovered.py

Reads the cells of `python -m mmnet.experiment --experiment=experiments/simulated_modalities`, and
writes results/recovered.md. The oracle knows every planted effect of an item's content and time,
but not its own level and walk, which nothing but its history tells: its prediction is the mean
rate given those effects. Between the error of the row with neither title nor cover and the
oracle's lies the achievable gain; a row's recovered share is the part of it that it closes.
"""

import argparse
from pathlib import Path

import pandas as pd

from mmnet import config
from mmnet.data.sources import simulated
from mmnet.files import write_atomic
from mmnet.flags import named_options, parse

HERE = Path("experiments/simulated_modalities")
NOTHING = "neither"


def simulation() -> simulated.Simulation:
    """The log of the experiment."""
    flags = parse(config.ExperimentConfig, [f"--flagfile={HERE}/experiment.txt"])
    named = named_options(simulated.simulated, flags.source_set, "source_set")
    return simulated.simulate(**named)


def oracle_error(drawn: simulated.Simulation, predictions: pd.DataFrame) -> float:
    """Mean squared distance of the oracle from the true rate on the test rows, percent²."""
    truth = drawn.truth.to_pandas()
    rows = predictions.merge(truth[["item_id", "period", "content_share_rate"]], validate="m:1")
    assert len(rows) == len(predictions)
    return float(((rows["content_share_rate"] - rows["true_share_rate"]) ** 2).mean())


def main():
    """Reads the cells, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cells", default="runs/experiments/simulated_modalities")
    options = parser.parse_args()

    cells = pd.read_csv(HERE / "results" / "cells.csv")
    first = cells.iloc[0]
    run = Path(options.cells, f"{first['row']}-{first['seed']}-{first['origin']}-{first['cell']}")
    predictions = pd.read_parquet(run / "evaluation" / "predictions.parquet")
    drawn = simulation()
    oracle = oracle_error(drawn, predictions[predictions["scenario"] == "cold_start"])
    variance = drawn.variance_shares

    errors = {row: part["cold_start_mse_to_true_rate"] for row, part in cells.groupby("row")}
    nothing = errors[NOTHING].mean()
    lines = [
        "# Recovery of the effects of title and cover in cold-start",
        "",
        f"Made by `python {HERE}/recovered.py` from [cells.csv](cells.csv). Error to the planted "
        "rate, percent², mean over seeds ± sd; the recovered share of the gain from "
        f"{nothing:.2f} (neither) to {oracle:.2f} (an oracle of all planted effects but the "
        f"item's own). Title and cover are {variance['title']:.0%} and {variance['cover']:.0%} of "
        "the variance of the rate's logit.",
        "",
        "| row | seeds | error to the true rate | recovered share |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in cells["row"].unique():
        found = errors[row]
        share = (nothing - found) / (nothing - oracle)
        shown = "–" if row == NOTHING else f"{share.mean():.0%} ± {share.std():.0%}"
        lines.append(f"| {row} | {len(found)} | {found.mean():.2f} ± {found.std():.2f} | {shown} |")
    lines.append(f"| oracle | – | {oracle:.2f} | 100% |")
    text = "\n".join(lines) + "\n"
    print(text)
    write_atomic(HERE / "results" / "recovered.md", text)


if __name__ == "__main__":
    main()
