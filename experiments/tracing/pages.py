"""What is checked on a page: tables against records, tables and prose against other pages."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.tracing import markdown
from experiments.tracing.markdown import Number, Section, Table, plain
from experiments.tracing.records import Directory, Expected

RESULTS = ("results.md", "table.md", "recovered.md")
RECORD = "record"
PAGE = "page of results"
OWN = "on its page alone"
ALLOWED = "allowed"
SENTENCE = "sentence of a results page"
WRONG = "wrong"
UNTRACED = "untraced"


@dataclass(frozen=True)
class Found:
    """A cell of a table with its numbers, or a number in prose.

    Attributes:
        line: number of its line.
        text: as it is shown.
        kind: what it was traced to.
        numbers: how many numbers it has.
        where: `table` or `prose`.
        why: what is wrong with it, if anything.
    """

    line: int
    text: str
    kind: str
    numbers: int = 1
    where: str = "table"
    why: str = ""


@dataclass(frozen=True)
class Source:
    """A cell of a page that others repeat.

    Attributes:
        text: as it is shown.
        values: the numbers behind it, those of records in full.
    """

    text: str
    values: tuple[float, ...]


def shows(number: Number, value: float) -> bool:
    """Whether a value, rounded to the digits of a number, is that number; ties go either way."""
    return abs(value - number.value) <= 0.5 * 10.0**-number.decimals * (1 + 1e-9)


# --------------------------------------------------------------------------- pages of results


@functools.cache
def directory(path: Path) -> Directory:
    """The records of a directory, read once."""
    return Directory(path)


def results_page(text: str, path: Path) -> tuple[list[Found], str]:
    """Check a results page against the records beside it.

    Args:
        text: the page.
        path: its file.

    Returns:
        What was found, and the digest of the cells that no record has; empty without such cells.
    """
    records, own = directory(path.parent), []
    found = list(_sentences(text, records))
    for line, title, column, cell, expected in _cells(text, path):
        numbers = len(markdown.numbers(cell))
        if expected is None:
            own.append(f"{title} | {column} | {plain(cell)}")
            found += [Found(line, cell, OWN, numbers)] if numbers else []
        elif plain(cell) in expected.texts:
            found += [Found(line, cell, RECORD, numbers)] if numbers else []
        else:
            texts = " or ".join(sorted(expected.texts)[:2])
            why = f"{title}, {column}: the record has {texts!r}"
            found.append(Found(line, cell, WRONG, numbers, why=why))
    return found, hashlib.sha256("\n".join(own).encode()).hexdigest() if own else ""


@functools.lru_cache(256)
def _cells(text: str, path: Path) -> tuple[tuple[int, str, str, str, Expected | None], ...]:
    """Line, label of the row, column, text and expectation of each cell of a page's tables."""
    records, found = directory(path.parent), []
    for table in markdown.tables(text):
        of_record = records.of_table(table)
        for line, (label, *cells) in zip(table.lines, table.rows, strict=True):
            title = plain(label)
            for column, cell in zip(table.columns[1:], cells, strict=False):
                expected = of_record(title, column) if of_record else None
                found.append((line, title, column, cell, expected))
    return tuple(found)


def _sentences(text: str, records: Directory) -> Iterator[Found]:
    """Numbers of a results page outside tables: claims and the heading have records."""
    prose, known = markdown.prose(text), set(_known_lines(records))
    claims = re.search(r"^## Claims of the paper\n(.*?)(?=^## |\Z)", prose, re.M | re.S)
    for start, line in enumerate(prose.split("\n"), 1):
        numbers = markdown.numbers(line)
        if not numbers:
            continue
        inside = claims and claims[0].count("\n") and line in claims[1].split("\n")
        heading = re.match(r"\d+ cells, \d+ minutes", line)
        if any(line.startswith(one) for one in known):
            yield Found(start, line, RECORD, len(numbers), "prose")
        elif inside or heading:
            why = "claims.json or cells.csv has other numbers"
            yield Found(start, line, WRONG, len(numbers), "prose", why)
        else:
            yield Found(start, line, SENTENCE, len(numbers), "prose")


def _known_lines(records: Directory) -> Iterator[str]:
    """Lines of a results page, or their beginnings, as the records have them."""
    for claim in records.json("claims.json") or ():
        if claim["parts"]:
            yield f"- **{claim['claim']}: {claim['verdict']}.** {claim['text']}"
            yield from (f"  - {part['text']}: {part['verdict']}" for part in claim["parts"])
    missing = [one for one in records.json("claims.json") or () if one["missing"]]
    if missing:
        listed = "; ".join(f"{one['claim']} ({', '.join(one['missing'])})" for one in missing)
        yield f"- Not decidable, because rows are missing from this experiment: {listed}"
    lines = [line for row in records.cells.values() for line in row]
    if lines and "commit" in lines[0]:
        minutes = sum(float(line["seconds"]) for line in lines) / 60
        known = ", ".join(sorted({line["commit"][:10] for line in lines}))
        yield f"{len(lines)} cells, {minutes:.0f} minutes of training and scoring, commit {known}"


# --------------------------------------------------------------------- pages written by hand


@functools.cache
def sources(path: Path) -> tuple[dict[str, list[dict[str, Source]]], np.ndarray]:
    """Rows of a page's tables by label, with the values of records, and all its numbers."""
    text = path.read_text(encoding="utf-8")
    values: list[float] = []
    rows: dict[tuple[str, int], dict[str, Source]] = {}
    for line, title, column, cell, expected in _cells(text, path):
        shown = plain(cell)
        found = tuple(one.value for one in markdown.numbers(shown))
        values += found
        if expected is not None and shown in expected.texts:
            found = expected.values
            values += found
        rows.setdefault((title, line), {})[column] = Source(shown, found)
    by_label: dict[str, list[dict[str, Source]]] = {}
    for (title, _), row in rows.items():
        by_label.setdefault(title, []).append(row)
    values += [one.value for one in markdown.numbers(markdown.prose(text))]
    return by_label, np.unique(np.array(values, np.float64))


@functools.cache
def listed(path: Path) -> np.ndarray:
    """All numbers of a page, or of a .json, .csv or .txt file."""
    if path.suffix == ".md":
        return sources(path)[1]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        found: list[float] = []
        json.loads(
            text,
            parse_float=lambda one: found.append(float(one)),
            parse_int=lambda one: found.append(float(one)),
        )
        return np.unique(found)
    pieces = re.findall(r"(?<![\w.])[-+]?\d[\d_]*(?:\.\d+)?(?![\w.])", text)
    return np.unique([float(one.replace("_", "")) for one in pieces])


class HandWritten:
    """A page written by hand.

    Args:
        text: the page.
        path: its file.
        phrases: phrases with numbers that need no record.
    """

    def __init__(self, text: str, path: Path, phrases: Iterable[str]):
        self.text, self.path = text, path
        self.phrases = list(phrases)
        self.unused: list[str] = []

    def check(self) -> list[Found]:
        """All numbers of the page with what they were traced to."""
        sections = markdown.sections(self.text)
        linked = {section: self._linked(section.text) for section in sections}
        everywhere = list(dict.fromkeys(page for pages in linked.values() for page in pages))
        found: list[Found] = []
        above = True  # sections above the first table sum the page up
        for section in sections:
            above = above and not markdown.tables(section.text)
            pages = everywhere if above or not linked[section] else linked[section]
            found += self._tables(section, [page for page in pages if page.suffix == ".md"])
            found += self._prose(section, pages)
        return found

    def _linked(self, text: str) -> list[Path]:
        """Pages and records that a text links, and the pages beside a record."""
        found = []
        for link in markdown.links(text):
            path = Path(self.path.parent / link)
            kinds = (".md", ".json", ".csv", ".txt")
            data = path.suffix in (".json", ".csv")
            beside = [path, *(path.with_name(one) for one in RESULTS if data)]
            found += [one for one in beside if one.suffix in kinds and one.is_file()]
        readme = "README.md"
        return list(dict.fromkeys(one.resolve() for one in found if one.name != readme))

    # ------------------------------------------------------------------------------- tables

    def _tables(self, section: Section, pages: Sequence[Path]) -> Iterator[Found]:
        for table in markdown.tables(section.text):
            cells = [cell for _, *row in table.rows for cell in row]
            if not any(markdown.numbers(cell) for cell in cells):
                continue  # a table of links
            labels = {plain(row[0]) for row in table.rows}
            for line, row in zip(table.lines, table.rows, strict=True):
                yield from self._row(line + section.line - 1, row, table, labels, pages)

    def _row(
        self, line: int, row: list[str], table: Table, labels: set[str], pages: Sequence[Path]
    ) -> Iterator[Found]:
        label, columns = plain(row[0]), table.columns[1:]
        best: list[bool] = [False] * len(columns)
        where = "no row of this name"
        for page in pages:
            rows = sources(page)[0]
            known = label in rows or re.search(r"\d", label)
            for name in [label] if known else rows.keys() - labels:
                for cells in rows.get(name, ()):
                    pairs = zip(row[1:], columns, strict=True)
                    agree = [_agrees(cell, cells.get(column)) for cell, column in pairs]
                    if sum(agree) > sum(best):
                        best, where = agree, f"{page.parent.name}/{page.name}, {name}"
        for good, cell in zip(best, row[1:], strict=True):
            numbers = len(markdown.numbers(cell))
            if good:
                yield from [Found(line, cell, PAGE, numbers)] if numbers else []
            else:
                why = f"{label}: not in a page that this section links; nearest: {where}"
                yield Found(line, cell, WRONG, numbers, why=why)

    # -------------------------------------------------------------------------------- prose

    def _prose(self, section: Section, pages: Sequence[Path]) -> Iterator[Found]:
        prose = markdown.prose(section.text)
        own = [
            one.value
            for table in markdown.tables(section.text)
            for row in table.rows
            for cell in row[1:]
            for one in markdown.numbers(cell)
        ]
        values = np.concatenate([np.array(own, np.float64), *map(listed, pages)])
        close = np.concatenate([np.empty(0), *map(listed, pages[:1] if len(pages) == 1 else [])])
        allowed = [(match.start(), match.end()) for match in self._allowed(prose)]
        for start, end in markdown.blocks(prose):
            near = [close, *map(listed, self._linked(prose[start:end]))]
            nearby = np.concatenate(near)
            for number in markdown.numbers(prose[start:end]):
                place = start + number.start
                line = section.line + prose.count("\n", 0, place)
                block, digits = prose[start:end], _digits(number)
                if any(first <= place < last for first, last in allowed):
                    kind, why = ALLOWED, ""
                elif (digits >= 3 and _among(number, block, values)) or (
                    digits >= 2 and _among(number, block, nearby)
                ):
                    kind, why = RECORD, ""
                else:
                    around = prose[max(start, place - 30) : start + number.end + 30]
                    kind, why = UNTRACED, f"… {' '.join(around.split())} …"
                yield Found(line, number.text, kind, 1, "prose", why)

    def _allowed(self, prose: str) -> Iterator[re.Match[str]]:
        for phrase in self.phrases:
            words = r"\s+".join(re.escape(word) for word in phrase.split())
            yield from re.finditer(rf"(?<![\w.]){words}(?![\w])(?!\.\d)", prose)

    def stale(self) -> list[str]:
        """Phrases that the page does not have."""
        prose = markdown.prose(self.text)
        return [one for one in self.phrases if not _has(prose, one)]


def _has(prose: str, phrase: str) -> bool:
    words = r"\s+".join(re.escape(word) for word in phrase.split())
    return re.search(rf"(?<![\w.]){words}(?![\w])(?!\.\d)", prose) is not None


def _agrees(cell: str, source: Source | None) -> bool:
    """Whether a cell repeats one of another page, perhaps with fewer digits."""
    numbers = markdown.numbers(plain(cell))
    if source is None:
        return not numbers
    if plain(cell) == source.text:
        return True
    rest = re.sub(r"[\d.,\s+−-]", "", plain(cell))
    return (
        not rest
        and 0 < len(numbers) <= len(source.values)
        and all(map(shows, numbers, source.values))
    )


def _digits(number: Number) -> int:
    """Digits of a number, those after a point counted in full: how much finding it says."""
    digits = re.sub(r"\D", "", number.text).lstrip("0")
    return max(len(digits), number.decimals + 1 if number.decimals else 0)


def _among(number: Number, prose: str, values: np.ndarray) -> bool:
    """Whether one of the values is shown by a number in prose, perhaps in percent or millions."""
    after = prose[number.end : number.end + 9]
    scales = [1.0]
    if re.match(r"\s?%", after):
        scales.append(100.0)
    if re.match(r"\smillion", after):
        scales.append(1e-6)
    half = 0.5 * 10.0**-number.decimals * (1 + 1e-9)
    signs = (1,) if number.text[0] in "+-−" else (1, -1)
    return any(
        np.any(np.abs(sign * scale * values - number.value) <= half)
        for scale in scales
        for sign in signs
        if math.isfinite(scale)
    )
