import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.mma4ctr.data import user_embedding
from mmnet.mma4ctr.data.protocols import Edges


def edges(draw, users=5, items=7, number=40, bins=4):
    return Edges(
        draw.integers(0, users, number).astype(np.int32),
        draw.integers(0, items, number).astype(np.int32),
        draw.integers(0, 2, number).astype(np.int8),
        draw.integers(0, bins, number).astype(np.int32),
    )


@pytest.mark.parametrize(
    ("width", "length", "window"),
    [(192, 21, 172), (242, 21, 222), (73, 21, 53), (71, 21, 51), (22, 21, 2), (10, 21, 1)],
)
def test_windows_of_the_published_widths(width, length, window):
    matrix = user_embedding.pooling(width, length)
    assert matrix.shape == (max(width, length), length)
    np.testing.assert_array_equal((matrix > 0).sum(axis=0), window)
    np.testing.assert_allclose(matrix.sum(axis=0), 1)


def test_a_narrow_modality_is_itself_and_zeros():
    table = np.random.default_rng(0).random((4, 10))
    found = user_embedding.pooled(table, 21)
    np.testing.assert_array_equal(found, np.hstack([table, np.zeros((4, 11))]))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_matrix_is_the_loop(width, length, seed):
    row = np.random.default_rng(seed).normal(size=width)
    padded = np.append(row, np.zeros(max(length - width, 0)))
    window = len(padded) - length + 1
    loop = [np.mean(padded[k : k + window]) for k in range(length)]
    np.testing.assert_allclose(user_embedding.pooled(row[None], length)[0], loop, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_means_are_those_of_a_loop_over_edges(seed, signed, in_time):
    draw = np.random.default_rng(seed)
    bins = 4 if in_time else 0
    rows = edges(draw)
    tables = {"a": draw.random((7, 3)), "b": draw.random((7, 2))}
    present = {"a": draw.random(7) < 0.7, "b": np.ones(7, bool)}
    found, number = user_embedding.signed_means(
        rows, tables.items(), present, users=5, bins=bins, signed=signed
    )
    for user in range(5):
        for moment in range(bins + 1):
            state = user * (bins + 1) + moment
            mine = (rows.user == user) & ((rows.bin < moment) if in_time else True)
            assert number[state] == mine.sum()
            for name, table in tables.items():
                total, count = np.zeros(table.shape[1]), 0
                for edge in np.flatnonzero(mine & present[name][rows.item]):
                    sign = -1 if signed and not rows.label[edge] else 1
                    total += sign * table[rows.item[edge]]
                    count += 1
                expected = total / count if count else total
                np.testing.assert_allclose(found[name][state], expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_label_changes_nothing_at_its_time_or_before(seed):
    draw = np.random.default_rng(seed)
    rows = edges(draw, bins=6)
    tables, present = {"a": draw.random((7, 3))}, {"a": np.ones(7, bool)}
    before, _ = user_embedding.signed_means(rows, tables.items(), present, users=5, bins=6)
    when = int(draw.integers(0, 6))
    label = np.where(rows.bin >= when, 1 - rows.label, rows.label).astype(np.int8)
    changed = dataclasses.replace(rows, label=label)
    after, _ = user_embedding.signed_means(changed, tables.items(), present, users=5, bins=6)
    moment = np.arange(5 * 7) % 7
    # Bit for bit: the sums of earlier bins are the same sums.
    np.testing.assert_array_equal(before["a"][moment <= when], after["a"][moment <= when])


def test_a_label_changes_what_comes_after_it():
    rows = Edges(*(np.array(x) for x in ([0, 0], [1, 2], [0, 1], [1, 3])))
    tables, present = {"a": np.eye(3)}, {"a": np.ones(3, bool)}
    found, _ = user_embedding.signed_means(rows, tables.items(), present, users=1, bins=4)
    expected = [[0, 0, 0], [0, 0, 0], [0, -1, 0], [0, -1, 0], [0, -0.5, 0.5]]
    np.testing.assert_array_equal(found["a"], expected)


def test_rates_are_of_earlier_bins():
    rows = Edges(*(np.array(x) for x in ([0, 0, 0], [1, 2, 3], [1, 0, 1], [0, 0, 2])))
    positives, number = user_embedding.positive_rates(rows, users=1, bins=3)
    assert (positives.tolist(), number.tolist()) == ([0, 1, 1, 2], [0, 2, 2, 3])
