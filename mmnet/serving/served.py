"""Signatures as a server calls them, on TensorFlow or another runtime: arrays in and arrays out.

`"extra"` of `model-settings.json` names the runtime. TensorFlow starts hundreds of operations for
each call, which is most of what a call of one row costs; ONNX Runtime and OpenVINO compute the same
scores with a fraction of it. They run the signatures of tensors. Strings are TensorFlow's alone: of
`raw_columns`, it reads the columns (`Servable.read_columns`), and the other runtime scores them.
`examples` and `decide` stay with TensorFlow. A runtime that does not score the golden rows as
TensorFlow does is refused, by the rule of `choosing.PARITY`.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from mmnet.checks import InputError, did_you_mean, quoted
from mmnet.serving import bundle, choosing, conversion, requests
from mmnet.serving.golden import Golden
from mmnet.serving.requests import RequestError
from mmnet.serving.runtimes import Arrays, Runtime, opened
from mmnet.serving.shared_calls import FEW

TENSORFLOW, FASTEST = "tensorflow", "fastest"
OTHERS: tuple[Runtime, ...] = ("onnx", "openvino")
WHOLE, RAW = "serving_default", "raw_columns"
FILE = "model-settings.json"
MEASURED = (1, FEW)
"""Rows of the calls that runtimes are compared by: one client, and many."""
ROUNDS, REPEATS = 5, 8
"""Rounds, and calls of each runtime per round; the round with the least CPU counts."""

Call = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Settings:
    """Settings in `"extra"` of `model-settings.json`.

    Attributes:
        runtime: runtime of the signatures of tensors; fastest measures those that are installed.
        cache: directory of converted signatures.
    """

    runtime: str = TENSORFLOW
    cache: str = conversion.CACHE


def settings(extra: Mapping[str, Any] | None) -> Settings:
    """Reads the settings.

    Raises:
        InputError: there is no such setting or runtime.

    >>> settings({"runtime": "onnx"}).runtime
    'onnx'
    >>> settings({"runtimes": "onnx"})
    Traceback (most recent call last):
    ...
    mmnet.checks.InputError: model-settings.json: "extra" may have runtime and cache. Received: \
'runtimes'. Did you mean runtime?
    """
    names = [field.name for field in fields(Settings)]
    for name, value in (extra or {}).items():
        if name not in names:
            raise _refused(
                f'"extra" may have {" and ".join(names)}. Received: {quoted(name, 60)}'
                f"{did_you_mean(str(name), names)}"
            )
        if not isinstance(value, str) or not value:
            raise _refused(f'"{name}" must be a text. Received: {quoted(value, 60)}')
    found, known = Settings(**(extra or {})), (TENSORFLOW, *OTHERS, FASTEST)
    if found.runtime not in known:
        raise _refused(
            f'"runtime" must be one of {", ".join(known)}. Received: {quoted(found.runtime, 60)}'
            f"{did_you_mean(found.runtime, known)}"
        )
    return found


def _refused(sentence: str) -> InputError:
    return InputError(f"{FILE}: {sentence}")


def _in_settings(error: InputError) -> str:
    """Returns what is wrong; what is a flag of commands is a setting here."""
    return re.sub(r"--runtime=(\w+)", r'"runtime": "\1"', str(error))


def run(function: Any, arrays: Arrays) -> Arrays:
    """Calls a function of TensorFlow.

    Raises:
        RequestError: the model refuses the inputs.
    """
    try:
        found = function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(requests.reason(error.message)) from None


def calls_of(
    loaded: Any,
    path: Path,
    chosen: Settings,
    goldens: Iterable[Golden],
    *,
    scales: Mapping[str, float] | None,
    calls: int = 1,
) -> tuple[dict[str, Call], list[str]]:
    """Opens the signatures of an export.

    Args:
        loaded: the SavedModel, which keeps its variables alive.
        path: its directory.
        chosen: runtime and cache.
        goldens: batches of the signatures, by which runtimes are compared with TensorFlow.
        scales: output by name -> sd of its rate, percent; None of the second system.
        calls: number of calls at a time, each in one thread.

    Returns:
        Functions by signature, which any thread may call, and lines for the log.

    Raises:
        InputError: the runtime is not installed, cannot run the model, or scores otherwise than
            TensorFlow does.
    """
    found: dict[str, Call] = {
        name: functools.partial(run, function) for name, function in loaded.signatures.items()
    }
    if chosen.runtime == TENSORFLOW:
        return found, []
    if scales is None:
        why = '"runtime" is for share rates: exports of MMa4CTR, as this one, stay with TensorFlow'
        if chosen.runtime == FASTEST:
            return found, [why]
        raise _refused(f'{why}; use "runtime": "tensorflow"')
    opening = _Opening(loaded, path, chosen.cache, found, goldens, scales, calls)
    try:
        if chosen.runtime == FASTEST:
            return opening.fastest()
        return opening.on(chosen.runtime)
    finally:
        bundle.release()


class _Opening:
    """Opens the signatures of one export on runtimes; the arguments are those of `calls_of`."""

    def __init__(
        self,
        loaded: Any,
        path: Path,
        cache: str,
        found: Mapping[str, Call],
        goldens: Iterable[Golden],
        scales: Mapping[str, float],
        calls: int,
    ):
        self._loaded, self._path, self._cache = loaded, path, cache
        self._found, self._scales, self._calls = found, scales, calls
        self._inputs: dict[str, Arrays] = {}
        for batch in goldens:
            if batch.signature in found:
                self._inputs[batch.signature] = batch.inputs  # of several, the last is the largest
        self._wanted = functools.cache(lambda name: found[name](self._inputs[name]))
        names = [name for name in self._inputs if _of_tensors(loaded.signatures[name])]
        names.sort(key=lambda name: name != WHOLE)  # what it lacks, all of them do
        self._names = names if WHOLE in self._inputs else []
        self._open = functools.cache(self._opened)

    def on(self, runtime: str) -> tuple[dict[str, Call], list[str]]:
        """Opens all signatures that a runtime can run; see `calls_of`."""
        found, lines = dict(self._found), []
        if not self._names:
            raise _refused(
                f'"runtime": "{runtime}" is checked by golden rows of serving_default, which this '
                'export does not have; export the model again, or use "runtime": "tensorflow"'
            )
        for name in self._names:
            try:
                found[name] = self._open(name, runtime)
            except InputError as error:
                if name == WHOLE:
                    raise _refused(_in_settings(error)) from None
                lines.append(f"{name} stays with TensorFlow: {_in_settings(error)}")
        if (read := getattr(self._loaded, "read_columns", None)) is not None:
            found[RAW] = functools.partial(_both, read, found[WHOLE])
        elif RAW in found:
            lines.append(
                f"{RAW} stays with TensorFlow, as an earlier version of mmnet wrote this export; "
                "export the model again with this version"
            )
        for name, call in found.items():
            if call is not self._found[name] and name in self._inputs:
                self._check(name, call, runtime)
        return found, lines

    def fastest(self) -> tuple[dict[str, Call], list[str]]:
        """Opens the runtime whose calls of `MEASURED` rows take the least CPU; see `calls_of`."""
        tried: dict[str, Call] = {TENSORFLOW: self._found[WHOLE]}
        lines = []
        for runtime in OTHERS if self._names else ():
            try:
                call = self._open(WHOLE, runtime)
                self._check(WHOLE, call, runtime)
                tried[runtime] = call
            except InputError as error:
                lines.append(_in_settings(error))
        spent = _measured(tried, self._inputs[WHOLE]) if len(tried) > 1 else {TENSORFLOW: []}
        # By the product, a call of many rows counts no more than one of a single row.
        order = sorted(spent, key=lambda name: float(np.prod(spent[name])))
        best: str = TENSORFLOW
        found, more = dict(self._found), list[str]()
        for other in order[: order.index(TENSORFLOW)]:
            try:
                found, more = self.on(other)
                best = other
                break
            except InputError as error:
                lines.append(str(error))
        told = [
            f"{name} {' and '.join(f'{one * 1e3:.2f}' for one in took)}"
            for name, took in spent.items()
            if took
        ]
        rows = " and ".join(map(str, MEASURED))
        of = f"; CPU of calls of {rows} rows in ms: {', '.join(told)}" if told else ""
        return found, [f"the fastest runtime is {best}{of}", *lines, *more]

    def _opened(self, name: str, runtime: str) -> Call:
        of: Runtime = next(one for one in OTHERS if one == runtime)
        signature = opened(self._path, name, runtime=of, calls=self._calls, cache=self._cache)
        return functools.partial(_ordered, signature, list(self._wanted(name)))

    def _check(self, name: str, call: Call, runtime: str) -> None:
        """Refuses a runtime that does not return what TensorFlow does."""
        far = choosing.deviation(self._wanted(name), call(self._inputs[name]), self._scales)
        if not far <= choosing.PARITY:
            raise _refused(
                f'"runtime": "{runtime}" differs from TensorFlow by {far:.1e} of a score in '
                f'{name}, but only {choosing.PARITY:g} is allowed; use "runtime": "tensorflow"'
            )


def _of_tensors(function: Any) -> bool:
    """Whether a signature reads tensors of networks, not the texts and counts of tables."""
    dtypes = {spec.dtype for spec in requests.input_specs(function).values()}
    return dtypes <= {tf.float32, tf.int32}


def _ordered(call: Call, names: Sequence[str], arrays: Arrays) -> Arrays:
    """Returns outputs in the order of TensorFlow's, which answers have."""
    found = call(arrays)
    return {name: found[name] for name in names}


def _both(read: Any, score: Call, columns: Arrays) -> Arrays:
    return score(run(read, columns))


def _measured(tried: Mapping[str, Call], inputs: Arrays) -> dict[str, list[float]]:
    """Returns CPU seconds of a call of each number of `MEASURED` rows; runtimes take turns.

    CPU and not time: calls share the cores with others, and TensorFlow's may use several.
    """
    found: dict[str, list[float]] = {name: [] for name in tried}
    for rows in MEASURED:
        part = sample(inputs, rows)
        spent: dict[str, list[float]] = {name: [] for name in tried}
        for number in range(ROUNDS + 1):
            for name, call in tried.items():
                began = time.process_time()
                for _ in range(REPEATS):
                    call(part)
                if number:  # the first round also compiles
                    spent[name].append((time.process_time() - began) / REPEATS)
        for name, took in spent.items():
            found[name].append(min(took))
    return found


def sample(inputs: Mapping[str, np.ndarray], rows: int) -> Arrays:
    """Returns as many rows of a batch, which repeats if it has fewer."""
    return {name: array[np.arange(rows) % len(array)] for name, array in inputs.items()}
