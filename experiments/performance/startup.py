"""What a command costs before it does anything: CPU seconds, and which large packages it loads.

    python experiments/performance/startup.py [--rounds=5] [--output=FILE]

First come mistakes, which a driver answers without TensorFlow; then commands that have little to
do, so that most of what they cost is loading; then TensorFlow and Keras by themselves, as Python
imports them and as the drivers do. All take turns, round by round. CPU seconds are those of the
whole process, user and system, which do not count the time that others had the processor. The small
run that is verified, scored and evaluated is trained first, and not counted.
"""

import functools
import json
import shutil
import statistics
import tempfile
from pathlib import Path

import bench

PACKAGES = (
    *("tensorflow", "keras", "matplotlib", "sklearn", "scipy.stats", "scipy.sparse"),
    *("pandas", "pyarrow", "ibis", "duckdb", "tensorboard", "pydantic"),
)
LOADED = f"""
import atexit, json, runpy, sys
kept = sys.stdout = open("loaded.json", "w")
atexit.register(lambda: json.dump([n for n in {PACKAGES!r} if n in sys.modules], kept))
sys.argv = sys.argv[1:]
sys.stdout = sys.stderr
if sys.argv[0] == "-c":
    exec(sys.argv[1])
else:
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
"""Runs what Python was to run, and writes which of the packages it has loaded in the end."""

SIMULATED = (
    *("--source=simulated", "--source_set=items=500", "--source_set=periods=24"),
    *("--source_set=clicks=800000", "--min_test_rows=50"),
)
COLUMNS = ("--taxonomies=category,tags", "--categoricals=author", "--numerics=duration")
TRAINED = (
    *(*SIMULATED, *COLUMNS, "--texts=title", "--release=release"),
    *("--set=units=8", "--set=field_width=4", "--epochs=1", "--batch_size=32", "--run_dir=run"),
)
EXPORT, TABLES = "--saved_model=run/export", ("--counts=counts.csv", "--items=items.csv")
DRIVER, OTHER = "mmnet", "mmnet.mma4ctr"
MISTAKES = {
    "train, unknown flag": (f"{DRIVER}.train", "--bogus=1"),
    "train, wrong option in --set": (f"{DRIVER}.train", *TABLES, "--set=unitz=8"),
    "train, no such file": (f"{DRIVER}.train", "--counts=no.csv", "--items=items.csv"),
    "prepare, no such column": (
        *(f"{DRIVER}.prepare", *TABLES, "--taxonomies=categry", "--dataset_dir=no"),
    ),
    "prepare, no such column of the events": (
        *(f"{DRIVER}.prepare", "--events=counts.csv", "--items=items.csv", "--dataset_dir=no"),
        *("--time_column=when", "--denominator=events"),
    ),
    "encode, no such file": (
        *(f"{DRIVER}.encode", "--items=no.csv", "--texts=title", "--text_encoder=hub"),
    ),
    "evaluate, no such run": (f"{DRIVER}.evaluate", "--run_dir=no"),
    "predict, no such SavedModel": (f"{DRIVER}.predict", "--saved_model=no", *TABLES),
    "predict, no such column": (f"{DRIVER}.predict", EXPORT, *TABLES),
    "drift, no such SavedModel": (f"{DRIVER}.drift", "--saved_model=no", *TABLES),
    "experiment, no such row": (
        *(f"{DRIVER}.experiment", "--results=no", "--rows=.", "--table=T: no"),
    ),
    "mma4ctr.prepare, no such directory": (
        *(f"{OTHER}.prepare", "--source_dir=no", "--dataset_dir=no"),
    ),
    "mma4ctr.train, no such dataset": (f"{OTHER}.train", "--dataset_dir=no", "--run_dir=new"),
    "mma4ctr.evaluate, no such run": (f"{OTHER}.evaluate", "--run_dir=no"),
    "mma4ctr.predict, no such SavedModel": (f"{OTHER}.predict", "--saved_model=no"),
    "mma4ctr.experiment, no such directory": (
        *(f"{OTHER}.experiment", "--results=no", "--row=a: --source_dir=no"),
    ),
}
"""What it is called -> module and arguments; each ends with exit code 1."""

COMMANDS = {
    "train --help": (f"{DRIVER}.train", "--help"),
    "prepare, 500 items without taxonomies and texts": (
        *(f"{DRIVER}.prepare", *SIMULATED, "--categoricals=author", "--dataset_dir=untitled"),
    ),
    "prepare, 500 items with taxonomies and texts": (
        *(f"{DRIVER}.prepare", *SIMULATED, *COLUMNS, "--texts=title", "--dataset_dir=titled"),
    ),
    "predict --verify": (f"{DRIVER}.predict", EXPORT, "--verify"),
    "predict, 500 items": (f"{DRIVER}.predict", EXPORT, *SIMULATED[:-1]),
    "drift, 500 items": (f"{DRIVER}.drift", EXPORT, *SIMULATED[:-1]),
    "train --model=ha --outputs=predictions": (
        *(f"{DRIVER}.train", "--dataset_dir=run/dataset", "--model=ha", "--outputs=predictions"),
    ),
}
"""Commands that compute little; each run prepares its dataset again."""

IMPORTS = {
    "`import mmnet`": "import mmnet",
    "`import tensorflow`": "import tensorflow",
    "`import keras`": "import keras",
    "TensorFlow as `predict` loads it": (
        "from mmnet.startup import load_tensorflow; load_tensorflow(keras=False)"
    ),
    "TensorFlow and Keras as `train` loads them": (
        "from mmnet.startup import load_tensorflow; load_tensorflow()"
    ),
}


def cpu_seconds(arguments: list[str], directory: Path, codes: tuple[int, ...]) -> float:
    """CPU seconds of a Python process that must end with one of the exit codes."""
    # What a command made is removed, so that it has the same to do again.
    for name in ("untitled", "titled", "drift", "runs", "new"):
        shutil.rmtree(directory / name, ignore_errors=True)
    (directory / "scores.parquet").unlink(missing_ok=True)
    return bench.run(*arguments, cwd=directory, codes=codes).cpu


def main() -> None:
    """Trains the small run, measures everything in turns, and prints the page."""
    options = bench.options(__doc__, rounds=5)
    cases = {name: (["-m", *command], (1,)) for name, command in MISTAKES.items()}
    # 3: drift was found, since the run was trained on a part of these periods.
    cases |= {name: (["-m", *command], (0, 3)) for name, command in COMMANDS.items()}
    cases |= {name: (["-c", code], (0,)) for name, code in IMPORTS.items()}
    loaded = {}
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "items.csv").write_text("item_id,category\na,x\n")
        (directory / "counts.csv").write_text("item_id,period,clicks,shares\na,1,9,3\n")
        cpu_seconds(["-m", "mmnet.train", *TRAINED], directory, (0,))
        for name, (arguments, codes) in cases.items():
            cpu_seconds(["-c", LOADED, *arguments], directory, codes)
            found = json.loads((directory / "loaded.json").read_text())
            loaded[name] = ", ".join(found) or "none"
        calls = {
            name: functools.partial(cpu_seconds, arguments, directory, codes)
            for name, (arguments, codes) in cases.items()
        }
        seconds = bench.turns(calls, options.rounds)
    bench.publish(page(seconds, loaded, options.rounds), options.output)


def page(seconds: dict[str, list[float]], loaded: dict[str, str], rounds: int) -> list[str]:
    """The lines of the page, in Markdown."""
    from mmnet.training.records import machine

    worst = max(statistics.median(seconds[name]) for name in MISTAKES)
    mine = statistics.median(seconds["`import mmnet`"])
    lines = [
        "# Start-up",
        "",
        f"A mistake is reported within {worst:.2f} CPU seconds (goal: 1.5), whichever driver it is "
        f"made with; `import mmnet` takes {mine:.2f} (goal: .3).",
        "",
        f"`python experiments/performance/startup.py --rounds={rounds}`, on "
        f"{machine()['processor']}: CPU seconds, user and system, of the whole process; median "
        f"(least to most) of {rounds} runs.",
    ]
    for title, names in (
        ("Mistakes", MISTAKES),
        ("Commands that have little to do", COMMANDS),
        ("Imports", IMPORTS),
    ):
        lines += ["", f"## {title}", "", "| command | CPU s | large packages loaded |"]
        lines += ["|---|---:|---|"]
        lines += [f"| {name} | {bench.spread(seconds[name])} | {loaded[name]} |" for name in names]
    return lines


if __name__ == "__main__":
    main()
