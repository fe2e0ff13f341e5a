"""Loading TensorFlow: late, quietly, and no more of it than is used."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Iterator

UNUSED = ("matplotlib", "sklearn")
"""What Keras imports where it is installed, for galleries of pictures and for wrappers that nothing
here calls: a third of the time that loading takes."""

KERAS = "keras.src.optimizers"
"""By which TensorFlow imports Keras in the end, and goes on where it cannot."""


def load_tensorflow(*, keras: bool = True) -> None:
    """Loads TensorFlow unless it is loaded; to be called before the first import that needs it.

    Args:
        keras: loads Keras as well. TensorFlow itself, and a SavedModel, do without.
    """
    wanted = ("tensorflow", "keras") if keras else ("tensorflow",)
    missing = [name for name in wanted if name not in sys.modules]
    if not missing:
        return
    with startup_notes_hidden(), _not_installed(UNUSED if keras else (KERAS, *UNUSED)):
        for name in missing:
            importlib.import_module(name)


@contextlib.contextmanager
def startup_notes_hidden() -> Iterator[None]:
    """Hides what TensorFlow's C++ code writes to stderr while it loads; exceptions still show."""
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
    """Makes packages that are not loaded yet look as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # this is how Python spells it
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]
