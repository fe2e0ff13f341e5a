"""Problems with single contents: counted and named, so that one bad file does not stop a run."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass

EXAMPLES = 3
"""Maximum number of names to list for each problem."""


@dataclass(frozen=True)
class Problem:
    """One kind of fault.

    Attributes:
        reason: what is wrong, as a phrase after "12 images: ".
        count: number of contents with it, each counted once.
        examples: the first of their names, in alphabetical order.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


class Problems:
    """Collects problems from many threads.

    >>> problems = Problems()
    >>> problems.add("no such file", "b.jpg")
    >>> problems.add("no such file", "a.jpg")
    >>> problems.add("no such file", "b.jpg")
    >>> problems.found()
    [Problem(reason='no such file', count=2, examples=('a.jpg', 'b.jpg'))]
    """

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def add(self, reason: str, name: str) -> None:
        """Records a problem with the content of this name; the same one counts once."""
        with self._lock:
            self._names.setdefault(reason, set()).add(name)

    def found(self) -> list[Problem]:
        """Returns the problems so far, the most frequent first."""
        with self._lock:
            # Sorted by name, since the order of threads differs between runs.
            found = [
                Problem(reason, len(names), tuple(heapq.nsmallest(EXAMPLES, names)))
                for reason, names in self._names.items()
            ]
        return sorted(found, key=lambda problem: (-problem.count, problem.reason))
