import dataclasses
import hashlib
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.sources.simulated import (
    CATEGORIES,
    PARAMETERS,
    START,
    events,
    simulate,
    simulated,
)

SIZE = {"items": 3000, "periods": 30, "clicks": 1_500_000}
SMALL = {"items": 200, "periods": 12, "clicks": 40_000}

# Results on other parameters do not compare: change these two only together with every result.
PARAMETERS_DIGEST = "e13f2e49320778e7337beb15a665bc1ef5a76d9bd8fa768558b4f3efe8f2b878"
COUNTS_DIGEST = "fc0c8705b65042095fa7a1318955d0fd59a5fb0994c9cfabaf16344295c12bce"


@pytest.fixture(scope="module")
def history():
    return simulate(regime="history", **SIZE)


@pytest.fixture(scope="module")
def content():
    return simulate(regime="content", **SIZE)


def true_rates(simulation, column="true_share_rate"):
    """Percent, [items in the order of the items table, periods]; NaN before the release."""
    ids = simulation.items["item_id"].to_pylist()
    frame = simulation.truth.to_pandas().pivot(index="item_id", columns="period", values=column)
    return frame.reindex(ids).to_numpy()


def logit(percent):
    return np.log(percent) - np.log(100 - percent)


def digest(data):
    return hashlib.sha256(data).hexdigest()


# -------------------------------------------------------------------------------- frozen


def test_parameters_are_frozen():
    dump = {regime: dataclasses.asdict(sizes) for regime, sizes in PARAMETERS.items()}
    assert digest(json.dumps(dump, sort_keys=True).encode()) == PARAMETERS_DIGEST


def test_a_small_simulation_is_frozen():
    counts = simulate(**SMALL, seed=7).counts
    numbers = [[int(item_id[1:]) for item_id in counts["item_id"].to_pylist()]]
    numbers += [counts[name].to_numpy() for name in ("period", "clicks", "shares")]
    assert digest(np.array(numbers, "<i8").tobytes()) == COUNTS_DIGEST


@pytest.mark.parametrize("regime", PARAMETERS)
def test_same_seed_same_tables(regime):
    first, second = (simulate(regime=regime, **SMALL, seed=3) for _ in range(2))
    other = simulate(regime=regime, **SMALL, seed=4)
    for name in ("counts", "items", "truth"):
        assert getattr(first, name).equals(getattr(second, name))
        assert not getattr(first, name).equals(getattr(other, name))
    assert first.vectors["cover"].equals(second.vectors["cover"])
    assert not first.vectors["cover"].equals(other.vectors["cover"])


def test_regimes_share_items_and_clicks(history, content):
    assert history.items.equals(content.items)
    assert history.vectors["cover"].equals(content.vectors["cover"])
    assert history.counts.drop_columns("shares").equals(content.counts.drop_columns("shares"))


# -------------------------------------------------------------------------------- counts


@pytest.mark.parametrize("regime", PARAMETERS)
def test_shares_are_binomial_draws_of_the_true_rate(regime, request):
    simulation = request.getfixturevalue(regime)
    both = simulation.counts.join(simulation.truth, ["item_id", "period"])
    assert both["true_share_rate"].null_count == 0  # every count has its truth
    clicks, shares = both["clicks"].to_numpy(), both["shares"].to_numpy()
    rate = both["true_share_rate"].to_numpy() / 100
    variance = clicks * rate * (1 - rate)
    z = (shares - clicks * rate) / np.sqrt(variance)
    # Four standard errors; a binomial z has variance 1 and Var(z^2) = 2 + (1 - 6pq) / npq.
    assert np.mean(z) == pytest.approx(0, abs=4 / np.sqrt(len(z)))
    spread = np.sqrt(np.mean(2 + (1 - 6 * rate * (1 - rate)) / variance))
    assert np.mean(z**2) == pytest.approx(1, abs=4 * spread / np.sqrt(len(z)))


def test_counts_keep_the_rules_of_the_contract(history):
    clicks, shares = (history.counts[name].to_numpy() for name in ("clicks", "shares"))
    assert clicks.sum() == SIZE["clicks"]
    assert clicks.min() >= 1
    assert shares.min() >= 0
    assert np.all(shares <= clicks)
    keys = history.counts.group_by(["item_id", "period"]).aggregate([])
    assert keys.num_rows == history.counts.num_rows
    assert [str(of) for of in history.counts.schema.types] == ["string"] + ["int64"] * 3


def test_nothing_happens_before_the_release(history):
    released = history.items.select(["item_id", "release"])
    for table in (history.counts, history.truth):
        both = table.join(released, "item_id")
        assert np.all(both["period"].to_numpy() >= both["release"].to_numpy())
    # The truth has a row for every period from the release on, clicked or not.
    release = np.maximum(released["release"].to_numpy(), 0)
    assert history.truth.num_rows == np.sum(SIZE["periods"] - release)
    assert np.mean(released["release"].to_numpy() < 0) == pytest.approx(12 / 42, abs=0.04)


def test_few_items_take_most_clicks(history):
    per_item = history.counts.group_by("item_id").aggregate([("clicks", "sum")])
    ordered = np.sort(per_item["clicks_sum"].to_numpy())[::-1]
    # A Pareto law of power 1.35 alone gives the upper tenth 0.1 ** (1 - 1 / 1.35) = 55 %.
    assert 0.45 < ordered[: SIZE["items"] // 10].sum() / SIZE["clicks"] < 0.75


def test_clicks_fall_with_age(history):
    both = history.counts.join(history.items.select(["item_id", "release"]), "item_id")
    age = both["period"].to_numpy() - both["release"].to_numpy()
    clicks = both["clicks"].to_numpy()
    # The volume falls to 1 / (1 + 8 / 4) = 1/3, and only part of the items are shown so long.
    assert clicks[(age >= 8) & (age < 10)].sum() < clicks[age < 2].sum() / 3


def test_items_have_gaps_between_their_first_and_last_clicks(history):
    spans = history.counts.group_by("item_id").aggregate(
        [("period", "min"), ("period", "max"), ("period", "count")]
    )
    length = spans["period_max"].to_numpy() - spans["period_min"].to_numpy() + 1
    # Outages alone hide 0.03 / (0.03 + 0.5) = 6 % of the periods; those at the ends do not show.
    assert 0.02 < 1 - spans["period_count"].to_numpy().sum() / length.sum() < 0.15


# --------------------------------------------------------------------------------- items


def test_tags_are_nested_in_categories(history):
    categories, tags = (history.items[name].to_pylist() for name in ("category", "tags"))
    assert set(categories) == set(CATEGORIES)
    for category, joined in zip(categories, tags, strict=True):
        own = joined.split(";")
        assert 1 <= len(own) == len(set(own)) <= 3
        assert {tag.split("-")[0] for tag in own} == {category}


def test_ids_tell_nothing_about_the_item(history):
    number = np.array([int(item_id[1:]) for item_id in history.items["item_id"].to_pylist()])
    np.testing.assert_array_equal(np.sort(number), np.arange(SIZE["items"]))
    release = history.items["release"].to_numpy()
    rate = np.nanmean(logit(true_rates(history)), axis=1)
    # Four standard errors of a correlation of 0; the row of an item tells as little.
    for place in (number, np.arange(SIZE["items"])):
        for value in (release, rate):
            assert abs(np.corrcoef(place, value)[0, 1]) < 4 / np.sqrt(SIZE["items"])


def test_titles_have_4_to_12_words_of_zipf_frequency(history):
    titles = [title.split(" ") for title in history.items["title"].to_pylist()]
    assert {len(words) for words in titles} == set(range(4, 13))
    words, frequency = np.unique(np.concatenate(titles), return_counts=True)
    assert all(word.isalpha() for word in words)
    # The sum of 1 / k over 1500 words is 7.89, so the first has 12.7 % and the second half that.
    first, second = np.sort(frequency)[::-1][:2] / frequency.sum()
    assert first == pytest.approx(0.127, abs=0.01)
    assert second == pytest.approx(0.063, abs=0.01)


def test_one_direction_of_the_cover_carries_signal(content):
    level = np.nanmean(logit(true_rates(content)), axis=1)
    cover = np.stack(content.vectors["cover"]["vector"].to_pylist())
    cover = np.column_stack([cover, np.ones(len(cover))])

    def explained(target):
        fit, *_ = np.linalg.lstsq(cover, target, rcond=None)
        return 1 - np.var(target - cover @ fit) / np.var(target)

    # 0.36 ** 2 of a variance near 0.7 is 18 %; 32 useless columns fit 32 / 3000 = 1 %.
    assert explained(level) == pytest.approx(0.18, abs=0.06)
    assert explained(np.random.default_rng(0).permutation(level)) < 0.03


# --------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("regime", PARAMETERS)
def test_rates_are_a_few_percent(regime, request):
    rates = request.getfixturevalue(regime).truth["true_share_rate"].to_numpy()
    assert np.median(rates) == pytest.approx(3.5, abs=0.5)
    assert np.quantile(rates, 0.95) == pytest.approx(13.5, abs=2)


@pytest.mark.parametrize("regime", PARAMETERS)
def test_content_share_rate_is_the_mean_of_the_true_rates(regime, request):
    truth = request.getfixturevalue(regime).truth
    rate, oracle = (truth[f"{name}_share_rate"].to_numpy() for name in ("true", "content"))
    # 3000 items with errors of sd 4: four standard errors. The rate of the mean logit would be
    # lower by about half the variance of level and walk, a fifth of the rate, in `history`.
    assert np.mean(rate - oracle) == pytest.approx(0, abs=0.3)
    slope = np.cov(rate, oracle)[0, 1] / np.var(oracle)
    assert slope == pytest.approx(1, abs=0.1)


def test_content_explains_most_in_one_regime_and_a_minor_part_in_the_other(history, content):
    def correlation(simulation):
        rates = (simulation.truth[f"{name}_share_rate"] for name in ("true", "content"))
        return np.corrcoef(*rates)[0, 1]

    # Level and walk have variance 0.62^2 + 0.40^2 = 0.54 of about 0.78 in `history` and
    # 0.25^2 + 0.15^2 = 0.09 of about 0.72 in `content`, so content explains 0.3 and 0.9 of the
    # logit: correlations of 0.55 and 0.94, and a little less for the skewed rate.
    assert 0.4 < correlation(history) < 0.65
    assert correlation(content) > 0.87


def test_variance_shares_add_up(history, content):
    for simulation in (history, content):
        assert sum(simulation.variance_shares.values()) == pytest.approx(1)
    own = [x.variance_shares["level"] + x.variance_shares["walk"] for x in (history, content)]
    assert own[0] == pytest.approx(0.7, abs=0.08)
    assert own[1] == pytest.approx(0.12, abs=0.04)


def test_six_past_periods_inform_the_next(history):
    rates, oracle = true_rates(history), true_rates(history, "content_share_rate")
    past = np.stack([rates[:, start : start + 6].mean(axis=1) for start in range(24)], axis=1)
    target, content = rates[:, 6:], oracle[:, 6:]
    known = ~np.isnan(past)
    error, without_history = ((target - p)[known] ** 2 for p in (past, content))
    # The walk, 0.97 from period to period, differs from its mean over 6 past periods by a variance
    # of about 0.4^2 * 0.2 = 0.03; trends and events add 0.07. Content alone misses all 0.54.
    assert error.mean() < without_history.mean() / 3


def test_rates_fall_mildly_with_age(content):
    rates, release = logit(true_rates(content)), content.items["release"].to_numpy()
    young = np.flatnonzero((release >= 0) & (release < SIZE["periods"] - 10))
    change = rates[young, release[young] + 10] - rates[young, release[young]]
    # 0.3 * (exp(-10 / 5) - 1) = -0.26; the trends of the categories are not quite 0 on average.
    assert change.mean() == pytest.approx(-0.26, abs=0.1)


def test_events_lift_all_items_of_their_category_while_they_last(history):
    rates, category = logit(true_rates(history)), np.array(history.items["category"])
    rises, falls = [], []
    for row in history.lifts.to_pylist():
        items = rates[category == row["category"]]
        first, last = row["first_period"], row["last_period"]
        rises.append(np.nanmean(items[:, first] - items[:, first - 1]) - row["lift"])
        if last + 1 < SIZE["periods"]:
            falls.append(np.nanmean(items[:, last + 1] - items[:, last]) + row["lift"])
    assert len(rises) >= 6  # 12 categories, and 0.6 events expected in 24 periods of each
    # A category's own step has sd 0.15 * sqrt(1 - 0.9^2) = 0.065; the smallest lift is 0.4.
    assert np.abs(rises + falls).max() < 0.2
    assert np.abs(rises + falls).mean() < 0.1


def test_categories_differ_in_level_and_trend(history):
    rates, category = logit(true_rates(history)), np.array(history.items["category"])
    means = np.stack([np.nanmean(rates[category == name], axis=0) for name in CATEGORIES])
    level, trend = means.mean(axis=1), means[:, -10:].mean(axis=1) - means[:, :10].mean(axis=1)
    # Planted sds are 0.25 and 0.3 * 20 / 29 = 0.2; about 250 items give a mean a noise of 0.05.
    assert 0.15 < np.std(level) < 0.45
    assert 0.1 < np.std(trend) < 0.5


# -------------------------------------------------------------------------------- events


def test_events_add_up_to_the_counts():
    simulation = simulate(**SMALL)
    batches = list(events(simulation, rows_per_batch=7000))
    assert [batch.num_rows for batch in batches] == [7000] * 5 + [5000]
    assert batches[0].schema == pa.schema(
        {"item_id": pa.string(), "timestamp": pa.timestamp("ms", tz="UTC"), "share": pa.int8()}
    )
    rows = pa.Table.from_batches(batches)
    day = (rows["timestamp"].to_numpy() - START) // np.timedelta64(1, "D")
    rows = rows.append_column("period", pa.array(day.astype("int64")))
    found = rows.group_by(["item_id", "period"]).aggregate([("share", "count"), ("share", "sum")])
    found = found.rename_columns(["item_id", "period", "clicks", "shares"])
    order = [("item_id", "ascending"), ("period", "ascending")]
    assert found.sort_by(order).equals(simulation.counts.sort_by(order))


def test_events_repeat_with_their_seed_and_are_in_no_order():
    simulation = simulate(**SMALL)
    first, second, other = (next(events(simulation, seed=seed)) for seed in (1, 1, 2))
    assert first.equals(second)
    assert not first.equals(other)
    # A random order rises at half of its steps.
    rising = np.diff(first["timestamp"].to_numpy()) > np.timedelta64(0)
    assert np.mean(rising) == pytest.approx(0.5, abs=0.02)


# -------------------------------------------------------------------------------- source


def test_the_source_names_columns_as_the_flags_do():
    flags = TableFlags(item_column="video", period_column="day", denominator="plays")
    found, simulation = simulated(None, flags, **SMALL), simulate(**SMALL)
    assert found.counts.data.column_names == ["video", "day", "plays", "shares"]
    assert found.counts.data["plays"].equals(simulation.counts["clicks"])
    assert found.items.data["video"].equals(simulation.items["item_id"])
    assert found.vectors["cover"].data.column_names == ["video", "vector"]
    assert found.truth.equals(simulation.truth)


def test_likes_go_with_the_shares_and_change_no_other_draw():
    plain = simulated(None, TableFlags(), **SMALL)
    found = simulated(None, TableFlags(), **SMALL, likes=True)
    assert found.counts.data.drop_columns(["likes"]).equals(plain.counts.data)
    clicks, shares, likes = (found.counts.data[n].to_numpy() for n in ("clicks", "shares", "likes"))
    assert (likes <= clicks).all()
    assert shares.sum() < likes.sum() < clicks.sum() / 4
    many = clicks >= 50
    rates = [numbers[many] / clicks[many] for numbers in (shares, likes)]
    assert 0.2 < np.corrcoef(*rates)[0, 1] < 0.9


def test_the_source_turns_mistakes_into_input_errors(tmp_path):
    with pytest.raises(InputError, match="--source=simulated reads no files"):
        simulated(tmp_path, TableFlags())
    with pytest.raises(InputError, match="--source_set: `items` must be at least 1"):
        simulated(None, TableFlags(), items=0)


# ------------------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"regime": "contents"}, "`regime` must be one of history, content. Received: regime=cont"),
        ({"items": 0}, "`items` must be at least 1. Received: items=0"),
        ({"periods": 0}, "`periods` must be at least 1. Received: periods=0"),
        ({"clicks": 0}, "`clicks` must be at least 1. Received: clicks=0"),
        ({"seed": -1}, "`seed` must be at least 0. Received: seed=-1"),
        ({"items": 1, "periods": 1}, "`items` and `periods` must leave an item to show"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(**arguments)


def test_a_wrong_batch_size_is_named_at_the_call():
    with pytest.raises(ValueError, match="`rows_per_batch` must be at least 1"):
        events(simulate(**SMALL), rows_per_batch=0)


@pytest.mark.slow
def test_the_largest_size_takes_little_memory():
    tracemalloc.start()
    simulation = simulate(items=35_000, periods=60, clicks=40_000_000)
    peak = tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes()
    tracemalloc.stop()
    assert peak < 2e9
    assert 30 <= np.median(simulation.counts["clicks"].to_numpy()) <= 200
    assert sum(batch.num_rows for batch in events(simulation)) == 40_000_000
