"""Consoles of tasks: lines are neither wrapped nor coloured, and `[x]` is printed unchanged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from mmnet.checks import printable, printable_lines

if TYPE_CHECKING:
    from rich.status import Status

Thing = TypeVar("Thing")


class PlainConsole(Console):
    """A console of plain text: what users wrote into names and cells cannot control a terminal.

    Args:
        stderr: print to the standard error.
    """

    def __init__(self, *, stderr: bool = False, **more: Any):
        super().__init__(stderr=stderr, highlight=False, soft_wrap=True, markup=False, **more)

    def print(self, *objects: Any, **how: Any) -> None:
        """Prints objects; in text, everything but line breaks that does not print is escaped."""
        clean = (printable_lines(one) if isinstance(one, str) else one for one in objects)
        super().print(*clean, **how)

    def table(
        self,
        header: Sequence[str],
        rows: Iterable[Sequence[str]],
        optional: Iterable[int] = (),
    ) -> None:
        """Prints a table with aligned columns, the first one left-aligned.

        It is as wide as its cells, also where the output is not a terminal, so that a line is a
        row whatever reads it.

        Args:
            header: headings; a line break in one starts a second line of it.
            rows: cells; `**` around a cell's text makes it bold on a terminal.
            optional: columns that are left out on a terminal which is too narrow for them.
        """
        titles = [[printable(line) for line in title.split("\n")] for title in header]
        cells = [[printable(cell) for cell in row] for row in rows]
        shown = list(range(len(titles)))
        widths = [
            max(map(cell_len, [*titles[n], *(row[n].replace("**", "") for row in cells)]))
            for n in shown
        ]
        if self.is_terminal and sum(widths) + 2 * len(widths) - 2 > self.width:
            shown = [n for n in shown if n not in set(optional)]
        high = max(map(len, titles))
        lines = [([""] * high + title)[-high:] for title in titles]  # headings end on one line

        def line(texts: Sequence[str], style: str = "") -> Text:
            found = Text()
            for n in shown:
                text = texts[n].replace("**", "")
                space = " " * (widths[n] - cell_len(text))
                bold = "bold" if "**" in texts[n] else style
                gap = "  " if n != shown[-1] else ""
                if n == 0:
                    found.append(text, bold).append(space + gap)
                else:
                    found.append(space).append(text, bold).append(gap)
            found.rstrip()
            return found

        for number in range(high):
            self.print(line([title[number] for title in lines], "dim"))
        self.print(line(["─" * width for width in widths], "dim"))
        for row in cells:
            self.print(line(row))


console = PlainConsole()
notes = PlainConsole(stderr=True)
"""Standard error, for detected formats and warnings, so that they stay apart from results."""


EVEN_STEPS = 10
"""Number of steps from which they are alike enough to estimate the time left."""


class Progress:
    """Shows how far something has come that takes long; silent for the first seconds.

    On a terminal it is a bar, or the time so far where the number of steps is not known; elsewhere
    it is a line now and then. Everything goes to the standard error. Where one runs inside
    another, the inner one is shown.

        with Progress("evaluating", 3) as progress:
            for part in parts:
                ...
                progress.advance()

    Args:
        title: what is done, such as "scoring".
        total: number of steps; None where it is not known.
        to: the console; by default that of the standard error.
        silence: seconds before anything is shown.
        every: seconds between lines where the output is not a terminal.
    """

    _running: ClassVar[list[Progress]] = []

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        to: PlainConsole | None = None,
        silence: float = 5.0,
        every: float = 10.0,
    ):
        self.title, self.total, self.done = title, total, 0
        self._console, self._silence, self._every = to or notes, silence, every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self._start = time.monotonic()

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        Progress._running.append(self)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        Progress._running.remove(self)

    def advance(self, steps: int = 1, title: str = "") -> None:
        """Counts steps as done.

        Args:
            steps: how many.
            title: what is done from now on; the same as before if it is empty.
        """
        self.done += steps
        self.title = title or self.title

    def at(self, done: int, total: int | None = None) -> None:
        """Set how many steps are done in all, and of how many."""
        self.done, self.total = done, self.total if total is None else total

    def line(self) -> str:
        """Describe what is done, how much of it, and the time that it has taken."""
        seconds = time.monotonic() - self._start
        told = f"{self.title}: {seconds:.0f} s"
        if not self.total:
            return told
        told += f", {self.done:,} of {self.total:,}"
        if 0 < self.done < self.total and self.total >= EVEN_STEPS:
            told += f", about {seconds / self.done * (self.total - self.done):.0f} s left"
        return told

    def _is_inner(self) -> bool:
        return Progress._running[-1:] == [self]

    def _show(self) -> None:
        if self._ended.wait(self._silence):
            return
        if not self._console.is_terminal:
            while True:
                if self._is_inner():
                    self._console.print(self.line())
                if self._ended.wait(self._every):
                    return
        status: Status | None = None
        while not self._ended.wait(0.25):
            if self._is_inner() and status:
                status.update(self.line())
            elif self._is_inner():
                status = self._console.status(self.line())
                status.start()
            elif status:  # the inner one, which starts seconds later, has the line
                status.stop()
                status = None
        if status:
            status.stop()


def tracked(things: Sequence[Thing], title: str) -> Iterator[Thing]:
    """The things in turn, with a `Progress` of a step for each."""
    with Progress(title, len(things)) as progress:
        for thing in things:
            yield thing
            progress.advance()
