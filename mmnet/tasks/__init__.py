"""The wiring: config -> dataset -> model -> training -> evaluation -> export -> scores.

Each driver makes one call to the task of its name. A task looks at flags, paths and headers first;
what it computes with, TensorFlow above all, is loaded after that.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnet.tasks.experimenting import experiment
    from mmnet.tasks.inspecting import inspect
    from mmnet.tasks.night import nightly
    from mmnet.tasks.preparing import encode, prepare
    from mmnet.tasks.scoring import drift, predict
    from mmnet.tasks.starting import evaluate, train, trainer

__all__ = [
    "drift",
    "encode",
    "evaluate",
    "experiment",
    "inspect",
    "nightly",
    "predict",
    "prepare",
    "train",
    "trainer",
]

_FILES = {
    "inspect": "inspecting",
    "prepare": "preparing",
    "encode": "preparing",
    "train": "starting",
    "trainer": "starting",
    "evaluate": "starting",
    "predict": "scoring",
    "drift": "scoring",
    "experiment": "experimenting",
    "nightly": "night",
}


def __getattr__(name: str) -> Any:
    """Loads the file of one task, and not those of the others."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
