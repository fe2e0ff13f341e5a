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
from multiprocessing.connection import Connection, wait
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


def _made(function: str, *arguments: Any) -> Any:
    """What `module:function` makes of some arguments; the module is loaded here first."""
    module, _, name = function.partition(":")
    load_tensorflow(keras=False)
    return getattr(importlib.import_module(module), name)(*arguments)


def apart(function: str, *arguments: Any) -> Any:
    """Calls `module:function` in a process of one core, and gives back what it returned.

    Raises:
        InputError: what it found wrong with its input.
        RuntimeError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with _environment(ONE_THREAD):
        process = context.Process(target=_call, args=(function, arguments, theirs), daemon=True)
        process.start()
    theirs.close()
    try:
        kind, told = ours.recv()
    except EOFError:
        kind, told = "failed", "it ended"
    finally:
        _stop(process)
    return _told(kind, told)


def _call(function: str, arguments: Sequence[Any], connection: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with _errors_told(connection):
        connection.send(("returned", _made(function, *arguments)))


def _told(kind: str, told: Any) -> Any:
    if kind == "wrong":
        raise InputError(told)
    if kind == "failed":
        raise RuntimeError(f"a scoring process failed:\n{told}")
    return told


@contextlib.contextmanager
def _errors_told(connection: Connection) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        connection.send(("wrong", str(error)))
    except Exception:
        connection.send(("failed", traceback.format_exc()))


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
        InputError: what a process found wrong with its input.
        RuntimeError: a process ended before its work did.
    """
    context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    costs: list[Cost] = []
    todo = iter(blocks)
    with contextlib.ExitStack() as stack:
        running = {}
        stack.enter_context(_environment(ONE_THREAD))
        for _ in range(min(number, len(blocks))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(make, directory, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(_stop, process)
            running[ours] = process
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                try:
                    kind, told = connection.recv()
                except EOFError:
                    code = running[connection].exitcode
                    raise RuntimeError(
                        f"a scoring process ended with exit code {code}; what is written stays, "
                        "and the same command goes on from there"
                    ) from None
                told = _told(kind, told)
                if kind == "cost":
                    costs.append(Cost.model_validate_json(told))
                    del running[connection]
                    continue
                if kind == "scored":
                    done(told)
                connection.send(next(todo, None))
    return costs


def _serve(make: Make, directory: str, connection: Connection) -> None:
    """A process: asks for blocks until there are none left."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with _errors_told(connection):
        work = _made(make, directory)
        connection.send(("ready", 0))
        while (number := connection.recv()) is not None:
            connection.send(("scored", work(number)))
        connection.send(("cost", work.cost().model_dump_json()))


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _stop(process: Any) -> None:
    process.join(1)
    if process.is_alive():
        process.kill()
        process.join()


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
_MADE: dict[str, Any] = {}


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
                    if self._directory not in _MADE:
                        _MADE[self._directory] = _made(self._make, self._directory)
                    work = _MADE[self._directory]
                    told["items"] = work(number)
                    told["cost"] = work.cost().model_dump_json()
                except InputError as error:
                    told["wrong"] = str(error)
                yield pa.RecordBatch.from_pylist([told])
