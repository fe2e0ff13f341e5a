"""Processes that score the blocks of a catalogue: this one, several on this host, or Spark's.

All of them do the same: take a block, score it, write its file. They share nothing else.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

from mmnet.checks import InputError
from mmnet.serving.budget import Cost
from mmnet.startup import load_tensorflow

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
"""A process uses one core: several processes scale, whereas threads would wait for each other."""

Make = str
"""`module:function`, which maps the directory of a job to a worker. The worker scores and writes a
block by its number and returns the number of items; its method `cost` returns its cost so far."""


def here(work: Any, blocks: Sequence[int], done: Callable[[int], None]) -> Cost:
    """Scores blocks in this process, and returns its cost.

    Args:
        work: the worker.
        blocks: numbers of the blocks.
        done: called with the number of items of each block.
    """
    for number in blocks:
        done(work(number))
    return work.cost()


def apart(function: str, *arguments: Any) -> Any:
    """Calls `module:function` in a process of one core, and returns its result.

    Raises:
        InputError: the function raised it.
        RuntimeError: the function failed.
    """
    with pool(1) as one:
        return one.submit(guarded, _made, function, *arguments).result()


def processes(
    make: Make,
    directory: str,
    blocks: Sequence[int],
    done: Callable[[int], None],
    *,
    number: int,
) -> list[Cost]:
    """Scores blocks in several processes of this host, each on one core.

    Args:
        make: name of the function that makes the worker in each process.
        directory: directory of the job.
        blocks: numbers of the blocks.
        done: called with the number of items of each block.
        number: number of processes.

    Returns:
        The cost of each process.

    Raises:
        InputError: a process raised it; blocks already begun by the others are finished first.
        RuntimeError: a process failed, or was killed.
    """
    costs: dict[str, Cost] = {}
    with pool(min(number, len(blocks))) as started:
        scored = [started.submit(guarded, _scored, make, directory, block) for block in blocks]
        for future in as_completed(scored):
            items, cost = future.result()
            done(items)
            known = costs.get(cost.process)
            if known is None or known.wall_seconds < cost.wall_seconds:
                costs[cost.process] = cost
    return list(costs.values())


@contextlib.contextmanager
def pool(number: int) -> Iterator[ProcessPoolExecutor]:
    """Starts processes of one core each; they end with the block, an interrupt or this process.

    Raises:
        RuntimeError: one of them was killed.
    """
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with _environment(ONE_THREAD):  # processes are started on demand
        executor = ProcessPoolExecutor(number, context, initializer=_watch_parent)
        try:
            yield executor
        except BrokenProcessPool:
            raise RuntimeError(
                "a scoring process was killed, possibly because it ran out of memory; run the same "
                "command again, which resumes from the files in a directory of scores"
            ) from None
        except KeyboardInterrupt:  # blocks may take minutes, and partial ones are discarded
            for process in multiprocessing.active_children():
                process.kill()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


def _watch_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent process has ended in any way."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; exceptions other than wrong input keep their traceback in the message."""
    try:
        return function(*arguments)
    except InputError:
        raise
    except Exception:
        raise RuntimeError(f"a scoring process failed:\n{traceback.format_exc()}") from None


def _made(function: str, *arguments: Any) -> Any:
    """Calls `module:function` with some arguments, after importing the module."""
    module, _, name = function.partition(":")
    load_tensorflow(keras=False)
    return getattr(importlib.import_module(module), name)(*arguments)


_WORKERS: dict[str, Any] = {}
"""Directory of a job -> the worker of this process, which is created once."""


def _scored(make: Make, directory: str, block: int) -> tuple[int, Cost]:
    """Scores a block; returns its number of items, and the cost of this process so far."""
    if directory not in _WORKERS:
        _WORKERS[directory] = _made(make, directory)
    work = _WORKERS[directory]
    return work(block), work.cost()


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for processes started inside the context."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def spark(
    make: Make, directory: str, blocks: Sequence[int], done: Callable[[int], None], session: Any
) -> list[Cost]:
    """Scores blocks on Spark's executors; each task is a block, on one core.

    The paper's workers have one core and 8 GB. Executors must see the same files under the same
    paths as this process, and need the package installed.

    Args:
        make: name of the function that makes the worker, once per executor's Python process.
        directory: directory of the job.
        blocks: numbers of the blocks.
        done: called with the number of items of each block.
        session: Spark session.

    Returns:
        The cost of each Python process, at its end.

    Raises:
        InputError: an executor raised it.
    """
    found = session.createDataFrame([(number,) for number in blocks], "block long")
    tasks = found.repartitionByRange(len(blocks), "block")
    costs = {}
    for row in tasks.mapInArrow(_Task(make, directory), TASK).toLocalIterator():
        if row["wrong"]:
            raise InputError(row["wrong"])
        done(row["items"])
        cost = Cost.model_validate_json(row["cost"])
        costs[cost.process] = cost
    return list(costs.values())


TASK = "items long, wrong string, cost string"


class _Task:
    """Spark task that scores the blocks of its numbers."""

    def __init__(self, make: Make, directory: str):
        self._make, self._directory = make, directory

    def __call__(self, batches: Any) -> Iterator[Any]:
        import pyarrow as pa

        for name, value in ONE_THREAD.items():
            os.environ.setdefault(name, value)
        for batch in batches:
            for number in batch.column("block").to_pylist():
                told = {"items": 0, "wrong": "", "cost": ""}
                try:
                    told["items"], cost = _scored(self._make, self._directory, number)
                    told["cost"] = cost.model_dump_json()
                except InputError as error:
                    told["wrong"] = str(error)
                yield pa.RecordBatch.from_pylist([told])
