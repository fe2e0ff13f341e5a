"""Cost of scoring, measured during a job, and its extrapolation to a larger catalogue."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from mmnet.training.records import peak_memory

DAY = 86_400
"""Seconds."""


class Measured:
    """Measurements of one process while it scores."""

    def __init__(self) -> None:
        self._start, self._cpu = time.perf_counter(), time.process_time()
        self._seconds: list[float] = []
        self._items = 0

    def batch(self, items: int, seconds: float) -> None:
        """Adds one batch."""
        self._items += items
        self._seconds.append(seconds)

    def cost(self) -> Cost:
        """Returns the cost so far, including start-up if this object was created at the start."""
        return Cost(
            process=f"{socket.gethostname()}-{os.getpid()}",
            items=self._items,
            wall_seconds=time.perf_counter() - self._start,
            cpu_seconds=time.process_time() - self._cpu,
            batch_seconds=tuple(self._seconds),
            peak_bytes=peak_memory()[0] or 0,
        )


class Cost(BaseModel):
    """Cost of one process.

    Attributes:
        process: name of the process.
        items: number of items that it scored.
        wall_seconds: from its start to its end.
        cpu_seconds: of all its threads.
        batch_seconds: time of each batch in the model.
        peak_bytes: its peak memory.
    """

    model_config = ConfigDict(frozen=True)

    process: str
    items: int
    wall_seconds: float
    cpu_seconds: float
    batch_seconds: tuple[float, ...]
    peak_bytes: int


class Budget(BaseModel):
    """Cost of a scoring job, and the resources to score more items.

    Attributes:
        items: number of items scored in this session.
        processes: number of processes that scored at the same time.
        survey_seconds: wall seconds of the first pass.
        wall_seconds: of the whole session.
        items_per_second: over the whole session.
        items_per_second_per_core: over the CPU seconds of all processes.
        batch_items: number of items in a batch.
        batch_p50_seconds, batch_p99_seconds: time in the model, of the batches of all processes.
        peak_bytes: maximum memory of all processes together.
        items_a_day: target number of items per day.
        workers: number of workers, of one core each, to score so many items in a day.
    """

    model_config = ConfigDict(frozen=True)

    items: int
    processes: int
    survey_seconds: float
    wall_seconds: float
    items_per_second: float
    items_per_second_per_core: float
    batch_items: int
    batch_p50_seconds: float
    batch_p99_seconds: float
    peak_bytes: int
    items_a_day: int
    workers: int

    def lines(self) -> str:
        """Returns the budget as a Markdown table."""
        rows = [
            ("items scored", f"{self.items:,}"),
            ("processes", f"{self.processes}"),
            ("wall", f"{self.wall_seconds:.1f} s, {self.survey_seconds:.1f} s of it first pass"),
            ("items/s", f"{self.items_per_second:,.0f}"),
            ("items/s and core", f"{self.items_per_second_per_core:,.0f}"),
            (
                f"batch of {self.batch_items}, p50 and p99",
                f"{1000 * self.batch_p50_seconds:.1f} and {1000 * self.batch_p99_seconds:.1f} ms",
            ),
            ("peak memory", f"{self.peak_bytes / 2**30:.2f} GiB"),
            (
                f"workers for {self.items_a_day:,} items a day",
                f"{self.workers} (one core each, running all day)",
            ),
        ]
        shown = [
            "| what | measured |",
            "|---|---|",
            *(f"| {name} | {told} |" for name, told in rows),
        ]
        return "\n".join(shown) + "\n"


def budget(
    own: Cost,
    costs: Sequence[Cost],
    *,
    processes: int,
    survey_seconds: float,
    batch_items: int,
    items_a_day: int,
) -> Budget | None:
    """Sums up the costs of the processes of a session.

    Args:
        own: cost of the process that led the session, from its start to its end.
        costs: costs of those that scored; if the leading process scored, part of its own.
        processes: number of processes that scored at the same time.
        survey_seconds: time of the first pass.
        batch_items: number of items in a batch.
        items_a_day: target number of items per day, for the number of workers.

    Returns:
        The budget; None if nothing was scored.

    >>> one = Cost(process="1", items=600, wall_seconds=3, cpu_seconds=2, batch_seconds=(1, 1),
    ...     peak_bytes=5)
    >>> led = Cost(process="0", items=0, wall_seconds=4, cpu_seconds=1, batch_seconds=(),
    ...     peak_bytes=2)
    >>> found = budget(led, [one, one], processes=2, survey_seconds=1, batch_items=300,
    ...     items_a_day=10**8)
    >>> found.items_per_second, found.items_per_second_per_core, found.peak_bytes, found.workers
    (300.0, 240.0, 12, 5)
    """
    items = sum(cost.items for cost in costs)
    seconds = [second for cost in costs for second in cost.batch_seconds]
    if not items:
        return None
    others = [cost for cost in costs if cost.process != own.process]
    cpu = own.cpu_seconds + sum(cost.cpu_seconds for cost in others)
    per_core = items / max(cpu, 1e-9)
    largest = sorted((cost.peak_bytes for cost in others), reverse=True)[:processes]
    return Budget(
        items=items,
        processes=processes,
        survey_seconds=survey_seconds,
        wall_seconds=own.wall_seconds,
        items_per_second=items / own.wall_seconds,
        items_per_second_per_core=per_core,
        batch_items=batch_items,
        batch_p50_seconds=float(np.quantile(seconds, 0.5)),
        batch_p99_seconds=float(np.quantile(seconds, 0.99)),
        peak_bytes=own.peak_bytes + sum(largest),
        items_a_day=items_a_day,
        workers=math.ceil(items_a_day / (per_core * DAY)),
    )
