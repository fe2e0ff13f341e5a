"""Where tasks print: lines are neither wrapped nor coloured, and `[x]` in a path stays."""

from rich.console import Console

console = Console(highlight=False, soft_wrap=True, markup=False)
notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""For what was recognised or is worth a look, apart from results."""
