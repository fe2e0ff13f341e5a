from itertools import product

import numpy as np
import pytest

from mmnet.models import REGISTRY
from tests.models import tiny
from tests.models.test_lightgbm import tiny_samples

threadpool_limits = pytest.importorskip("threadpoolctl").threadpool_limits

FAST = {
    "lightgbm": {"num_trees": 40, "learning_rate": 0.2, "min_data_in_leaf": 5, "lambda_l2": 0.1},
    "catboost": {"num_trees": 40, "learning_rate": 0.3, "depth": 4, "l2_leaf_reg": 0.1},
}
UNBOUNDED = tiny.SPEC.model_copy(update={"max_rate": None})


def made(library, spec=tiny.SPEC, **options):
    pytest.importorskip(library, reason="the extra [baselines] is not installed")
    return REGISTRY[library](spec, **(FAST[library] | options))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def samples():
    return tiny_samples()


WAYS = list(product(("regression", "cross_entropy"), ("none", "smoothed")))


@pytest.mark.parametrize(("objective", "offset"), WAYS)
@pytest.mark.parametrize("library", FAST)
def test_every_objective_and_start_is_exported(samples, library, objective, offset):
    options = {"objective": objective, "offset": offset, "text_components": 2}
    model = made(library, **options)
    told = model.fit(*samples)
    predicted = {name: model.predict(one.inputs) for name, one in samples[1].items()}
    mse = [np.mean(np.square(predicted[name] - one.share_rate)) for name, one in samples[1].items()]
    assert told["best_mean_log_mse"] == pytest.approx(np.mean(np.log(mse)), abs=1e-5)
    truth = samples[1]["normal"].share_rate
    assert mse[0] < 0.5 * truth.var()
    # The score is summed in another order, and the rate rounded to float32 once.
    found = model.network()(samples[1]["noisy"].inputs)
    np.testing.assert_allclose(found, predicted["noisy"], rtol=3e-7)


@pytest.mark.parametrize("library", FAST)
def test_trees_that_learn_nothing_leave_the_smoothed_rate(samples, library):
    train, validation = samples
    for objective in ("regression", "cross_entropy"):
        options = {"objective": objective, "offset": "smoothed", "learning_rate": 1e-6}
        model = made(library, **options, text_components=0)
        model.fit(train, validation)
        smoothed = model.features.columns(train.inputs)["smoothed_rate"]
        # 40 trees that each correct by 1e-6 of a difference of at most 10 percent.
        np.testing.assert_allclose(model.predict(train.inputs), smoothed, atol=4e-4)


@pytest.mark.parametrize("library", FAST)
def test_cross_entropy_is_refused_where_rates_may_exceed_one(library):
    with pytest.raises(ValueError, match="`objective` must be regression where rates may exceed"):
        made(library, UNBOUNDED, objective="cross_entropy")
