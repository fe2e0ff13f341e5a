"""Consoles of tasks: lines are neither wrapped nor coloured, and `[x]` is printed unchanged."""

from typing import Any

from rich.console import Console

from mmnet.checks import printable_lines


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


console = PlainConsole()
notes = PlainConsole(stderr=True)
"""Standard error, for detected formats and warnings, so that they stay apart from results."""
