"""Who scores the blocks of a catalogue: this process, several on this host, or Spark's executors.

They all do the same: take a block, score it, write its file. Nothing else passes between them.
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
"""A process takes one core: more processes scale where more threads would wait for each other."""

Make = str
"""`module:function`: of the directory of a job makes what scores and writes one of its blocks and
tells how many items it scored; its method `cost` tells what was spent."""


def here(work: Any, blocks: Sequence[int], done: Callable[[int], None]) -> Cost:
    """Scores blocks in this process, and tells what it spent.

    Args:
        work: the worker.
        blocks: their numbers.
        done: is told the items of each block.
    """
    for number in blocks:
        done(work(number))
    return work.cost()


def apart(function: str, *arguments: Any) -> Any:
    """Calls `module:function` in a process of one core, and gives back what it returned.

    Raises:
        InputError: what it found wrong with its input.
        RuntimeError: it failed.
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
    """Scores blocks in processes of this host, each on one core.

    Args:
        make: makes the worker in each process.
        directory: of the job.
        blocks: their numbers.
        done: is told the items of each block.
        number: of processes.

    Returns:
        What each process spent.

    Raises:
        InputError: what a process found wrong with its input; what the others have begun is
            finished first.
        RuntimeError: a process failed, or ended before its work did.
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
    """Processes of one core each; they end with the block, at an interrupt, or with this process.

    Raises:
        RuntimeError: one of them ended before its work did.
    """
    # TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with _environment(ONE_THREAD):  # they are started as they are needed
        executor = ProcessPoolExecutor(number, context, initializer=_watch_parent)
        try:
            yield executor
        except BrokenProcessPool:
            raise RuntimeError(
                "a scoring process ended before its work did, as one does that is killed; run the "
                "same command again, which goes on from the files of a directory of scores"
            ) from None
        except KeyboardInterrupt:  # blocks may take minutes, and a part of one is never seen
            for process in multiprocessing.active_children():
                process.kill()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


def _watch_parent() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function; an error that is not the user's keeps its traceback in its message."""
    try:
        return function(*arguments)
    except InputError:
        raise
    except Exception:
        raise RuntimeError(f"a scoring process failed:\n{traceback.format_exc()}") from None


def _made(function: str, *arguments: Any) -> Any:
    """What `module:function` makes of some arguments; the module is loaded here first."""
    module, _, name = function.partition(":")
    load_tensorflow(keras=False)
    return getattr(importlib.import_module(module), name)(*arguments)


_WORKERS: dict[str, Any] = {}
"""Directory of a job -> the worker of this process, which is made once."""


def _scored(make: Make, directory: str, block: int) -> tuple[int, Cost]:
    """Scores a block; gives its items, and what this process has spent so far."""
    if directory not in _WORKERS:
        _WORKERS[directory] = _made(make, directory)
    work = _WORKERS[directory]
    return work(block), work.cost()


@contextlib.contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Sets environment variables, for the processes that are started meanwhile."""
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
    names as this process, and have the package installed.

    Args:
        make: makes the worker, once in each executor's Python process.
        directory: of the job.
        blocks: their numbers.
        done: is told the items of each block.
        session: of Spark.

    Returns:
        What each Python process spent, at its end.

    Raises:
        InputError: what an executor found wrong with its input.
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
    """What a Spark task does with the numbers of its blocks."""

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
