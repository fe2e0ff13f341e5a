"""Makes the disk full, or read-only, at the steps of each driver, and looks at what it leaves.

    python experiments/reliability/full_disk.py [--drivers=NAME,…] [--points=N] [--jobs=1]
        [--forked]

Needs Linux on x86-64. Every driver of both systems runs on small simulated logs, first undisturbed,
while each system call that changes a file or directory below its outputs and the directory for
temporary files is counted (`refusing.py`). Then it runs again, once for each chosen step and each
error: from that step on, nothing more can be written (ENOSPC, a full disk, where removing and
renaming still works) or changed (EROFS, a read-only one). The steps are those with a call or a file
of their own, since the many writes of one file are one step; `--points` draws some of them.

Each run must end with exit code 1 and one sentence, and leave every file that was there, with
contents that can be read to their end, datasets that load and exports that pass their checksums; on
a full disk also no temporary file. After one step of each driver and error it runs once more
without errors, and must end with what the undisturbed run gave, to the last bit.
"""

import argparse
import errno
import functools
import os
import random
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crash_states
import kill_many
import refusing
from wholeness import Wholeness

from mmnet.files import write_atomic

ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS}
_SERIAL = re.compile(r"(?<![a-z])[0-9a-f]{8,}(?![a-z])|(?<=mmnet-)\w{8}|(?<=file)\w{8}|\d+")
"""The parts of names that differ from run to run, or number files of one kind."""


def run(driver, place, log, refuse=lambda number: 0):
    """Runs a driver in a place; returns its steps and what it has written to stderr."""
    arguments = kill_many.commands(place)[driver] + crash_states.OTHER.get(driver, [])
    temporary = beside(place)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    own = {"PYTHONPATH": str(kill_many.ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(temporary)}
    environment = os.environ | own
    with tempfile.TemporaryFile("w+") as errors:
        if kill_many.start.forked:
            command = functools.partial(
                kill_many.Forked, driver, arguments, log, environment, errors
            )
            steps = refusing.run(command, [place, temporary], refuse)
        else:
            command = [sys.executable, "-m", f"mmnet.{driver}", *arguments]
            streams = {"stdout": log, "stderr": errors}
            steps = refusing.run(command, [place, temporary], refuse, env=environment, **streams)
        errors.seek(0)
        return steps, errors.read()


def beside(place):
    """The directory for temporary files of the drivers that run in a place."""
    return place.with_name(f"{place.name}-temporary")


def shown(text, place):
    """A text without the paths of the machine that it was written on."""
    return text.replace(str(beside(place)), "temporary").replace(f"{place}/", "")


def fresh(driver, reference, place):
    """Makes a place for one run: results of an earlier run, or none where a driver keeps those."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(reference, place, symlinks=True)
    if driver not in crash_states.OTHER:
        for path in crash_states.results(driver, place):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def kinds(steps, place):
    """Number of the first step of each kind, in order: one kind is one call for files of a kind."""
    found = {}
    for number, (call, path) in enumerate(steps.done):
        name = _SERIAL.sub("#", shown(path, place))
        found.setdefault((call, name), number)
    return {number: f"{call} {name}" for (call, name), number in found.items()}


def visible(place):
    """Paths of the files with their final names."""
    paths = {path.relative_to(place) for path in place.rglob("*") if path.is_file()}
    return {path for path in paths if not any(part.startswith(".") for part in path.parts)}


def ended_badly(code, told):
    """What is wrong with how a driver ended."""
    lines = told.splitlines()
    sentences = [line for line in lines if line.startswith("error: ")]
    if code != 1:
        return f"ended with exit code {code}: {' / '.join(lines[-3:])}"
    if "Traceback" in told or len(sentences) != 1 or lines[-1] != sentences[0]:
        return f"did not end with one sentence: {' / '.join(lines[-3:])}"
    return ""


def broken(place, before):
    """What is wrong with the files with final names."""
    try:
        Wholeness(place)()
    except AssertionError as error:
        return str(error).replace(str(place), "")
    if gone := sorted(map(str, before - visible(place))):
        return f"gone: {', '.join(gone[:3])}"
    return ", ".join(loading(place)[:3])


def loading(place):
    """What is wrong with the datasets and exports below a place."""
    from mmnet.data import dataset
    from mmnet.mma4ctr.data import dataset as interactions
    from mmnet.serving import checksums

    problems = []
    for path in sorted(visible(place)):
        where = (place / path).parent
        try:
            if path.name == "dataset.json":
                (interactions if "clicks" in str(path) else dataset).STORE.load(where)
            if path.as_posix().endswith(checksums.FILE):
                export = (place / str(path).removesuffix(checksums.FILE)).resolve()
                problems += [f"{path}: {one}" for one in checksums.problems(export)]
        except Exception as error:
            problems.append(f"{path} cannot be loaded: {error!r}")
    return problems


def tried(driver, directory, log, disk, number, again):
    """Runs a driver on a disk that is full or read-only from one step on.

    Returns:
        Its exit code, its sentence, and what is wrong, if anything.
    """
    reference, expected = directory / "reference", directory / f"expected-{driver}"
    victim = directory / f"{driver}-{disk}-{number}"
    fresh(driver, reference, victim)
    hidden = kill_many.hidden(victim)
    before = {  # a dataset's new folder replaces the old one
        path
        for path in visible(victim)
        if not (victim / path).parent.with_name("dataset.json").exists()
    }
    code = ERRORS[disk]
    steps, told = run(driver, victim, log, lambda at: code if at >= number else 0)
    problem = ""
    if steps.code in (0, 3):  # it was refused only what it can do without, such as a removal
        again = True
    else:
        problem = ended_badly(steps.code, told)
    problem = problem or broken(victim, before)
    left = (kill_many.hidden(victim) - hidden) | set(beside(victim).iterdir())
    if not problem and left and disk == "full":
        problem = f"left {', '.join(sorted(path.name for path in left))}"
    if not problem and again:
        repeated, said = run(driver, victim, log)
        if repeated.code not in (0, 3):
            problem = f"the next run ended with exit code {repeated.code}: {said.splitlines()[-1:]}"
        elif differences := kill_many.different(expected, victim, [driver]):
            problem = f"the next run differs: {', '.join(differences)}"
    shutil.rmtree(victim)
    shutil.rmtree(beside(victim))
    sentence = told.splitlines()[-1] if steps.code == 1 and told else ""
    return steps.code, shown(sentence, victim), shown(problem, victim)


def examine(driver, directory, flags, log):
    """Tries one driver; returns how many kinds of steps it has, and a line for each try."""
    expected = directory / f"expected-{driver}"
    fresh(driver, directory / "reference", expected)
    steps, told = run(driver, expected, log)
    if steps.code not in (0, 3):
        raise SystemExit(f"{told}\n{driver} ended with exit code {steps.code} by itself")
    found, planned = kinds(steps, expected), []
    for disk in ERRORS:
        draws = random.Random(f"{flags.seed} {driver} {disk}")
        usable = [n for n in found if disk != "full" or steps.done[n][0] in refusing.NEED_SPACE]
        chosen = sorted(draws.sample(usable, min(flags.points, len(usable))))
        again = draws.choice(chosen)
        planned += [(disk, number, number == again) for number in chosen]

    def line(plan):
        disk, number, _ = plan
        outcome = (driver, disk, found[number], *tried(driver, directory, log, *plan))
        print(*outcome, sep=" | ", flush=True)
        return outcome

    with ThreadPoolExecutor(flags.jobs) as pool:
        return len(found), list(pool.map(line, planned))


def main():
    """Tries the drivers, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", default="")
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forked", action="store_true")  # as that of kill_many.py
    parser.add_argument("--output", default=str(Path(__file__).with_suffix(".md")))
    flags = parser.parse_args()
    if not refusing.AVAILABLE:
        sys.exit("needs Linux on x86-64")
    if flags.forked:
        kill_many.fork_from_now_on()
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory).resolve()
        kill_many.set_up(directory)
        chosen = flags.drivers.split(",") if flags.drivers else list(kill_many.commands(directory))
        with (directory / "log.txt").open("ab") as log:
            kill_many.run_through(
                directory / "reference", log, kill_many.needed(chosen) | set(chosen)
            )
            found = {driver: examine(driver, directory, flags, log) for driver in chosen}
    write_atomic(flags.output, page(flags, found))
    wrong = [line for _, lines in found.values() for line in lines if line[-1]]
    print("\n".join(map(str, wrong)))
    sys.exit(bool(wrong))


def page(flags, found):
    """The results as Markdown."""
    lines = [line for _, lines in found.values() for line in lines]
    wrong = [line for line in lines if line[-1]]
    whole = sum(line[3] in (0, 3) for line in lines)
    cell = lambda text: text.replace("|", "/").replace("\n", " ")  # noqa: E731
    return "\n".join(
        [
            "# A full and a read-only disk at every step\n",
            "`python experiments/reliability/full_disk.py "
            + (f"--drivers={flags.drivers} " if flags.drivers else "")
            + f"--points={flags.points} --seed={flags.seed}`\n",
            f"{len(lines)} runs of {len(found)} drivers with a disk that was full or read-only "
            f"from some step on: {len(lines) - len(wrong)} ended as they should. That is exit code "
            f"1 and one sentence, or ({whole} times, where only the removal of temporary files was "
            "refused) the complete result; all earlier files were there and whole.\n",
            "| driver | kinds of steps | tried, full | tried, read-only | problems |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {driver} | {number} | "
                + " | ".join(str(sum(line[1] == name for line in lines)) for name in ERRORS)
                + f" | {sum(bool(line[-1]) for line in lines)} |"
                for driver, (number, lines) in found.items()
            ),
            "",
            "| driver | disk | from this step on | exit code | sentence | problem |",
            "| --- | --- | --- | ---: | --- | --- |",
            *(
                f"| {driver} | {disk} | {cell(step)} | {code} | {cell(said)} | {cell(problem)} |"
                for driver, disk, step, code, said, problem in lines
            ),
            "",
        ]
    )


if __name__ == "__main__":
    main()
