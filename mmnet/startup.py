"""Loads TensorFlow late, without startup messages, and without packages that mmnet never uses."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator

from mmnet.checks import InputError

UNUSED = ("matplotlib", "sklearn")
"""Optional imports of Keras, for image galleries and wrappers that mmnet never calls; they take a
third of the loading time."""

KERAS = "keras.src.optimizers"
"""The module by which TensorFlow imports Keras; if that fails, TensorFlow works without Keras."""


def load_tensorflow(*, keras: bool = True) -> None:
    """Loads TensorFlow unless it is loaded; call this before the first import that needs it.

    Args:
        keras: whether to load Keras as well, which TensorFlow and SavedModels do not need.
    """
    wanted = ("tensorflow", "keras") if keras else ("tensorflow",)
    missing = [name for name in wanted if name not in sys.modules]
    if not missing:
        return
    # Otherwise a process takes all memory of every GPU, and the next one finds none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    with startup_notes_hidden(), _not_installed(UNUSED if keras else (KERAS, *UNUSED)):
        for name in missing:
            importlib.import_module(name)
    if "tensorflow" in missing:
        _set_up()


def _set_up() -> None:
    tf = importlib.import_module("tensorflow")
    # In a notebook it would log each file that it writes.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    # On a GPU, the factors of float32 products would otherwise be rounded to 10 bits, and the
    # checks of an export compare scores more closely than that. On a CPU it changes nothing.
    tf.config.experimental.enable_tensor_float_32_execution(False)


@contextlib.contextmanager
def startup_notes_hidden() -> Iterator[None]:
    """Hides the messages of TensorFlow's C++ code while it loads; exceptions are still shown."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _not_installed(names: Iterable[str]) -> Iterator[None]:
    """Makes packages that are not yet loaded appear not to be installed."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # this is how Python spells it
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]


def devices_for(number: int) -> list[str]:
    """Names of the first devices: GPUs, or logical CPU devices if TensorFlow sees no GPU.

    A process has several logical CPU devices only if it has asked for them by
    `tf.config.set_logical_device_configuration`, as tests do; they share the machine's cores.
    TensorFlow is loaded, but its runtime is not started.

    Raises:
        InputError: there are fewer.
    """
    load_tensorflow()
    tf = importlib.import_module("tensorflow")
    gpus = len(tf.config.list_physical_devices("GPU"))
    kind, found = "GPU", gpus
    if not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        kind, found = "CPU", len(tf.config.get_logical_device_configuration(cpu) or [cpu])
    if found < number:
        seen = f"{gpus or 'no'} GPU{'s' * (gpus > 1)}"
        raise InputError(
            f"--devices={number}: TensorFlow sees {seen} on this machine; use --devices="
            f"{max(gpus, 1)}, or see docs/accelerators.md for why a GPU may not be found"
        )
    return [f"{kind}:{place}" for place in range(number)]
