"""What the benchmarks in this folder share: options, turns, commands, simulated counts and pages.

Each script runs as `python experiments/performance/NAME.py`, which puts this folder on `sys.path`,
and imports this file by `import bench`; pytest has the folder on its path too (pyproject.toml).
Nothing large is imported here at the top: some scripts time whole processes, imports included. The
import quiets TensorFlow's log, so it must come before TensorFlow's own.
"""

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that this file is in."""

HIDDEN = {"default": "", "help": argparse.SUPPRESS}
"""An option that a script gives to the processes that it starts of itself."""

Found = TypeVar("Found")


# ---------------------------------------------------------------- command line


def options(doc: str, *, output: str = "", **arguments: Any) -> argparse.Namespace:
    """Parses the command line of a script.

    Args:
        doc: the script's docstring, which `--help` prints as it is.
        output: default of `--output`, the file that the page is written to; "" only prints it.
        **arguments: option name -> its default, whose type is the option's (False makes a switch),
            or a dictionary of keyword arguments of `add_argument`.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    page = {"default": output, "help": "file to write the page to"}
    for name, given in {**arguments, "output": page}.items():
        keywords = dict(given) if isinstance(given, dict) else {"default": given}
        default = keywords.get("default")
        if default is False:
            keywords["action"] = "store_true"
        elif default is not None:
            keywords.setdefault("type", type(default))
        parser.add_argument(f"--{name}", **keywords)
    return parser.parse_args()


# ---------------------------------------------------------------- timing


def turns(variants: Mapping[str, Callable[[], Found]], rounds: int) -> dict[str, list[Found]]:
    """Calls all variants in turn, round by round; returns what each returned in every round.

    A machine whose speed drifts does not favor a variant as long as ratios are formed within a
    round.
    """
    found: dict[str, list[Found]] = {name: [] for name in variants}
    for number in range(rounds):
        for name, variant in variants.items():
            found[name].append(variant())
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds of one call, and CPU seconds of all threads of this process meanwhile."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def race(
    variants: Mapping[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Wall and CPU seconds of every round, by variant; the variants take turns."""
    clocks = {name: functools.partial(timed, variant) for name, variant in variants.items()}
    found = turns(clocks, rounds)
    wall, cpu = ({name: [one[i] for one in found[name]] for name in found} for i in (0, 1))
    return wall, cpu


class Run(NamedTuple):
    """What a process took.

    Attributes:
        wall: seconds from its start to its end.
        cpu: CPU seconds, user and system, of all its threads.
        peak: the most resident memory that it held, GiB.
        output: what it printed.
    """

    wall: float
    cpu: float
    peak: float
    output: str


def run(
    *arguments: object,
    cwd: Path | None = None,
    checkout: Path = ROOT,
    codes: tuple[int, ...] = (0,),
    quiet: bool = True,
    **environment: str,
) -> Run:
    """Runs Python in a process of its own, with the package of a checkout.

    Args:
        *arguments: of the interpreter.
        cwd: where to.
        checkout: directory that `mmnet` is imported from.
        codes: exit codes that are expected.
        quiet: keep the standard error, and show it only if the process fails.
        **environment: further variables.

    Raises:
        SystemExit: the process ended with another exit code.
    """
    path = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=log if quiet else None,
            text=True,
        )
        with process.stdout:
            output = process.stdout.read()
        # Unlike `wait`, this says what this very process used, and not all children so far.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            log.seek(0)
            raise SystemExit(
                f"{' '.join(command[1:])} ended with exit code {process.returncode}:\n{log.read()}"
            )
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, output)


# ---------------------------------------------------------------- simulated tables


def words(prefix: str, values: int, drawn):
    """Strings `prefix0`, `prefix1`, … as an Arrow array: those of `values` that were drawn."""
    import pyarrow as pa

    return pa.array([f"{prefix}{number}" for number in range(values)]).take(pa.array(drawn))


def counts(stream, ids, rate, periods: int):
    """Simulates clicks and shares; half of the periods of an item have clicks, about 30 each.

    Args:
        stream: a NumPy generator.
        ids: item ids, an Arrow array, [items].
        rate: probability that a click is shared, [items].
        periods: their number.

    Returns:
        The counts as an Arrow table, and the row of `ids` of each, int64, [counts].
    """
    import numpy as np
    import pyarrow as pa

    size = (len(ids), periods)
    clicks = stream.geometric(1 / 30, size) * (stream.random(size) < 0.5)
    shares = stream.binomial(clicks, rate[:, None])
    item, period = np.nonzero(clicks)
    columns = {
        "item_id": ids.take(pa.array(item)),
        "period": pa.array(period),
        "clicks": pa.array(clicks[item, period]),
        "shares": pa.array(shares[item, period]),
    }
    return pa.table(columns), item


# ---------------------------------------------------------------- pages


def spread(values: Sequence[float], form: str | Callable[[float], str] = ".2f") -> str:
    """Median (least to most).

    Args:
        values: of the rounds.
        form: format specification of a number, or a function that formats it.

    >>> spread([3.0, 1.0, 2.5])
    '2.50 (1.00 to 3.00)'
    >>> spread([3000, 1000, 2500], ",.0f")
    '2,500 (1,000 to 3,000)'
    """
    shown = form if callable(form) else lambda value: format(value, form)
    middle, least, most = map(shown, (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def ratios(values: Iterable[float], others: Iterable[float]) -> list[float]:
    """One over the other, round by round.

    >>> ratios([3.0, 1.0], [2.0, 2.0])
    [1.5, 0.5]
    """
    return [value / other for value, other in zip(values, others, strict=True)]


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def versions(*packages: str) -> str:
    """Packages and their versions: `TensorFlow 2.21.0, Keras 3.15.0`."""
    return ", ".join(f"{name} {version(name)}" for name in packages)


def publish(lines: Sequence[str], output: str | os.PathLike[str] | None) -> None:
    """Prints a page, without blank lines at its end, and writes it to a file if one is given."""
    text = "\n".join(lines).rstrip("\n") + "\n"
    print(text)
    if output:
        from mmnet.files import write_atomic

        write_atomic(output, text)
