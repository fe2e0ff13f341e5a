import numpy as np
import pytest

from mmnet import config
from mmnet.config import TrainConfig
from mmnet.data import pipeline
from mmnet.data.windows import Windows
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.models.historical_average import HistoricalAverage


@pytest.fixture(scope="module")
def test_set(simulated_flags):
    flags = config.parse(TrainConfig, simulated_flags)
    dataset = pipeline.prepare(pipeline.load_tables(flags), *pipeline.table_flags(flags))
    return ScenarioSet(
        dataset, Windows(dataset), dataset.split.test, missing_rate=0.5, scenario_seed=0
    )


def average(inputs):
    return HistoricalAverage().predict({name: np.asarray(t) for name, t in inputs.items()})


def test_a_degradation_curve_passes_through_the_three_scenarios(test_set):
    curve = test_set.degradation(average, [1.0, 0.0, 0.5])
    assert [row["missing_rate"] for row in curve] == [0.0, 0.5, 1.0]
    known = test_set.mse(average)
    for row, scenario in zip(curve, ("normal", "noisy", "cold_start"), strict=True):
        assert row["mse"] == known[f"{scenario}_mse"]
        assert row["precision_at_5"] == known[f"{scenario}_precision_at_5"]


def test_an_average_only_gets_worse_as_its_history_goes(test_set):
    # A step hidden at one rate is hidden at every higher one; less history, a noisier average.
    mse = [row["mse"] for row in test_set.degradation(average, [0.0, 0.3, 0.6, 0.9, 1.0])]
    assert mse == sorted(mse)


def test_a_sample_is_the_same_examples_as_arrays(test_set):
    for scenario in SCENARIOS:
        sample = test_set.sample(scenario)
        assert len(sample) == len(test_set.examples)
        predicted = test_set.outputs(scenario, average)
        np.testing.assert_array_equal(average(sample.inputs), predicted)
        np.testing.assert_array_equal(sample.share_rate, test_set.truth)
        np.testing.assert_array_equal(sample.weight, np.ones(len(sample), "float32"))


def test_a_sample_weighs_targets_by_their_clicks(test_set):
    sample = test_set.sample("normal", half_weight_clicks=50)
    expected = sample.clicks / (sample.clicks + 50)
    # float32 rounds each weight once.
    np.testing.assert_allclose(sample.weight, expected / expected.mean(), rtol=1e-6)
