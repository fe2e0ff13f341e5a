"""Trace every figure of the results pages to a record, and fail where one differs.

    python experiments/trace.py [--list] [--pin] [--mutate=N --seed=0]

- A cell of a table on a results page (results.md, table.md, recovered.md) is made again from the
  records beside it: cells.csv or results.csv, the .csv of the table, claims.json, systems.json.
  Cells that no record has are pinned: pinned.sha256 has a digest of them for each page, and `--pin`
  writes it again after a command has written a page.
- A row of a table on a page written by hand must be that of a page that its section links.
- A number in prose must be in a record or page that its section links (of three digits or two
  decimals at least), or in a phrase of allowed.lst, which says why it needs no record.

Prints how many numbers there are of each kind, and `--list` each of them. `--mutate` changes one
digit at a time in a copy and prints which share is noticed.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from experiments.tracing import markdown, pages  # noqa: E402
from experiments.tracing.pages import Found  # noqa: E402

FOLDER = ROOT / "experiments" / "tracing"
HAND_WRITTEN = ("README.md", "experiments/README.md", "experiments/mma4ctr/README.md")


@dataclass
class Traced:
    """What was found on one page.

    Attributes:
        found: cells and numbers.
        digest: of the cells that no record has.
        problems: sentences.
    """

    found: list[Found]
    digest: str = ""
    problems: list[str] = field(default_factory=list)


def allowed() -> dict[str, dict[str, str]]:
    """Page -> phrase with numbers -> reason that they need no record, of allowed.lst.

    Raises:
        ValueError: a line is neither a page, nor a phrase with its reason.
    """
    found: dict[str, dict[str, str]] = {}
    page: dict[str, str] | None = None
    text = (FOLDER / "allowed.lst").read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[(.+)\]", line):
            page = found.setdefault(match[1], {})
            continue
        phrase, _, reason = line.partition(" -- ")
        if page is None or not phrase.strip() or not reason.strip():
            raise ValueError(
                f"allowed.lst, line {number} must be `[page]` or `phrase -- reason`. "
                f"Received: {line!r}"
            )
        page[phrase.strip()] = reason.strip()
    return found


def pinned() -> dict[str, str]:
    """Page -> digest of the cells that no record has, of pinned.sha256."""
    lines = (FOLDER / "pinned.sha256").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("  ") for line in lines if line and not line.startswith("#"))
    return {page: digest for digest, page in pairs}


def names() -> list[str]:
    """All pages that are traced."""
    found = [path for name in pages.RESULTS for path in ROOT.glob(f"experiments/**/{name}")]
    return [*HAND_WRITTEN, *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def trace(name: str, text: str | None = None, digest: str | None = None) -> Traced:
    """Trace one page.

    Args:
        name: its path from the root of the repository.
        text: what to check in its place; None reads the file.
        digest: the pinned one; None leaves it out.
    """
    path = ROOT / name
    if text is None:
        text = path.read_text(encoding="utf-8")
    if name in HAND_WRITTEN:
        page = pages.HandWritten(text, path, allowed().get(name, {}))
        traced = Traced(page.check())
        traced.problems += [
            f"{name}: allowed.lst has {one!r}, which the page does not have" for one in page.stale()
        ]
    else:
        traced = Traced(*pages.results_page(text, path))
        if digest is not None and traced.digest != digest:
            traced.problems.append(
                f"{name}: cells that no record has are not those of pinned.sha256; if a command "
                "wrote the page, run python experiments/trace.py --pin"
            )
    for one in traced.found:
        if one.kind == pages.WRONG:
            traced.problems.append(f"{name}:{one.line}: {one.text!r}: {one.why}")
        elif one.kind == pages.UNTRACED:
            traced.problems.append(
                f"{name}:{one.line}: {one.text} is in no linked record: {one.why}; link the record "
                "in this section, or add the phrase and a reason to experiments/tracing/allowed.lst"
            )
    return traced


def mutations(text: str, where: str, count: int, seed: int) -> Iterator[tuple[int, str]]:
    """Copies of a page with one digit changed.

    Args:
        text: the page.
        where: `table` changes cells after the first of a row; `prose` all else.
        count: how many copies.
        seed: seed of the places and digits.

    Returns:
        Line of the change, and the copy.
    """
    draw = random.Random(seed)
    if where == "prose":
        prose = markdown.prose(text)
        places = [n for one in markdown.numbers(prose) for n in range(one.start, one.end)]
    else:
        places = list(_digits_of_tables(text))
    places = [place for place in places if text[place].isdigit()]
    for place in draw.sample(places, min(count, len(places))):
        digit = draw.choice([one for one in "0123456789" if one != text[place]])
        yield text.count("\n", 0, place) + 1, text[:place] + digit + text[place + 1 :]


def _digits_of_tables(text: str) -> Iterator[int]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    lines = text.splitlines()
    for table in markdown.tables(text):
        for line in table.lines:
            body = lines[line - 1]
            first = body.index("|", 1)  # labels are names
            for one in markdown.numbers(body[first:]):
                yield from range(
                    starts[line - 1] + first + one.start, starts[line - 1] + first + one.end
                )


def noticed(name: str, where: str, count: int, seed: int) -> tuple[int, int, list[str]]:
    """How many changed digits of a page are noticed.

    Returns:
        Noticed, tried, and the lines of those that were not.
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    digest, tried, missed = pinned().get(name, ""), 0, []
    for line, copy in mutations(text, where, count, seed):
        tried += 1
        if not trace(name, copy, digest).problems:
            missed.append(f"{name}:{line}: {copy.splitlines()[line - 1][:120]}")
    return tried - len(missed), tried, missed


def main() -> None:
    """Trace all pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="Print every number with its kind.")
    parser.add_argument("--pin", action="store_true", help="Write pinned.sha256 again.")
    parser.add_argument("--mutate", type=int, default=0, help="Digits to change on each page.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the digits to change.")
    options = parser.parse_args()
    digests = pinned()
    traced = {name: trace(name, digest=digests.get(name, "")) for name in names()}
    if options.pin:
        lines = [f"{one.digest}  {name}\n" for name, one in traced.items() if one.digest]
        head = "# Digests of the cells that no record has; written by experiments/trace.py --pin\n"
        (FOLDER / "pinned.sha256").write_text(head + "".join(lines), encoding="utf-8")
        digests = pinned()
        traced = {name: trace(name, digest=digests.get(name, "")) for name in names()}
    counts: Counter[tuple[str, str]] = Counter()
    for name, page in traced.items():
        for one in page.found:
            counts[one.where, one.kind] += one.numbers
            if options.list:
                print(f"{name}:{one.line}: {one.kind}: {one.text}")
    print(f"{len(traced)} pages, {sum(counts.values()):,} numbers")
    for (where, kind), number in sorted(counts.items()):
        print(f"{number:8,}  {where}: {kind}")
    for where in ("table", "prose") if options.mutate else ():
        tries = [
            noticed(name, where, options.mutate, options.seed)
            for name in names()
            if where == "table" or name in HAND_WRITTEN
        ]
        hit, tried = (sum(one[n] for one in tries) for n in (0, 1))
        print(f"{where}: {hit:,} of {tried:,} changed digits noticed")
        print("".join(f"  not noticed: {line}\n" for *_, lines in tries for line in lines), end="")
    problems = [line for page in traced.values() for line in page.problems]
    if problems:
        sys.exit("\n".join([*problems, f"{len(problems)} problems"]))


if __name__ == "__main__":
    main()
