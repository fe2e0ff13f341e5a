"""`MMNet` and its baselines as ordinary Keras models: compile, fit, evaluate, save, load."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import pydantic

from mmnet.api.datasets import Dataset
from mmnet.checks import InputError, did_you_mean
from mmnet.models import REGISTRY
from mmnet.schema import FeatureSpec

__all__ = ["DFTC", "GRU", "MMVED", "EncoderDecoder", "MMNet", "Transformer"]

for _module in ("dftc", "encoder_decoder", "gru", "mmnet", "mmved", "transformer"):
    # Their layers are registered when they are imported, so that Keras can load saved models.
    importlib.import_module(f"mmnet.models.{_module}")


def MMNet(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds MMNet, Yu et al. (2021) section 4.

    Args:
        data: a dataset, or the spec of one.
        **options: see `mmnet.models.options.MMNetOptions`, such as `units=32`.

    Returns:
        A model from a dict of the tensors of the spec to the share rate, percent, [batch]; with
        several `spec.outputs()`, [batch, outputs].

    Raises:
        InputError: an unknown option, or a value of another type.
        ValueError: a value out of its range.
    """
    return _built("mmnet", data, options)


def GRU(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds the GRU baseline of section 6.2; arguments and result as of `MMNet`."""
    return _built("gru", data, options)


def EncoderDecoder(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds the encoder-decoder baseline of section 6.2; arguments and result as of `MMNet`."""
    return _built("encoder_decoder", data, options)


def MMVED(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds MMVED (Xie et al., 2020); arguments and result as of `MMNet`."""
    return _built("mmved", data, options)


def DFTC(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds DFTC (Liao et al., AAAI 2019); arguments and result as of `MMNet`."""
    return _built("dftc", data, options)


def Transformer(data: Dataset | FeatureSpec, **options: Any) -> keras.Model:
    """Builds the transformer baseline, beyond the paper; arguments and result as of `MMNet`."""
    return _built("transformer", data, options)


def _built(name: str, data: Dataset | FeatureSpec, options: dict[str, Any]) -> keras.Model:
    known = REGISTRY[name].options.model_fields
    for option in options:
        if option not in known:
            raise InputError(f"{name} has no option {option!r}{did_you_mean(option, known)}")
    spec = data.spec if isinstance(data, Dataset) else data
    try:
        return REGISTRY[name](spec, **options)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"][0].lower() + first["msg"][1:]
        wrong = first["loc"][0] if first["loc"] else name
        raise InputError(f"{wrong}: {rule}. Received: {first['input']!r}") from None
