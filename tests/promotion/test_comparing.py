"""Both models are scored on the same rows with the same disturbances, in periods new to both."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mmnet import config
from mmnet.checks import InputError
from mmnet.data import pipeline
from mmnet.data.windows import Windows
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.promotion import comparing
from mmnet.promotion.comparing import Comparison, Judged, NotComparableError
from mmnet.serving import exported
from mmnet.tasks import comparing as tasks_comparing


def compare(champion, challenger, **more):
    noisy = {"missing_rate": 0.5, "scenario_seed": 0}  # as the run's own evaluation
    return comparing.compare(champion, challenger, periods=2, **noisy, **more)


@pytest.fixture(scope="module")
def found(judged):
    """The export compared with itself, on the last two periods."""
    return compare(judged, judged)


def of_dataset(dataset, **about):
    """A model that predicts its mean rate, for a dataset of its own."""
    described = SimpleNamespace(fitted=dataset.fitted, first_targets={"test": 20}, **about)
    judged = Judged(Path("mean"), described, dataset, None)
    judged.predict = lambda inputs: np.full(len(inputs["clicks"]), 5.0, np.float32)
    return judged


def test_predictions_are_those_of_the_runs_own_evaluation(found, run_dir):
    evaluated = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    for scenario in SCENARIOS:
        rows = evaluated[evaluated["scenario"] == scenario]
        both = found.rows.merge(rows, on=["item_id", "period"], suffixes=("", "_evaluated"))
        assert len(both) == len(found.rows) == (rows["period"] >= 22).sum()
        np.testing.assert_array_equal(both["share_rate"], both["share_rate_evaluated"])
        # float32 sums in another order: the tolerance of exports.
        for model in ("champion", "challenger"):
            np.testing.assert_allclose(
                both[f"{model}_{scenario}"], both["predicted_share_rate"], rtol=1e-5, atol=1e-4
            )


def test_a_model_is_not_better_than_itself(found):
    document = found.to_json()
    assert document["periods"] == [22, 23]
    for scenario in SCENARIOS:
        one = document["scenarios"][scenario]["unweighted"]
        assert one["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        assert one["p_not_better"] == 1
    assert "weighted" not in document["scenarios"]["normal"]
    assert document["weighting"] is None


def test_logged_decisions_weight_the_rows(judged, found):
    logged = pd.DataFrame({"item_id": found.rows["item_id"].unique()})
    logged["period"], logged["decision"], logged["propensity"] = 20, "explore", 0.25
    half = logged.iloc[::2]
    weighted = compare(judged, judged, decisions=half)
    chosen = weighted.rows["item_id"].isin(half["item_id"])
    assert set(weighted.rows["weight"][chosen]) == {4.0}
    assert set(weighted.rows["weight"][~chosen]) == {1.0}
    mse = np.average(
        (weighted.rows["champion_normal"] - weighted.rows["share_rate"]) ** 2,
        weights=weighted.rows["weight"],
    )
    document = weighted.to_json()
    assert document["scenarios"]["normal"]["weighted"]["champion_mse"] == pytest.approx(mse)
    assert document["weighting"]["clipped"] == 0


def test_a_comparison_is_read_as_it_was_written(found, tmp_path):
    found.write(tmp_path)
    again = Comparison.read(tmp_path)
    assert again.to_json() == found.to_json()
    pd.testing.assert_frame_equal(again.rows, found.rows)
    (tmp_path / comparing.FILE).write_text("{")
    with pytest.raises(InputError, match=r"comparison.json is missing or damaged; delete"):
        Comparison.read(tmp_path)


def test_models_with_other_windows_and_vocabularies_see_the_same_steps(judged, night):
    tables, flags, task = night
    shorter = task.model_copy(update={"window": 3})
    other = of_dataset(
        pipeline.prepare(tables, flags.model_copy(update={"categoricals": ()}), shorter)
    )
    rows = comparing.compared_rows((other, judged), 2)
    short, long = comparing.scenario_sets((other, judged), rows, missing_rate=0.5, scenario_seed=0)
    assert short.hidden["noisy"].shape[1] == 3
    np.testing.assert_array_equal(short.hidden["noisy"], long.hidden["noisy"][:, -3:])
    np.testing.assert_array_equal(short.truth, long.truth)
    assert 0.4 < short.hidden["noisy"].mean() < 0.6
    compared = compare(other, judged)
    assert (compared.rows["champion_normal"] == 5).all()
    assert compared.paired("normal").mse[1] == pytest.approx(
        float(np.mean((compared.rows["challenger_normal"] - compared.rows["share_rate"]) ** 2))
    )


def test_a_model_is_not_judged_on_periods_that_it_has_learned_from(judged):
    first = judged.learned_until
    assert judged.about.first_targets["test"] == first
    compare_periods = judged.dataset.panel.num_periods - first
    assert len(comparing.compared_rows((judged,), compare_periods))
    with pytest.raises(NotComparableError, match=rf"learned from the periods before {first}"):
        comparing.compared_rows((judged,), compare_periods + 1)
    with pytest.raises(NotComparableError, match="which leaves none before the 24"):
        comparing.compared_rows((judged,), 24)


def test_a_split_that_is_not_by_time_leaves_no_new_periods(judged):
    about = judged.about.model_copy(update={"first_targets": {}})
    with pytest.raises(NotComparableError, match="train it with --split=chronological"):
        compare(judged, dataclasses.replace(judged, about=about))


def test_models_of_other_rates_and_horizons_are_refused(judged):
    dataset = judged.dataset
    for change, what in (
        ({"tables": dataset.fitted.tables.model_copy(update={"numerator": "likes"})}, "numerators"),
        ({"spec": dataset.fitted.spec.model_copy(update={"horizon": 2})}, "horizons"),
    ):
        other = of_dataset(
            dataclasses.replace(dataset, fitted=dataset.fitted.model_copy(update=change))
        )
        with pytest.raises(NotComparableError, match=f"have different {what}"):
            compare(judged, other)


def test_a_challenger_without_an_output_of_the_champion_is_refused(judged):
    dataset, spec = judged.dataset, judged.dataset.fitted.spec
    more = dataset.fitted.model_copy(update={"spec": spec.model_copy(update={"horizons": (3,)})})
    champion = of_dataset(dataclasses.replace(dataset, fitted=more))
    with pytest.raises(NotComparableError, match="does not return predicted_share_rate_h3, which"):
        compare(champion, judged)


def test_a_target_has_enough_clicks(judged):
    dataset = judged.dataset
    task = dataset.fitted.task.model_copy(update={"min_target_clicks": 10**9})
    other = of_dataset(
        dataclasses.replace(dataset, fitted=dataset.fitted.model_copy(update={"task": task}))
    )
    with pytest.raises(NotComparableError, match="no item has 1000000000 clicks or more"):
        compare(judged, other)


def test_a_damaged_export_and_a_table_without_a_column_are_refused(run_dir, night, tmp_path):
    tables, flags, _ = night
    items = dataclasses.replace(tables.items, data=tables.items.data.drop_columns(["author"]))
    without = dataclasses.replace(tables, items=items)
    with pytest.raises(InputError, match="author"):
        comparing.judge(run_dir / "export", without, flags)
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    (copy / exported.ABOUT_DIRECTORY / "profile.json").write_text("{}")
    with pytest.raises(InputError, match="has changed since it was exported"):
        comparing.judge(copy, tables, flags)


def test_windows_are_made_once(judged):
    assert judged.windows is judged.windows
    assert isinstance(judged.windows, Windows)


def test_models_of_several_outputs_are_compared_by_the_main_one(several_outputs, tmp_path):
    flags = config.PredictConfig(
        saved_model=str(several_outputs / "export"),
        counts=str(several_outputs / "counts.parquet"),
        items=str(several_outputs / "items.parquet"),
    )
    found = tasks_comparing.compare(
        flags, several_outputs / "export", periods=2, decisions="", clip=9
    )
    assert found.rows["period"].tolist() == sorted([22, 23] * 60)
    counts = pd.read_parquet(several_outputs / "counts.parquet").set_index(["item_id", "period"])
    wanted = counts.loc[list(zip(found.rows["item_id"], found.rows["period"], strict=True))]
    np.testing.assert_allclose(
        found.rows["share_rate"], 100 * wanted["shares"] / wanted["clicks"], rtol=1e-6
    )
    assert (found.rows["champion_normal"] != found.rows["champion_cold_start"]).any()
    assert found.rows["champion_normal"].equals(found.rows["challenger_normal"])
