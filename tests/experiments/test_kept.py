"""What is kept of an experiment is all that its tests need, to the bit."""

import functools
import json
import re

import numpy as np
import pandas as pd
import pytest

from mmnet.checks import InputError
from mmnet.evaluation import comparisons, significance
from mmnet.evaluation.significance import Predictions
from mmnet.experiments import claims
from mmnet.experiments.claims import Evidence
from mmnet.experiments.comparison import Group
from mmnet.experiments.kept import Kept
from tests.experiments.test_claims import AS_PUBLISHED, planted

SEEDS = {"fixed": 1, "once": 1, "three": 3, "five": 5}
"""Seeds of systems; no seed can change `fixed`."""


def scenarios(items=40, per_item=3, seed=0):
    """Predictions of systems that differ in their number of seeds, item effects included."""
    draw = np.random.default_rng(seed)
    item, period = (axis.ravel() for axis in np.indices((items, per_item)))
    found = {}
    for scenario in ("normal", "cold_start", "noisy"):
        truth = draw.gamma(2, 2, items * per_item)
        shared = truth + draw.normal(0, 1, items)[item]
        predicted = {
            name: shared + 0.3 * draw.normal(size=(seeds, len(truth)))
            for name, seeds in SEEDS.items()
        }
        names = np.array([f"item {number}" for number in item])
        found[scenario] = Predictions(truth, names, period, predicted, frozenset({"fixed"}))
    return found


@functools.cache
def measured(seed=0, by_period=False):
    """The measures of `scenarios`."""
    return significance.measure(scenarios(seed=seed), replicates=100, by_period=by_period)


def kept(tmp_path, groups, evidence):
    """What was kept, written and read back."""
    (tmp_path / "tests.json").write_text(Kept.of(groups, evidence).text())
    return Kept.read(tmp_path / "tests.json")


def test_tests_from_what_is_kept_are_those_from_predictions(tmp_path):
    measures = measured(by_period=True)
    (group,) = kept(tmp_path, [Group("split", measures)], Evidence({})).groups()
    assert group.about == "split"
    # A table may have some of the rows.
    for rows, confidence in ((list(SEEDS), 0.95), (["five", "once"], 0.8)):
        found = [
            comparisons.compare(Group("", one).of(rows), rows[0], confidence=confidence)
            for one in (measures, group.measures)
        ]
        pd.testing.assert_frame_equal(*found, check_exact=True)
        assert False in set(found[1]["seed_variance_known"])


def test_claims_from_what_is_kept_are_those_from_predictions(tmp_path):
    evidence = Evidence.of(planted(AS_PUBLISHED, items=200), by_period=True)
    ledgers = {level: claims.ledger(evidence, confidence=level) for level in (0.99, 0.9)}
    again = kept(tmp_path, [], evidence).evidence()
    for level, ledger in ledgers.items():
        assert claims.ledger(again, confidence=level) == ledger
    assert {claim.verdict for claim in ledgers[0.99]} == {claims.HOLDS, claims.OPEN}


def test_no_number_of_a_test_row_is_kept(tmp_path):
    found = scenarios()
    text = kept(tmp_path, [Group("split", measured())], Evidence.of(found)).text()

    def numbers(value):
        if isinstance(value, dict | list):
            values = value.values() if isinstance(value, dict) else value
            return {number for one in values for number in numbers(one)}
        return {value}

    there = numbers(json.loads(text))
    for one in found.values():
        runs = np.concatenate([one.truth[None], *one.predicted.values()])
        assert there.isdisjoint(runs.ravel().tolist())
        assert there.isdisjoint(((runs[1:] - one.truth) ** 2).ravel().tolist())
    assert "item" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace('"variances":[[', '"variances":[["x"],['),
            "variances.0.0: .*number",
        ),
        (
            lambda text: text.replace('"variances":[[', '"variances":[[-'),
            "variances.0.0: .*than or eq",
        ),
        (lambda text: "[" * 100_000, "nested too deep"),
        (lambda text: re.sub('"freedom":[^,]+', '"freedom":NaN', text), "freedom: .*finite"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    measures = {("normal", "mse"): significance.measure_mse(scenarios()["normal"])}
    text = Kept.of([Group("split", measures)], Evidence({})).text()
    assert change(text) != text
    (tmp_path / "tests.json").write_text(change(text))
    with pytest.raises(InputError, match=message):
        Kept.read(tmp_path / "tests.json")
