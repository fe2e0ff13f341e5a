"""Requests that arrive while a model is busy share its next call.

A call for sixty rows takes little longer than a call for one. No request waits for others to come:
an idle model is called at once. Small requests are read when they are joined; if one of them is
wrong, each is read alone, so that no other is refused with it. Calls are filled up to a few numbers
of rows, since libraries keep a program in memory for each shape that they have met.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import numpy as np

from mmnet.serving import requests
from mmnet.serving.requests import Arrays, RequestError
from mmnet.serving.small_requests import Unread

FEW = 64
"""Calls have a power of two of rows up to here, and multiples of it beyond."""

Scored = tuple[Arrays, float]
"""Outputs of a request, and the seconds of the call that it shared."""


class _Waiting(NamedTuple):
    inputs: Arrays | Unread
    rows: int
    answer: asyncio.Future[Scored]


class SharedCalls:
    """Calls one signature for all requests that wait for it.

    All methods belong to one event loop at a time.

    Args:
        call: maps checked inputs to outputs, [rows, ...] each; raises `RequestError` for inputs
            that the model refuses.
        in_thread: runs a function outside the event loop.
        read: joins and checks small requests; raises `RequestError` if any of them may be
            wrong; None reads each of them alone.
        calls: number of calls at a time.
        most_rows: maximum rows of a call for more than one request.
    """

    def __init__(
        self,
        call: Callable[[Arrays], Arrays],
        in_thread: Callable[..., Awaitable[list[Scored | Exception]]],
        *,
        read: Callable[[Sequence[Unread]], Arrays] | None = None,
        calls: int = 1,
        most_rows: int = requests.MAX_ROWS,
    ):
        self._call, self._in_thread = call, in_thread
        self._read, self._calls, self._most_rows = read or _alone, calls, most_rows
        self._waiting: deque[_Waiting] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0

    async def __call__(self, inputs: Arrays | Unread) -> Scored:
        """Returns the outputs for the inputs of one request.

        Raises:
            RequestError: the request is wrong, the model refuses its inputs, or has no finite
                answer for them.
        """
        loop = asyncio.get_running_loop()
        rows = inputs.rows if isinstance(inputs, Unread) else len(next(iter(inputs.values())))
        waiting = _Waiting(inputs, rows, loop.create_future())
        self._waiting.append(waiting)
        if self._running < self._calls:
            self._running += 1
            task = loop.create_task(self._serve())
            self._tasks.add(task)  # the loop itself keeps no task alive
            task.add_done_callback(self._tasks.discard)
        return await waiting.answer

    async def _serve(self) -> None:
        """Answers requests until none is waiting."""
        try:
            while self._waiting:
                await self._answer(self._next())
        finally:
            self._running -= 1  # at once: a request that comes now starts the next task

    async def _answer(self, together: list[_Waiting]) -> None:
        found: list[Scored | Exception]
        try:
            found = await self._in_thread(self._answers, together)
        except Exception as error:
            found = [error] * len(together)
        for one, result in zip(together, found, strict=True):
            if one.answer.done():  # its client has gone
                continue
            if isinstance(result, Exception):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)

    def _next(self) -> list[_Waiting]:
        together = [self._waiting.popleft()]
        rows = together[0].rows
        while self._waiting and rows + self._waiting[0].rows <= self._most_rows:
            together.append(self._waiting.popleft())
            rows += together[-1].rows
        return together

    def _answers(self, together: list[_Waiting]) -> list[Scored | Exception]:
        """Reads the requests that are not read yet, and scores all that could be read."""
        together.sort(key=lambda one: not isinstance(one.inputs, Unread))
        unread = [one.inputs for one in together if isinstance(one.inputs, Unread)]
        parts: list[Arrays | RequestError]
        parts = [one.inputs for one in together if not isinstance(one.inputs, Unread)]
        rows = [one.rows for one in together]
        try:
            parts[:0] = [self._read(unread)] if unread else []
        except RequestError:
            parts[:0] = [_read_alone(one) for one in unread]
            rows = [
                number
                for number, part in zip(rows, parts, strict=True)
                if not isinstance(part, RequestError)
            ]
        good = [part for part in parts if not isinstance(part, RequestError)]
        scored = iter(self._scored(_joined(good), rows) if good else ())
        if len(rows) == len(together):
            return list(scored)
        return [part if isinstance(part, RequestError) else next(scored) for part in parts]

    def _scored(self, arrays: Arrays, rows: Sequence[int]) -> list[Scored | Exception]:
        """Calls the signature once; or once per request, if one of several has wrong inputs.

        Args:
            arrays: inputs of all requests.
            rows: number of rows of each request.
        """
        began = time.perf_counter()
        try:
            outputs = self._call(_filled(arrays))
        except RequestError as error:
            if len(rows) == 1:
                return [error]
            return [
                self._scored(part, [number])[0]
                for part, number in zip(_split(arrays, rows), rows, strict=True)
            ]
        seconds = time.perf_counter() - began
        return [_checked(part, seconds) for part in _split(outputs, rows)]


def _alone(parts: Sequence[Unread]) -> Arrays:
    return _joined([one.read() for one in parts])


def _read_alone(one: Unread) -> Arrays | RequestError:
    try:
        return one.read()
    except RequestError as error:
        return error


def _split(arrays: Arrays, rows: Sequence[int]) -> list[Arrays]:
    """Returns the rows of each request; those that fill a call up belong to none."""
    ends = list(itertools.accumulate(rows))
    return [
        {name: array[end - number : end] for name, array in arrays.items()}
        for number, end in zip(rows, ends, strict=True)
    ]


def _joined(parts: list[Arrays]) -> Arrays:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(arrays: Arrays) -> Arrays:
    """Repeats the last row, up to the next number of rows that calls have."""
    rows = len(next(iter(arrays.values())))
    missing = filled_rows(rows) - rows
    if not missing:
        return arrays
    places = np.minimum(np.arange(rows + missing), rows - 1)
    return {name: array[places] for name, array in arrays.items()}


def filled_rows(rows: int) -> int:
    """Returns the number of rows of a call.

    >>> [filled_rows(rows) for rows in (1, 3, 33, 65)]
    [1, 4, 64, 128]
    """
    return -(-rows // FEW) * FEW if rows > FEW else 1 << (rows - 1).bit_length()


def _checked(outputs: Arrays, seconds: float) -> Scored | Exception:
    try:
        requests.check_finite(outputs)
    except RequestError as error:
        return error
    return outputs, seconds
