import dataclasses
import json
import shutil

import hypothesis
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from mmnet import config, models, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.conformal import Group, Intervals
from mmnet.flags import parse
from mmnet.serving import decision, exported
from mmnet.serving.bundle import verify
from mmnet.tasks import evaluating

rows = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40)


@hypothesis.given(rows, st.floats(0.05, 1.0))
def test_recall_is_reached_and_no_higher_threshold_reaches_it(pairs, wanted):
    truth, predicted = (np.array(column, float) for column in zip(*pairs, strict=True))
    rule = decision.solve(f"recall={wanted}", truth, predicted, top_percent=20)
    assert rule.recall >= wanted - 1e-9
    top = decision.in_top(20, truth)
    higher = predicted >= predicted[predicted >= rule.threshold].min() + 0.5
    assert top[higher].sum() / top.sum() < wanted


@hypothesis.given(rows, st.floats(0.05, 1.0))
def test_at_least_the_share_is_kept_and_ties_stay_together(pairs, share):
    truth, predicted = (np.array(column, float) for column in zip(*pairs, strict=True))
    rule = decision.solve(f"keep={share}", truth, predicted)
    number = max(1, int(share * len(truth) + 1e-9))
    assert rule.kept_share * len(truth) >= number - 1e-9
    strictly = np.sum(predicted > predicted[predicted >= rule.threshold].min())
    assert strictly < number


def test_a_rounding_where_the_model_is_served_moves_nobody():
    predicted = np.linspace(0, 10, 101)
    rule = decision.solve("keep=0.3", predicted, predicted)
    kept = decision.decide(predicted, rule.threshold)
    for shift in (-1e-4, 1e-4):
        np.testing.assert_array_equal(decision.decide(predicted + shift, rule.threshold), kept)
    assert (kept == "keep").sum() == 30


def test_a_threshold_is_taken_as_it_is():
    rule = decision.solve("threshold=2.5", np.array([1.0, 9.0]), np.array([2.5, 2.4]))
    assert rule.threshold == 2.5
    assert rule.kept_share == 0.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keep", "keep=SHARE"),
        ("keep=0", "above 0"),
        ("recall=1.5", "at most 1"),
        ("recal=0.9", "Did you mean recall"),
        ("threshold=nan", "threshold=PERCENT"),
        ("keep=many", "keep=SHARE"),
    ],
)
def test_what_is_no_rule_is_said(text, told):
    with pytest.raises(InputError, match=told):
        decision.parse(text)


def intervals(*scenarios, starts=(0, 1)):
    groups = [
        Group(scenario=scenario, clicks=start, n=500, low=-1.0, high=float(2 + number + start))
        for number, scenario in enumerate(scenarios)
        for start in starts
    ]
    return Intervals(level=0.9, floor=1.0, max_rate=None, groups=tuple(groups))


def decisions(**changed):
    rules = {
        text: decision.solve(text, np.arange(10.0), np.arange(10.0))
        for text in ("keep=0.5", "recall=0.9")
    }
    given = {"top_percent": 5, "rules": rules, "intervals": intervals("normal", "cold_start")}
    return decision.Decisions(**given | changed)


def test_stored_is_the_first_rule_and_what_was_not_solved_is_refused():
    stored = decisions()
    assert stored.rule("stored") == stored.rules["keep=0.5"]
    assert stored.rule("threshold=7").threshold == 7
    with pytest.raises(
        InputError, match=r"only keep=0\.5, recall=0\.9\. Did you mean keep=0\.5\? Train with"
    ):
        stored.rule("keep=0.6")


def test_new_items_are_calibrated_apart_where_validation_had_enough_of_them():
    clicks, predicted = np.array([0, 3]), np.array([1.0, 1.0])
    _, high = decisions().bounds(clicks, predicted)
    np.testing.assert_array_equal(high, [3, 4])
    few = intervals("normal", "cold_start", starts=(0,))
    _, high = decisions(intervals=few).bounds(clicks, predicted)
    np.testing.assert_array_equal(high, [4, 3])  # the first as in cold-start


def test_what_is_stored_comes_back():
    stored = decisions()
    document = json.loads(json.dumps(stored.model_dump(mode="json")))
    assert decision.Decisions.model_validate(document) == stored


# ------------------------------------------------------------------------- the small run's own


def test_the_future_moves_no_rule(run_dir):
    """Everything from the first test target on is rewritten; validation's rules stay."""
    flags = parse(config.TrainConfig, [f"--flagfile={run_dir / 'flags.txt'}"])
    dataset = datasets.load(run_dir / "dataset")
    spec = dataset.fitted.spec
    first = dataset.split.first_targets[2]
    predict = evaluating.predictor_of(models.REGISTRY["ha"](spec), jit=False)

    def decisions_of(data):
        return evaluating.validation_of(predict, data, Windows(data), flags).decisions

    before = decisions_of(dataset)
    column = spec.window - 1 + first
    history = np.concatenate(
        [dataset.history[:, :column], 1 - dataset.history[:, column:] / 200], axis=1
    )
    panel = dataset.panel
    clicks = np.concatenate([panel.clicks[:, :first], panel.clicks[:, first:] + 7], axis=1)
    panel = dataclasses.replace(panel, clicks=clicks)
    other = dataclasses.replace(dataset, panel=panel, history=history)
    assert decisions_of(other) == before
    earlier = np.concatenate([panel.shares[:, : first - 1] // 2, panel.shares[:, first - 1 :]], 1)
    moved = dataclasses.replace(dataset, panel=dataclasses.replace(panel, shares=earlier))
    assert decisions_of(moved) != before


def test_predict_decides_by_the_stored_rule(run_dir, tmp_path):
    stored = decision.Decisions.model_validate(exported.asset(run_dir / "export", decision.FILE))
    assert list(stored.rules) == ["recall=0.99"]
    output = tmp_path / "scores.parquet"
    common = {
        "saved_model": str(run_dir / "export"),
        "dataset_dir": str(run_dir / "dataset"),
        "output": str(output),
    }
    tasks.predict(config.PredictConfig(**common, rule="stored", explore=True))
    found = pq.read_table(output).to_pandas()
    threshold = stored.rules["recall=0.99"].threshold
    expected = np.where(
        found["predicted_share_rate"] >= threshold,
        "keep",
        np.where(found["share_rate_high"] >= threshold, "explore", "drop"),
    )
    assert found["decision"].tolist() == expected.tolist()
    assert (found["share_rate_low"] <= found["predicted_share_rate"]).all()
    tasks.predict(config.PredictConfig(**common, rule="threshold=4.5"))
    found = pq.read_table(output).to_pandas()
    assert set(found["decision"]) == {"keep", "drop"}
    with pytest.raises(InputError, match="was not solved when this model was trained"):
        tasks.predict(config.PredictConfig(**common, rule="keep=0.123"))


def test_a_broken_threshold_is_named(run_dir, tmp_path):
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    path = copy / exported.ABOUT_DIRECTORY / decision.FILE
    document = json.loads(path.read_text())
    document["rules"]["recall=0.99"]["threshold"] += 0.5
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (problem,) = (check.problem for check in verify(copy) if check.problem)
    assert problem == "assets.extra/decision.json: rules.recall=0.99.threshold has changed"


def test_the_evaluation_tells_what_the_rule_would_have_done(run_dir):
    found = json.loads((run_dir / "evaluation" / "decision.json").read_text())
    frame = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    normal = frame[frame["scenario"] == "normal"]
    (rule,) = found["rules"]["normal"]
    kept = normal[normal["predicted_share_rate"] >= rule["threshold"]]
    assert rule["kept_share"] == pytest.approx(len(kept) / len(normal))
    # JSON keeps ten digits behind the point.
    assert rule["pool_rate"] == pytest.approx(kept["share_rate"].astype(float).mean(), abs=1e-9)
    assert {row["scenario"] for row in found["coverage"]} == set(frame["scenario"])
