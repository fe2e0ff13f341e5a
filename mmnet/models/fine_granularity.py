"""Fine-granularity module: the item's own share rates, disturbed in training and embedded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras

from mmnet.layers.bounds import Bounded
from mmnet.layers.disturbance import HiddenHistory, MultiMode
from mmnet.layers.embedding import SequenceEmbedding
from mmnet.layers.evidence import KnownMeans
from mmnet.models.options import DisturbanceOptions
from mmnet.schema import HISTORY, LIFETIME, FeatureSpec, RateSpec


def model_inputs(spec: FeatureSpec) -> dict[str, keras.KerasTensor]:
    """Make the inputs of a model: every tensor of the dataset, including those it does not read."""
    return {
        name: keras.Input(shape, dtype=dtype, name=name)
        for name, (shape, dtype) in spec.tensors().items()
    }


def bounded(
    inputs: dict[str, keras.KerasTensor], spec: FeatureSpec
) -> dict[str, keras.KerasTensor]:
    """Clip the inputs of a network to `spec.limits()`; ids pass through unchanged."""
    limits = spec.limits()
    return {
        name: Bounded(*limits[name], name=f"bounded_{name}")(one) if name in limits else one
        for name, one in inputs.items()
    }


def with_known_means(
    tensors: dict[str, keras.KerasTensor], spec: FeatureSpec
) -> dict[str, keras.KerasTensor]:
    """Hide taxonomy means of unknown evidence, where evidence is an input: see `KnownMeans`.

    Args:
        tensors: inputs within their limits.
        spec: description of the tensors.

    Returns:
        All inputs; the evidence is log(1 + n).
    """
    found = dict(tensors)
    if spec.taxonomies and spec.taxonomy_evidence:
        for rate in (None, *spec.rates):
            names = list(spec.sequences(rate.name if rate else "").values())[len(HISTORY) :]
            layer = KnownMeans(name=of_rate("known_means", rate))
            found |= zip(names, layer(*(tensors[name] for name in names)), strict=True)
    return found


def in_standard_deviations(rate: keras.KerasTensor, spec: FeatureSpec | RateSpec, name: str):
    """Divide percent by the training sd, without centring: a missing step must stay 0."""
    return keras.layers.Rescaling(1 / spec.rate_scale, name=name)(rate)


def of_rate(name: str, rate: RateSpec | None) -> str:
    """Name a layer that each rate has: as it is for the main rate.

    >>> like = RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100)
    >>> of_rate("sequence_embedding", None), of_rate("sequence_embedding", like)
    ('sequence_embedding', 'sequence_embedding_of_like')
    """
    return name if rate is None else f"{name}_of_{rate.tensor.removeprefix('rate_')}"


class History(NamedTuple):
    """An item's own history, [batch, window] each, in training with some of it hidden.

    Attributes:
        share_rate: percent, of the main rate.
        missing_flag: likewise.
        clicks: likewise.
        further: the same of each further rate, in the order of `FeatureSpec.rates`; the same steps
            are hidden.
        lifetime: `schema.LIFETIME` of the main rate, [batch] each, hidden with the oldest step;
            empty if it is not an input.
    """

    share_rate: keras.KerasTensor
    missing_flag: keras.KerasTensor
    clicks: keras.KerasTensor
    further: tuple[History, ...] = ()
    lifetime: tuple[keras.KerasTensor, ...] = ()

    def of(self, rate: str, spec: FeatureSpec) -> History:
        """Returns the history of one rate; the empty name is that of the main one."""
        names = [one.name for one in spec.rates]
        return self.further[names.index(rate)] if rate else self._replace(further=())

    def hidden(self, spec: FeatureSpec) -> History:
        """Returns the history of a cold start, for layers that must not read this one."""
        own = HiddenHistory(name="hidden_history")(*self[:3])
        further = [
            HiddenHistory(name=of_rate("hidden_history", rate))(*history[:3])
            for rate, history in zip(spec.rates, self.further, strict=True)
        ]
        return _joined([*own, *(tensor for one in further for tensor in one)])


def _joined(tensors: Sequence[keras.KerasTensor]) -> History:
    """A history from the tensors of all rates, three of each."""
    main, *further = (History(*tensors[start : start + 3]) for start in range(0, len(tensors), 3))
    return main._replace(further=tuple(further))


def disturbed_history(
    inputs: dict[str, keras.KerasTensor], options: DisturbanceOptions, spec: FeatureSpec
) -> History:
    """Disturb each example by its mode: Yu et al. (2021) section 4.2 and Fig. 2."""
    modes = MultiMode(
        options.mode_weights,
        options.noisy_rate,
        options.adaptive_modes,
        options.adaptive_clicks,
        options.seed,
        name="multi_mode",
    )
    names = [spec.sequences(rate.name) for rate in spec.rates]
    more: dict[str, list] = {}
    if names:
        more["further"] = [[inputs[own[tensor.name]] for tensor in HISTORY] for own in names]
    if spec.lifetime:
        more["lifetime"] = [inputs[tensor.name] for tensor in LIFETIME]
    disturbed = modes(*(inputs[tensor.name] for tensor in HISTORY), **more)
    steps = len(HISTORY) * (1 + len(names))
    return _joined(disturbed[:steps])._replace(lifetime=tuple(disturbed[steps:]))


def rate_embeddings(
    spec: FeatureSpec, *, units: int, evidence: bool, shared: bool
) -> list[SequenceEmbedding]:
    """Make the embedding of each rate's sequences, the main rate's first: Yu et al. (2021) Eq. 3.

    Args:
        spec: names the rates.
        units: width of the vectors.
        evidence: adds the clicks behind each rate of the item's own.
        shared: the embeddings are also those of the taxonomies' means.
    """
    return [
        SequenceEmbedding(
            units, evidence=evidence, shared=shared, name=of_rate("sequence_embedding", rate)
        )
        for rate in (None, *spec.rates)
    ]


def fine_granularity(history: History, spec: FeatureSpec, embeddings: Sequence[SequenceEmbedding]):
    """Yu et al. (2021) section 4.2, Eq. 3.

    Further rates have vectors of their own, which are added step by step: the modules behind read
    as many vectors as of one rate.

    Args:
        history: the item's own, as the network may read it.
        spec: description of the tensors.
        embeddings: see `rate_embeddings`.

    Returns:
        h^m, one vector per step, which knows whether the step was seen; [batch, window, units].
    """
    embedded = []
    for rate, embedding in zip((None, *spec.rates), embeddings, strict=True):
        own = history if rate is None else history.of(rate.name, spec)
        scaled = of_rate("scaled_share_rate", rate)
        share_rate = in_standard_deviations(own.share_rate, rate or spec, scaled)
        clicks = (own.clicks,) if embedding.evidence else ()
        embedded.append(embedding(share_rate, own.missing_flag, *clicks))
    return added(embedded, "all_rates")


def added(vectors: Sequence[keras.KerasTensor], name: str) -> keras.KerasTensor:
    """Adds the vectors of several rates; those of a single one are returned as they are."""
    return keras.layers.Add(name=name)(list(vectors)) if len(vectors) > 1 else vectors[0]
