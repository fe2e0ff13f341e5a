import numpy as np
import pytest
from keras import ops

from mmnet.mma4ctr.config import TrainConfig
from mmnet.mma4ctr.models import REGISTRY, Builder, NumberSpec
from mmnet.mma4ctr.models.baselines import factors
from mmnet.mma4ctr.models.baselines.numbers import reads_numbers
from mmnet.mma4ctr.system import System
from tests.mma4ctr.logs import log

SPEC = NumberSpec(users=3, items=4, history=2, pairs=np.zeros((2, 0)), batch_size=1, seed=7)


@reads_numbers
def last_item_again(inputs, spec, seeds):
    """One half where the item was not the last that the user took, and a half more where it was."""
    same = ops.cast(ops.equal(inputs.history[:, -1], inputs.item + 1), "float32")
    return 0.5 + 0.25 * same + 0.0 * ops.sum(factors.Factors(3, 4, next(seeds))([*inputs[:2]]))


def test_a_function_of_inputs_becomes_a_network_of_its_name():
    net = last_item_again(SPEC)
    assert net.name == "last_item_again"
    assert [one.name for one in net.inputs] == ["user", "item", "history"]
    history = np.array([[1, 3], [3, 1]], "int32")
    found = net([np.zeros(2, "int32"), np.full(2, 2, "int32"), history])
    np.testing.assert_allclose(found, [0.75, 0.5])


def test_a_seed_decides_the_weights_and_no_two_tables_are_alike():
    first, again = (last_item_again(SPEC).get_weights() for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.isin(first[0], first[1]).any()


def test_a_function_and_an_entry_are_all_that_a_new_model_needs(monkeypatch):
    monkeypatch.setattr(factors, "last_item_again", last_item_again, raising=False)
    builder = Builder("baselines.factors.last_item_again", loss="pairs", history=1)
    monkeypatch.setitem(REGISTRY, "new", builder)
    made = System(log(items=4, users=3), TrainConfig().model_copy(update={"model": "new"}))
    assert (made.loss, made.features, made.parameters) == ("pairs", None, (3 + 4) * 64)
    # Scores of 0.5 and 0.75 as probabilities.
    assert np.unique(made.scores("test").round(4)).tolist() == pytest.approx([0.6225, 0.6792])
