"""Nothing reported leaks from the future or from the label: rules 1 to 5 at the level of scores."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf

from mmnet.config import TableFlags, TaskFlags, TrainConfig, TrainingFlags
from mmnet.data import input_tables, pipeline
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows
from mmnet.evaluation import metrics
from mmnet.evaluation.predicting import Predictor, ScenarioSet
from mmnet.flags import parse
from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.training import share_rates

PERIODS, ITEMS = 12, 12
FLAGS = TableFlags(taxonomies=("tag",))


def tables(clicks, shares):
    rows, columns = np.nonzero(clicks)
    counts = {
        "item_id": [f"i{row}" for row in rows],
        "period": columns,
        "clicks": clicks[rows, columns],
        "shares": shares[rows, columns],
    }
    # Item 0 is alone in its tag; the others share two.
    tags = ["alone", *("even" if row % 2 else "odd" for row in range(1, ITEMS))]
    items = {"item_id": [f"i{row}" for row in range(ITEMS)], "tag": tags}
    return InMemory(Table(pa.table(counts), "counts"), Table(pa.table(items), "items"))


def panel(seed=0):
    draw = np.random.default_rng(seed)
    clicks = draw.integers(60, 200, (ITEMS, PERIODS))
    return clicks, draw.binomial(clicks, 0.1)


def task(taxonomy_mean="leave_one_out"):
    return TaskFlags(window=3, min_test_rows=1, taxonomy_mean=taxonomy_mean)


def predictions(dataset):
    """Scores of an untrained network on the test split: only what it reads can move them."""
    model = mmnet(dataset.fitted.spec, MMNetOptions(units=8, field_width=4, seed=0))
    test = ScenarioSet(
        dataset, Windows(dataset), dataset.split.test, missing_rate=0.5, scenario_seed=0
    )
    frame = test.frame(test.predictions(Predictor(model, jit=False)))
    return frame.set_index(["scenario", "item_id", "period"])["predicted_share_rate"]


def with_other_history(item):
    """The dataset's counts with another past of one item, its test targets left as they are."""
    clicks, shares = panel()
    other = shares.copy()
    other[item, : PERIODS - 1] = clicks[item, : PERIODS - 1] - shares[item, : PERIODS - 1]
    return clicks, shares, other


def scores_with(shares, clicks, fitted, mean):
    """Scores with vocabularies and scales held fixed, so that only inputs can move them."""
    dataset = pipeline.transform(
        tables(clicks, shares), fitted.model_copy(update={"task": task(mean)})
    )
    dataset.split = pipeline.prepare(tables(clicks, shares), FLAGS, task(mean)).split
    return predictions(dataset)


@pytest.mark.parametrize("mean", ["leave_one_out", "paper"])
def test_a_masked_history_shines_through_the_papers_means_only(mean):
    clicks, shares, other = with_other_history(item=0)
    fitted = pipeline.prepare(tables(clicks, shares), FLAGS, task(mean)).fitted
    before = scores_with(shares, clicks, fitted, mean)["cold_start"]["i0"]
    after = scores_with(other, clicks, fitted, mean)["cold_start"]["i0"]
    # In cold-start the item's own counts are hidden. Alone in its tag, it is its tag's mean.
    assert np.array_equal(before, after) == (mean == "leave_one_out")


def test_the_normal_scenario_does_read_the_history():
    clicks, shares, other = with_other_history(item=0)
    fitted = pipeline.prepare(tables(clicks, shares), FLAGS, task()).fitted
    before = scores_with(shares, clicks, fitted, "leave_one_out")["normal"]["i0"]
    after = scores_with(other, clicks, fitted, "leave_one_out")["normal"]["i0"]
    assert not np.array_equal(before, after)


def test_a_target_does_not_reach_its_own_prediction():
    clicks, shares = panel()
    fitted = pipeline.prepare(tables(clicks, shares), FLAGS, task()).fitted
    before = scores_with(shares, clicks, fitted, "leave_one_out")
    other = shares.copy()
    other[:, PERIODS - 1] = 0  # the targets of the last period, of everybody
    after = scores_with(other, clicks, fitted, "leave_one_out")
    last = PERIODS - 1
    np.testing.assert_array_equal(
        before[before.index.get_level_values("period") == last],
        after[after.index.get_level_values("period") == last],
    )


def test_rewriting_all_after_the_training_span_moves_nothing_fitted():
    clicks, shares = panel()
    before = pipeline.prepare(tables(clicks, shares), FLAGS, task())
    first_validation = before.split.first_targets[1]
    other = shares.copy()
    other[:, first_validation:] = clicks[:, first_validation:]
    after = pipeline.prepare(tables(clicks, other), FLAGS, task())
    assert after.fitted == before.fitted


# ---------------------------------------------------------------- a run on shuffled labels


@pytest.fixture(scope="module")
def shuffled_run(simulated_flags, tmp_path_factory):
    """Truth and predictions of a small MMNet that was trained on other examples' targets."""
    flags = parse(TrainConfig, simulated_flags)
    dataset = pipeline.prepare(input_tables.load_tables(flags), *input_tables.table_flags(flags))
    windows = Windows(dataset)
    batches, steps = windows.training_batches(dataset.split.train, 32, 0)

    def shuffled(first_step):
        # Within a batch every target goes to another example: nothing is left to be learned.
        return batches(first_step).map(lambda inputs, target: (inputs, tf.roll(target, 1, 0)))

    validation, test = (
        ScenarioSet(dataset, windows, dataset.split[name], missing_rate=0.5, scenario_seed=0)
        for name in ("validation", "test")
    )
    model = mmnet(dataset.fitted.spec, MMNetOptions(units=8, field_width=4, seed=0))
    predict = Predictor(model, jit=False)
    trainer = share_rates.trainer(
        model,
        shuffled,
        steps,
        TrainingFlags(epochs=3, patience=3, jit=False),
        rate_scale=dataset.fitted.spec.rate_scale,
    )
    trainer.fit(
        shuffled,
        lambda _: validation.mse(validation.predictions(predict)),
        run_dir=tmp_path_factory.mktemp("shuffled"),
        resume=False,
    )
    return test.frame(test.predictions(predict))


def test_a_run_on_shuffled_labels_learns_nothing(shuffled_run, run_dir):
    honest = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    items = shuffled_run["item_id"].nunique()
    for scenario in ("normal", "cold_start", "noisy"):
        rows = shuffled_run[shuffled_run["scenario"] == scenario]
        truth, predicted = rows["share_rate"].to_numpy(), rows["predicted_share_rate"].to_numpy()
        # No order beyond three standard errors of a correlation of so many independent items, and
        # no better than the mean by more than such a correlation, squared, explains.
        assert metrics.mse(truth, predicted) > (1 - 9 / items) * np.var(truth)
        assert abs(metrics.spearman(truth, predicted)) < 3 / np.sqrt(items)
        # The same network on its own labels does find an order: the test can fail.
        rows = honest[honest["scenario"] == scenario]
        own = metrics.spearman(
            rows["share_rate"].to_numpy(), rows["predicted_share_rate"].to_numpy()
        )
        assert own > 3 / np.sqrt(items)
