"""Deviations of RecBole 1.1.1 from the papers whose models it implements, each by its name.

The authors of MMa4CTR trained their baselines with RecBole. Here a baseline follows its paper, and
`--faithful` switches deviations on. What is not in this table is the same in both, or is listed in
BUILD_NOTES.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmnet.checks import InputError, did_you_mean, quoted, shown

NORM = "norm_regularizer"
SILU = "silu_for_dice"

DEVIATIONS: dict[str, dict[str, str]] = {
    "lightgcn": {
        "two_layers": "propagates over 2 layers, not 3",
        NORM: "adds 1e-5 times the norms of the batch's vectors over its pairs; the paper adds "
        "1e-4 times their squares",
    },
    "ngcf": {
        "layer_biases": "the matrices of a layer have biases",
        "normalized_layers": "scales the output of a layer to norm 1",
        "dropout_at_test": "drops messages when rows are scored, too",
        NORM: "adds 1e-5 times the norms of the batch's output vectors over its pairs; the paper "
        "adds 1e-5 times the squares of the vectors and matrices",
    },
    "din": {
        "no_user_vector": "does not read the user",
        "interest_times_target": "also reads the product of interest and target",
        "scaled_attention": "divides attention by the root of the vectors' width",
        SILU: "batch normalization and x·sigmoid(x) instead of Dice, whose slope and batch "
        "statistics it lacks",
    },
    "dien": {
        "unnormalized_attention": "attention is a multilayer perceptron without a softmax, divided "
        "by the root of the vectors' width; the paper's is bilinear with a softmax",
        "linear_auxiliary": "scores the next item by four linear layers without activations; the "
        "paper by an inner product",
        "padding_in_auxiliary": "averages the auxiliary loss over all steps, also those without an "
        "item, and over both kinds of items; the paper adds up both kinds",
        "fixed_auxiliary_negatives": "draws the negatives of the auxiliary loss once, not in each "
        "step",
        SILU: "as in din",
    },
    "bert4rec": {
        "oldest_item_not_predicted": "a hole at the oldest item does not count in the loss",
    },
    "gcsan": {
        NORM: "adds 5e-5 times the norm of the item table over its rows",
    },
}
"""Model -> name of a deviation -> what RecBole does."""

WHOLE = ("auto", "paper", "recbole")


def of(model: str, faithful: Sequence[str], protocol: str) -> frozenset[str]:
    """Deviations that a model is built with.

    >>> sorted(of("lightgcn", ("auto",), "recbole"))
    ['norm_regularizer', 'two_layers']
    >>> of("lightgcn", ("auto",), "c1"), of("lightgcn", ("two_layers",), "c1")
    (frozenset(), frozenset({'two_layers'}))

    Args:
        model: a key of `models.REGISTRY`.
        faithful: value of `--faithful`.
        protocol: value of `--protocol`; auto follows RecBole under its own protocol only.

    Raises:
        InputError: a name is unknown or of another model, or comes together with one of `WHOLE`.
    """
    own, given = DEVIATIONS.get(model, {}), shown(",".join(faithful))
    if len(faithful) == 1 and faithful[0] in WHOLE:
        everything = faithful == ("recbole",) or (faithful == ("auto",) and protocol == "recbole")
        return frozenset(own) if everything else frozenset()
    if not faithful:
        raise InputError(f"--faithful is empty; use one of {', '.join(WHOLE)}, or deviations")
    for name in faithful:
        if name in WHOLE:
            raise InputError(
                f"--faithful={given}: {name} cannot be combined with other values; give it alone, "
                "or only names of deviations"
            )
        if name not in own:
            known = {one for names in DEVIATIONS.values() for one in names}
            near = "" if name in known else did_you_mean(name, known)
            has = f"it has {', '.join(own)}" if own else "it has none"
            raise InputError(
                f"--faithful={given}: --model={model} has no deviation {quoted(name)}; {has}{near}"
            )
    return frozenset(faithful)
