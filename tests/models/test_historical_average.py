import numpy as np
import pytest

from mmnet.models import REGISTRY
from mmnet.models.historical_average import HistoricalAverage, LastRate, TaxonomyMean
from mmnet.models.options import HaOptions
from mmnet.schema import FeatureSpec

# Two items: one seen in the first and the last period, one never.
INPUTS = {
    "share_rate": np.array([[2, 0, 4], [0, 0, 0]], "float32"),  # [batch=2, window=3], percent
    "missing_flag": np.array([[0, 1, 0], [1, 1, 1]], "float32"),
    "taxonomy_rate": np.array([[[1, 9], [1, 9], [1, 9]], [[5, 0], [7, 0], [0, 0]]], "float32"),
    "taxonomy_missing_flag": np.array(
        [[[0, 0], [0, 0], [0, 0]], [[0, 1], [0, 1], [1, 1]]], "float32"
    ),
}
NOBODY = {**INPUTS, "taxonomy_missing_flag": np.ones((2, 3, 2), "float32")}
MEANS = ("available", "zeros")
WITHOUT_TAXONOMIES = {name: INPUTS[name] for name in ("share_rate", "missing_flag")}


@pytest.mark.parametrize(("ha_mean", "expected"), [("zeros", 2.0), ("available", 3.0)])
def test_averages_zeros_or_what_is_available(ha_mean, expected):
    np.testing.assert_array_equal(
        HistoricalAverage(HaOptions(ha_mean=ha_mean)).predict(INPUTS), [expected, 0]
    )


def test_an_item_without_history_falls_back_to_its_taxonomies_then_to_the_training_mean():
    floor = HistoricalAverage(HaOptions(ha_fallback="taxonomy"), training_mean=1.5)
    np.testing.assert_array_equal(floor.predict(INPUTS), [3, 6])
    np.testing.assert_array_equal(floor.predict(NOBODY), [3, 1.5])
    np.testing.assert_array_equal(floor.predict(WITHOUT_TAXONOMIES), [3, 1.5])


def test_a_rate_under_a_missing_flag_is_not_read():
    told = {**INPUTS, "share_rate": np.array([[2, 99, 4], [99, 99, 99]], "float32")}
    for floor in (*(HistoricalAverage(HaOptions(ha_mean=one)) for one in MEANS), LastRate()):
        np.testing.assert_array_equal(floor.predict(told), floor.predict(INPUTS))


def test_the_last_rate_is_the_last_that_is_there():
    np.testing.assert_array_equal(LastRate().predict(INPUTS), [4, 0])
    gap = {**INPUTS, "missing_flag": np.array([[0, 1, 1], [1, 1, 1]], "float32")}
    np.testing.assert_array_equal(LastRate().predict(gap), [2, 0])


def test_the_taxonomy_mean_leaves_missing_steps_out():
    np.testing.assert_array_equal(TaxonomyMean(1.5).predict(INPUTS), [5, 6])
    np.testing.assert_array_equal(TaxonomyMean(1.5).predict(NOBODY), [1.5, 1.5])


FLOORS = {"ha": [3, 0], "ha_taxonomy": [3, 6], "last_rate": [4, 0], "taxonomy_mean": [5, 6]}
"""Percent of both items, worked by hand from `INPUTS`."""


def test_every_floor_is_in_the_table():
    assert FLOORS.keys() == {name for name, one in REGISTRY.items() if one.kind == "floor"}


@pytest.mark.parametrize("name", FLOORS)
def test_floors_predict_float32_percent_from_the_registry(name):
    spec = FeatureSpec(window=3, horizon=1, taxonomies=("category", "tags"), rate_mean=1.5)
    predicted = REGISTRY[name](spec).predict(INPUTS)
    assert predicted.dtype == "float32"
    np.testing.assert_array_equal(predicted, FLOORS[name])


def test_refuses_an_unknown_mean():
    with pytest.raises(ValueError, match=r"ha_mean\n.*'available' or 'zeros'"):
        HaOptions(ha_mean="zero")
