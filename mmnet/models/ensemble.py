"""Several trained networks as one model: the layers of all members in one graph.

The members are not nested models, so that what looks into a network (`models.mmnet`) or cuts it in
two (`serving.halves`) finds their layers as it finds those of a single network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from mmnet.models.estimator import Estimator, Inputs

OUTPUT = "mean_predicted_share_rate"  # no name that a member's layer has
_MEMBER = re.compile(r"member_\d+\.")  # no layer of a single network has a dot in its name


def ensemble(members: Sequence[keras.Model]) -> keras.Model:
    """Makes one model whose prediction is the mean of its members' predictions.

    Hansen & Salamon (1990), "Neural network ensembles", as Lakshminarayanan et al. (2017),
    "Simple and scalable predictive uncertainty estimation using deep ensembles", section 2.4: the
    members differ in their seed alone, and all count the same.

    Args:
        members: functional models from a dict of the same tensors to percent, [batch]; they are
            only read.

    Returns:
        A functional model from the same dict to percent, [batch], averaged in float32 under any
        policy. It holds copies of the members' layers and weights: a layer `gru` is `member_1.gru`
        in the first member's copy, and `layers_named(model, "gru")` finds those of all members.

    Raises:
        ValueError: there are no members, or their inputs differ.
    """
    if not members:
        raise ValueError("`members` must hold at least one model. Received: no model")
    first = _signature(members[0])
    for member in members[1:]:
        if _signature(member) != first:
            raise ValueError(
                f"`members` must have the same inputs. Received: {first} and {_signature(member)}"
            )
    inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in members[0].input.items()
    }
    copies = [_copied(member, inputs, number) for number, member in enumerate(members, 1)]
    mean = mean_of([copy.output for copy in copies], OUTPUT)
    return keras.Model(inputs, mean, name=members[0].name)


class AveragedEstimator:
    """Fitted estimators that predict their mean; see `ensemble`.

    Args:
        members: fitted, of one kind, on the same tensors.
    """

    def __init__(self, members: Sequence[Estimator]):
        self.members = tuple(members)

    def predict(self, inputs: Inputs) -> np.ndarray:
        """Returns percent, float32 [batch]."""
        return mean_prediction([member.predict(inputs) for member in self.members])

    def network(self) -> keras.Model | None:
        """The ensemble of the members' networks; None: they cannot be exported."""
        networks = [member.network() for member in self.members]
        found = [network for network in networks if network is not None]
        return ensemble(found) if len(found) == len(networks) else None


def averaged(members: Sequence[Any]) -> Any:
    """Build the model that predicts the mean of its members; a single member is returned as it is.

    Args:
        members: networks, or fitted estimators, of one kind.
    """
    if len(members) == 1:
        return members[0]
    if isinstance(members[0], keras.Model):
        return ensemble(members)
    return AveragedEstimator(members)


def mean_prediction(predictions: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the members' predictions, summed in float32 in their order, as `ensemble` does.

    >>> mean_prediction([np.float32([1.0, 2.0]), np.float32([2.0, 5.0])])
    array([1.5, 3.5], dtype=float32)
    """
    return np.asarray(np.mean(np.stack(predictions), axis=0, dtype=np.float32))


def mean_of(tensors: Sequence[keras.KerasTensor], name: str) -> keras.KerasTensor:
    """Average the members' tensors in float32; a single network's tensor is returned as it is.

    Args:
        tensors: one per member, all of one shape.
        name: name of the layer that averages.
    """
    if len(tensors) == 1:
        return tensors[0]
    return keras.layers.Average(dtype="float32", name=name)(list(tensors))


def layers_named(model: keras.Model, name: str) -> list[keras.layers.Layer]:
    """Find the layers of a name in a network: one per member of an ensemble.

    Args:
        model: a network, or an ensemble of such.
        name: name of the layer in a single network.

    Returns:
        At most one layer for a single network; for an ensemble those of its members in order.
        Nothing where the network has no such layer.
    """
    found = {_number(layer.name): layer for layer in model.layers if own_name(layer.name) == name}
    return [found[number] for number in sorted(found)]


def own_name(name: str) -> str:
    """Return the name of a layer in its own network.

    >>> own_name("member_2.gated_fusion"), own_name("gated_fusion")
    ('gated_fusion', 'gated_fusion')
    """
    return _MEMBER.sub("", name, count=1) if _MEMBER.match(name) else name


def _number(name: str) -> int:
    of_member = _MEMBER.match(name)
    return int(of_member[0][len("member_") : -1]) if of_member else 0


def _signature(model: keras.Model) -> dict[str, tuple[tuple[int | None, ...], str]]:
    return {name: (tuple(one.shape), one.dtype) for name, one in model.input.items()}


def _copied(member: keras.Model, inputs: dict[str, keras.KerasTensor], number: int) -> keras.Model:
    """A copy of a model on other inputs, each layer under the member's own name."""

    def renamed(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # an operation without weights, such as a cast
        config = layer.get_config() | {"name": f"member_{number}.{layer.name}"}
        return type(layer).from_config(config)

    copy = keras.models.clone_model(member, input_tensors=inputs, clone_function=renamed)
    copy.set_weights(member.get_weights())
    return copy
