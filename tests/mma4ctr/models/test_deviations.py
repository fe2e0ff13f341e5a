from pathlib import Path

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.models import REGISTRY, deviations
from mmnet.mma4ctr.models.deviations import DEVIATIONS
from tests.mma4ctr.baselines import baseline, redrawn


@pytest.mark.parametrize(
    ("faithful", "protocol", "all_of_them"),
    [
        ("auto", "c1", False),
        ("auto", "recbole", True),
        ("paper", "recbole", False),
        ("recbole", "c2", True),
    ],
)
def test_a_whole_definition_is_chosen_by_name_or_protocol(faithful, protocol, all_of_them):
    for model in REGISTRY:
        expected = DEVIATIONS.get(model, {}) if all_of_them else {}
        assert deviations.of(model, (faithful,), protocol) == frozenset(expected)


@pytest.mark.parametrize(
    ("model", "faithful", "message"),
    [
        ("ngcf", ("paper", "layer_biases"), "paper cannot be combined with other values"),
        ("ngcf", ("layer_bias",), "no deviation 'layer_bias'.*Did you mean layer_biases?"),
        ("ngcf", ("two_layers",), "--model=ngcf has no deviation 'two_layers'; it has layer_bia"),
        ("bpr", ("two_layers",), "--model=bpr has no deviation 'two_layers'; it has none"),
        ("bpr", (), "--faithful is empty"),
    ],
)
def test_wrong_deviations_are_refused(model, faithful, message):
    with pytest.raises(InputError, match=message):
        deviations.of(model, faithful, "c1")


@pytest.mark.parametrize("page", ["docs/mma4ctr.md", "BUILD_NOTES.md"])
def test_every_deviation_is_on_the_pages_that_list_them(page):
    text = (Path(__file__).parents[3] / page).read_text("utf-8")
    missing = {one for names in DEVIATIONS.values() for one in names if f"`{one}`" not in text}
    assert not missing


HISTORY = np.array([[0, 3], [2, 5], [0, 0], [1, 4]], "int32")
ROWS = [np.array([0, 0, 1, 1], "int32"), np.array([1, 3, 2, 0], "int32"), HISTORY]


def seen(name, given):
    """Shapes of the weights, scores, and what is trained on, of a model with some deviations."""
    reads = REGISTRY[name].history
    history = HISTORY[:, -min(reads, 2) or 2 :][:, : min(reads, 2)]
    others = history[::-1] if "fixed_auxiliary_negatives" in given else None
    model = baseline(name, 2, 5, [[0, 1], [1, 2]], history=history, others=others, deviations=given)
    redrawn(model, 0.5)
    inputs = [*ROWS[:2], history] + ([others] if others is not None else [])
    scores = model.net(inputs).numpy()
    trained = model.net(inputs, training=True).numpy()
    return [w.shape for w in model.net.weights], scores, trained, [float(x) for x in model.losses]


QUICK = ("lightgcn", "ngcf", "din")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DEVIATIONS],
)
def test_every_deviation_changes_the_network(name, monkeypatch):
    # Without chance, which would change it too.
    monkeypatch.setattr("mmnet.mma4ctr.models.baselines.sequences.DROPOUT", 0.0)
    monkeypatch.setattr("mmnet.mma4ctr.models.baselines.sequences.MASKED_SHARE", 1.0)
    monkeypatch.setattr(
        "mmnet.mma4ctr.models.baselines.interest.OtherItems.call",
        lambda self, history, training=False: history * 0 + 1,
    )
    paper, again = seen(name, ()), seen(name, ())
    assert str(paper) == str(again) or name == "ngcf"  # whose dropout is left to chance
    for one in DEVIATIONS[name]:
        shapes, scores, trained, losses = seen(name, (one,))
        same = shapes == paper[0] and np.array_equal(scores, paper[1])
        if name != "ngcf":
            same = same and np.array_equal(trained, paper[2])
        assert not (same and losses == paper[3]), one
