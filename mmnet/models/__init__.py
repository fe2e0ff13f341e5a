"""Models by name, so that no driver needs to know any of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from mmnet import checks, config
from mmnet.models.signatures import options_of
from mmnet.schema import FeatureSpec


@dataclass(frozen=True)
class Builder:
    """How to make a model: `builder(spec, **options)`.

    The model's module, and Keras with it, is loaded only when the model is built.

    Attributes:
        function: the module in `mmnet.models` and the function that builds the model, as
            `module.function`; its keywords are the options.
        kind: "network": a `keras.Model` to fit. "estimator": see `models.estimator`. "floor": it
            has nothing to fit; its `predict` takes the same dict of arrays and gives percent.
        published_mode_weights: (normal, cold-start, noisy) frequencies its authors trained with.
    """

    function: str
    kind: Literal["network", "estimator", "floor"] = "network"
    published_mode_weights: tuple[float, float, float] = (1, 0, 0)

    def __call__(self, spec: FeatureSpec, **options: Any) -> Any:
        """Builds the model for a dataset."""
        module, name = self._place
        return getattr(importlib.import_module(module), name)(spec, **options)

    def options(self) -> dict[str, inspect.Parameter]:
        """Name -> type and default of every option."""
        return options_of(*self._place)

    @property
    def seeded(self) -> bool:
        """Whether what it predicts depends on the seed."""
        return "seed" in self.options()

    def accepted(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of the options that this model has; what all systems share is not for all."""
        known = self.options()
        return {name: value for name, value in options.items() if name in known}

    @property
    def _place(self) -> tuple[str, str]:
        module, _, name = self.function.rpartition(".")
        return f"{__name__}.{module}", name


REGISTRY: dict[str, Builder] = {
    "mmnet": Builder("mmnet.mmnet", published_mode_weights=(1, 1, 1)),
    "gru": Builder("gru.gru"),
    "encoder_decoder": Builder("encoder_decoder.encoder_decoder"),
    "mmved": Builder("mmved.mmved"),
    "dftc": Builder("dftc.dftc"),
    "lightgbm": Builder("lightgbm.lightgbm", kind="estimator"),
    "smoothed_history": Builder("smoothed_history.smoothed_history", kind="estimator"),
    "ha": Builder("historical_average.historical_average", kind="floor"),
    "ha_taxonomy": Builder("historical_average.historical_average_or_taxonomy", kind="floor"),
    "last_rate": Builder("historical_average.last_rate", kind="floor"),
    "taxonomy_mean": Builder("historical_average.taxonomy_mean", kind="floor"),
}


def resolve_options(name: str, settings: Iterable[str]) -> dict[str, Any]:
    """Reads the values of `--set` for a model.

    >>> resolve_options("mmnet", ["units=32", "tcn_filters=64,32", "evidence=true"])
    {'units': 32, 'tcn_filters': (64, 32), 'evidence': True}

    Args:
        name: a key of `REGISTRY`.
        settings: `option=value` each; a later one wins. Tuples are comma-separated.

    Raises:
        checks.InputError: the model or the option is unknown, or the value does not fit.
    """
    if name not in REGISTRY:
        raise checks.InputError(
            f"--model must be one of {', '.join(REGISTRY)}. Received: --model={name}"
            f"{checks.did_you_mean(name, REGISTRY)}"
        )
    kinds = {option: one.annotation for option, one in REGISTRY[name].options().items()}
    return config.options(kinds, name, settings, "set")
