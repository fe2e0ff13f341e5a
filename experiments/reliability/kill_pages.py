"""Pages about drivers ended by signals: that of one run of `kill_many.py`, and of several.

    python experiments/reliability/kill_pages.py --pages=PAGE,PAGE,… [--note=TEXT] [--output=FILE]

The page of several runs has their sums, and what the reader should know of the problems; its
signals are in a CSV file of the same name.
"""

import argparse
import csv
import io
import re
from pathlib import Path

from mmnet.files import write_atomic

TITLE = "# Killed at random moments\n"
FIELDS = ("run", "signal", "driver", "seconds", "files_read", "problem")
SIGNALS = ("KILL", "TERM", "INT")
_ROW = re.compile(r"\| \d+ \| ([A-Z]+) \| (\S+) \| ([\d.]+) \| (\d+) \| (.*) \|")
_AFTER = " After a restart, "


def page(flags, lines, drivers, differences, litter, verified):
    """The page of one run.

    Args:
        flags: of the run: `kills`, `seed`, `signals` and `forked`.
        lines: (signal, driver, seconds, files read, problem) of each signal.
        drivers: those that were restarted at last.
        differences: what they ended with that an undisturbed run does not give.
        litter: hidden files that are left.
        verified: exit code of the export's check.
    """
    return "\n".join(
        [
            TITLE,
            f"`python experiments/reliability/kill_many.py --kills={flags.kills} "
            f"--seed={flags.seed} --signals={flags.signals}{' --forked' * flags.forked}`\n",
            f"{summary(lines)}{_AFTER}the drivers finished with the same results as undisturbed "
            "ones"
            + (f", except for {', '.join(differences)}." if differences else ", bit for bit.")
            + f" Hidden files left: {', '.join(litter) or 'none'}"
            f"{' (the next write of that file an hour later removes them)' if litter else ''}. "
            f"The export {'passes' if verified == 0 else 'FAILS'} `--verify`.\n",
            *table(lines, drivers),
            "",
            "| # | signal | driver | after (s) | files re-read | problem |",
            "| ---: | --- | --- | ---: | ---: | --- |",
            *(
                f"| {number} | {kind} | {driver} | {seconds:.2f} | {read} | {problem} |"
                for number, (kind, driver, seconds, read, problem) in enumerate(lines, 1)
            ),
            "",
        ]
    )


def summary(lines):
    """One sentence about the signals."""
    kinds = [kind for kind in SIGNALS if any(line[0] == kind for line in lines)]
    counts = ", ".join(f"{sum(line[0] == kind for line in lines)} SIG{kind}" for kind in kinds)
    broken = sum(bool(line[-1]) for line in lines)
    return (
        f"{counts} to {len({line[1] for line in lines})} drivers: {broken} left a file with its "
        "final name that is not complete, or did not end as they should."
    )


def table(lines, drivers):
    """Lines of a table: signals by driver and kind."""
    kinds = [kind for kind in SIGNALS if any(line[0] == kind for line in lines)]
    return [
        "| driver | " + " | ".join(f"SIG{kind}" for kind in kinds) + " | files re-read |",
        "| --- |" + " ---: |" * (len(kinds) + 1),
        *(
            f"| {driver} | "
            + " | ".join(str(sum(line[:2] == (kind, driver) for line in lines)) for kind in kinds)
            + f" | {sum(line[3] for line in lines if line[1] == driver)} |"
            for driver in drivers
        ),
    ]


def read(text):
    """Reads the command, the signals and the results of the restart from the page of one run.

    Raises:
        ValueError: it is not such a page.
    """
    command = re.search(r"`(python .*)`", text)
    after = re.search(rf"{_AFTER}(.*)", text)
    lines = [
        (kind, driver, float(seconds), int(files), problem)
        for kind, driver, seconds, files, problem in _ROW.findall(text)
    ]
    if not (command and after and lines):
        raise ValueError("not a page of kill_many.py")
    return command[1], lines, after[1]


def merged(texts, name, note=""):
    """The page of several runs, and their signals as CSV.

    Args:
        texts: pages of single runs.
        name: of the CSV file.
        note: a paragraph about the problems.
    """
    runs = [read(text) for text in texts]
    lines = [line for _, signals, _ in runs for line in signals]
    drivers = sorted({line[1] for line in lines}, key=lambda one: (one.startswith("mma4ctr"), one))
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(FIELDS)
    for number, (_, signals, _) in enumerate(runs, 1):
        writer.writerows((number, *line) for line in signals)
    broken = [line for line in lines if line[-1]]
    found = [
        TITLE,
        f"{len(lines)} signals in {len(runs)} runs. {summary(lines)} All of them are in "
        f"[{name}]({name}).\n",
        *([f"{note}\n"] if note else []),
        *(
            f"{number}. `{command}`, {len(signals)} signals. After a restart, {after}"
            for number, (command, signals, after) in enumerate(runs, 1)
        ),
        "",
        *table(lines, drivers),
        "",
    ]
    if broken:
        found += ["| signal | driver | after (s) | problem |", "| --- | --- | ---: | --- |"]
        found += [f"| {one[0]} | {one[1]} | {one[2]:.2f} | {one[4]} |" for one in broken]
        found.append("")
    return "\n".join(found), written.getvalue()


def main():
    """Merges pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--output", default=str(Path(__file__).with_name("kill_many.md")))
    flags = parser.parse_args()
    texts = [Path(name).read_text(encoding="utf-8") for name in flags.pages.split(",")]
    records = Path(flags.output).with_suffix(".csv")
    text, rows = merged(texts, records.name, flags.note)
    write_atomic(records, rows)
    write_atomic(flags.output, text)
    print(text)


if __name__ == "__main__":
    main()
