"""A self-contained HTML page of sections, sortable tables and figures; reports are made of it.

The page loads nothing: style, script and figures are inside it, and its content security policy
forbids the rest. Every text is escaped, and characters that do not print are shown as escapes, so
that ids, column names and cells of users stay text.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from mmnet import checks

FILE = "report.html"
"""Name of the page, in the directory whose files it shows."""
_HERE = Path(__file__).parent


def number_text(value: float | None, fixed: bool = False) -> str:
    """Three decimals, or three significant digits where that would be mostly zeros.

    >>> number_text(12.34567), number_text(0.0123456), number_text(0.0123456, fixed=True)
    ('12.346', '0.0123', '0.012')
    >>> number_text(None)
    '–'
    """
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if fixed or value == 0 or abs(value) >= 0.1 else f"{value:#.3g}"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is shown.
        value: the number behind it, by which a column is sorted; None for text and for "unknown".
        strong: whether it is the best of its column.
    """

    text: str
    value: float | None = None
    strong: bool = False


def number(value: float | None, fixed: bool = False, text: str = "", strong: bool = False) -> Cell:
    """A cell of a number.

    Args:
        value: the number; None or NaN where it is not known.
        fixed: see `number_text`.
        text: what is shown instead of the number alone.
        strong: see `Cell`.
    """
    known = value is not None and math.isfinite(value)
    return Cell(
        text if text and known else number_text(value, fixed), value if known else None, strong
    )


def percent_text(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] in percent.

    >>> percent_text(0.1234), percent_text(0.5, 0), percent_text(None)
    ('12.3 %', '50 %', '–')
    """
    if share is None or not math.isfinite(share):
        return "–"
    return f"{100 * share:.{digits}f} %"


def percent(share: float | None) -> Cell:
    """A cell of a share in [0, 1], shown in percent."""
    known = share is not None and math.isfinite(share)
    return Cell(percent_text(share), share if known else None)


def count(value: int) -> Cell:
    """A cell of a whole number."""
    return Cell(f"{value:,}", value)


Row: TypeAlias = list[Cell | str]


@dataclass(frozen=True)
class Table:
    """A table whose columns can be sorted; the first column names the rows.

    Attributes:
        caption: what it shows.
        header: one heading per column.
        rows: cells, or texts, one per column.
        groups: headings above the header: (text, number of columns); none by default.
        folded: whether a reader opens the table.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    groups: Sequence[tuple[str, int]] = ()
    folded: bool = False

    @property
    def cells(self) -> list[list[Cell]]:
        """The rows, every entry a `Cell`."""
        return [[one if isinstance(one, Cell) else Cell(one) for one in row] for row in self.rows]

    @property
    def texts(self) -> frozenset[int]:
        """Columns of words, which are left-aligned."""
        columns = zip(*self.cells, strict=True)
        return frozenset(
            n
            for n, column in enumerate(columns)
            if all(one.value is None for one in column)
            and any(re.search(r"[^\W\d_]", one.text) for one in column)
        )

    @property
    def starts(self) -> frozenset[int]:
        """Columns that a group begins with."""
        ends = [sum(n for _, n in self.groups[:number]) for number in range(len(self.groups))]
        return frozenset(ends)


@dataclass(frozen=True)
class Plot:
    """A figure with its caption.

    Attributes:
        name: of the file that shows the same; the ids inside the drawing are made of it.
        caption: what it shows, also for those who cannot see it.
        figure: drawn by Matplotlib.
    """

    name: str
    caption: str
    figure: Figure

    @property
    def svg(self) -> Markup:
        """The drawing."""
        return svg(self.figure, self.name)


@dataclass(frozen=True)
class Facts:
    """Names and their values, such as settings.

    Attributes:
        caption: what they are about; shown if the list is folded.
        pairs: (name, value).
        folded: whether a reader opens the list.
    """

    caption: str
    pairs: Sequence[tuple[str, str]]
    folded: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list.

    Attributes:
        texts: one per item.
    """

    texts: Sequence[str]


Block: TypeAlias = Table | Plot | Facts | Text | Items


@dataclass(frozen=True)
class Section:
    """A part of the page with its heading.

    Attributes:
        title: its heading.
        blocks: what it holds.
    """

    title: str
    blocks: Sequence[Block]

    @property
    def id(self) -> str:
        """Its anchor."""
        return f"section-{re.sub(r'[^a-z0-9]+', '-', self.title.lower()).strip('-')}"


@dataclass(frozen=True)
class Tile:
    """A number that a reader should see first.

    Attributes:
        label: what it is.
        value: the number, with its unit.
        note: what it compares with.
    """

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """Content of a page.

    Attributes:
        title: its heading.
        subtitle: one line below.
        summary: sentences for a reader who reads nothing else.
        tiles: numbers that follow it.
        sections: the rest.
    """

    title: str
    subtitle: str
    summary: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = field(default_factory=list)


def render(page: Page) -> str:
    """Render a page as one HTML document."""
    script, style = _part("report.js"), _part("report.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = {section.id: section for section in page.sections if section.blocks}
    return _template().render(
        page=page,
        sections=sections.values(),
        style=Markup(style),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        is_a=lambda block, name: type(block).__name__ == name,
    )


def _part(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_part("report.html.jinja"))


def _finalized(value: Any) -> Any:
    """Texts without characters that do not print; what is markup already stays."""
    if isinstance(value, Markup):
        return value
    # A number and its percent sign stay on one line.
    return checks.printable(str(value)).replace(" %", "\N{NO-BREAK SPACE}%")


# ----------------------------------------------------------------------------------- figures

_COLOURS = {
    "#000000": "currentColor",
    "#e6e6e6": "var(--grid)",
    "#555555": "var(--muted)",
    "#c9ced6": "var(--bar)",
    "#cccccc": "var(--grid)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--orange)",
    "#009e73": "var(--green)",
    # Matplotlib's first ten colours, for any number of systems.
    "#1f77b4": "var(--c0)",
    "#ff7f0e": "var(--c1)",
    "#2ca02c": "var(--c2)",
    "#d62728": "var(--c3)",
    "#9467bd": "var(--c4)",
    "#8c564b": "var(--c5)",
}
"""Colours of the plots, and what they are in a page that is light or dark."""


def svg(figure: Figure, name: str) -> Markup:
    """Draw a figure as inline SVG, in the page's colours.

    Args:
        figure: to draw; the same figure and name give the same bytes.
        name: ids inside the drawing are made of it, so that no two drawings of a page share one.
    """
    # The salt is what ids are made of; without one they would be random.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # named alike in every drawing, and used by none
    text = re.sub(r'(<path [^>]*?style="[^"]*?)fill: #ffffff', r"\1fill: var(--card)", text)
    text = re.sub("#[0-9a-f]{6}", lambda found: _COLOURS.get(found[0], found[0]), text)
    text = "\n".join(checks.printable(line) for line in text.splitlines())
    width = float(figure.get_figwidth())
    size = f"width: {90 * width:.0f}px; min-width: {55 * width:.0f}px"  # from so many inches
    opening = f'<svg aria-hidden="true" focusable="false" style="{size}" '
    return Markup(opening + _without_size(text.removeprefix("<svg ")))


def _without_size(text: str) -> str:
    """The drawing without its size in points: it takes the width that the page has."""
    head, end, rest = text.partition(">")
    return re.sub(r'(width|height)="[^"]*pt"\s*', "", head) + end + rest


# ---------------------------------------------------------------------- from Markdown pages


def of_markdown(text: str, figures: dict[str, Figure]) -> list[Section]:
    """Make sections of a page of results that this package wrote in Markdown.

    It reads what those pages hold: headings, paragraphs, lists, tables and images, each on
    lines of its own; bold cells; links, of which the text is kept.

    Args:
        text: of the page.
        figures: file name -> figure, of the images.

    Returns:
        One section per heading of the first two levels, the text before the first under "Results".
    """
    sections: list[tuple[str, list[Block]]] = [("Results", [])]
    caption = ""
    for part in re.split(r"\n\s*\n", text.strip()):
        lines = part.strip().splitlines()
        while lines and (heading := re.match(r"(#+) (.*)", lines[0])):
            caption = _plain(heading[2])
            if len(heading[1]) == 2:
                sections.append((caption, []))
            elif len(heading[1]) > 2:
                sections[-1][1].append(Text(caption))
            lines = lines[1:]
        if not lines:
            continue
        blocks = sections[-1][1]
        if image := re.fullmatch(r"!\[(.*)\]\((.*)\)", lines[0]):
            if image[2] in figures:
                blocks.append(Plot(image[2], _plain(image[1]), figures[image[2]]))
        elif lines[0].startswith("|"):
            header, _, *rows = [_cells(line) for line in lines]
            found: list[Row] = [[_cell(cell) for cell in row] for row in rows]
            blocks.append(Table(_caption(caption, blocks), [_plain(one) for one in header], found))
        elif lines[0].startswith("- "):
            blocks.append(Items([_plain(line.strip().removeprefix("- ")) for line in lines]))
        else:
            blocks.append(Text(_plain(" ".join(lines))))
    return [Section(title, blocks) for title, blocks in sections]


def _caption(heading: str, before: Sequence[Block]) -> str:
    """The heading; of a further table under it the beginning of the paragraph before, too."""
    heading = heading or "Results"
    if not any(isinstance(one, Table) and one.caption == heading for one in before):
        return heading
    said = before[-1].text if isinstance(before[-1], Text) else "continued"
    return f"{heading}: {re.split(r'[:.,] ', said)[0].rstrip(':.')}"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _cell(text: str) -> Cell:
    shown = _plain(text)
    digits = re.match(r"[+-]?[\d,]*\.?\d+(?=$|[ %†a-z\[])", shown)
    value = float(digits[0].replace(",", "")) if digits else None
    return Cell(shown, value, "**" in text)


def _plain(text: str) -> str:
    """Without the signs of bold text, code and links.

    >>> _plain("**2** of `a`, [every cell](cells.csv)")
    '2 of a, every cell'
    """
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return html.unescape(text.replace("**", "").replace("`", ""))


def facts(caption: str, pairs: Iterable[tuple[str, Any]], *, folded: bool = False) -> Facts:
    """Make a list of facts: unknown values are left out, and long ones are cut."""
    known = [
        (name, checks.shown(value)) for name, value in pairs if value not in (None, "", [], {})
    ]
    return Facts(caption, known, folded)
