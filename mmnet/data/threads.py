"""Parts of a table that several threads read, in the order of the table."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Part = TypeVar("Part")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Part], Result], parts: Iterable[Part], threads: int
) -> Iterator[Result]:
    """Calls a function for every part, several at a time, and yields the results in their order.

    Only a few results are held: the next part is begun when a result is taken. NumPy, pandas and
    Arrow let other threads run while they compute.

    Args:
        function: the function, which must not depend on other parts.
        parts: the parts.
        threads: number of threads; 1: this one.

    Raises:
        Exception: the exception of the first part whose call failed, after all results before it.

    >>> list(in_order(lambda part: 2 * part, range(4), threads=2))
    [0, 2, 4, 6]
    """
    if threads == 1:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: collections.deque[Future[Result]] = collections.deque()
        try:
            for part in parts:
                begun.append(pool.submit(function, part))
                if len(begun) > threads:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
