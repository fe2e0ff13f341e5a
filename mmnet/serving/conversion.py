"""A signature of an export as ONNX, which other runtimes than TensorFlow read; made once and kept.

Variables are frozen into constants, so the file stands for one export. An export itself is never
changed: the files lie in a directory of their own, named by the export's fingerprint and by their
own content.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mmnet.checks import InputError, did_you_mean
from mmnet.files import write_atomic
from mmnet.hashing import sha256
from mmnet.serving import bundle
from mmnet.serving.exported import AboutShareRates

CACHE = "runs/onnx_cache"
"""Where converted signatures are kept, if nothing else is said."""
FORMAT = 1
"""Raised when an older version's files can no longer be used."""
OPSET = 17
_DIGITS = 16
"""Of a file's SHA-256, which end its name: an edited file no longer has the name of its content."""
EXTRA = "pip install 'mmnet[fast]'"


def converted(directory: Path, signature: str, cache: str | Path = CACHE) -> Path:
    """Gives the ONNX file of a signature, and makes it if it is not there yet.

    Its inputs and outputs have the signature's names; the batch axis is free.

    Args:
        directory: of one version of an export.
        signature: of named tensors: strings are read by TensorFlow only.
        cache: directory of all converted signatures, which processes may share.

    Raises:
        InputError: there is no such signature, it has an operation that ONNX has not, the extra
            `fast` is not installed, or the cache cannot be written.
    """
    folder, stem = Path(cache), f"{fingerprint(directory)[:16]}-{signature}"
    for path in folder.glob(f"{stem}-{'[0-9a-f]' * _DIGITS}.onnx"):
        if path == _named(folder, stem, path):
            return path
        path.unlink(missing_ok=True)  # damaged or edited
    try:
        folder.mkdir(parents=True, exist_ok=True)  # fails before the work rather than after
        content = _convert(directory, signature).SerializeToString()
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
        return write_atomic(folder / f"{stem}-{digest}.onnx", content)
    except OSError as error:
        told = error.strerror or error
        raise InputError(f"{folder / stem}.onnx cannot be written: {told}") from None


def _named(folder: Path, stem: str, path: Path) -> Path | None:
    """What a converted signature's file must be called, which its content decides."""
    try:
        return folder / f"{stem}-{sha256(path)[:_DIGITS]}.onnx"
    except OSError:
        return None


def fingerprint(directory: Path) -> str:
    """SHA-256 in hex of what decides a converted signature: graph, weights, way of converting.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    lines = [f"format {FORMAT}, opset {OPSET}"]
    try:
        files = [directory / "saved_model.pb", *sorted((directory / "variables").iterdir())]
        lines += [f"{sha256(file)} {file.relative_to(directory)}" for file in files]
    except OSError as error:
        raise InputError(
            f"--saved_model={directory} cannot be read ({error.filename}: {error.strerror}); "
            "--verify says what is damaged"
        ) from None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.lru_cache(maxsize=2)
def _loaded(directory: Path, written_ns: int) -> Any:
    """An export; its signatures are opened one after the other, and share its weights."""
    del written_ns  # another one in the same place is another one
    return bundle.load(directory, AboutShareRates)[0]


def signature_of(directory: Path, name: str) -> tuple[Any, Any]:
    """Loads a signature of an export.

    Returns:
        The loaded module, whose life is that of the weights, and the signature.

    Raises:
        InputError: it has no such signature.
    """
    loaded = _loaded(directory, (directory / "saved_model.pb").stat().st_mtime_ns)
    found = sorted(loaded.signatures)
    if name not in found:
        raise InputError(
            f"{directory} has no signature {name}; it has {', '.join(found)}"
            f"{did_you_mean(name, found)}"
        )
    return loaded, loaded.signatures[name]


def _convert(directory: Path, signature: str) -> Any:
    try:
        import onnx
        import tf2onnx
    except ImportError:
        raise InputError(f"converting to ONNX needs the extra fast: {EXTRA}") from None
    loaded, function = signature_of(directory, signature)
    frozen = convert_variables_to_constants_v2(function)
    graph = frozen.graph.as_graph_def()
    kinds = {attribute.type for node in graph.node for attribute in node.attr.values()}
    if tf.bfloat16.as_datatype_enum in kinds:  # tf2onnx takes it for float16
        raise _unknown(directory, signature, "it was trained with --precision=mixed_bfloat16")
    # `structured_outputs` is a dict, which TensorFlow flattens in the order of its keys.
    names = {tensor.name: tensor.name.removesuffix(":0") for tensor in frozen.inputs}
    outputs = zip(frozen.outputs, sorted(function.structured_outputs), strict=True)
    names |= {tensor.name: name for tensor, name in outputs}
    try:
        with _quiet():
            model, _ = tf2onnx.convert.from_graph_def(
                graph,
                input_names=[tensor.name for tensor in frozen.inputs],
                output_names=[tensor.name for tensor in frozen.outputs],
                tensors_to_rename=names,
                opset=OPSET,
            )
    except Exception as error:  # of many kinds, whatever a rewriter stumbles over
        first = str(error).partition("\n")[0]
        raise _unknown(directory, signature, f"{type(error).__name__}: {first}") from error
    del loaded
    # An operation that it cannot convert, tf2onnx leaves as it is.
    nodes = model.graph.node
    foreign = {node.op_type for node in nodes if not onnx.defs.has(node.op_type, node.domain)}
    if foreign:
        raise _unknown(directory, signature, ", ".join(sorted(foreign)))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _unknown(directory: Path, signature: str, what: str) -> InputError:
    return InputError(
        f"the signature {signature} of {directory} cannot be converted to ONNX ({what}); "
        "use --runtime=tensorflow"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the converter's notes, on TensorFlow 1 functions and on nodes, from the console."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
