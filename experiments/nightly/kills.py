"""30 nights that are killed at random moments, until each of them has ended.

    python experiments/nightly/kills.py [--nights=30] [--kills=100] [--chains=1] [--minutes=M]
        [--undisturbed=5] [--output=FILE]

A simulated log grows by a period per night. Each night is `python -m mmnet.nightly` in a process of
its own, which gets SIGKILL after a random time and is started again, as a scheduler would. Kills
are spread over the nights; every tenth night is followed by a rollback, which is killed as well.
After each kill the directory is read as a server would read it: every numbered version must be
whole by its checksums, and `champion` must name one that is there. In the end every night must be
in the history once, the pointer must be where the history says, and every version must pass
`--verify`. The first nights also run undisturbed in a directory of their own: their decisions and
errors must be the same, to the last bit. Several chains of nights run side by side, each with
a directory and moments of its own. After each night the loss of its champion is measured against
the anchor and an oracle (`losses.py`).

To save the seconds of its import, every process is forked from one that has imported TensorFlow and
executed nothing. Figures are not drawn.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import losses  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from mmnet import config, driver  # noqa: E402
from mmnet.checks import InputError  # noqa: E402
from mmnet.evaluation import html_page  # noqa: E402
from mmnet.files import read_json, write_atomic  # noqa: E402
from mmnet.promotion import nights as night_directories  # noqa: E402
from mmnet.promotion.history import History  # noqa: E402
from mmnet.promotion.versions import Versions  # noqa: E402
from mmnet.serving import bundle, checksums  # noqa: E402
from mmnet.startup import load_tensorflow  # noqa: E402

FIRST = 18
"""Last period of the first night's log."""
ITEMS, ANCHOR = 150, 5
FLAGS = [
    *("--model=smoothed_history", "--taxonomies=category", "--window=3", "--min_target_clicks=5"),
    *("--min_test_rows=10", "--compare_periods=2", "--keep=3", "--allow_drift"),
    *("--promote=not_worse=0.02", "--rule=stored", f"--anchor={ANCHOR}"),
]
ROLLBACK_EVERY = 10


def write_log(directory, nights):
    """Writes the items, and the counts as each night finds them.

    Returns:
        The true rates of the period after each night, percent, [nights, items].
    """
    draws = np.random.default_rng(0)
    periods = FIRST + nights
    who, when = np.divmod(np.arange(ITEMS * periods), periods)
    counts = pd.DataFrame({"item_id": who, "period": when})
    counts["clicks"] = draws.poisson(30, len(counts)) + 1
    base = draws.beta(2, 20, ITEMS)
    level = base[who] * (1 + 0.3 * np.sin(when / 6 + who))
    counts["shares"] = draws.binomial(counts["clicks"], np.clip(level, 0, 1))
    items = pd.DataFrame({"item_id": np.arange(ITEMS), "category": np.arange(ITEMS) % 5})
    items.to_csv(directory / "items.csv", index=False)
    for night in range(nights):
        part = counts[counts["period"] <= FIRST + night]
        part.to_csv(directory / f"counts-{night}.csv", index=False)
    after = np.arange(FIRST + 1, FIRST + nights + 1)[:, None]
    return 100 * np.clip(base * (1 + 0.3 * np.sin(after / 6 + np.arange(ITEMS))), 0, 1)


def arguments(log, models, night):
    """The command line of a night."""
    tables = [f"--counts={log / f'counts-{night}.csv'}", f"--items={log / 'items.csv'}"]
    scores = models.with_name(f"{models.name}-scores.parquet")
    return [f"--models={models}", *tables, *FLAGS, f"--output={scores}"]


def start(command, log_file):
    """Starts a command in a forked process that leads a group of its own; returns its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = driver.INTERNAL
    with contextlib.suppress(BaseException):
        os.setsid()
        handle = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = driver.run(config.NightlyConfig, None, "nightly", command)
        sys.stdout.flush()
    os._exit(code)


def ended(child, seconds=None):
    """Waits for a process; returns its exit code, or None if it is still running by then."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, 0 if until is None else os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            return None
        time.sleep(0.005)


def killed(command, delay, log_file):
    """Starts a command and kills it; returns its exit code, or None if the kill came in time."""
    child = start(command, log_file)
    code = ended(child, delay)
    if code is None:
        os.killpg(child, signal.SIGKILL)
        ended(child)
    return code


def problems(models):
    """What a server would find wrong with the versions now."""
    versions = Versions(models)
    found = []
    for path in models.iterdir() if models.exists() else ():
        if path.name.isdecimal():
            found += [f"version {path.name}: {one}" for one in checksums.problems(path)]
    try:
        versions.champion()
    except InputError as error:
        found.append(str(error))
    return found


def decisions(models, last):
    """What the history says about each night up to one, without times."""
    events = [one for one in History(models).events() if one.outcome != "rollback"]
    return [(one.period, one.outcome, one.champion, one.ratio) for one in events][:last]


def main():
    """Runs the chains of nights side by side, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--chains", type=int, default=1)
    parser.add_argument("--undisturbed", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    load_tensorflow()
    import mmnet.tasks.evaluating
    import mmnet.tasks.night_steps
    import mmnet.tasks.scoring
    import mmnet.tasks.training  # noqa: F401  # so that no child has to

    html_page.svg = lambda figure, name: ""
    Figure.savefig = lambda figure, path, **_: pathlib.Path(path).touch()
    with tempfile.TemporaryDirectory() as directory:
        places = [Path(directory, str(seed)) for seed in range(flags.chains)]
        children = [forked(chain, place, flags, seed) for seed, place in enumerate(places)]
        codes = [ended(child) for child in children]
        if any(codes):
            sys.exit(f"chains ended with {codes}")
        found = [read_json(place / "found.json") for place in places]
    page = report(flags, found)
    write_atomic(flags.output, page)
    print(page)
    sys.exit(any(one["wrong"] for one in found))


def forked(function, *arguments):
    """Calls a function in a forked process; returns its id."""
    child = os.fork()
    if child:
        return child
    code = driver.INTERNAL
    try:
        function(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def chain(directory, flags, seed):
    """One chain of nights, killed; writes `found.json`."""
    directory.mkdir()
    until = time.monotonic() + 60 * flags.minutes
    draws = random.Random(seed)
    log_file = directory / "log.txt"
    truth = write_log(directory, flags.nights)
    reference, models = directory / "reference", directory / "models"
    seconds = []
    for night in range(flags.undisturbed):
        began = time.monotonic()
        code = ended(start(arguments(directory, reference, night), log_file))
        seconds.append(time.monotonic() - began)
        if code:
            raise SystemExit(f"{log_file.read_text()[-3000:]}\nnight {night} ended with {code}")
        told(f"chain {seed}, undisturbed night {night}: {seconds[-1]:.1f} s")
    typical = float(np.median(seconds[1:] or seconds))
    kills, wrong, done, attempts = [], [], 0, 0
    while done < flags.nights and time.monotonic() < until:
        commands = [("night", arguments(directory, models, done))]
        if done % ROLLBACK_EVERY == ROLLBACK_EVERY - 1:
            commands.append(("rollback", [f"--models={models}", "--rollback"]))
        for what, command in commands:
            left = int(np.ceil(flags.kills * (done + 1) / flags.nights)) - len(kills)
            left = left if what == "night" else 1
            code = None
            while code is None:
                attempts += 1
                longest = typical if what == "night" else 0.3 * typical
                delay = draws.uniform(0, longest) if left > 0 else None
                if delay is None:
                    code = ended(start(command, log_file))
                else:
                    code = killed(command, delay, log_file)
                    if code is not None and what == "night":
                        typical *= 0.9  # it ended before the kill: the machine has become faster
                found = problems(models)
                wrong += found
                if code is None:
                    left -= 1
                    kills.append((what, delay / longest))
            if code:
                wrong.append(f"{what} {done} ended with exit code {code}")
                told(log_file.read_text()[-2000:])
            elif what == "night":
                tables = [one for one in command if one.startswith(("--counts", "--items"))]
                given = models, directory, tables, truth[done], ANCHOR
                if ended(forked(losses.measure, *given)):
                    wrong.append(f"the loss of night {done} could not be measured")
        done += 1
        told(f"chain {seed}, night {done}: {len(kills)} kills so far, {len(wrong)} problems")
    wrong += final_problems(models, reference, done, min(flags.undisturbed, done))
    outcomes = [event.outcome for event in History(models).events()]
    found = {
        "done": done,
        "attempts": attempts,
        "kills": kills,
        "wrong": wrong,
        "typical": typical,
        "outcomes": outcomes,
        "losses": read_json(directory / losses.FILE),
        "compared": min(flags.undisturbed, done),
        "versions": len(Versions(models).numbers()),
    }
    write_atomic(directory / "found.json", json.dumps(found))


def final_problems(models, reference, done, undisturbed):
    """What is wrong in the end."""
    found = []
    events = History(models).events()
    periods = [one.period for one in events if one.outcome != "rollback"]
    wanted = [str(FIRST + night) for night in range(done)]
    if periods != wanted:
        found.append(f"the history has the nights {periods}, not {wanted}")
    for one in night_directories.all_nights(models):
        if not one.is_finished():
            found.append(f"the night {one.name} is not finished")
    if events and events[-1].champion != Versions(models).champion():
        found.append("the pointer is not where the history says")
    last = 0
    for event in events:
        if event.champion_before != last:
            found.append(f"event {event.number} does not follow from the one before")
        last = event.champion
    versions = Versions(models)
    for number in versions.numbers():
        if ended(forked(bundle.check, versions.path(number))):
            found.append(f"version {number} fails --verify")
    if decisions(models, undisturbed) != decisions(reference, undisturbed):
        found.append("decisions differ from those of undisturbed nights")
    return found


def report(flags, found):
    """The results as Markdown."""
    kills = [one for chain in found for one in chain["kills"]]
    wrong = [one for chain in found for one in chain["wrong"]]
    outcomes = [one for chain in found for one in chain["outcomes"]]
    nights = " and ".join(str(chain["done"]) for chain in found)
    counts = ", ".join(f"{outcomes.count(one)} {one}" for one in sorted(set(outcomes)))
    of_rollbacks = sum(what == "rollback" for what, _ in kills)
    lines = [
        "# Nights that are killed\n",
        f"`python experiments/nightly/kills.py --nights={flags.nights} --kills={flags.kills} "
        f"--chains={flags.chains} --undisturbed={flags.undisturbed}"
        f"{'' if flags.minutes == float('inf') else f' --minutes={flags.minutes:g}'}`\n",
        f"**{nights} nights were killed {len(kills)} times at random moments: {len(wrong)} "
        "problems.** A problem is a version that is not whole, a pointer to a version that does "
        "not exist or is not the one that the history names, a night that is missing from the "
        "history or in it twice, a version that fails `--verify`, or a decision that "
        f"differs from that of an undisturbed night (the first "
        f"{found[0]['compared']} of each chain).\n",
        "| what | measured |",
        "|---|---|",
        f"| nights that ended | {nights} |",
        f"| processes started | {sum(chain['attempts'] for chain in found)} |",
        f"| kills of a night | {len(kills) - of_rollbacks} |",
        f"| kills of a rollback | {of_rollbacks} |",
        f"| an undisturbed night, median | {np.median([one['typical'] for one in found]):.0f} s |",
        f"| kills in the second half of that time | {sum(part > 0.5 for _, part in kills)} |",
        f"| events in the histories | {counts} |",
        "",
    ]
    lines.append(losses.page([chain["losses"] for chain in found]))
    if wrong:
        lines += ["Problems:", "", *(f"- {one}" for one in wrong), ""]
    return "\n".join(lines)


def told(line):
    """Prints progress at once."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
