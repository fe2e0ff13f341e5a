"""MMNet: item-level share rate prediction, from tables of counts to a filter decision.

The names below are the Python API; `docs/python.md` shows it on one page. Each name is loaded when
it is first used, so that `import mmnet` is fast and does not import TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnet import layers, mma4ctr
    from mmnet.api.datasets import Dataset
    from mmnet.api.exports import Export
    from mmnet.api.networks import DFTC, GRU, MMVED, EncoderDecoder, MMNet, Transformer
    from mmnet.api.runs import Run
    from mmnet.api.versions import Versions
    from mmnet.checks import InputError
    from mmnet.evaluation import metrics
    from mmnet.training import losses

__version__ = "0.1.0"

__all__ = [
    "DFTC",
    "GRU",
    "MMVED",
    "Dataset",
    "EncoderDecoder",
    "Export",
    "InputError",
    "MMNet",
    "Run",
    "Transformer",
    "Versions",
    "layers",
    "losses",
    "metrics",
    "mma4ctr",
]

_NETWORKS = dict.fromkeys(
    ("DFTC", "GRU", "MMVED", "EncoderDecoder", "MMNet", "Transformer"), "api.networks"
)
_CLASSES = _NETWORKS | {
    "Dataset": "api.datasets",
    "Export": "api.exports",
    "InputError": "checks",
    "Run": "api.runs",
    "Versions": "api.versions",
}
_LIGHT = ("checks", "api.datasets", "api.exports", "api.runs", "api.versions", "mma4ctr")
"""Modules that do without TensorFlow until it is needed."""
_MODULES = {
    "layers": "layers",
    "losses": "training.losses",
    "metrics": "evaluation.metrics",
    "mma4ctr": "mma4ctr",
}


def __getattr__(name: str) -> Any:
    """Loads a name of the API when it is first used."""
    if name in _MODULES:
        found = _quietly(_MODULES[name])
    elif name in _CLASSES:
        found = getattr(_quietly(_CLASSES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Lists the API, without modules that happen to be loaded."""
    return sorted([*__all__, "__version__"])


def _quietly(module: str) -> Any:
    """Imports a module of the package; TensorFlow, where it needs it, without its notes."""
    if module not in _LIGHT:
        from mmnet.startup import load_tensorflow

        load_tensorflow()
    return importlib.import_module(f"{__name__}.{module}")
