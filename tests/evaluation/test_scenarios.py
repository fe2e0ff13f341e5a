"""What each scenario hides, and that nothing but who and when decides it."""

import itertools

import numpy as np
import pytest

from mmnet.evaluation.scenarios import SCENARIOS, disturb, hidden_steps, outages, remove
from mmnet.hashing import mix, uniform
from mmnet.layers.disturbance import hide_all
from mmnet.schema import FeatureSpec, FieldSpec, NumericSpec, RateSpec, TextSpec, VectorSpec

WINDOW = 6
ITEMS = np.random.default_rng(1).integers(0, 2**64, 400, dtype=np.uint64)
PERIODS = np.arange(100, 150)
# Every item in every period: 20,000 examples, 120,000 steps.
ITEM_HASH = np.repeat(ITEMS, len(PERIODS))
PERIOD = np.tile(PERIODS, len(ITEMS))


def noisy(item_hash=ITEM_HASH, period=PERIOD, missing_rate=0.5, seed=0, window=WINDOW):
    return hidden_steps(
        "noisy", item_hash, period, window=window, missing_rate=missing_rate, seed=seed
    )


def batch():
    return {
        "share_rate": np.array([[2.0, 0.0, 4.0], [1.0, 3.0, 5.0]], "float32"),
        "missing_flag": np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]], "float32"),
        "clicks": np.array([[50.0, 0.0, 25.0], [100.0, 100.0, 20.0]], "float32"),
        "taxonomy_rate": np.full((2, 3, 1), 7.0, "float32"),
        "taxonomy_missing_flag": np.zeros((2, 3, 1), "float32"),
        "field_category": np.array([[2], [3]], "int32"),
    }


def test_normal_hides_nothing_and_cold_start_everything():
    options = dict(window=WINDOW, missing_rate=0.5, seed=0)
    assert not hidden_steps("normal", ITEM_HASH, PERIOD, **options).any()
    assert hidden_steps("cold_start", ITEM_HASH, PERIOD, **options).all()


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("examples", [0, 3])
def test_gives_one_row_per_example_and_one_column_per_step(scenario, examples):
    hidden = hidden_steps(
        scenario, ITEM_HASH[:examples], PERIOD[:examples], window=5, missing_rate=0.5, seed=0
    )
    assert hidden.shape == (examples, 5)
    assert hidden.dtype == bool


def test_the_order_of_rows_changes_nothing():
    order = np.random.default_rng(2).permutation(len(PERIOD))
    np.testing.assert_array_equal(noisy(ITEM_HASH[order], PERIOD[order]), noisy()[order])


def test_batches_and_shards_change_nothing():
    parts = [
        noisy(ITEM_HASH[rows], PERIOD[rows])
        for rows in np.array_split(np.arange(len(PERIOD)), [1, 65, 1000])
    ]
    np.testing.assert_array_equal(np.concatenate(parts), noisy())


def test_a_longer_window_keeps_the_first_steps():
    np.testing.assert_array_equal(noisy(window=9)[:, :WINDOW], noisy())


@pytest.mark.parametrize("missing_rate", [0.01, 0.3, 0.5, 0.9])
def test_hides_the_given_part_of_the_steps(missing_rate):
    hidden = noisy(missing_rate=missing_rate)
    # Three standard errors of a Bernoulli mean.
    error = 3 * np.sqrt(missing_rate * (1 - missing_rate) / hidden.size)
    assert hidden.mean() == pytest.approx(missing_rate, abs=error)


def test_rate_zero_hides_nothing_and_rate_one_everything():
    assert not noisy(missing_rate=0.0).any()
    assert noisy(missing_rate=1.0).all()


def test_a_step_hidden_at_one_rate_is_hidden_at_every_higher_one():
    rates = [0.0, 0.1, 0.3, 0.5, 0.9, 1.0]
    hidden = [noisy(missing_rate=rate) for rate in rates]
    for fewer, more in itertools.pairwise(hidden):
        assert (fewer <= more).all()
        assert fewer.sum() < more.sum()


def test_draws_are_uniform():
    draws = uniform(0, ITEM_HASH[:, None], PERIOD[:, None], np.arange(WINDOW)).ravel()
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=100, range=(0, 1))[0]
    expected = len(draws) / 100
    # Chi-squared with 99 degrees of freedom has mean 99 and variance 198: four sd.
    assert np.sum((counts - expected) ** 2 / expected) < 99 + 4 * np.sqrt(198)


def correlation(a, b):
    return np.corrcoef(np.ravel(a).astype(float), np.ravel(b).astype(float))[0, 1]


def test_steps_do_not_go_together():
    hidden = noisy()
    correlations = np.corrcoef(hidden.T.astype(float))[np.triu_indices(WINDOW, 1)]
    # The correlation of n independent pairs has sd 1 / sqrt(n); 15 pairs of steps, four sd.
    assert np.abs(correlations).max() < 4 / np.sqrt(len(hidden))


def test_neighbouring_items_periods_and_seeds_do_not_go_together():
    bound = 4 / np.sqrt(ITEM_HASH.size * WINDOW)
    here = noisy()
    assert abs(correlation(here, noisy(ITEM_HASH + np.uint64(1)))) < bound
    assert abs(correlation(here, noisy(period=PERIOD + 1))) < bound
    assert abs(correlation(here, noisy(seed=1))) < bound
    # The sums of the keys agree; a hash of the sum would give the same mask.
    assert abs(correlation(here, noisy(ITEM_HASH + np.uint64(1), PERIOD - 1))) < bound
    # One period later the same entry stands one step earlier, and is hidden afresh: five steps of
    # six are left to compare, so the bound grows by sqrt(6 / 5) < 1.1.
    assert abs(correlation(here[:, 1:], noisy(period=PERIOD + 1)[:, :-1])) < 1.1 * bound


def test_consecutive_hashes_are_as_good_as_random_ones():
    hidden = noisy(np.arange(20_000, dtype=np.uint64), np.zeros(20_000, int))
    assert hidden.mean() == pytest.approx(0.5, abs=1.5 / np.sqrt(hidden.size))
    assert abs(correlation(hidden[1:], hidden[:-1])) < 4 / np.sqrt(hidden[1:].size)


def test_the_mixing_is_splitmix64():
    # The first outputs of the published generator from state 0 (its state grows by the increment).
    increment = np.uint64(0x9E3779B97F4A7C15)
    states = np.arange(3, dtype=np.uint64) * increment
    assert [hex(value) for value in mix(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


# Seed -> one row per example, x = hidden. A change here changes every noisy number ever reported.
GOLDEN = {
    0: ["xxxxx.", "xxx.xx", "x..xx.", "x.xx.."],
    -3: ["xx...x", "....x.", "x.xx..", ".xx..."],
}


@pytest.mark.parametrize("seed", GOLDEN)
def test_masks_are_the_ones_that_published_numbers_used(seed):
    item_hash = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
    hidden = noisy(item_hash, np.array([0, -1, 17, 18_000]), seed=seed)
    assert ["".join(row) for row in np.where(hidden, "x", ".")] == GOLDEN[seed]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(scenario="nosy"), "Did you mean noisy"),
        (dict(missing_rate=1.5), "`missing_rate` must be in"),
        (dict(window=0), "`window` must be at least 1"),
        (dict(item_hash=ITEM_HASH.astype(np.int64)), "`item_hash` must be uint64"),
        (dict(period=PERIOD.astype(float)), "`period` must be integer"),
        (dict(period=PERIOD[:5]), "must have one shape"),
    ],
)
def test_says_what_is_wrong(change, message):
    options = dict(scenario="noisy", item_hash=ITEM_HASH, period=PERIOD, missing_rate=0.5) | change
    options = dict(window=WINDOW, seed=0) | options
    with pytest.raises(ValueError, match=message):
        hidden_steps(
            options.pop("scenario"), options.pop("item_hash"), options.pop("period"), **options
        )


def test_a_hidden_step_reads_like_one_without_clicks():
    hidden = np.array([[True, False, False], [False, True, False]])
    found = disturb(batch(), hidden)
    np.testing.assert_array_equal(found["share_rate"], [[0, 0, 4], [1, 0, 5]])
    np.testing.assert_array_equal(found["missing_flag"], [[1, 1, 0], [0, 1, 0]])
    np.testing.assert_array_equal(found["clicks"], [[0, 0, 25], [100, 0, 20]])


def test_taxonomies_and_content_stay():
    inputs = batch()
    found = disturb(inputs, np.ones((2, 3), bool))
    assert list(found) == list(inputs)
    for name in ("taxonomy_rate", "taxonomy_missing_flag", "field_category"):
        assert found[name] is inputs[name]


def test_the_batch_it_was_given_stays():
    inputs = batch()
    disturb(inputs, np.ones((2, 3), bool))
    for name, values in batch().items():
        np.testing.assert_array_equal(inputs[name], values)


def test_hiding_nothing_is_the_batch_itself():
    found = disturb(batch(), np.zeros((2, 3), bool))
    for name, values in batch().items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_cold_start_is_what_training_hides_in_its_cold_mode():
    inputs = batch()
    found = disturb(inputs, np.ones((2, 3), bool))
    flag, rate, clicks = hide_all(inputs["missing_flag"], inputs["share_rate"], inputs["clicks"])
    np.testing.assert_array_equal(found["missing_flag"], flag)
    np.testing.assert_array_equal(found["share_rate"], rate)
    np.testing.assert_array_equal(found["clicks"], clicks)


def test_a_mask_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="must have one shape"):
        disturb(batch(), np.zeros((1, 3), bool))


# --------------------------------------------------------------------------- lost inputs

EVERY_KIND = FeatureSpec(
    window=3,
    horizon=1,
    taxonomies=("category",),
    fields=(FieldSpec(name="category", size=5),),
    numerics=(NumericSpec(name="duration", mean=9, sd=2),),
    texts=(TextSpec(name="title", size=9, max_tokens=2),),
    vectors=(VectorSpec(name="cover", dim=2),),
)


def test_each_input_can_be_gone_and_all_content_at_once():
    meta, title, cover = ("field_category", "numeric_duration"), "text_title", "vector_cover"
    assert outages(EVERY_KIND) == {
        "nothing": (),
        "taxonomies": ("taxonomy_rate", "taxonomy_missing_flag"),
        "meta": meta,
        "text_title": (title,),
        "vector_cover": (cover,),
        "content": (*meta, title, cover),
    }


def test_one_modality_alone_is_all_content():
    spec = EVERY_KIND.model_copy(update={"texts": (), "vectors": (), "taxonomies": ()})
    assert list(outages(spec)) == ["nothing", "meta"]


def test_a_removed_input_reads_as_if_it_were_not_known():
    inputs = batch() | {"vector_cover": np.ones((2, 2), "float32")}
    found = remove(inputs, ["taxonomy_rate", "taxonomy_missing_flag", "field_category"])
    assert list(found) == list(inputs)
    np.testing.assert_array_equal(found["taxonomy_rate"], np.zeros((2, 3, 1)))
    np.testing.assert_array_equal(found["taxonomy_missing_flag"], np.ones((2, 3, 1)))
    np.testing.assert_array_equal(found["field_category"], [[0], [0]])
    assert np.asarray(found["field_category"]).dtype == "int32"
    for name in ("share_rate", "missing_flag", "clicks", "vector_cover"):
        assert found[name] is inputs[name]
    np.testing.assert_array_equal(inputs["field_category"], [[2], [3]])  # the batch itself stays


# --------------------------------------------------------------------------- further rates

LIKED = EVERY_KIND.model_copy(
    update={"rates": (RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100),)}
)


def batch_of_both():
    one = batch()
    own = LIKED.sequences("like")
    return (
        one
        | {own[name]: one[name] + 1 for name in own if "flag" not in name}
        | {own[name]: one[name].copy() for name in own if "flag" in name}
    )


def test_the_same_steps_of_every_rate_are_hidden():
    inputs = batch_of_both()
    hidden = np.array([[True, False, False], [False, True, True]])
    found = disturb(inputs, hidden)
    assert list(found) == list(inputs)
    for names in (LIKED.sequences(), LIKED.sequences("like")):
        for main in ("share_rate", "clicks"):
            tensor, name = np.asarray(found[names[main]]), names[main]
            assert not tensor[hidden].any()
            seen = ~hidden & (inputs[names["missing_flag"]] == 0)
            np.testing.assert_array_equal(tensor[seen], inputs[name][seen])
        assert np.asarray(found[names["missing_flag"]])[hidden].all()
        assert found[names["taxonomy_rate"]] is inputs[names["taxonomy_rate"]]


def test_lost_taxonomies_are_those_of_every_rate():
    gone = outages(LIKED)["taxonomies"]
    assert gone == (
        *("taxonomy_rate", "taxonomy_missing_flag"),
        *("taxonomy_rate_like", "taxonomy_missing_flag_like"),
    )
    found = remove(batch_of_both(), gone)
    for rate in ("", "_like"):
        np.testing.assert_array_equal(found[f"taxonomy_rate{rate}"], np.zeros((2, 3, 1)))
        np.testing.assert_array_equal(found[f"taxonomy_missing_flag{rate}"], np.ones((2, 3, 1)))
