"""What was wrong with single contents: counted and named, so that one bad file stops nothing."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass

EXAMPLES = 3
"""Names given of each problem."""


@dataclass(frozen=True)
class Problem:
    """One kind of fault.

    Attributes:
        reason: what was wrong, as it reads after "12 images: ".
        count: contents that had it, each counted once.
        examples: the first of their names, in the order of names.
    """

    reason: str
    count: int
    examples: tuple[str, ...]


class Problems:
    """Collects faults from many threads.

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
        """Notes that the content of this name has this fault; the same one counts once."""
        with self._lock:
            self._names.setdefault(reason, set()).add(name)

    def found(self) -> list[Problem]:
        """The faults so far, the most frequent first."""
        with self._lock:
            # By name, not by time: threads come first in another order every run.
            found = [
                Problem(reason, len(names), tuple(heapq.nsmallest(EXAMPLES, names)))
                for reason, names in self._names.items()
            ]
        return sorted(found, key=lambda problem: (-problem.count, problem.reason))
