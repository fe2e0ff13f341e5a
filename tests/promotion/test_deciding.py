"""The rule promotes what is better, and names everything that speaks against it."""

import numpy as np
import pandas as pd
import pytest

from mmnet.checks import InputError
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.promotion import deciding
from mmnet.promotion.comparing import Comparison
from mmnet.promotion.outages import Outage, Outages


def comparison(ratio=0.5, items=400, seed=0, **of_scenario):
    """A challenger whose MSE is about `ratio` times the champion's, rows of one item each."""
    draws = np.random.default_rng(seed)
    rows = pd.DataFrame({"item_id": np.arange(items).astype(str), "share_rate": 5.0})
    rows["weight"] = 1.0
    for scenario in SCENARIOS:
        own = of_scenario.get(scenario, ratio)
        error = draws.normal(size=items)
        rows[f"champion_{scenario}"] = 5 + error
        rows[f"challenger_{scenario}"] = 5 + np.sqrt(own) * (error + 0.1 * draws.normal(size=items))
    return Comparison("1", "2", (1, 2, 3), rows)


def test_better_promotes_a_better_model_and_says_by_how_much():
    found = decide(comparison(), deciding.parse("better"))
    assert found.promote
    assert found.to_json()["promote"] is True
    (reason,) = found.reasons
    assert "normal: MSE" in reason
    assert "times the champion's" in reason


def decide(comparison, rule, nights=30, **more):
    return deciding.decide(comparison, rule, alpha=0.05, nights=nights, outage_budget=0.1, **more)


@pytest.mark.parametrize("ratio", [1.0, 1.2])
def test_better_keeps_the_champion_otherwise(ratio):
    found = decide(comparison(ratio), deciding.parse("better"))
    assert not found.promote
    assert "does not exclude 1 (p = " in found.reasons[0]


def test_every_named_scenario_must_pass_and_no_other():
    weak = comparison(0.5, cold_start=1.2)
    assert decide(weak, deciding.parse("better")).promote
    found = decide(weak, deciding.parse("better@normal,cold_start"))
    assert [reason.partition(":")[0] for reason in found.reasons] == ["cold_start"]


def test_the_level_of_a_night_is_shared_by_all_of_them():
    draw = comparison(0.96, items=300)
    p = draw.paired("normal").p_not_below(1.0)
    assert 0.05 / 30 < p < 0.05
    rule = deciding.parse("better")
    assert decide(draw, rule, nights=1).promote
    assert not decide(draw, rule, nights=30).promote


def test_not_worse_allows_its_margin_and_the_anchor_stops_margins_from_adding_up():
    rule = deciding.parse("not_worse=0.05")
    slightly = comparison(1.01, items=3000)
    assert decide(slightly, rule).promote
    assert not decide(slightly, deciding.parse("better")).promote
    far = comparison(1.06, items=3000)
    found = decide(slightly, rule, anchor=far)
    assert not found.promote
    assert "times the anchor's" in found.reasons[0]
    # An anchor is no part of `better`, where every step goes down.
    assert decide(comparison(), deciding.parse("better"), anchor=far).promote


def test_fields_outages_and_few_items_refuse_whatever_the_error():
    outages = Outages(400, (Outage("column tags", 4.0, 6.0), Outage("age", 4.0, 4.1)))
    found = decide(
        comparison(), deciding.parse("better"), outages=outages, refused=["field late: no"]
    )
    assert not found.promote
    assert found.reasons[0] == "field late: no"
    assert found.reasons[1].startswith("without column tags, the challenger's MSE is 6, 50.0%")
    assert len(found.reasons) == 2
    few = decide(comparison(items=29), deciding.parse("better"))
    assert few.reasons == ("normal: 29 test items are fewer than 30, too few to judge by",)


@pytest.mark.parametrize(
    "text", ["best", "not_worse", "not_worse=x", "not_worse=0", "not_worse=nan", "better@cold", ""]
)
def test_a_wrong_rule_is_refused(text):
    with pytest.raises(InputError, match=r"--promote"):
        deciding.parse(text)


def test_the_anchor_is_the_version_with_the_least_error_along_the_chain():
    assert deciding.anchor([(1, 5.0)]) == 1
    assert deciding.anchor([(1, 1.0), (2, 1.01), (3, 1.01)]) == 1
    assert deciding.anchor([(1, 1.0), (2, 1.01), (3, 0.98), (4, 1.005)]) == 3


def test_a_rule_of_another_output_is_refused():
    with pytest.raises(InputError, match=r"by the main rate at the first horizon.*' of like'"):
        deciding.parse("not_worse=0.02 of like")
