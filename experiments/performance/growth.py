"""How the cost of each stage grows, one factor of a log at a time.

    python experiments/performance/growth.py --work=DIR [--most=items=1000000,values=10000] \
        [--factors=items,periods] [--output=FILE]

Every factor starts from 10,000 items, 60 periods, 1,000 tags to choose from, one tag per item and
titles of 100 characters, and has the other values of `FACTORS`. Distinct tags are varied with 100
tags per item, since with one there would be no more of them than items. An item has about 20 rows
in the counts table, however many periods there are: a log of 10 million items with a row for each
of 3,000 periods would have 30 billion rows. So the counts grow with the items alone.

A cell is one log. Its tables are written by seed, and then measured:

- `prepare`: `python -m mmnet.prepare`.
- `load`, `step`, `evaluate`, `export`: one process, as in `python -m mmnet.train`, with the
  published network. A step is the mean of `STEPS` steps of the compiled program, after the first
  call; their weights are what is evaluated. Validation and test are evaluated on at most `ROWS`
  examples each (of all scenarios, the degradation curve and the outages), since evaluation goes
  through the examples many times and its cost is in proportion to them.
- `predict`: `python -m mmnet.predict` of all items into a directory, one process.

Every measurement has wall seconds, CPU seconds of all threads and processes, and the peak of own
memory, sampled every .05 s: what the processes have for themselves, without mapped files, whose
pages the system takes back when it needs them. All commands are limited by `--memory`; what they
refuse is shown with their sentence. Each cell's figures are kept in a file of `--work`, and a cell
that has one is not measured again; its tables and datasets are removed.

The exponent between two values is the growth of the cost over the growth of the factor, both above
the smallest value of the factor: 1 for a cost of a fixed part and a part in proportion, 2 for a
square. `=` marks a cost that is less than a fifth above that of the smallest value. Where that is
so for the smaller of the two values, little is known of what is above the fixed part: `≥` is then
followed by the exponent of the costs as they are.
"""

import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import bench

FACTORS: dict[str, tuple[int, ...]] = {
    "items": (10_000, 100_000, 1_000_000, 10_000_000),
    "periods": (60, 300, 1000, 3000),
    "values": (100, 10_000, 100_000, 1_000_000),
    "tags": (1, 10, 100),
    "characters": (100, 1000, 10_000),
}
TITLES = {
    "items": "Items",
    "periods": "Periods",
    "values": "Distinct tags, with 100 per item",
    "tags": "Tags per item",
    "characters": "Characters per title",
}
STAGES = ("prepare", "load", "step", "evaluate", "export", "predict")
STEPS = 128
ROWS = 2000
COUNTS_PER_ITEM = 20
CATEGORIES, WORDS = 40, 50_000
FILE_ITEMS = 100_000
STEEP, FLAT = 1.1, 1.2
COLUMNS = ("--taxonomies=category,tags", "--texts=title")


class Cell(NamedTuple):
    """The log of one cell."""

    items: int = 10_000
    periods: int = 60
    values: int = 1000
    tags: int = 1
    characters: int = 100

    @property
    def name(self) -> str:
        """Name of its files."""
        return "-".join(f"{name}{value}" for name, value in self._asdict().items())


def cells_of(factor: str, most: int | None = None) -> dict[int, Cell]:
    """The value of a factor -> its cell."""
    start = Cell(tags=100) if factor == "values" else Cell()
    return {
        value: start._replace(**{factor: value})
        for value in FACTORS[factor]
        if most is None or value <= most
    }


# ---------------------------------------------------------------- tables


def write_tables(directory: Path, cell: Cell) -> None:
    """Items and counts of a cell as Parquet directories."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("items", "counts"):
        (directory / name).mkdir(parents=True)
    words = bench.words("word", WORDS, np.arange(WORDS))
    names = pa.array([f"tag{number}" for number in range(cell.values)])
    for number, start in enumerate(range(0, cell.items, FILE_ITEMS)):
        stream = np.random.default_rng([23, number])
        size = min(FILE_ITEMS, cell.items - start)
        ids = pa.array([f"item{n:08d}" for n in range(start, start + size)])
        category = np.minimum(stream.zipf(1.3, size), CATEGORIES) - 1
        # Every value occurs if there are as many tags: the values of an item follow one another.
        tag = (np.arange(size * cell.tags) + start * cell.tags) % cell.values
        columns = {
            "item_id": ids,
            "category": bench.words("category", CATEGORIES, category),
            "tags": lists(names.take(pa.array(tag)), cell.tags),
            "title": titles(stream, words, size, cell.characters),
        }
        file = f"part-{number:04d}.parquet"
        pq.write_table(pa.table(columns), directory / "items" / file)
        rate = 1 / (1 + np.exp(3 - np.sin(category)))
        pq.write_table(counts(stream, ids, rate, cell.periods), directory / "counts" / file)


def lists(values, length: int):
    """An Arrow array of lists of one length, [values / length]."""
    import numpy as np
    import pyarrow as pa

    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, length, np.int32), values)


def titles(stream, words, size: int, characters: int):
    """Texts of about so many characters: words that are drawn by a power law."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    each = max(1, characters // 9)  # `word12345` has 9 characters with its space
    parts = []
    for start in range(0, size, 10_000):
        rows = min(10_000, size - start)
        drawn = np.minimum(stream.zipf(1.2, rows * each), WORDS) - 1
        parts.append(pc.binary_join(lists(words.take(pa.array(drawn)), each), " "))
    return pa.chunked_array(parts)


def counts(stream, ids, rate, periods: int):
    """About `COUNTS_PER_ITEM` rows per item, of 30 clicks each, as an Arrow table."""
    import numpy as np
    import pyarrow as pa

    size = len(ids)
    # One row in each of so many equal parts of the log: no period of an item occurs twice.
    parts = np.linspace(0, periods, min(COUNTS_PER_ITEM, periods) + 1).astype(int)
    period = stream.integers(parts[:-1], parts[1:], (size, len(parts) - 1)).ravel()
    item = np.repeat(np.arange(size), len(parts) - 1)
    clicks = stream.geometric(1 / 30, len(item))
    columns = {
        "item_id": ids.take(pa.array(item)),
        "period": pa.array(period),
        "clicks": pa.array(clicks),
        "shares": pa.array(stream.binomial(clicks, rate[item])),
    }
    return pa.table(columns)


# ---------------------------------------------------------------- measuring


def own_bytes(pid: int) -> int:
    """Memory that a process and all below it have for themselves."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(("RssAnon", "RssShmem")):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(own_bytes, map(int, (task / "children").read_text().split())))
    except OSError:
        pass  # it has ended
    return total


@contextlib.contextmanager
def peak_of(pid: int) -> Iterator[list[int]]:
    """The most `own_bytes` meanwhile, as the only element of a list."""
    found, ended = [0], threading.Event()

    def watch() -> None:
        while True:
            found[0] = max(found[0], own_bytes(pid))
            if ended.wait(0.05):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def measured(*arguments: object, checkout: Path) -> dict[str, Any]:
    """Runs Python in a process of its own: its figures, or the sentence that it refuses with."""
    import os

    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    with peak_of(process.pid) as peak:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        if process.returncode != 1:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
        return {"refused": output.strip().splitlines()[-1]}
    return {
        "wall": time.perf_counter() - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": peak[0],
        "output": output,
    }


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def measure(work: Path, cell: Cell, memory: str, checkout: Path) -> dict[str, Any]:
    """All figures of a cell, from its file if it has one."""
    file = work / f"{cell.name}.json"
    if file.exists():
        return json.loads(file.read_text())
    place = work / cell.name
    shutil.rmtree(place, ignore_errors=True)
    write_tables(place, cell)
    found: dict[str, Any] = {}
    limit = f"--memory={memory}"
    tables = (f"--counts={place / 'counts'}", f"--items={place / 'items'}", *COLUMNS)
    data = f"--dataset_dir={place / 'dataset'}"
    found["prepare"] = measured(
        *("-m", "mmnet.prepare", *tables, data, limit, "--min_target_clicks=1"),
        checkout=checkout,
    )
    if "refused" not in found["prepare"]:
        found["prepare"]["disk"] = size_of(place / "dataset")
        worker = measured(__file__, f"--part={place}", limit, checkout=checkout)
        if "refused" in worker:
            found["load"] = worker
        else:
            found |= json.loads(worker["output"].splitlines()[-1])
            found["export"]["disk"] = size_of(place / "run" / "export")
            found["predict"] = measured(
                *("-m", "mmnet.predict", f"--saved_model={place / 'run' / 'export'}", *tables),
                *(f"--output={place / 'scores'}", "--processes=1", limit),
                checkout=checkout,
            )
            found["predict"]["disk"] = size_of(place / "scores")
    for figures in found.values():
        figures.pop("output", None)
    file.write_text(json.dumps(found, indent=1))
    shutil.rmtree(place)
    return found


def work_on(place: Path, memory: str) -> None:
    """Loads, trains some steps, evaluates and exports in this process; prints its figures."""
    import os

    from mmnet.memory_limit import limited

    found: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def stage(name: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        with peak_of(os.getpid()) as peak:
            yield
        found[name] = {
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "peak": peak[0],
        }

    with limited(memory):
        _stages(place, stage, found)
    print()
    print(json.dumps(found))


def _stages(place: Path, stage, found: dict[str, dict[str, float]]) -> None:
    import dataclasses

    import numpy as np

    from mmnet.config import TrainConfig
    from mmnet.data import dataset as datasets
    from mmnet.data.windows import Windows
    from mmnet.tasks import building, evaluating, training
    from mmnet.training import share_rates
    from mmnet.training.stepping import stacked, steps_for

    flags = TrainConfig(run_dir=str(place / "run"), min_target_clicks=1)
    with stage("load"):
        dataset = datasets.load(place / "dataset")
        windows = Windows(dataset)
    builder, options = building.model_options(flags)
    model = building.built(builder, options, dataset, flags)
    batches, per_epoch = windows.training_batches(
        dataset.examples("train"), flags.batch_size, flags.seed
    )
    scale = dataset.fitted.spec.rate_scale
    share_rates.trainer(model, batches, per_epoch, flags, rate_scale=scale)
    take = steps_for(model, batches, flags.jit, flags.steps_per_execution)
    first, *left = stacked(batches, 0, min(STEPS + take.size, per_epoch), take.size)
    take(first)  # compiles
    with stage("step"):
        steps = sum(take(batch) for batch in left)
        model.get_metrics_result()
    found["step"]["wall"] /= steps
    found["step"]["cpu"] /= steps
    few = {}
    for name in ("validation", "test"):
        of_split = dataset.examples(name)
        rows = np.linspace(0, len(of_split) - 1, min(ROWS, len(of_split))).astype(int)
        few[name] = of_split.taken(rows)
    dataset = dataclasses.replace(dataset, split=dataclasses.replace(dataset.split, **few))
    with stage("evaluate"):
        system = evaluating.System.of(model, dataset, flags)
        validation = evaluating.validation_of(system.predict, dataset, windows, flags)
        directory = place / "run" / "evaluation"
        evaluating.report_on(system, dataset, windows, flags, directory, validation)
    with stage("export"):
        training._export(model, system, dataset, windows, flags, place / "run", validation)


# ---------------------------------------------------------------- page


def exponent(factor: list[int], cost: list[float]) -> str:
    """Growth of a cost from the last but one value to the last, above the first.

    >>> exponent([1, 10, 100], [6.0, 15.0, 105.0])  # 5 + value
    '1.00'
    >>> exponent([1, 10, 100], [1.0, 100.0, 10000.0])
    '**1.92**'
    >>> exponent([1, 10], [1.0, 1.1])
    '='
    >>> exponent([1, 10, 100], [1.0, 1.1, 11.0])
    '≥ 1.00'
    """
    if cost[-1] < FLAT * cost[0]:
        return "="
    if len(cost) == 2:
        found = math.log(cost[1] / cost[0]) / math.log(factor[1] / factor[0])
    elif cost[-2] < FLAT * cost[0]:
        found = math.log(cost[-1] / cost[-2]) / math.log(factor[-1] / factor[-2])
        return f"**≥ {found:.2f}**" if found > STEEP else f"≥ {found:.2f}"
    else:
        above = (cost[-1] - cost[0]) / (cost[-2] - cost[0])
        found = math.log(above) / math.log((factor[-1] - factor[0]) / (factor[-2] - factor[0]))
    return f"**{found:.2f}**" if found > STEEP else f"{found:.2f}"


def table(factor: str, found: dict[int, dict[str, Any]]) -> list[str]:
    """CPU seconds, memory and disk of every stage by the values of a factor."""
    values = list(found)
    lines = [f"## {TITLES[factor]}", ""]
    lines += [f"| stage | figure | {' | '.join(f'{value:,}' for value in values)} | exponents |"]
    lines += [f"|---|---|{'---:|' * len(values)}---|"]
    figures = {"cpu": ("CPU s", 1.0), "peak": ("own memory, GB", 1e-9), "disk": ("disk, GB", 1e-9)}
    for stage, (figure, (title, unit)) in itertools.product(STAGES, figures.items()):
        row = [found[value].get(stage, {}).get(figure) for value in values]
        there = [(value, one) for value, one in zip(values, row, strict=True) if one is not None]
        if not there:
            continue
        name, shown = stage, title
        if stage == "step" and figure == "cpu":
            shown, unit = "CPU ms per step", 1e3
        cells = ["–" if one is None else f"{one * unit:.3g}" for one in row]
        known, costs = ([pair[kind] for pair in there] for kind in (0, 1))
        growth = [exponent(known[:n], costs[:n]) for n in range(2, len(known) + 1)]
        lines.append(f"| {name} | {shown} | {' | '.join(cells)} | {', '.join(growth)} |")
    refused = {
        (value, stage): one["refused"]
        for value in values
        for stage, one in found[value].items()
        if "refused" in one
    }
    lines += ["", *(f"{v:,}, {stage}: refused, “{why}”" for (v, stage), why in refused.items())]
    return lines


def main() -> None:
    """Prints the plan, measures every cell, and prints the page."""
    arguments = bench.options(
        __doc__,
        work={"default": "", "help": "directory of the figures, and of tables meanwhile"},
        most={"default": "", "help": "largest values of factors, as items=1000000,values=10000"},
        factors=",".join(FACTORS),
        memory="16GB",
        checkout={"default": str(bench.ROOT), "help": "directory that mmnet is imported from"},
        part=bench.HIDDEN,
    )
    if arguments.part:
        work_on(Path(arguments.part), arguments.memory)
        return
    if not arguments.work:
        raise SystemExit("--work is required")
    most = {
        name: int(value)
        for name, value in (one.split("=") for one in arguments.most.split(",") if one)
    }
    if unknown := {*arguments.factors.split(","), *most} - set(FACTORS):
        raise SystemExit(f"no such factors: {', '.join(sorted(unknown))}")
    plan = {name: cells_of(name, most.get(name)) for name in arguments.factors.split(",")}
    work = Path(arguments.work)
    work.mkdir(parents=True, exist_ok=True)
    for cell in dict.fromkeys(cell for cells in plan.values() for cell in cells.values()):
        there = "known" if (work / f"{cell.name}.json").exists() else "to measure"
        print(f"plan: {cell.name}: {there}", file=sys.stderr)
    lines = page_head(arguments)
    for factor, cells in plan.items():
        found = {}
        for value, cell in cells.items():
            print(f"{factor} = {value:,}", file=sys.stderr)
            found[value] = measure(work, cell, arguments.memory, Path(arguments.checkout))
        lines += ["", *table(factor, found)]
    bench.publish(lines, arguments.output)


def page_head(arguments) -> list[str]:
    """Title and first lines of the page."""
    from mmnet.training.records import machine

    limits = f" --most={arguments.most}" if arguments.most else ""
    return [
        "# Growth",
        "",
        f"`python experiments/performance/growth.py --work=DIR{limits}`, {bench.cores()} cores, "
        f"{machine()['processor']}, limited to {arguments.memory} of memory. Each factor starts "
        f"from 10,000 items, 60 periods, 1,000 tags to choose from, one tag per item and titles of "
        f"100 characters. Exponents above {STEEP} are bold; `=` is less than a fifth above the "
        "smallest value, and `≥` an exponent between such a cost and a larger one, fixed part "
        "included. [Costs that grew faster](growth_fixes.md) before.",
    ]


if __name__ == "__main__":
    main()
