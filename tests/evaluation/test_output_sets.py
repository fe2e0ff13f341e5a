import numpy as np
import pandas as pd
import pytest

from mmnet.config import TrainConfig
from mmnet.data import input_tables, pipeline
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.evaluation.halves import halves
from mmnet.evaluation.other_outputs import main_rows
from mmnet.evaluation.output_sets import OutputSet, parts_of, set_of
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.flags import parse
from tests import two_rates

GIVEN = {"missing_rate": 0.5, "scenario_seed": 0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    given = two_rates.write(tmp_path_factory.mktemp("two_rates"))
    flags = parse(TrainConfig, given)
    return pipeline.prepare(input_tables.load_tables(flags), *input_tables.table_flags(flags))


@pytest.fixture(scope="module")
def whole(dataset):
    return set_of(dataset, Windows(dataset), dataset.examples("test"), **GIVEN)


def predict(inputs):
    """A prediction per output from what the network reads: the last rates of both."""
    main, like = (np.asarray(inputs[name])[:, -1] for name in ("share_rate", "share_rate_like"))
    return np.stack([main, main + 1, like, like + 1], axis=1).astype("float32")


def test_a_single_output_is_evaluated_as_ever(dataset):
    alone = dataset.alone(dataset.fitted.spec.outputs()[2])
    found = set_of(alone, Windows(alone), alone.examples("test"), **GIVEN)
    assert type(found) is ScenarioSet
    (part,) = parts_of(found)
    predicted = {"normal": np.ones(3)}
    assert part.examples is found
    assert part.of(predicted) is predicted
    assert part.looks(predicted) is predicted
    assert part.alone(predict) is predict


def test_each_output_is_evaluated_as_a_dataset_of_it_alone(dataset, whole):
    predicted = whole.predictions(predict)
    assert [part.output for part in parts_of(whole)] == list(dataset.fitted.spec.outputs())
    sizes = set()
    for number, part in enumerate(parts_of(whole)):
        alone = dataset.alone(part.output)
        single = ScenarioSet(alone, Windows(alone), alone.examples("test"), **GIVEN)
        own = single.predictions(lambda x, n=number: np.asarray(x["share_rate"])[:, -1] + n % 2)
        frame, expected = part.examples.frame(part.of(predicted)), single.frame(own)
        if number % 2:  # masks of the noisy scenario are drawn for the main target
            frame, expected = (one[one["scenario"] != "noisy"] for one in (frame, expected))
        pd.testing.assert_frame_equal(frame, expected)
        sizes.add(len(part.examples.examples))
    assert len(sizes) > 2  # rates and horizons differ in their eligible targets


def test_all_outputs_of_an_example_see_the_same_steps(whole):
    for part in parts_of(whole):
        for scenario in SCENARIOS:
            np.testing.assert_array_equal(
                part.examples.hidden[scenario], whole.hidden[scenario][part.rows]
            )


def test_one_column_predicts_one_output(whole):
    part = parts_of(whole)[3]
    _, inputs = next(whole.windows.batches(whole.examples))
    np.testing.assert_array_equal(part.alone(predict)(inputs), predict(inputs)[:, 3])
    weights = np.arange(len(whole.examples))
    found = part.looks({"normal": {"head": weights}})["normal"]["head"]
    np.testing.assert_array_equal(found, part.rows)


def test_validation_metrics_have_a_name_per_output(whole):
    predicted = whole.predictions(predict)
    found = whole.mse(predicted)
    assert len(found) == 4 * 3 * 2
    for part in parts_of(whole):
        name = part.output.name
        prefix = "" if name == "predicted_share_rate" else f"{name}/"
        error = part.of(predicted)["normal"] - part.examples.truth
        assert found[f"{prefix}normal_mse"] == pytest.approx(np.mean(np.square(error)), rel=1e-5)


def test_the_table_has_rows_per_horizon_and_columns_per_rate(whole):
    predicted = whole.predictions(predict)
    table = whole.table(predicted)
    assert not table.duplicated(["scenario", "horizon", "item_id", "period"]).any()
    assert (table["horizon"].diff().dropna() >= 0).all()  # the main horizon's rows first
    columns = {"": "share_rate", "like": "share_rate_like"}
    names = {"": "predicted_share_rate", "like": "predicted_like"}
    clicks = {"": "clicks", "like": "clicks_like"}
    seen = 0
    for part in parts_of(whole):
        frame = part.examples.frame(part.of(predicted))
        rate, horizon = part.output.rate, part.output.horizon
        own = table[(table["horizon"] == horizon) & table[columns[rate]].notna()]
        np.testing.assert_array_equal(own["item_id"], frame["item_id"])
        np.testing.assert_array_equal(own["period"], frame["period"])
        np.testing.assert_array_equal(own[columns[rate]], frame["share_rate"])
        np.testing.assert_array_equal(own[names[rate]], frame["predicted_share_rate"])
        np.testing.assert_array_equal(own[clicks[rate]], frame["clicks"])
        seen += len(own)
    assert seen < 2 * len(table)  # some rows have a target of one rate alone


def test_readers_of_the_main_output_find_its_rows(whole):
    predicted = whole.predictions(predict)
    main = parts_of(whole)[0]
    expected = main.examples.frame(main.of(predicted))
    found = main_rows(whole.table(predicted))[list(expected)]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert main_rows(expected) is expected


def test_the_loss_of_the_taxonomies_is_that_of_all_rates(whole):
    def read(inputs):
        """The same for every example, unless a mean of either rate can be seen."""
        flags = [inputs[name] for name in ("taxonomy_missing_flag", "taxonomy_missing_flag_like")]
        seen = np.sum([1 - np.asarray(flag) for flag in flags], axis=(0, 2, 3))
        return np.stack([seen] * 4, axis=1).astype("float32")

    part = parts_of(whole)[0]
    found = part.examples.outage(part.alone(read))
    nothing_seen = float(np.mean(np.square(part.examples.truth)))
    assert found["taxonomies"]["normal"]["mse"] == pytest.approx(nothing_seen, rel=1e-5)
    assert found["nothing"]["normal"]["mse"] != found["taxonomies"]["normal"]["mse"]


def test_examples_without_eligibility_are_refused(dataset):
    examples = dataset.examples("test")
    bare = Examples(examples.items, examples.times)
    with pytest.raises(ValueError, match="`examples` must have the eligibility"):
        OutputSet(dataset, Windows(dataset), bare, **GIVEN)


def test_each_half_has_rows_of_every_output():
    items = np.repeat(np.arange(60), 10)
    eligible = np.ones((600, 2), bool)
    ids = np.array([f"i{n}" for n in range(60)])
    assert not halves(Examples(items, items, eligible), ids).remark
    eligible[:, 1] = items == 0  # of the second output, one half would have none
    assert "fewer than 200" in halves(Examples(items, items, eligible), ids).remark
