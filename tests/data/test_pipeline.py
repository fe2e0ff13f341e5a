"""What the whole preparation promises: nothing from the future, nothing from the item itself."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import item_tensors, pipeline
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows
from mmnet.tasks.shown import target_remarks

ITEMS, PERIODS = 5, 13
TAGS = ["x;y", "x", "y", "alone", ""]
FLAGS = TableFlags(
    taxonomies=("category", "tags"),
    categoricals=("author",),
    numerics=("length",),
    texts=("title",),
    release="since",
)
FIRST_TARGETS = (1, 11, 12)  # 12 target periods, 8:1:1


def task(**flags):
    small = {"window": 3, "min_target_clicks": 1, "min_test_rows": 1, "text_tokens": 3}
    small["inputs"] = ("taxonomy_evidence",)
    return TaskFlags(**small | flags)


def tables_of(clicks, shares, order=range(ITEMS), shuffle=None):
    """InMemory of a panel: a counts row per cell with clicks, items in the given order."""
    item, period = np.nonzero(clicks)
    if shuffle is not None:
        place = np.random.default_rng(shuffle).permutation(len(item))
        item, period = item[place], period[place]
    counts = {
        "item_id": [f"item {i}" for i in item],
        "period": period,
        "clicks": clicks[item, period],
        "shares": shares[item, period],
    }
    items = {
        "item_id": [f"item {i}" for i in range(ITEMS)],
        "category": ["a", "a", "a", "b", "b"],
        "tags": TAGS,
        "author": ["p", "q", "p", "r", "q"],
        "length": [1.0, 0.1, None, 3.3, 7.7],
        "title": ["one two", "two one", "猫", "one", ""],
        "since": [None, 2, None, 0, 8],
    }
    items = pa.table(items).take(pa.array(list(order)))
    return InMemory(Table(pa.table(counts), "counts"), Table(items, "items"))


@st.composite
def panels(draw):
    """Clicks and shares with many gaps; item 0 is seen in all periods, so the calendar stays."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    clicks = rng.integers(0, 9, (ITEMS, PERIODS)) * (rng.random((ITEMS, PERIODS)) < rng.random())
    clicks[0] = np.maximum(clicks[0], 1)
    return clicks, rng.integers(0, clicks + 1)


def rewritten(panel, start, seed):
    """The same counts before column `start`, others from there on."""
    clicks, shares = panel[0].copy(), panel[1].copy()
    rng = np.random.default_rng(seed)
    clicks[:, start:] = rng.integers(0, 500, (ITEMS, PERIODS - start))
    clicks[0, start:] += 1
    shares[:, start:] = rng.integers(0, clicks[:, start:] + 1)
    return clicks, shares


def inputs_at(dataset, t):
    """All tensors of all items at column t."""
    items = tf.range(ITEMS, dtype=tf.int32)
    return {
        name: tensor.numpy()
        for name, tensor in Windows(dataset).gather(items, tf.fill([ITEMS], t)).items()
    }


def same_bits(first, second):
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.tobytes() == second[name].tobytes(), name


# ----------------------------------------------------------------------------- as of t


@settings(deadline=None, max_examples=12)
@given(
    panels(), st.integers(0, PERIODS - 2), st.integers(0, 99), st.sampled_from(["items", "clicks"])
)
def test_counts_after_t_move_no_input_at_t(panel, t, seed, weighting):
    fitted = pipeline.prepare(tables_of(*panel), FLAGS, task(taxonomy_weighting=weighting)).fitted
    before = pipeline.transform(tables_of(*panel), fitted)
    after = pipeline.transform(tables_of(*rewritten(panel, t + 1, seed)), fitted)
    for as_of in range(t + 1):
        same_bits(inputs_at(before, as_of), inputs_at(after, as_of))


@settings(deadline=None, max_examples=8)
@given(panels(), st.integers(0, 99))
def test_counts_after_the_training_span_move_nothing_fitted(panel, seed):
    first_validation = FIRST_TARGETS[1]
    before = pipeline.prepare(tables_of(*panel), FLAGS, task())
    changed = rewritten(panel, first_validation, seed)
    after = pipeline.prepare(tables_of(*changed), FLAGS, task())
    assert before.split.first_targets == FIRST_TARGETS
    assert before.fitted == after.fitted
    # What validation's first targets are predicted from is then the same as well.
    same_bits(inputs_at(before, first_validation - 1), inputs_at(after, first_validation - 1))


def test_counts_of_the_training_span_do_move_what_is_fitted():
    clicks = np.full((ITEMS, PERIODS), 8)
    fitted = [
        pipeline.prepare(tables_of(clicks, shares), FLAGS, task()).fitted.spec
        for shares in (clicks // 2, rewritten((clicks, clicks // 2), 5, 0)[1] % 9)
    ]
    assert fitted[0].rate_scale != fitted[1].rate_scale
    assert fitted[0].rate_mean != fitted[1].rate_mean


# ------------------------------------------------------------------- the item itself (L1)


def taxonomy_inputs_move(taxonomy_mean, item, seed, weighting="items"):
    """Whether an item's own past counts show in its own taxonomy inputs."""
    clicks = np.full((ITEMS, PERIODS), 8)
    shares = np.random.default_rng(0).integers(0, 9, (ITEMS, PERIODS))
    fitted = pipeline.prepare(
        tables_of(clicks, shares),
        FLAGS,
        task(taxonomy_mean=taxonomy_mean, taxonomy_weighting=weighting),
    ).fitted
    rng = np.random.default_rng(seed)
    other_clicks, other_shares = clicks.copy(), shares.copy()
    other_clicks[item] = rng.integers(1, 99, PERIODS)
    other_shares[item] = rng.integers(0, other_clicks[item] + 1)
    found = [
        inputs_at(pipeline.transform(tables_of(*panel), fitted), PERIODS - 1)
        for panel in ((clicks, shares), (other_clicks, other_shares))
    ]
    assert (found[0]["share_rate"][item] != found[1]["share_rate"][item]).any()
    names = ("taxonomy_rate", "taxonomy_missing_flag", "taxonomy_evidence")
    return any((found[0][name][item] != found[1][name][item]).any() for name in names)


@pytest.mark.parametrize("item", range(ITEMS))
def test_an_items_own_counts_do_not_show_in_its_taxonomy_inputs(item):
    weighting = ("items", "clicks")[item % 2]
    assert not taxonomy_inputs_move("leave_one_out", item, seed=item, weighting=weighting)


def test_with_the_papers_mean_a_lone_tag_shows_the_item_its_own_rate():
    # L1: what the test above rules out. Item 3 is the only one of its tag.
    assert TAGS[3] == "alone"
    assert taxonomy_inputs_move("paper", 3, seed=3)


# --------------------------------------------------------------------------------- order


@settings(deadline=None, max_examples=6)
@given(panels(), st.integers(0, 99))
def test_the_order_of_the_counts_changes_nothing(panel, shuffle):
    first = pipeline.prepare(tables_of(*panel), FLAGS, task())
    second = pipeline.prepare(tables_of(*panel, shuffle=shuffle), FLAGS, task())
    assert first.fitted == second.fitted
    same_bits(inputs_at(first, PERIODS - 1), inputs_at(second, PERIODS - 1))


@settings(deadline=None, max_examples=6)
@given(panels(), st.permutations(range(ITEMS)))
def test_the_order_of_the_items_only_permutes(panel, order):
    first = pipeline.prepare(tables_of(*panel), FLAGS, task())
    second = pipeline.prepare(tables_of(*panel, order=order), FLAGS, task())
    assert first.fitted == second.fitted
    moved = {name: tensor[list(order)] for name, tensor in inputs_at(first, PERIODS - 1).items()}
    same_bits(moved, inputs_at(second, PERIODS - 1))


# -------------------------------------------------------------------------------- fitting


def test_fits_vocabularies_on_training_items_only():
    clicks = np.zeros((ITEMS, PERIODS), int)
    clicks[0] = 5
    clicks[3, 11:] = 5  # seen in validation and test only
    made = pipeline.prepare(tables_of(clicks, clicks // 5), FLAGS, task())
    assert made.fitted.vocabularies["field_tags"] == ["x", "y"]
    assert made.fitted.vocabularies["field_category"] == ["a"]
    assert made.tensors["field_tags"].tolist() == [[2, 3], [2, 0], [3, 0], [1, 0], [0, 0]]
    assert (made.fitted.spec.numerics[0].mean, made.fitted.spec.numerics[0].sd) == (1.0, 1.0)


def test_rate_statistics_are_those_of_training_windows_and_targets():
    clicks, shares = np.zeros((ITEMS, PERIODS), int), np.zeros((ITEMS, PERIODS), int)
    clicks[0] = 10
    shares[0] = [1, 3, *[2] * 9, 10, 10]
    made = pipeline.prepare(tables_of(clicks, shares), FLAGS, task())
    # Columns 0 to 10: rates 10, 30 and nine times 20; targets are columns 1 to 10.
    assert made.fitted.spec.rate_scale == pytest.approx(np.sqrt(200 / 11))
    assert made.fitted.spec.rate_mean == pytest.approx((30 + 9 * 20) / 10)


def test_a_constant_rate_has_scale_one():
    clicks = np.full((ITEMS, PERIODS), 3)
    made = pipeline.prepare(tables_of(clicks, clicks // 3), FLAGS, task())
    assert made.fitted.spec.rate_scale == 1.0


def test_rates_that_may_exceed_one_are_not_clipped_above():
    clicks = np.full((ITEMS, PERIODS), 3)
    made = pipeline.prepare(
        tables_of(clicks, 2 * clicks),
        FLAGS.model_copy(update={"rate_may_exceed_one": True}),
        task(),
    )
    assert made.fitted.spec.max_rate is None
    assert made.share_rate.max() == 200


def test_two_columns_that_make_one_tensor_are_refused():
    clicks = np.full((ITEMS, PERIODS), 3)
    twice = FLAGS.model_copy(update={"categoricals": ("category",)})
    with pytest.raises(InputError) as caught:
        pipeline.prepare(tables_of(clicks, clicks), twice, task())
    assert str(caught.value) == (
        "columns 'category' and 'category' would both become the tensor field_category; "
        "rename one, or "
        "name it in one flag only"
    )


def test_new_tables_need_the_vectors_of_the_model():
    clicks = np.full((ITEMS, PERIODS), 3)
    found = tables_of(clicks, clicks)
    found.vectors["cover"] = Table(pa.table({"item_id": ["item 0"], "v": [[1.0, 2.0]]}), "vectors")
    made = pipeline.prepare(found, FLAGS, task())
    assert made.tensors["vector_cover"].tolist() == [[1, 2], *[[0, 0]] * 4]
    with pytest.raises(InputError) as caught:
        pipeline.transform(tables_of(clicks, clicks), made.fitted)
    assert str(caught.value) == "the model needs vectors 'cover'; set --vectors=NAME:FILE"


def test_planted_rates_are_lined_up_with_the_panel():
    clicks = np.zeros((ITEMS, PERIODS), int)
    clicks[0, 2:] = 3  # the panel starts at period 2
    found = tables_of(clicks, clicks)
    found.truth = pa.table(
        {
            "item_id": ["item 1", "item 0", "stranger"],
            "period": [3, 1, 3],
            "true_share_rate": [7.0, 8.0, 9.0],
        }
    )
    made = pipeline.prepare(found, FLAGS, task())
    expected = np.full((ITEMS, PERIODS - 2), np.nan)
    expected[1, 1] = 7
    np.testing.assert_array_equal(made.true_share_rate, expected)


# ------------------------------------------------------------- several horizons and rates

BOTH = FLAGS.model_copy(update={"also_predict": ("like",), "rate": ("like=likes/views",)})
AHEAD = {"horizon": (1, 2)}


def tables_of_both(main, like):
    """The tables of two panels; a counts row per cell with clicks or views."""
    found = tables_of(*main)
    item, period = np.nonzero((main[0] > 0) | (like[0] > 0))
    columns = {"item_id": [f"item {i}" for i in item], "period": period}
    for names, panel in ((("clicks", "shares"), main), (("views", "likes"), like)):
        columns |= {n: counts[item, period] for n, counts in zip(names, panel, strict=True)}
    return InMemory(Table(pa.table(columns), "counts"), found.items)


@settings(deadline=None, max_examples=6)
@given(panels(), panels(), st.integers(0, PERIODS - 2), st.integers(0, 99))
def test_counts_after_t_of_any_rate_move_no_input_at_t(main, like, t, seed):
    fitted = pipeline.prepare(tables_of_both(main, like), BOTH, task(**AHEAD)).fitted
    before = pipeline.transform(tables_of_both(main, like), fitted)
    changed = (rewritten(panel, t + 1, seed + i) for i, panel in enumerate((main, like)))
    after = pipeline.transform(tables_of_both(*changed), fitted)
    assert "taxonomy_rate_like" in inputs_at(before, t)
    for as_of in range(t + 1):
        same_bits(inputs_at(before, as_of), inputs_at(after, as_of))


@settings(deadline=None, max_examples=6)
@given(panels(), panels(), st.integers(0, 99))
def test_counts_of_any_rate_after_training_move_nothing_fitted(main, like, seed):
    before = pipeline.prepare(tables_of_both(main, like), BOTH, task(**AHEAD))
    start = before.split.first_targets[1]
    changed = (rewritten(panel, start, seed + i) for i, panel in enumerate((main, like)))
    after = pipeline.prepare(tables_of_both(*changed), BOTH, task(**AHEAD))
    assert before.fitted == after.fitted


@settings(deadline=None, max_examples=6)
@given(panels(), panels())
def test_each_rate_has_the_inputs_that_it_would_have_alone(main, like):
    both = pipeline.prepare(tables_of_both(main, like), BOTH, task())
    found = inputs_at(both, PERIODS - 1)
    for rate, panel in (("", main), ("like", like)):
        # Releases that are not given are those of the main rate, and hide no period of another.
        alone = pipeline.prepare(tables_of(*panel), FLAGS, task())
        names = both.fitted.spec.sequences(rate)
        wanted = {names.get(name, name): x for name, x in inputs_at(alone, PERIODS - 1).items()}
        same_bits(
            {name: found[name] for name in names.values()},
            {name: wanted[name] for name in names.values()},
        )
        assert both.fitted.spec.of_rate(rate).rate_mean == alone.fitted.spec.rate_mean


@pytest.mark.parametrize("item", range(ITEMS))
def test_an_items_own_counts_show_in_no_taxonomy_inputs_of_any_rate(item):
    clicks, rng = np.full((ITEMS, PERIODS), 8), np.random.default_rng(item)
    panels_of = [(clicks, rng.integers(0, 9, clicks.shape)) for _ in range(2)]
    fitted = pipeline.prepare(tables_of_both(*panels_of), BOTH, task()).fitted
    changed = [(x.copy(), y.copy()) for x, y in panels_of]
    for x, y in changed:
        x[item] = rng.integers(1, 99, PERIODS)
        y[item] = rng.integers(0, x[item] + 1)
    found = [
        inputs_at(pipeline.transform(tables_of_both(*of), fitted), PERIODS - 1)
        for of in (panels_of, changed)
    ]
    assert (found[0]["share_rate_like"][item] != found[1]["share_rate_like"][item]).any()
    moves = ("taxonomy_rate", "taxonomy_rate_like", "taxonomy_missing_flag_like")
    for name in (*moves, "taxonomy_evidence", "taxonomy_evidence_like"):
        np.testing.assert_array_equal(found[0][name][item], found[1][name][item])
    others = np.arange(ITEMS) != item
    assert (found[0]["taxonomy_rate_like"][others] != found[1]["taxonomy_rate_like"][others]).any()


def test_shards_change_no_byte_of_a_further_rate():
    rng = np.random.default_rng(0)
    clicks = rng.integers(0, 9, (2, ITEMS, PERIODS))
    clicks[:, 0] += 1
    found = tables_of_both(*((of, rng.integers(0, of + 1)) for of in clicks))
    one, other = (
        pipeline.prepare(
            found,
            BOTH.model_copy(update={"shard_items": size, "taxonomies": ("tags",)}),
            task(**AHEAD),
        )
        for size in (2, 100)
    )
    assert one.fitted.spec == other.fitted.spec
    assert one.rate_histories["like"].tobytes() == other.rate_histories["like"].tobytes()
    assert one.split.train.eligible.tobytes() == other.split.train.eligible.tobytes()


def test_a_vocabulary_is_numbered_once_for_all_shards(monkeypatch):
    numbered = []

    class ValueIds(item_tensors.ValueIds):
        def __init__(self, vocabulary, **how):
            numbered.append(vocabulary)
            super().__init__(vocabulary, **how)

    monkeypatch.setattr(item_tensors, "ValueIds", ValueIds)
    counts = np.full((ITEMS, PERIODS), 4)
    flags = FLAGS.model_copy(update={"shard_items": 1})
    fitted = pipeline.prepare(tables_of(counts, counts // 2), flags, task()).fitted
    assert numbered == [fitted.vocabularies[field.tensor] for field in fitted.spec.fields]


def test_statistics_are_of_all_training_targets_of_a_rate():
    clicks, shares = np.zeros((ITEMS, PERIODS), int), np.zeros((ITEMS, PERIODS), int)
    clicks[0] = 10
    shares[0] = [1, 3, *[2] * 8, 10, 10, 10]
    made = pipeline.prepare(tables_of(clicks, shares), FLAGS, task(horizon=(1, 2)))
    # Validation begins in column 9: targets in columns 1 to 8, and 2 to 8 for two periods ahead.
    assert made.split.first_targets[1] == 9
    assert made.fitted.spec.rate_mean == pytest.approx((30 + 7 * 20 + 7 * 20) / 15)


def test_targets_of_another_output_that_are_all_equal_are_remarked_on():
    clicks, shares = np.full((ITEMS, PERIODS), 9), np.arange(ITEMS * PERIODS) % 10
    found = tables_of_both((clicks, shares.reshape(clicks.shape)), (clicks, 0 * clicks))
    lines = target_remarks(pipeline.prepare(found, BOTH, task(**AHEAD)), "train")
    for line, words in zip(lines, ("like at 1", "like at 2"), strict=True):
        assert line.startswith(f"note on {words}: all ")
        assert line.endswith("check how 'likes' is counted")


def test_new_tables_with_other_rates_are_refused():
    clicks = np.full((ITEMS, PERIODS), 3)
    found = tables_of_both((clicks, clicks // 3), (clicks, clicks // 3))
    fitted = pipeline.prepare(found, FLAGS, task()).fitted
    with pytest.raises(InputError, match=r"^--also_predict=like differs from the further"):
        pipeline.transform(found, fitted.model_copy(update={"tables": BOTH}))


# ---------------------------------------------------------------------------- fingerprint
