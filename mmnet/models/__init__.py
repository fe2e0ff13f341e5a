"""Models by name, so that no driver depends on a particular one."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pydantic

from mmnet import checks, flags
from mmnet.models import options as own
from mmnet.models.options import Options
from mmnet.schema import FeatureSpec


@dataclass(frozen=True)
class Builder:
    """Recipe of a model: `builder(spec, **options)` builds it.

    The model's module, and Keras with it, is loaded only when the model is built.

    Attributes:
        function: the module in `mmnet.models` and what in it builds the model from a
            `FeatureSpec` and `options`, as `module.function`.
        options: the model's options, their types and defaults.
        kind: "network": a `keras.Model` to fit. "estimator": see `models.estimator`. "floor": it
            has nothing to fit; its `predict` takes the same dict of arrays and gives percent.
    """

    function: str
    options: type[Options]
    kind: Literal["network", "estimator", "floor"] = "network"

    def __call__(self, spec: FeatureSpec, **options: Any) -> Any:
        """Builds the model for a dataset.

        Raises:
            ValueError: an unknown option, or a value that the model refuses.
        """
        module, _, name = self.function.rpartition(".")
        build = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return build(spec, self.options(**options))

    @property
    def published_mode_weights(self) -> tuple[float, float, float]:
        """Frequencies of (normal, cold-start, noisy) in the authors' training."""
        known = (
            self.options if "mode_weights" in self.options.model_fields else own.DisturbanceOptions
        )
        return known.model_fields["mode_weights"].default

    @property
    def seeded(self) -> bool:
        """Return whether the predictions depend on the seed."""
        return "seed" in self.options.model_fields

    def accepted(self, options: dict[str, Any]) -> dict[str, Any]:
        """Select the options that this model has; some shared options do not apply to all."""
        known = self.options.model_fields
        return {name: value for name, value in options.items() if name in known}


REGISTRY: dict[str, Builder] = {
    "mmnet": Builder("mmnet.mmnet", own.MMNetOptions),
    "gru": Builder("gru.gru", own.GruOptions),
    "encoder_decoder": Builder("encoder_decoder.encoder_decoder", own.EncoderDecoderOptions),
    "mmved": Builder("mmved.mmved", own.MmvedOptions),
    "dftc": Builder("dftc.dftc", own.DftcOptions),
    "transformer": Builder("transformer.transformer", own.TransformerOptions),
    "lightgbm": Builder("lightgbm.LightGbm", own.LightGbmOptions, "estimator"),
    "catboost": Builder("catboost.CatBoost", own.CatBoostOptions, "estimator"),
    "smoothed_history": Builder(
        "smoothed_history.SmoothedHistory", own.SmoothedHistoryOptions, "estimator"
    ),
    "ha": Builder("historical_average.historical_average", own.HaOptions, "floor"),
    "ha_taxonomy": Builder(
        "historical_average.historical_average_or_taxonomy", own.HaTaxonomyOptions, "floor"
    ),
    "last_rate": Builder("historical_average.last_rate", Options, "floor"),
    "taxonomy_mean": Builder("historical_average.taxonomy_mean", Options, "floor"),
}


def resolve_options(name: str, settings: Iterable[str]) -> dict[str, Any]:
    """Reads the values of `--set` for a model.

    >>> resolve_options("mmnet", ["units=32", "tcn_filters=64,32", "evidence=true"])
    {'units': 32, 'tcn_filters': (64, 32), 'evidence': True}

    Args:
        name: a key of `REGISTRY`.
        settings: `option=value` each; a later one wins. Tuples are comma-separated.

    Raises:
        checks.InputError: the model or the option is unknown, or a value does not fit its type or
            another option.
    """
    if name not in REGISTRY:
        raise checks.InputError(
            f"--model must be one of {', '.join(REGISTRY)}. Received: --model={name}"
            f"{checks.did_you_mean(name, REGISTRY)}"
        )
    options = REGISTRY[name].options
    kinds = {option: field.annotation for option, field in options.model_fields.items()}
    found = flags.options(kinds, name, settings, "set")
    try:
        options(**found)
    except pydantic.ValidationError as error:  # each value alone was right
        rule = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise checks.InputError(f"--model={name}, --set: {rule}") from None
    return found
