"""Blocks of the network by file: disturbance, presence, embedding, attention, and so on.

All of them are ordinary Keras layers, for any model; each is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmnet.layers.age import AgeEmbedding, KnownAge
    from mmnet.layers.attention import HANAttention
    from mmnet.layers.bounds import Bounded
    from mmnet.layers.disturbance import (
        ColdStartDisturbance,
        HiddenHistory,
        ModalityDropout,
        MultiMode,
        NoisyDisturbance,
        UnknownDisturbance,
    )
    from mmnet.layers.embedding import FieldEmbedding, SequenceEmbedding, TokenEncoder
    from mmnet.layers.evidence import KnownMeans, PriorClicks, SmoothedRate, TaxonomyCentre
    from mmnet.layers.interaction import CompressedInteraction, XDeepFM
    from mmnet.layers.lifetime import LifetimeFeatures
    from mmnet.layers.mixture import DirectWeight, MixedRate
    from mmnet.layers.presence import AbsentVectors, Presence
    from mmnet.layers.tcn import TemporalConvolution

_FILES = {
    "AbsentVectors": "presence",
    "AgeEmbedding": "age",
    "Bounded": "bounds",
    "ColdStartDisturbance": "disturbance",
    "CompressedInteraction": "interaction",
    "DirectWeight": "mixture",
    "FieldEmbedding": "embedding",
    "HANAttention": "attention",
    "HiddenHistory": "disturbance",
    "KnownAge": "age",
    "KnownMeans": "evidence",
    "LifetimeFeatures": "lifetime",
    "MixedRate": "mixture",
    "ModalityDropout": "disturbance",
    "MultiMode": "disturbance",
    "NoisyDisturbance": "disturbance",
    "Presence": "presence",
    "PriorClicks": "evidence",
    "SequenceEmbedding": "embedding",
    "SmoothedRate": "evidence",
    "TaxonomyCentre": "evidence",
    "TemporalConvolution": "tcn",
    "TokenEncoder": "embedding",
    "UnknownDisturbance": "disturbance",
    "XDeepFM": "interaction",
}

__all__ = [
    "AbsentVectors",
    "AgeEmbedding",
    "Bounded",
    "ColdStartDisturbance",
    "CompressedInteraction",
    "DirectWeight",
    "FieldEmbedding",
    "HANAttention",
    "HiddenHistory",
    "KnownAge",
    "KnownMeans",
    "LifetimeFeatures",
    "MixedRate",
    "ModalityDropout",
    "MultiMode",
    "NoisyDisturbance",
    "Presence",
    "PriorClicks",
    "SequenceEmbedding",
    "SmoothedRate",
    "TaxonomyCentre",
    "TemporalConvolution",
    "TokenEncoder",
    "UnknownDisturbance",
    "XDeepFM",
]


def __getattr__(name: str) -> Any:
    """Loads the file of one layer, and not those of the others."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_FILES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """The layers, and none of the files that happen to be loaded."""
    return sorted(__all__)
