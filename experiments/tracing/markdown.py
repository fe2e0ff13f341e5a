"""Tables, sections and numbers of a page in Markdown."""

from __future__ import annotations

import functools
import html
import re
from dataclasses import dataclass, field

NUMBER = re.compile(
    r"(?<![\w.@/#-])(?=[-+−]?\.?\d)[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?![\w/@-])(?!\.\d)"
)
"""A number that is not part of a name, such as P@5, C1, 1e-3 or 4.1.2."""
SILENT = re.compile(
    r"```.*?```|<!--.*?-->|`(?:[^`\n]|\n(?!\n))+`|(?<=\])\([^)\n]*\)"
    r"|\b(?:Tables?|Eq\.|Python|Section|README)\s[\d.]*\d(?:(?:,| and| to)\s[\d.]*\d)*",
    re.DOTALL,
)
"""Code, comments, the targets of links and names with a number: no figures."""
SCENARIOS = ("normal", "cold-start", "noisy")


@dataclass(frozen=True)
class Number:
    """A number on a page.

    Attributes:
        text: as it is shown.
        start, end: its place in the text that it is of.
    """

    text: str
    start: int
    end: int

    @property
    def value(self) -> float:
        """Its value."""
        return float(self.text.replace(",", "").replace("−", "-"))

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        return len(self.text.partition(".")[2])


@dataclass
class Table:
    """A table of a page.

    Attributes:
        line: number of its header, from 1.
        header: titles of its columns.
        rows: cells as text, one list per row.
        lines: number of each row.
        about: the last paragraph before it.
        headings: the last headings before it, by level.
    """

    line: int
    header: list[str]
    about: str
    headings: dict[int, str]
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    @functools.cached_property
    def columns(self) -> list[str]:
        """Titles in lower case; a metric without a scenario is of the one before it."""
        found, scenario = [], ""
        for title in self.header:
            name = plain(title).lower()
            named = next((one for one in SCENARIOS if name.startswith(one)), None)
            if named is None and scenario and name in ("mse", "p@5", "p@10"):
                name = f"{scenario} {name}"
            scenario = named or scenario
            found.append(f"{name} mse" if name in SCENARIOS else name)
        return found


@dataclass(frozen=True)
class Section:
    """A part of a page below a heading of level 1 or 2.

    Attributes:
        title: the heading.
        line: number of its first line.
        text: all of it.
    """

    title: str
    line: int
    text: str


def plain(cell: str) -> str:
    """A cell without marks of the best, of one training and of significance."""
    text = html.unescape(cell)
    return " ".join(text.replace("**", "").replace("†", "").replace(" *", "").split())


def tables(text: str) -> list[Table]:
    r"""All tables of a page.

    >>> found, = tables("x\n\n| a | b |\n|---|---:|\n| c | **1** |\n")
    >>> found.header, found.rows, found.lines, found.about
    (['a', 'b'], [['c', '**1**']], [5], 'x')
    """
    found: list[Table] = []
    headings: dict[int, str] = {}
    about, open_table, code = "", None, False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        code ^= line.startswith("```")
        if code or not line.startswith("|"):
            open_table = None
            if match := re.match(r"(#+) (.*)", line) if not code else None:
                level = len(match[1])
                headings = {key: value for key, value in headings.items() if key < level}
                headings[level] = match[2]
            elif line.strip():
                about = line
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:].rstrip("|"))]
        if open_table is None:
            open_table = Table(number, cells, about, dict(headings))
            found.append(open_table)
        elif not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
            open_table.rows.append(cells)
            open_table.lines.append(number)
    return found


def sections(text: str) -> list[Section]:
    """The parts of a page, each with its heading."""
    found, start = [], 0
    lines = text.splitlines(keepends=True)
    heads = [n for n, line in enumerate(lines) if re.match(r"##? ", line)] or [0]
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        title = lines[start].lstrip("# ").strip()
        found.append(Section(title, start + 1, "".join(lines[start:end])))
    return found


@functools.lru_cache(100_000)
def numbers(text: str) -> tuple[Number, ...]:
    """Numbers of a text, without those in code, link targets and names.

    >>> [one.text for one in numbers("P@5 of `--x=3`: .39 ± 1,000 (Table 1, README 4.1.2) in C2.")]
    ['.39', '1,000']
    """
    shown = SILENT.sub(lambda match: re.sub(r"[^\n]", "\0", match[0]), text)
    matches = NUMBER.finditer(shown)
    return tuple(Number(one[0], one.start(), one.end()) for one in matches)


def blocks(text: str) -> list[tuple[int, int]]:
    r"""Beginnings and ends of the paragraphs and bullets of a text.

    >>> text = "One.\n\n- Two.\n- Three\n  four.\n"
    >>> [text[start:end] for start, end in blocks(text)]
    ['One.\n', '- Two.\n', '- Three\n  four.\n']
    """
    starts = [0, *(match.start() for match in re.finditer(r"^(?=- |\s*\n)", text, re.M))]
    ends = [*starts[1:], len(text)]
    return [(one, end) for one, end in zip(starts, ends, strict=True) if text[one:end].strip()]


def links(text: str) -> list[str]:
    """Targets of the links and images of a text."""
    return re.findall(r"\]\(([^)\s#]+)", text)


def prose(text: str) -> str:
    """The page with blanks in place of tables; every line and column stays where it is."""
    lines = [" " * len(line) if line.startswith("|") else line for line in text.split("\n")]
    return "\n".join(lines)
