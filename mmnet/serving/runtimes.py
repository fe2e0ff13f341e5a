"""Signatures of an export on one of several runtimes, with the same interface for all.

`tensorflow` runs the SavedModel as it is, `xla` compiles it with TensorFlow's own compiler; `onnx`
(ONNX Runtime) and `openvino` run a converted model, and need the extra `fast`.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from mmnet.checks import InputError, at_least, did_you_mean
from mmnet.serving.conversion import CACHE, EXTRA, converted, signature_of
from mmnet.serving.exported import version_directory

Runtime = Literal["tensorflow", "xla", "onnx", "openvino"]
Precision = Literal["float32", "bfloat16"]
RUNTIMES: tuple[Runtime, ...] = ("tensorflow", "xla", "onnx", "openvino")
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
TILE = 240
"""Rows computed at a time: their activations fit into a core's cache. Matrix products take up to 48
rows at once, depending on the processor, and add up those left over in another order. A multiple of
48 leaves none over, so a row has the same score in every place."""
SIZES: dict[Runtime, tuple[int, ...]] = {
    "xla": (1, 16, TILE),
    "openvino": (1, 4, 16, 64, 128, TILE),
}
"""Batch sizes of runtimes that compile for a size; a smaller batch is padded to the next size. XLA
compiles for seconds. With OpenVINO a row has the same score in every place of each of these."""
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
"""CPU flags of native bfloat16; without them it is emulated, and slower."""

Arrays = dict[str, np.ndarray]


class OpenSignature:
    """An open signature: arrays in and arrays out, by name, in batches of any size.

    Any number of threads may call it.

    Args:
        run: computes the outputs of one part of a batch.
        inputs: name -> dtype and shape after the batch axis.
        runtime: name of the runtime.
        precision: dtype of matrix products.
        sizes: batch sizes that `run` accepts, ascending; empty: any size up to `TILE`.
    """

    def __init__(
        self,
        run: Callable[[Arrays], Arrays],
        inputs: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
        *,
        runtime: Runtime,
        precision: Precision = "float32",
        sizes: Sequence[int] = (),
    ):
        self.inputs, self.runtime, self.precision = dict(inputs), runtime, precision
        self._run, self._sizes = run, tuple(sizes)

    def __call__(self, tensors: Mapping[str, np.ndarray]) -> Arrays:
        """Returns every output, [batch, ...].

        Args:
            tensors: every input, [batch, ...]; other names are ignored. float16 and
                other dtypes are cast to the signature's own.

        Raises:
            ValueError: an input is missing, has another shape, or another batch size.
        """
        given = self._checked(tensors)
        rows = len(next(iter(given.values())))
        parts = [self._part(given, start) for start in range(0, max(rows, 1), TILE)]
        return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}

    def _part(self, given: Arrays, start: int) -> Arrays:
        part = {name: array[start : start + TILE] for name, array in given.items()}
        rows = len(next(iter(part.values())))
        size = next((size for size in self._sizes if size >= rows), max(rows, 1))
        if size > rows:
            part = {
                name: np.concatenate(
                    [array, np.zeros((size - rows, *array.shape[1:]), array.dtype)]
                )
                for name, array in part.items()
            }
        return {name: array[:rows] for name, array in self._run(part).items()}

    def _checked(self, tensors: Mapping[str, np.ndarray]) -> Arrays:
        missing = sorted(set(self.inputs) - set(tensors))
        if missing:
            raise ValueError(f"`tensors` has no {', '.join(missing)}")
        given = {
            name: np.ascontiguousarray(tensors[name], dtype)
            for name, (dtype, _) in self.inputs.items()
        }
        shapes = {name: shape for name, (_, shape) in self.inputs.items()}
        rows = {len(array) for array in given.values()}
        if len(rows) > 1 or any(given[name].shape[1:] != shape for name, shape in shapes.items()):
            found = ", ".join(f"{name} {array.shape}" for name, array in given.items())
            raise ValueError(
                f"`tensors` must have one batch axis, followed by the shapes {shapes}. "
                f"Received: {found}"
            )
        return given


def opened(
    directory: str | Path,
    signature: str,
    *,
    runtime: Runtime = "tensorflow",
    precision: Precision = "float32",
    threads: int = 1,
    calls: int = 1,
    cache: str | Path = CACHE,
) -> OpenSignature:
    """Opens a signature of an export on a runtime.

    Args:
        directory: directory of a version, or of all versions for the newest one.
        signature: name of a signature of named tensors: `serving_default`, `explained`, `static`
            or `from_static`.
        runtime: name of the runtime.
        precision: "bfloat16" computes matrix products with 8 bits of mantissa: on OpenVINO, if
            the processor supports it. Check `choosing.quality` first.
        threads: number of threads per batch. TensorFlow has one setting for the whole process,
            which only takes effect if TensorFlow has not been used before.
        calls: number of calls that OpenVINO computes at a time; further ones wait. The other
            runtimes compute each call in the thread that makes it.
        cache: directory of converted signatures.

    Raises:
        InputError: the export, signature, runtime or precision does not exist, the signature cannot
            be converted, the extra `fast` is not installed, or the processor lacks bfloat16.
    """
    for flag, value, known in (
        ("runtime", runtime, RUNTIMES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in known:
            raise InputError(
                f"--{flag} must be one of {', '.join(known)}. Received: --{flag}={value}"
                f"{did_you_mean(value, known)}"
            )
    at_least(1, threads=threads)
    at_least(1, calls=calls)
    if precision == "bfloat16" and runtime != "openvino":
        raise InputError(
            f"--precision=bfloat16 needs --runtime=openvino. Received: --runtime={runtime}"
        )
    path = version_directory(directory)
    if runtime == "onnx":
        return _onnx(path, signature, threads, cache)
    if runtime == "openvino":
        return _openvino(path, signature, precision, threads, calls, cache)
    return _tensorflow(path, signature, threads, compiled=runtime == "xla")


# ---------------------------------------------------------------------------------- runtimes


def _tensorflow(path: Path, signature: str, threads: int, *, compiled: bool) -> OpenSignature:
    with contextlib.suppress(RuntimeError):  # TensorFlow is already in use, with its own threads
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded, function = signature_of(path, signature)
    specs = function.structured_input_signature[1]
    if compiled and any(spec.dtype == tf.string for spec in specs.values()):
        raise InputError(f"--runtime=xla cannot read strings, as the signature {signature} does")
    call = tf.function(lambda **tensors: function(**tensors), jit_compile=True)

    def run(part: Arrays, program: Any = (call if compiled else function, loaded)) -> Arrays:
        # A signature does not keep its variables alive; its module does.
        found = program[0](**{name: tf.constant(array) for name, array in part.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}

    inputs = {
        name: (np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape[1:]))
        for name, spec in specs.items()
    }
    if compiled:
        return OpenSignature(run, inputs, runtime="xla", sizes=SIZES["xla"])
    return OpenSignature(run, inputs, runtime="tensorflow")


def _onnx(path: Path, signature: str, threads: int, cache: str | Path) -> OpenSignature:
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnx") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only
    with _readable(converted(path, signature, cache)) as file:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(float)": np.dtype(np.float32), "tensor(int32)": np.dtype(np.int32)}
    inputs = {one.name: (dtypes[one.type], tuple(one.shape[1:])) for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]

    def run(part: Arrays) -> Arrays:
        return dict(zip(outputs, session.run(outputs, part), strict=True))

    return OpenSignature(run, inputs, runtime="onnx")


def _openvino(
    path: Path, signature: str, precision: Precision, threads: int, calls: int, cache: str | Path
) -> OpenSignature:
    core, sizes = _openvino_core(), SIZES["openvino"]
    if precision == "bfloat16" and not has_bfloat16():
        raise InputError(
            "--precision=bfloat16 needs a processor with "
            f"{' or '.join(BFLOAT16_FLAGS)}, which this one lacks; use --precision=float32"
        )
    with _readable(converted(path, signature, cache)) as file:
        model = core.read_model(file)
    settings = {
        # Otherwise it would choose bfloat16 by itself if the processor has it.
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        "INFERENCE_NUM_THREADS": threads * calls,
        "NUM_STREAMS": calls,
        "ENABLE_CPU_PINNING": False,  # otherwise two processes would be pinned to the same core
    }

    @functools.cache
    def program(rows: int) -> Any:
        # Fixed shapes: a third faster than one program for all sizes.
        sized = model.clone()
        sized.reshape({one.any_name: [rows, *list(one.partial_shape)[1:]] for one in sized.inputs})
        return core.compile_model(sized, "CPU", settings)

    # A request serves one call at a time: a thread takes one that is idle, or makes one.
    idle: dict[int, list[Any]] = {size: [] for size in sizes}
    compiling = threading.Lock()

    def run(part: Arrays) -> Arrays:
        rows = len(next(iter(part.values())))
        try:
            request = idle[rows].pop()
        except IndexError:
            with compiling:
                request = program(rows).create_infer_request()
        try:
            found = request.infer(part, share_inputs=True)
            return {name.any_name: array for name, array in found.items()}
        finally:
            idle[rows].append(request)

    inputs = {
        one.any_name: (
            np.dtype(one.element_type.to_dtype()),
            tuple(axis.get_length() for axis in list(one.partial_shape)[1:]),
        )
        for one in model.inputs
    }
    return OpenSignature(run, inputs, runtime="openvino", precision=precision, sizes=sizes)


def _missing(runtime: Runtime) -> InputError:
    return InputError(f"--runtime={runtime} needs the extra fast: {EXTRA}")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[str]:
    try:
        yield str(path)
    except Exception as error:  # each runtime has its own exceptions
        told = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} cannot be read ({told}); delete it and it will be rebuilt"
        ) from error


def has_bfloat16() -> bool:
    """Checks whether this processor has native bfloat16, and OpenVINO supports it.

    Raises:
        InputError: the extra `fast` is not installed.
    """
    if "BF16" not in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return False
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return True
    return any(flag in told for flag in BFLOAT16_FLAGS)


@functools.cache
def _openvino_core() -> Any:
    # Importing OpenVINO sends analytics to its vendor; without this package it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise _missing("openvino") from None
    return openvino.Core()
