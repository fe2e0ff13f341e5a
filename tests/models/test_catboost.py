import json
import sys

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.models import REGISTRY
from mmnet.models.catboost import CatBoost
from mmnet.models.forests import catboost_forest
from mmnet.models.options import CatBoostOptions
from tests.models import tiny
from tests.models.test_lightgbm import tiny_samples

pytest.importorskip("catboost", reason="the extra [baselines] is not installed")

FAST = {"num_trees": 60, "learning_rate": 0.3, "depth": 4, "text_components": 3}


@pytest.fixture(scope="module")
def samples():
    return tiny_samples()


@pytest.fixture(scope="module")
def fitted(samples):
    model = CatBoost(tiny.SPEC, CatBoostOptions(mode_weights=(1, 1, 1), copies=1, **FAST))
    return model, model.fit(*samples)


def test_it_learns_and_tells_the_error_of_the_trees_it_keeps(samples, fitted):
    model, told = fitted
    mse = [
        np.mean(np.square(model.predict(one.inputs) - one.share_rate))
        for one in samples[1].values()
    ]
    assert mse[0] < 0.5 * samples[1]["normal"].share_rate.var()
    # float32 predictions: relative rounding 6e-8 of each, far less of their mean.
    assert told["best_mean_log_mse"] == pytest.approx(np.mean(np.log(mse)), abs=1e-5)
    assert len(json.loads(model.text)["oblivious_trees"]) == told["trees"] <= 60


def test_the_network_scores_as_the_trees_do(samples, fitted):
    model, _ = fitted
    network = model.network()
    for one in samples[1].values():
        # The same leaves, summed in another order and rounded to float32 once.
        np.testing.assert_allclose(network(one.inputs), model.predict(one.inputs), rtol=2e-7)


def test_the_state_restores_every_prediction_to_the_bit(samples, fitted):
    model, _ = fitted
    restored = CatBoost(tiny.SPEC, CatBoostOptions())
    restored.restore(model.state())
    inputs = samples[1]["noisy"].inputs
    np.testing.assert_array_equal(restored.predict(inputs), model.predict(inputs))


def test_frequent_values_of_every_field_have_columns(fitted):
    model, _ = fitted
    # Drawn from 0 to 4, of which 2, 3 and 4 are values.
    for field in ("category", "tags"):
        np.testing.assert_array_equal(model.features.state[f"frequent_field_{field}"], [2, 3, 4])
    assert "field_category_3" in model.features.names()


def test_equal_seeds_give_equal_trees_and_other_seeds_others(samples, fitted):
    def trees(seed):
        model = CatBoost(
            tiny.SPEC, CatBoostOptions(mode_weights=(1, 1, 1), copies=1, seed=seed, **FAST)
        )
        model.fit(*samples)
        return json.loads(model.text)["oblivious_trees"]

    first = json.loads(fitted[0].text)["oblivious_trees"]
    assert trees(0) == first
    assert trees(1) != first


def test_trees_of_other_kinds_are_refused(fitted):
    model = json.loads(fitted[0].text)
    with pytest.raises(ValueError, match="oblivious trees"):
        catboost_forest(json.dumps(model | {"oblivious_trees": []}), [])
    described = model["features_info"] | {"categorical_features": []}
    with pytest.raises(ValueError, match="numbers alone"):
        catboost_forest(json.dumps(model | {"features_info": described}), [])


def test_without_the_extra_it_says_what_to_install(samples, monkeypatch):
    monkeypatch.setitem(sys.modules, "catboost", None)
    with pytest.raises(InputError, match=r"--model=catboost needs the extra: pip install 'mmnet\["):
        REGISTRY["catboost"](tiny.SPEC, text_components=0).fit(*samples)
