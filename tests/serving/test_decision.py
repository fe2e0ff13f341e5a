import dataclasses
import json
import shutil

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from mmnet import config, models, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.conformal import Group, Intervals
from mmnet.flags import parse
from mmnet.schema import FeatureSpec, FieldSpec, RateSpec
from mmnet.serving import decision, exported, rules
from mmnet.serving.bundle import verify
from mmnet.tasks import evaluating

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=40)


@hypothesis.given(ROWS, st.floats(0.05, 1.0))
def test_recall_is_reached_and_no_higher_threshold_reaches_it(pairs, wanted):
    truth, predicted = (np.array(column, float) for column in zip(*pairs, strict=True))
    rule = decision.solve(f"recall={wanted}", truth, predicted, top_percent=20)
    assert rule.recall >= wanted - 1e-9
    top = decision.in_top(20, truth)
    higher = predicted >= predicted[predicted >= rule.threshold].min() + 0.5
    assert top[higher].sum() / top.sum() < wanted


@hypothesis.given(ROWS, st.floats(0.05, 1.0))
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
        ("keep=0.3 of ", "keep=SHARE"),
        ("keep=0.3 at tomorrow", "keep=SHARE"),
    ],
)
def test_what_is_no_rule_is_said(text, told):
    with pytest.raises(InputError, match=told):
        decision.parse(text)


LOW_AND_HIGH = np.tile(np.arange(200.0), 2) + np.repeat([0.0, 1000.0], 200)  # two groups of 200
GROUPS = np.repeat(np.array(["low", "high"], object), 200)


def test_a_quota_keeps_its_share_of_every_group():
    rule = decision.solve_quota("keep=0.25 per x", LOW_AND_HIGH, LOW_AND_HIGH, GROUPS)
    assert rule.per == "x"
    # The best 50 of 0..199 begin at 150; overall the best 100 begin at 1100.
    assert rule.thresholds == {"low": 149.5, "high": 1149.5}
    assert rule.threshold == 1099.5
    assert rule.kept_share == 0.25
    assert rule.by_id(["high", "new", "low"]).tolist() == [1099.5, 1099.5, 1149.5, 1099.5, 149.5]


def test_small_and_unknown_groups_have_the_threshold_of_all():
    groups = GROUPS.copy()
    groups[: 201 - decision.FEWEST] = ""  # the low ones that remain are one too few
    rule = decision.solve_quota("keep=0.25 per x", LOW_AND_HIGH, LOW_AND_HIGH, groups)
    assert set(rule.thresholds) == {"high"}
    assert rule.of_groups(np.array(["", "low", "high"], object)).tolist() == [
        1099.5,
        1099.5,
        1149.5,
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keep=0.3 per", "keep=SHARE per COLUMN"),
        ("recall=0.9 per category", "only keep=SHARE can be a quota"),
        ("keep=2 per category", "at most 1"),
    ],
)
def test_what_is_no_quota_is_said(text, told):
    with pytest.raises(InputError, match=told):
        decision.parse(text)


def test_a_quota_needs_a_column_with_one_value_per_item():
    fields = (FieldSpec(name="category", size=9), FieldSpec(name="tags", size=9, max_values=3))
    spec = FeatureSpec(window=2, horizon=1, fields=fields)
    assert rules.quota_field("keep=0.3 per category", spec) == fields[0]
    assert rules.quota_field("keep=0.3", spec) is None
    with pytest.raises(InputError, match="up to 3 values of 'tags'"):
        rules.quota_field("keep=0.3 per tags", spec)
    with pytest.raises(InputError, match=r"'categry' is not one of .*Did you mean category"):
        rules.quota_field("keep=0.3 per categry", spec)


def likes(*names, horizons=()):
    """A spec with further rates and horizons."""
    rates = [RateSpec(name=name, rate_scale=1, rate_mean=1, max_rate=100) for name in names]
    return FeatureSpec(window=2, horizon=1, horizons=horizons, rates=tuple(rates))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("keep=0.3", "predicted_share_rate"),
        ("keep=0.3 at 1", "predicted_share_rate"),
        ("keep=0.3 at 3", "predicted_share_rate_h3"),
        ("recall=0.9 of like", "predicted_like"),
        ("threshold=2.5 of like at 3", "predicted_like_h3"),
        ("keep=0.3 per time of day of like at 3", "predicted_like_h3"),
        ("keep=0.3 per time of day", "predicted_share_rate"),
    ],
)
def test_a_rule_names_the_output_that_it_decides_by(text, name):
    outputs = likes("like", horizons=(3,)).outputs()
    assert rules.output_of(text, outputs).name == name
    wanted = "time of day" if "per" in text else ""
    assert rules.parse(text, outputs).per == wanted


def test_with_one_output_a_column_may_contain_of_and_at():
    for text in ("keep=0.3 per time of day", "keep=0.3 per rank at 3"):
        assert rules.parse(text, likes().outputs()).per == text.removeprefix("keep=0.3 per ")


@pytest.mark.parametrize(
    ("text", "spec", "told"),
    [
        ("keep=0.3 of lke", likes("like"), "rate 'lke', only like. Did you mean like"),
        ("keep=0.3 of like", likes(), "rate 'like', as --also_predict names none"),
        ("keep=0.3 at 2", likes(horizons=(3,)), "2 periods ahead, only --horizon=1,3"),
    ],
)
def test_a_rule_of_what_is_not_predicted_is_refused(text, spec, told):
    with pytest.raises(InputError, match=f"--rules={text}: the model does not predict .*{told}"):
        rules.output_of(text, spec.outputs())


def test_the_decisions_of_several_outputs_are_joined_in_the_order_of_the_rules():
    outputs, texts = likes("like").outputs(), ["keep=0.5 of like", "keep=0.3"]
    found = {
        output.name: decision.fit(
            validation(np.linspace(1, 2, 200)), [text], level=0.9, max_rate=100.0, outputs=outputs
        )
        for output, text in zip(outputs, reversed(texts), strict=True)
    }
    joined = decision.joined(found, texts, outputs)
    assert list(joined.rules) == texts
    assert decision.Decisions.model_validate_json(joined.model_dump_json()) == joined
    main, like = (joined.of(output) for output in outputs)
    assert main == joined
    assert like.intervals == found["predicted_like"].intervals
    assert like.rule("stored").kept_share == 0.5
    assert "others" not in found["predicted_like"].model_dump()
    with pytest.raises(InputError, match="no intervals of predicted_like"):
        found["predicted_share_rate"].of(outputs[1])


def validation(predicted):
    """Validation rows without any residual but ± 1, so that an interval is predicted ± 1."""
    rows = len(predicted)
    return pd.DataFrame(
        {
            "scenario": "normal",
            "item_id": np.arange(rows).astype(str),
            "seen_clicks": 10,
            "share_rate": predicted + np.where(np.arange(rows) % 2, 1.0, -1.0),
            "predicted_share_rate": predicted,
        }
    )


def test_the_expected_share_of_explored_items_is_the_cap():
    # Nine of ten are at 1.0, so that s = 1: their intervals end at 2.
    predicted = np.where(np.arange(1000) % 10 == 0, 1.5, 1.0)
    fitted = {"rules": ["threshold=1.5", "threshold=9"], "level": 0.9, "max_rate": None}
    found = decision.fit(validation(predicted), explore_share=0.09, **fitted)
    assert found.rules["threshold=1.5"].band_share == pytest.approx(0.9)
    assert found.explore_probability("threshold=1.5") == pytest.approx(0.1)
    # No interval reaches 9 %: nothing is known of that band, and nothing in it is explored.
    assert found.explore_probability("threshold=9") == 0
    whole = decision.fit(validation(predicted), explore_share=1.0, **fitted)
    assert whole.explore_probability("threshold=1.5") == 1
    with pytest.raises(InputError, match="was not solved for --rule=threshold=3"):
        found.explore_probability("threshold=3")


def test_the_same_model_has_the_same_salt_and_another_model_another():
    fitted = {"rules": ["threshold=1"], "level": 0.9, "max_rate": None}
    predicted = np.linspace(1, 2, 50)
    first, again, other = (
        decision.fit(validation(one), **fitted).explore.salt
        for one in (predicted, predicted, predicted + 1e-6)
    )
    assert first == again != other


def intervals(*scenarios, starts=(0, 1)):
    groups = [
        Group(scenario=scenario, clicks=start, n=500, low=-1.0, high=float(2 + number + start))
        for number, scenario in enumerate(scenarios)
        for start in starts
    ]
    return Intervals(level=0.9, floor=1.0, max_rate=None, groups=tuple(groups))


def decisions(**changed):
    solved = {
        text: decision.solve(text, np.arange(10.0), np.arange(10.0))
        for text in ("keep=0.5", "recall=0.9")
    }
    given = {"top_percent": 5, "rules": solved, "intervals": intervals("normal", "cold_start")}
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


SCORES = pa.table(
    {
        "item_id": [f"i{number}" for number in range(2000)],
        "predicted_share_rate": np.tile([5.0, 3.0, 1.0, 0.0], 500),
        "seen_clicks": np.tile([0, 0, 5, 5], 500),
    }
)  # with the intervals above they end at 5 + 2√5, 3 + 2√3, 4 and 3
EXPLORE = decision.Explore(salt="0123456789abcdef" * 2, share=0.1)


def explored(probability, period=7, explore=EXPLORE):
    rule = decision.solve("threshold=4", np.arange(9.0), np.arange(9.0))
    rule = rule.model_copy(update={"explore_probability": probability})
    found = decisions(rules={"threshold=4": rule}, explore=explore)
    asked = decision.Asked("threshold=4", 4.0, explore=True, period=period)
    return decision.add(SCORES, found, asked).to_pandas()


def test_items_in_the_band_are_explored_with_the_propensity_that_is_logged():
    found = explored(0.25)
    kept, near, new, far = (found[number::4] for number in range(4))
    assert set(kept["decision"]) == {"keep"}
    assert set(kept["propensity"]) == {1}
    assert set(far["decision"]) == {"drop"}
    assert set(far["propensity"]) == {0}
    band = pd.concat([near, new])
    assert set(band["propensity"]) == {0.25}
    # Three standard errors of a Bernoulli(0.25) mean over 1,000 items.
    assert (band["decision"] == "explore").mean() == pytest.approx(0.25, abs=0.041)


def test_a_lower_probability_explores_some_of_the_same_items():
    more, fewer = (
        set(found[found["decision"] == "explore"]["item_id"])
        for found in (explored(0.25), explored(0.1))
    )
    assert fewer < more
    other = explored(0.25, period=8)
    assert set(other[other["decision"] == "explore"]["item_id"]) != more


def test_an_export_of_an_earlier_version_explores_the_whole_band():
    found = explored(None, explore=None)
    assert found["decision"].tolist()[:4] == ["keep", "explore", "explore", "drop"]
    assert found["propensity"].tolist()[:4] == [1, 1, 1, 0]


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
    kept = found["predicted_share_rate"] >= threshold
    band = ~kept & (found["share_rate_high"] >= threshold)
    assert ((found["decision"] == "keep") == kept).all()
    assert band[found["decision"] == "explore"].all()
    probability = stored.rules["recall=0.99"].explore_probability
    expected = np.where(kept, 1.0, np.where(band, probability, 0.0))
    np.testing.assert_array_equal(found["propensity"], expected)
    assert (found["share_rate_low"] <= found["predicted_share_rate"]).all()
    tasks.predict(config.PredictConfig(**common, rule="threshold=4.5"))
    found = pq.read_table(output).to_pandas()
    assert set(found["decision"]) == {"keep", "drop"}
    assert "propensity" not in found
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
