"""Two small worlds, one of each system: tables, a dataset, trained runs, an experiment.

`python -m tests.fuzz.worlds share_rates DIRECTORY` makes one. Paths in it are relative, so that a
copy of it is a world too.
"""

import os
import sys
from pathlib import Path

from mmnet import config, driver
from mmnet.mma4ctr import config as clicks_config
from tests.cases import worlds

ROWS = {"share_rates": {"counts": worlds.NUM_ITEMS * worlds.NUM_PERIODS}, "clicks": {}}
"""World -> table -> its rows."""

TABLES = ("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS, *worlds.SMALL)
EVENTS = ("--events=events.csv", "--items=items.csv", *worlds.COUNTED, *worlds.FIELDS)
EVENTS = (*EVENTS, *worlds.SMALL)
TINY = ("--set=units=4", "--set=field_width=4", "--epochs=1", "--nojit")
PICTURES = ("--items=items.csv", "--images=cover", "--image_root=pictures")
PICTURES = (*PICTURES, "--image_encoder=hub", "--image_weights=network", "--encoder_cache=cache")
LOG = ("--source_dir=source", "--min_rows=20")
FAST = ("--epochs=1", "--batch_size=2048", "--jit=false")


def must(flags, task, *arguments, tasks="mmnet.tasks"):
    """Runs a driver that has to end well."""
    code = driver.run(flags, "", task, arguments, tasks=tasks)
    assert code == driver.OK, (task, arguments)


def share_rates():
    """Tables, `run` of an MMNet with its export, `short` of an estimator, an experiment."""
    from tests.encoders.test_image import Image, saved

    items = worlds.joined(worlds.items())
    items["cover"] = [f"{number % 5}.png" for number in range(len(items))]
    items.to_csv("items.csv", index=False)
    counts = worlds.counts()
    counts.to_csv("counts.csv", index=False)
    counts.to_parquet("counts.parquet")
    items.to_parquet("items.parquet")
    worlds.events().to_csv("events.csv", index=False)
    Path("pictures").mkdir()
    for number in range(5):
        Image.new("RGB", (20, 20), (50 * number, 0, 0)).save(f"pictures/{number}.png")
    must(config.TrainConfig, "train", *TABLES, *TINY, "--dataset_dir=dataset", "--run_dir=run")
    short = ("--dataset_dir=dataset", "--model=smoothed_history", "--run_dir=short")
    must(config.TrainConfig, "train", *short)
    for name in ("run", "short"):
        Path(name, "places.txt").write_text("--dataset_dir=dataset\n")
    Path("experiment/rows").mkdir(parents=True)
    for name in ("ha", "last_rate"):
        Path(f"experiment/rows/{name}.txt").write_text(f"# {name}: a floor\n--model={name}\n")
    lines = [*TABLES, "--table=One: ha, last_rate", "--reference=ha", "--replicates=100"]
    lines += ["--cells=cells", "--seeds=0", "--title=A small one"]
    Path("experiment/experiment.txt").write_text("\n".join(lines) + "\n")
    experiment = ("--flagfile=experiment/experiment.txt", "--experiment=experiment")
    must(config.ExperimentConfig, "experiment", *experiment)
    saved("network")


def clicks():
    """A publisher's files, a dataset, a run with its export, pairs, an experiment."""
    log = [f"--generate={part}" for part in ("users=60", "feeds=100", "rows=6000", "rate=0.05")]
    tasks = "mmnet.mma4ctr.tasks"
    source = (*log, *LOG, "--dataset_dir=dataset")
    must(clicks_config.PrepareConfig, "prepare", *source, tasks=tasks)
    run = ("--dataset_dir=dataset", "--run_dir=run", *FAST)
    must(clicks_config.TrainConfig, "train", *run, tasks=tasks)
    Path("run/places.txt").write_text("--dataset_dir=dataset\n")
    pairs = [("user_id", "item_id"), *((str(n % 60), str(n % 100)) for n in range(200))]
    Path("pairs.csv").write_text("\n".join(map(",".join, pairs)) + "\n")
    Path("experiment/rows").mkdir(parents=True)
    Path("experiment/rows/lr.txt").write_text("# LR: the same rows\n--model=lr\n")
    lines = ["--dataset_dir=dataset", "--table=One: lr", "--seeds=0", "--cells=cells", *FAST]
    Path("experiment/experiment.txt").write_text("\n".join([*lines, "--title=Small"]) + "\n")
    experiment = ("--flagfile=experiment/experiment.txt", "--experiment=experiment")
    must(clicks_config.ExperimentConfig, "experiment", *experiment, tasks=tasks)


WORLDS = {"share_rates": share_rates, "clicks": clicks}


def main(name, directory):
    """Makes a world in a directory."""
    Path(directory).mkdir(parents=True)
    os.chdir(directory)
    WORLDS[name]()


if __name__ == "__main__":
    main(*sys.argv[1:])
