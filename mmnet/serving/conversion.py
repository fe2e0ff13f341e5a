"""Conversion of signatures to ONNX, for other runtimes than TensorFlow, with a cache.

Variables are frozen into constants, so a file belongs to one export. An export itself is never
changed: the files are in a separate directory, named by the export's fingerprint and by their own
content.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mmnet.checks import InputError, did_you_mean
from mmnet.files import write_atomic
from mmnet.hashing import sha256
from mmnet.serving import bundle
from mmnet.serving.exported import AboutShareRates

CACHE = "runs/onnx_cache"
"""Default directory of converted signatures."""
FORMAT = 1
"""Version of the format; it is increased when older files can no longer be used."""
OPSET = 17
_DIGITS = 16
"""Hexadecimal digits of a file's SHA-256 in its name, by which edited files are detected."""
EXTRA = "pip install 'mmnet[fast]'"


def converted(directory: Path, signature: str, cache: str | Path = CACHE) -> Path:
    """Returns the ONNX file of a signature, converting it if it is not cached.

    Its inputs and outputs have the signature's names; the batch axis is free.

    Args:
        directory: directory of one version of an export.
        signature: name of a signature of named tensors, since only TensorFlow reads strings.
        cache: directory of all converted signatures, which processes may share.

    Raises:
        InputError: the signature does not exist or has an operation that ONNX lacks, the extra
            `fast` is not installed, or the cache cannot be written.
    """
    folder, stem = Path(cache), f"{fingerprint(directory)[:16]}-{signature}"
    for path in folder.glob(f"{stem}-{'[0-9a-f]' * _DIGITS}.onnx"):
        if path == _named(folder, stem, path):
            return path
        path.unlink(missing_ok=True)  # damaged or edited
    try:
        folder.mkdir(parents=True, exist_ok=True)  # fail before the conversion, not after
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
    """Returns a SHA-256 of everything that determines a converted signature.

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
            "find the damage with --verify"
        ) from None
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def signature_of(directory: Path, name: str) -> tuple[Any, Any]:
    """Loads a signature of an export.

    Returns:
        The loaded module, which owns the weights, and the signature.

    Raises:
        InputError: the signature does not exist.
    """
    loaded, _ = bundle.load(directory, AboutShareRates)
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
    if tf.bfloat16.as_datatype_enum in kinds:  # tf2onnx mistakes it for float16
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
                custom_op_handlers={"Log1p": (_log1p, [])},
            )
    except Exception as error:  # of many kinds, depending on the rewriter
        first = str(error).partition("\n")[0]
        raise _unknown(directory, signature, f"{type(error).__name__}: {first}") from error
    del loaded
    # tf2onnx leaves operations that it cannot convert unchanged.
    nodes = model.graph.node
    foreign = {node.op_type for node in nodes if not onnx.defs.has(node.op_type, node.domain)}
    if foreign:
        raise _unknown(directory, signature, ", ".join(sorted(foreign)))
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def _log1p(graph: Any, node: Any, name: str, arguments: Any) -> None:
    """Replaces log1p, which ONNX lacks, by log(1 + x); its inputs are counts and ages, not tiny."""
    del arguments
    (x,) = node.input
    one = graph.make_const(f"{name}_one", np.float32(1).reshape(()))
    shape, dtype = graph.get_shape(x), graph.get_dtype(x)
    added = graph.make_node("Add", [x, one.output[0]], shapes=[shape], dtypes=[dtype])
    graph.replace_input(node, x, added.output[0], 0)
    node.type = "Log"


def _unknown(directory: Path, signature: str, what: str) -> InputError:
    return InputError(
        f"the signature {signature} of {directory} cannot be converted to ONNX ({what}); "
        "use --runtime=tensorflow"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the converter's messages about TensorFlow 1 functions and nodes."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
