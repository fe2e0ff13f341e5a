import itertools
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TaskFlags
from mmnet.data import taxonomies
from mmnet.data.calendars import Calendar
from mmnet.data.columns import LARGEST
from mmnet.data.counts import Panel
from mmnet.data.counts_reading import LARGEST_RATE_SUM
from mmnet.data.share_rates import FIXED_POINT
from mmnet.data.tables import Table

EVIDENCE = {"inputs": ("taxonomy_evidence",)}


def panel(clicks, shares, release=None):
    clicks, shares = np.asarray(clicks, np.int64), np.asarray(shares, np.int64)
    release = np.zeros(len(clicks), np.int64) if release is None else np.asarray(release)
    return Panel(np.arange(len(clicks)), clicks, shares, release, Calendar(kind="integer"), 0)


def tagged(*tags):
    return Table(pa.table({"tags": list(tags)}), "items")


def taxonomy_means(
    made, items, *, num_shards=1, min_clicks=1, leave_one_out=True, weighting="items", inputs=()
):
    """Means of the one taxonomy of a panel, which is cut into shards."""
    task = TaskFlags(
        min_clicks=min_clicks,
        taxonomy_mean="leave_one_out" if leave_one_out else "paper",
        taxonomy_weighting=weighting,
        inputs=inputs,
    )
    borders = np.linspace(0, len(items), num_shards + 1).astype(int)
    rows = [slice(a, b) for a, b in itertools.pairwise(borders)]
    parts = [(made.part(shard), items.rows(shard)) for shard in rows]
    (found,) = taxonomies.fit(
        ["tags"], task, made.num_periods, lambda column: iter(parts), num_shards
    )
    made_of = zip(*found.means_of_shards(parts, num_shards), strict=True)
    return tuple(map(np.concatenate, made_of))


@st.composite
def worlds(draw):
    """A small panel with gaps, releases and multi-valued tags, some empty."""
    num_items, num_periods = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    cells = num_items * num_periods
    clicks = draw(st.lists(st.integers(0, 9), min_size=cells, max_size=cells))
    shares = [draw(st.integers(0, c)) for c in clicks]
    release = draw(st.lists(st.integers(-1, num_periods), min_size=num_items, max_size=num_items))
    tags = draw(
        st.lists(
            st.sets(st.sampled_from("abc"), max_size=3), min_size=num_items, max_size=num_items
        )
    )
    shape = (num_items, num_periods)
    made = panel(np.reshape(clicks, shape), np.reshape(shares, shape), release)
    return made, [sorted(of_item) for of_item in tags]


def naive_means(world, *, min_clicks, leave_one_out, weighting):
    """Eq. 4 as a loop over items, periods, values and other items."""
    made, tags = world
    num_items, num_periods = made.clicks.shape
    rate, flag = np.zeros(made.clicks.shape), np.ones(made.clicks.shape)

    def mean(items, t):
        seen = [i for i in items if made.clicks[i, t] >= min_clicks and t >= made.release[i]]
        if not seen:
            return None
        if weighting == "clicks":
            return 100 * sum(made.shares[seen, t]) / sum(made.clicks[seen, t])
        return np.mean([100 * made.shares[i, t] / made.clicks[i, t] for i in seen])

    for item in range(num_items):
        others = [i for i in range(num_items) if not leave_one_out or i != item]
        for t in range(num_periods):
            found = [mean([i for i in others if v in tags[i]], t) for v in tags[item]]
            found = [value for value in found if value is not None]
            everyone = mean(others, t)
            if found:
                rate[item, t], flag[item, t] = np.mean(found), 0
            elif everyone is not None:
                rate[item, t] = everyone
    return rate, flag


@settings(deadline=None, max_examples=60)
@given(worlds(), st.integers(1, 3), st.booleans(), st.sampled_from(["items", "clicks"]))
def test_equals_the_naive_loop(world, min_clicks, leave_one_out, weighting):
    how = {"min_clicks": min_clicks, "leave_one_out": leave_one_out, "weighting": weighting}
    rate, flag = taxonomy_means(world[0], tagged(*world[1]), **how)
    naive_rate, naive_flag = naive_means(world, **how)
    # Rates are kept to 2**-24 = 6e-8 percent, and float32 holds 7 digits.
    np.testing.assert_allclose(rate, naive_rate, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(flag, naive_flag)
    assert rate.dtype == flag.dtype == np.float32


@settings(deadline=None, max_examples=20)
@given(worlds(), st.integers(1, 6), st.sampled_from(["items", "clicks"]))
def test_the_size_of_a_shard_changes_no_bit(world, num_shards, weighting):
    whole = taxonomy_means(world[0], tagged(*world[1]), weighting=weighting)
    cut = taxonomy_means(world[0], tagged(*world[1]), weighting=weighting, num_shards=num_shards)
    np.testing.assert_array_equal(whole[0], cut[0])
    np.testing.assert_array_equal(whole[1], cut[1])


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("weighting", ["items", "clicks"])
def test_the_items_that_are_computed_at_a_time_change_no_bit(num_shards, weighting, monkeypatch):
    draw = np.random.default_rng(0)
    clicks = draw.integers(0, 9, (40, 5))
    made = panel(clicks, draw.integers(0, clicks + 1))
    tags = tagged(*(draw.choice([*"abcdefgh"], draw.integers(0, 6), False) for _ in range(40)))
    how = {"num_shards": num_shards, "weighting": weighting, **EVIDENCE}
    whole = taxonomy_means(made, tags, **how)
    computed = []
    of_items = taxonomies.Taxonomy._terms
    monkeypatch.setattr(
        taxonomies.Taxonomy,
        "_terms",
        lambda self, part: computed.append(len(part.clicks)) or of_items(self, part),
    )
    # Room for ten values or items in five periods; no item has more than five values.
    monkeypatch.setattr(taxonomies, "PIECE_BYTES", 10 * 5 * taxonomies.PAIR_BYTES)
    cut = taxonomy_means(made, tags, **how)
    assert len(whole) == len(cut) == 3
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_array_equal(one, other)
    assert sum(computed) == 2 * 40  # each item for the sums and for the means
    assert 1 < max(computed) < 10


def test_sums_of_new_values_are_added_in_place():
    task = TaskFlags()
    tags = [tagged("a", "b"), tagged("b", "c"), tagged("d", "a")]
    two = panel([[10], [20]], [[1], [4]])  # 10 and 20 percent
    empty = np.zeros((0, 1), np.int64)
    found = taxonomies.Taxonomy(
        *("tags", task, 1, empty, empty.copy()), *(np.zeros(1, np.int64) for _ in range(2))
    )
    sums, counts = found.sums, found.counts
    assert found.add_shards([(two, part) for part in tags], 3)
    assert (found.sums is sums, found.counts is counts) == (True, True)
    assert found.numbers == {"a": 0, "b": 1, "c": 2, "d": 3}
    np.testing.assert_array_equal(found.sums[:, 0] / FIXED_POINT, [10 + 20, 20 + 10, 20, 10])
    np.testing.assert_array_equal(found.counts[:, 0], [2, 2, 1, 1])


@settings(deadline=None, max_examples=10)
@given(worlds(), st.integers(1, 3), st.booleans(), st.sampled_from(["items", "clicks"]))
def test_evidence_is_counted_by_a_loop(world, min_clicks, leave_one_out, weighting):
    made, tags = world
    how = {"min_clicks": min_clicks, "leave_one_out": leave_one_out, "weighting": weighting}
    rate, flag, evidence = taxonomy_means(made, tagged(*tags), **how, **EVIDENCE)
    plain = taxonomy_means(made, tagged(*tags), **how)
    np.testing.assert_array_equal(rate, plain[0])
    np.testing.assert_array_equal(flag, plain[1])
    for item, t in np.ndindex(evidence.shape):
        found = 0
        for tag in tags[item]:
            for other in range(len(tags)):
                seen = made.clicks[other, t] >= min_clicks and t >= made.release[other]
                if seen and tag in tags[other] and not (leave_one_out and other == item):
                    found += made.clicks[other, t] if weighting == "clicks" else 1
        assert evidence[item, t] == found
    assert evidence.dtype == np.float32
    np.testing.assert_array_equal(evidence == 0, flag == 1)


# Rates of the three items in the one period: 10, 20 and 60 percent.
THREE = panel([[10], [100], [5]], [[1], [20], [3]])


def test_leaves_the_item_itself_out():
    rate, flag = taxonomy_means(THREE, tagged("a", "a", "a"))
    # (20 + 60) / 2, (10 + 60) / 2, (10 + 20) / 2.
    np.testing.assert_array_equal(rate, [[40], [35], [15]])
    np.testing.assert_array_equal(flag, [[0], [0], [0]])


def test_pools_clicks_when_asked_to():
    rate, _ = taxonomy_means(THREE, tagged("a", "a", "a"), weighting="clicks")
    # 100 * 23 / 105, 100 * 4 / 15, 100 * 21 / 110; float32 holds 7 digits.
    np.testing.assert_allclose(rate, [[2300 / 105], [400 / 15], [2100 / 110]], rtol=1e-6)


def test_an_item_alone_in_its_value_falls_back_on_all_others_flagged():
    rate, flag = taxonomy_means(THREE, tagged("a", "b", "b"))
    # a: the mean of the two others, 20 and 60; b: the one other item of b.
    np.testing.assert_array_equal(rate, [[40], [60], [20]])
    np.testing.assert_array_equal(flag, [[1], [0], [0]])


def test_an_item_without_a_value_falls_back_too():
    rate, flag = taxonomy_means(THREE, tagged("", "b", "b"))
    np.testing.assert_array_equal(rate[0], [40])
    np.testing.assert_array_equal(flag[0], [1])


def test_nobody_seen_is_zero_flagged():
    rate, flag = taxonomy_means(panel([[10, 0]], [[1, 0]]), tagged("a"))
    # The only item: no other one to learn from, in either period.
    np.testing.assert_array_equal(rate, [[0, 0]])
    np.testing.assert_array_equal(flag, [[1, 1]])


def test_several_values_are_averaged_over_those_that_have_a_mean():
    four = panel([[0], [10], [10], [0]], [[0], [1], [5], [0]])
    rate, flag = taxonomy_means(four, tagged("a;b;c", "a", "b", "c"))
    # a 10, b 50, c nobody: (10 + 50) / 2.
    assert (rate[0, 0], flag[0, 0]) == (30, 0)


def test_a_column_without_any_value_falls_back_everywhere():
    rate, flag = taxonomy_means(THREE, tagged("", "", ""))
    np.testing.assert_array_equal(rate, [[40], [35], [15]])
    np.testing.assert_array_equal(flag, [[1], [1], [1]])


@pytest.mark.parametrize("weighting", ["items", "clicks"])
def test_the_papers_mean_shows_a_lone_item_its_own_rate(weighting):
    rate, flag = taxonomy_means(
        THREE, tagged("a", "b", "b"), leave_one_out=False, weighting=weighting
    )
    assert (rate[0, 0], flag[0, 0]) == (10, 0)


def test_a_period_reads_nothing_of_other_periods():
    two = panel([[10, 10], [10, 10]], [[1, 2], [3, 4]])
    later = panel([[10, 10], [10, 7]], [[1, 2], [3, 7]])
    before, after = (taxonomy_means(p, tagged("a", "a"))[0] for p in (two, later))
    np.testing.assert_array_equal(before[:, 0], after[:, 0])
    assert before[0, 1] != after[0, 1]


@pytest.mark.parametrize("num_shards", [1, 2])
def test_what_is_wrong_with_a_shard_is_refused_with_the_same_sentence(num_shards):
    items = Table(pa.table({"tags": [[["a"]], [["b"]], []]}), "items")
    with pytest.raises(InputError, match=r"^items table: column 'tags' .* a list of single values"):
        taxonomy_means(THREE, items, num_shards=num_shards)


def test_what_was_fitted_is_read_back(tmp_path):
    task, items = TaskFlags(), tagged("a;b", "b", "")
    found = taxonomies.fit(["tags"], task, THREE.num_periods, lambda _: [(THREE, items)], 1)
    taxonomies.save(found, tmp_path)
    for before, after in zip(
        found, taxonomies.load(["tags"], task, THREE.num_periods, tmp_path), strict=True
    ):
        assert after.numbers == before.numbers == {"a": 0, "b": 1}
        for one, other in zip(before.means(THREE, items), after.means(THREE, items), strict=True):
            np.testing.assert_array_equal(one, other)


# ------------------------------------------------------------------------------ at the limits


@st.composite
def largest_worlds(draw):
    """A panel of counts and rates up to their limits, and items with up to 2,000 values."""
    num_items = draw(st.integers(2, 5))
    rows = st.lists(st.booleans(), min_size=num_items, max_size=num_items)
    clicks, shares = [], []
    for _ in range(num_items):
        c = draw(st.sampled_from([0, 1, 3, 10**9, LARGEST - 2, LARGEST - 1]))
        # Together the rates of a period stay below the limit that counts are held to.
        most = min(LARGEST - 1, c * (LARGEST_RATE_SUM // 100 - 1) // num_items)
        clicks.append(c)
        shares.append(draw(st.sampled_from([0, 1, most // 3, most])) if c else 0)
    many = draw(st.sampled_from([1, 2, 2000]))
    groups = [draw(rows) for _ in range(2)]
    tags = [
        [f"{name}{i}" for name, group in zip("ab", groups, strict=True) if group[row]
         for i in range(many)]
        for row in range(num_items)
    ]  # fmt: skip
    return panel(np.transpose([clicks]), np.transpose([shares])), tags


def exact_mean(items, made, weighting):
    """Mean of some items in the first period as a fraction; None where none was clicked."""
    counted = [(int(made.shares[i, 0]), int(made.clicks[i, 0])) for i in items]
    counted = [(shares, clicks) for shares, clicks in counted if clicks]
    if not counted:
        return None
    if weighting == "clicks":
        return 100 * Fraction(*map(sum, zip(*counted, strict=True)))
    return 100 * sum(itertools.starmap(Fraction, counted), Fraction(0)) / len(counted)


def exact_rates(world, *, leave_one_out, weighting):
    """Eq. 4 in fractions, which round nothing."""
    made, tags = world[0], list(map(frozenset, world[1]))
    found = []
    for item, of_item in enumerate(tags):
        others = [i for i in range(len(tags)) if not leave_one_out or i != item]
        groups = [tuple(i for i in others if tag in tags[i]) for tag in of_item]
        once = {group: exact_mean(group, made, weighting) for group in set(groups)}
        means = [once[group] for group in groups if once[group] is not None]
        everyone = exact_mean(others, made, weighting) or Fraction(0)
        found.append(sum(means, Fraction(0)) / len(means) if means else everyone)
    return found


@settings(deadline=None, max_examples=25)
@given(largest_worlds(), st.booleans(), st.sampled_from(["items", "clicks"]), st.integers(1, 2))
def test_the_largest_counts_rates_and_lists_are_exact(world, leave_one_out, weighting, num_shards):
    how = {"leave_one_out": leave_one_out, "weighting": weighting}
    rate, _ = taxonomy_means(
        world[0], tagged(*map(";".join, world[1])), **how, num_shards=num_shards
    )
    for found, wanted in zip(rate[:, 0], exact_rates(world, **how), strict=True):
        # A rate is kept to 2**-24 percent, and float32 to 2**-24 of its value.
        assert abs(Fraction(float(found)) - wanted) <= (wanted + 1) * Fraction(1.1) / FIXED_POINT


@settings(deadline=None, max_examples=40)
@given(worlds(), st.booleans(), st.sampled_from(["items", "clicks"]))
def test_means_have_the_bits_of_whole_numbers_rounded_once(world, leave_one_out, weighting):
    """The sums in Python's integers, each step in float64: what int64 held had these bits."""
    made, tags = world
    rate, _ = taxonomy_means(
        made, tagged(*map(";".join, tags)), leave_one_out=leave_one_out, weighting=weighting
    )
    for item, t in np.ndindex(rate.shape):
        others = [i for i in range(len(tags)) if not leave_one_out or i != item]
        others = [i for i in others if made.clicks[i, t] > 0 and t >= made.release[i]]

        def mean(items, t=t):
            shares, clicks = made.shares[items, t], made.clicks[items, t]
            if weighting == "clicks":
                return round(FIXED_POINT * (100.0 * float(sum(shares)) / float(sum(clicks))))
            fixed = np.rint(FIXED_POINT * (100.0 * shares / clicks)).astype(int)
            return round(float(sum(fixed.tolist())) / len(items))

        groups = [[i for i in others if tag in tags[i]] for tag in tags[item]]
        found = [mean(group) for group in groups if group]
        total = sum(found) if found else mean(others) if others else 0
        wanted = np.float32(float(total) / max(1, len(found)) / FIXED_POINT)
        assert rate[item, t] == wanted


@settings(deadline=None, max_examples=15)
@given(largest_worlds(), st.booleans())
def test_the_largest_evidence_is_rounded_once(world, leave_one_out):
    made, tags = world
    how = {"leave_one_out": leave_one_out, "weighting": "clicks"}
    *_, evidence = taxonomy_means(made, tagged(*map(";".join, tags)), **how, **EVIDENCE)
    clicks = made.clicks[:, 0].tolist()
    of_tags = [set(of_item) for of_item in tags]
    for item, own in enumerate(of_tags):
        others = [i for i in range(len(tags)) if not leave_one_out or i != item]
        wanted = sum(clicks[i] * len(own & of_tags[i]) for i in others)
        # Of a whole number float64 keeps 53 bits, and float32 then 24.
        assert evidence[item, 0] == np.float32(float(wanted))


def test_an_items_mean_over_a_thousand_values_does_not_overflow():
    # Both items have 1,000 values at 800,000,000 percent: 1,000 * 8e8 * 2**24 passes 2**63.
    made = panel([[1], [1]], [[8_000_000], [8_000_000]])
    tags = ";".join(map(str, range(1000)))
    rate, flag = taxonomy_means(made, tagged(tags, tags))
    np.testing.assert_array_equal(rate, [[8e8], [8e8]])
    np.testing.assert_array_equal(flag, [[0], [0]])


@pytest.mark.parametrize("num_shards", [1, 3])
def test_pooled_clicks_of_many_items_do_not_overflow(num_shards, tmp_path):
    # 2,100 times 2**53 - 1 passes 2**64; half of the clicks are shares.
    clicks = np.full((2100, 1), LARGEST - 1)
    made, items = panel(clicks, clicks // 2), tagged(*["a"] * 2100)
    rate, _ = taxonomy_means(made, items, weighting="clicks", num_shards=num_shards)
    np.testing.assert_array_equal(rate, np.full((2100, 1), 50, np.float32))
    task = TaskFlags(taxonomy_weighting="clicks")
    found = taxonomies.fit(["tags"], task, 1, lambda _: [(made, items)], 1)
    taxonomies.save(found, tmp_path)
    (read,) = taxonomies.load(["tags"], task, 1, tmp_path)
    np.testing.assert_array_equal(read.means(made, items)[0], rate)
