"""Every network reads the target's moment and the lifetime, and hides them with the history."""

import keras
import numpy as np
import pytest

from mmnet.models import REGISTRY
from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import AgeSpec, CycleSpec, LifetimeSpec
from tests.conformance import check_model
from tests.models import tiny

NETWORKS = ("mmnet", "gru", "encoder_decoder", "mmved", "dftc", "transformer")
WEEKDAY = CycleSpec(name="weekday", seen=(0, 1, 2))
HIDDEN, SHOWN = (
    tiny.SPEC.model_copy(
        update={"age": AgeSpec(since="release", hidden=hidden), "cycles": (WEEKDAY,)}
    )
    for hidden in (True, False)
)
SMALL = {"units": 4, "field_width": 2}
LIFETIME = tiny.SPEC.model_copy(update={"lifetime": LifetimeSpec(log_start=0)})


def inputs(**changed):
    """A batch of two items, the second without a history."""
    found = tiny.batch(SHOWN, examples=2)
    found["age"], found["age_at_least"] = np.float32([3, 30]), np.float32([0, 1])
    for name, hidden in (("share_rate", 0), ("missing_flag", 1), ("clicks", 0)):
        found[name][1] = hidden
    found["missing_flag"][0, 0] = 0
    return found | {name: np.asarray(one, found[name].dtype) for name, one in changed.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_age_of_the_history_is_read_only_beside_a_history(name):
    for spec, reads in ((HIDDEN, [True, False]), (SHOWN, [True, True])):
        # With four hidden units a head may read nothing at all.
        model = REGISTRY[name](spec, **SMALL | {"units": 8})
        before = np.asarray(model(inputs()))
        older = np.asarray(model(inputs(age=[5, 50])))
        assert (before != older).tolist() == reads
        bound = np.asarray(model(inputs(target_weekday=[1, 1])))
        assert (bound != np.asarray(model(inputs(target_weekday=[2, 3])))).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_counts_before_the_window_are_read_where_they_are_known(name):
    model = REGISTRY[name](LIFETIME, **SMALL | {"units": 8})
    before = tiny.batch(LIFETIME, examples=2)
    before["earlier_clicks"], before["earlier_rate"] = np.float32([-1, 40]), np.float32([3, 3])
    after = before | {"earlier_rate": np.float32([9, 9])}
    changed = np.asarray(model(before)) != np.asarray(model(after))
    assert changed.tolist() == [False, True]


@pytest.mark.parametrize(("modes", "hides"), [((0, 1, 0), True), ((1, 0, 0), False)])
def test_a_cold_start_of_training_hides_the_counts_before_the_window(modes, hides):
    options = MMNetOptions(mode_weights=modes, dropout=0, **SMALL | {"units": 8})
    model = mmnet(LIFETIME, options)
    layer = model.get_layer("lifetime_features")
    probe = keras.Model(model.inputs, layer.output)
    found = np.asarray(probe(tiny.batch(LIFETIME), training=True))
    known = tiny.batch(LIFETIME)["earlier_clicks"] >= 0
    np.testing.assert_array_equal(found[:, 0], 0 * known if hides else known)


def test_the_prior_of_the_mixed_head_does_not_read_them():
    model = mmnet(LIFETIME, MMNetOptions(head="mixed", **SMALL | {"units": 8}))
    before = tiny.batch(LIFETIME)
    after = before | {"earlier_rate": before["earlier_rate"] + 5}
    prior, mlp = (
        keras.Model(model.inputs, model.get_layer(name).output) for name in ("prior_mlp", "mlp")
    )
    np.testing.assert_array_equal(prior(before), prior(after))
    assert (np.asarray(mlp(before)) != np.asarray(mlp(after))).any()


def test_nothing_is_added_where_the_dataset_tells_nothing():
    def names(spec):
        return {layer.name for layer in mmnet(spec, MMNetOptions(**SMALL)).layers}

    added = names(SHOWN) - names(tiny.SPEC)
    assert {"age_embedding", "calendar", "moment", "fused_and_moment"} <= added
    assert not names(tiny.SPEC) - names(SHOWN)


def test_conforms(tmp_path):
    model = mmnet(HIDDEN, MMNetOptions(seed=0, **SMALL))
    check_model(model, tiny.batch(HIDDEN), tmp_path=tmp_path, golden="mmnet_with_moment")
