"""Deprecated flags and functions: they work for two more minor versions, and warn once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

MINOR_VERSIONS = 2
"""Minor versions in which something deprecated still works, after the one that deprecates it."""

_warned: set[str] = set()


@dataclass(frozen=True)
class Deprecated:
    """Metadata of a flag that is to go away, as in `Annotated[str, Deprecated("0.2", "use --x")]`.

    Attributes:
        since: the minor version that deprecates it, such as 0.2.
        instead: what to do instead, as an imperative.

    >>> Deprecated("0.2", "use --output").sentence("--scores")
    '--scores is deprecated since mmnet 0.2 and will be removed in 0.5: use --output'
    """

    since: str
    instead: str

    @property
    def removed_in(self) -> tuple[int, int]:
        """The first version without it."""
        major, minor = map(int, self.since.split("."))
        return major, minor + MINOR_VERSIONS + 1

    def sentence(self, what: str) -> str:
        """Names the version and what to do instead."""
        removed = ".".join(map(str, self.removed_in))
        return (
            f"{what} is deprecated since mmnet {self.since} and will be removed in {removed}: "
            f"{self.instead}"
        )

    def warn(self, what: str) -> None:
        """Warns of a use, once per process.

        Args:
            what: name of the flag, function or argument.
        """
        if what not in _warned:
            _warned.add(what)
            # Unlike a DeprecationWarning, Python shows this one to users, too.
            warnings.warn(self.sentence(what), FutureWarning, stacklevel=3)
