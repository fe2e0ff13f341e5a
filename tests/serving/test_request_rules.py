"""A request holds what a table may hold, or is refused by the value that no table has."""

import numpy as np
import pytest
import tensorflow as tf

from mmnet.schema import FeatureSpec, NumericSpec, RateSpec
from mmnet.serving import examples, request_rules
from tests.serving import exported

SPEC = FeatureSpec(
    window=2,
    horizon=1,
    taxonomies=("category",),
    taxonomy_evidence=True,
    numerics=(NumericSpec(name="duration", mean=0.0, sd=1.0),),
)
COLUMNS = {
    "clicks": tf.TensorSpec([None, 2], tf.int64),
    "shares": tf.TensorSpec([None, 2], tf.int64),
    "number_duration": tf.TensorSpec([None], tf.float32),
}
GOOD = {
    "clicks": np.array([[4, 0]]),
    "shares": np.array([[4, 0]]),
    "number_duration": np.array([np.nan], np.float32),
}


def rules(**flags):
    fitted = exported.fitted(SPEC)
    tables = fitted.tables.model_copy(update=flags)
    return request_rules.of(fitted.model_copy(update={"tables": tables}), COLUMNS)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"clicks": np.array([[4, 2**53 - 1]])}, ""),
        ({"clicks": np.array([[4, 2**53]])}, r"clicks[0][1] must be a whole number of 0 or more"),
        ({"clicks": np.array([[4, -1]])}, "below 2**53. Received: -1"),
        ({"shares": np.array([[5, 0]])}, "shares[0][0] must be not above clicks. Received: 5"),
        ({"shares": np.array([[0, 1]])}, "shares[0][1] must be not above clicks. Received: 1"),
        ({"shares": np.array([[-(10**18), 0]])}, "shares[0][0] must be a whole number"),
        ({"number_duration": np.array([np.inf])}, "number_duration[0] must be a finite number"),
        ({"vector_cover": np.array([[0.0, np.nan]])}, "vector_cover[0][1] must be a finite number"),
        ({"clicks": np.array([[0.5, 0]], np.float32)}, "clicks[0][0] must be a whole number"),
        ({"share_rate": np.array([[100.0, 0]], np.float32)}, ""),
        ({"share_rate": np.array([[100.1, 0]], np.float32)}, "a rate in percent, from 0 to 100."),
        ({"taxonomy_rate": np.array([[[-1.0]]])}, "taxonomy_rate[0][0][0] must be a rate"),
        ({"taxonomy_evidence": np.array([[[-1.0], [2.0**63]]])}, ""),
        ({"taxonomy_evidence": np.array([[[-2.0]]])}, "taxonomy_evidence[0][0][0] must be a whole"),
        ({"taxonomy_evidence": np.array([[[0.5]]])}, "or -1 if unknown. Received: 0.5"),
        ({"missing_flag": np.array([[0.5, 1.0]])}, "missing_flag[0][0] must be 0 or 1"),
        ({"item_tags": np.array([b"x" * 65_537], object)}, "a text may have 65,536 bytes"),
        ({"item_tags": np.array([b"x" * 65_536] * 129, object)}, "8,388,608 bytes together"),
    ],
)
def test_a_value_that_no_table_holds_is_named(change, told):
    found = rules().problem(GOOD | change)
    assert told in found
    assert bool(found) == bool(told)


def test_rates_above_one_are_allowed_where_the_flag_says_so():
    above = rules(rate_may_exceed_one=True)
    assert not above.problem(GOOD | {"shares": np.array([[9, 3]])})
    assert not above.problem({"share_rate": np.array([[900.0]])})
    too_much = above.problem(GOOD | {"shares": np.array([[0, 2**52]])})
    assert "shares[0][1] must be below a rate of 274,877,906,944 percent" in too_much


def test_serialized_examples_are_held_to_the_same_rules():
    def problem(*serialized):
        return rules().problem({examples.INPUT: np.array(serialized, object)})

    (good,) = examples.serialize(GOOD)
    (bad,) = examples.serialize(GOOD | {"shares": np.array([[5, 0]])})
    assert problem(good, b"") == ""
    assert problem(good, bad) == "shares[1][0] must be not above clicks. Received: 5"
    assert problem(b"\x01") == "examples[0] is not a serialized tf.train.Example"
    assert "may have 1,048,576 bytes. Received: 1,048,577" in problem(b"x" * (2**20 + 1))


def test_a_model_of_ids_has_no_limits():
    found = request_rules.of(None, {})
    assert not found.problem({"user_id": np.array([-5, 2**62])})


LIKES = FeatureSpec(
    window=2,
    horizon=1,
    taxonomies=("category",),
    rates=(RateSpec(name="like", rate_scale=1, rate_mean=1, max_rate=100),),
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"shares_like": np.array([[7, 0]])}, "shares_like[0][0] must be not above clicks_like"),
        ({"clicks_like": np.array([[-1, 0]])}, "clicks_like[0][0] must be a whole number"),
        ({"missing_flag_like": np.array([[0.5, 1]])}, "missing_flag_like[0][0] must be 0 or 1"),
        ({"share_rate_like": np.array([[101.0, 0]])}, "share_rate_like[0][0] must be a rate"),
        ({"taxonomy_rate_like": np.array([[[-1.0]]])}, "taxonomy_rate_like[0][0][0] must be a"),
    ],
)
def test_the_counts_of_a_further_rate_are_held_to_the_same_rules(change, told):
    own = {"clicks_like": np.array([[6, 0]]), "shares_like": np.array([[6, 0]])}
    main = {name: GOOD[name] for name in ("clicks", "shares")}
    found = request_rules.of(exported.fitted(LIKES), {}).problem(main | own | change)
    assert told in found
    assert bool(found) == bool(told)
