import hashlib

import numpy as np
import pandas as pd
import pytest

from mmnet.config import TrainConfig
from mmnet.data import input_tables, pipeline
from mmnet.data.windows import Windows
from mmnet.evaluation import metrics
from mmnet.evaluation.precision import precision_at
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.evaluation.significance import Clusters
from mmnet.flags import parse
from mmnet.models.historical_average import HistoricalAverage
from mmnet.models.options import HaOptions
from mmnet.tasks import evaluating


@pytest.fixture(scope="module")
def test_set(simulated_flags):
    flags = parse(TrainConfig, simulated_flags)
    dataset = pipeline.prepare(input_tables.load_tables(flags), *input_tables.table_flags(flags))
    return ScenarioSet(
        dataset, Windows(dataset), dataset.split.test, missing_rate=0.5, scenario_seed=0
    )


def average(inputs):
    return HistoricalAverage(HaOptions()).predict(
        {name: np.asarray(t) for name, t in inputs.items()}
    )


def test_a_degradation_curve_passes_through_the_three_scenarios(test_set):
    curve = test_set.degradation(average, [1.0, 0.0, 0.5])
    assert [row["missing_rate"] for row in curve] == [0.0, 0.5, 1.0]
    known = test_set.mse(test_set.predictions(average))
    for row, scenario in zip(curve, ("normal", "noisy", "cold_start"), strict=True):
        assert row["mse"] == known[f"{scenario}_mse"]
        assert row["precision_at_5"] == known[f"{scenario}_precision_at_5"]


def test_a_degradation_curve_has_the_interval_of_each_mse(test_set):
    curve = test_set.degradation(average, [0.0, 1.0], with_ends=True)
    known = test_set.predictions(average)
    clusters = Clusters(test_set.examples.items)
    for row, scenario in zip(curve, ("normal", "cold_start"), strict=True):
        squared = (known[scenario].astype(np.float64) - test_set.truth) ** 2
        # Degrees of freedom of items of a few rows each: the quantile is nearly the normal one.
        half = 1.96 * clusters.variance(squared) ** 0.5
        assert row["mse_high"] - row["mse"] == pytest.approx(half, rel=0.05)
        assert row["mse_low"] == pytest.approx(2 * row["mse"] - row["mse_high"])


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


def reads_everything(inputs):
    """A rate that every input moves."""
    arrays = {name: np.asarray(tensor) for name, tensor in inputs.items()}
    return sum(
        np.sin(np.arange(array[0].size) + number) @ array.reshape(len(array), -1).T
        for number, array in enumerate(arrays.values())
    ).astype("float32")


def test_an_outage_is_the_scores_with_one_input_gone(test_set):
    found = test_set.outage(reads_everything)
    gone = {
        "nothing": [],
        "taxonomies": ["taxonomy_rate", "taxonomy_missing_flag"],
        "meta": ["field_category", "field_tags", "field_author", "numeric_duration"],
        "text_title": ["text_title"],
        "vector_cover": ["vector_cover"],
    }
    gone["content"] = [*gone["meta"], "text_title", "vector_cover"]
    assert list(found) == list(gone)
    for name, tensors in gone.items():
        for scenario in SCENARIOS:
            inputs = dict(test_set.sample(scenario).inputs)
            for tensor in tensors:
                fill = 1 if tensor == "taxonomy_missing_flag" else 0
                inputs[tensor] = np.full_like(inputs[tensor], fill)
            predicted = reads_everything(inputs)
            # Batches of another size sum in another order.
            assert found[name][scenario]["mse"] == pytest.approx(
                metrics.mse(test_set.truth, predicted), rel=1e-4
            )
            assert found[name][scenario]["precision_at_10"] == pytest.approx(
                precision_at(10, test_set.truth, predicted), abs=0.02
            )
    scores = [found[name]["normal"]["mse"] for name in gone]
    assert len(set(scores)) == len(scores)  # each of them is read


def test_with_nothing_gone_an_outage_is_the_evaluation(test_set):
    found, known = test_set.outage(average), test_set.mse(test_set.predictions(average))
    for name in found:  # an average reads the history only
        for scenario in SCENARIOS:
            assert found[name][scenario]["mse"] == known[f"{scenario}_mse"]
            assert found[name][scenario]["precision_at_5"] == known[f"{scenario}_precision_at_5"]


def test_known_predictions_are_not_made_again_and_give_the_same_scores(test_set):
    known, rates = test_set.predictions(reads_everything), [0.0, 0.3, 0.5, 1.0]
    calls = []

    def counted(inputs):
        calls.append(len(inputs["share_rate"]))
        return reads_everything(inputs)

    curve = test_set.degradation(counted, rates, known)
    assert sum(calls) == len(test_set.examples)  # of the rate 0.3 alone
    assert curve == test_set.degradation(reads_everything, rates)
    calls.clear()
    outage = test_set.outage(counted, known)
    assert sum(calls) == 3 * (len(outage) - 1) * len(test_set.examples)
    assert outage == test_set.outage(reads_everything)


def test_predictions_of_another_rate_are_not_taken_for_those_of_noisy(test_set):
    known = {"noisy": np.zeros(len(test_set.examples), "float32")}
    found = test_set.degradation(average, [0.4, 0.5], known)
    wrong = metrics.mse(test_set.truth, known["noisy"])
    assert [row["mse"] == wrong for row in found] == [False, True]


def test_no_batch_of_the_test_split_is_predicted_twice(test_set, simulated_flags, tmp_path):
    seen = []

    def counted(inputs):
        arrays = [np.asarray(inputs[name]).tobytes() for name in sorted(inputs)]
        seen.append(hashlib.sha256(b"".join(arrays)).hexdigest())
        return reads_everything(inputs)

    flags = parse(TrainConfig, simulated_flags)
    system = evaluating.System(None, counted, None)
    dataset, windows = test_set.dataset, test_set.windows
    evaluating.report_on(system, dataset, windows, flags, tmp_path)
    assert len(set(seen)) == len(seen)


def test_keys_name_the_rows_of_the_predictions(test_set):
    rows = test_set.frame(test_set.predictions(average))
    keys = test_set.keys()
    for scenario in SCENARIOS:
        part = rows[rows["scenario"] == scenario].reset_index(drop=True)
        pd.testing.assert_frame_equal(part[["item_id", "period"]], keys)
