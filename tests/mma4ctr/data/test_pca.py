import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.mma4ctr.data import pca
from mmnet.mma4ctr.data.pca import Ragged

sklearn = pytest.importorskip("sklearn.decomposition")


def ragged(draw, rows, longest):
    lengths = draw.integers(0, longest + 1, rows)
    lengths[0] = longest
    values = draw.integers(1, 1000, lengths.sum()).astype(np.int32)
    return Ragged(values, np.append(0, np.cumsum(lengths)))


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 0.9, 0.99, 1, 3, 6]))
@settings(max_examples=30)
def test_agrees_with_scikit_learn_up_to_sign(seed, keep):
    draw = np.random.default_rng(seed)
    table = draw.normal(size=(40, 6)) * [1, 5, 2, 0.5, 3, 1] + 10
    reference = sklearn.PCA(keep, svd_solver="full").fit(table)
    fitted = pca.fit_dense(table, np.arange(40), keep)
    assert fitted.components.shape[1] == reference.n_components_
    found = pca.transform_dense(fitted, table, np.arange(40))
    expected = reference.transform(table)
    signs = np.sign(np.sum(found * expected, axis=0))
    # The Gram matrix squares the condition: half of float64's 16 digits remain. Scores of up to 20
    # are float32, which rounds them by up to 1e-6.
    np.testing.assert_allclose(found * signs, expected, atol=2e-6)


def test_the_largest_loading_is_positive():
    table = np.random.default_rng(1).normal(size=(50, 7))
    components = pca.fit_dense(table, np.arange(50), 7).components
    largest = np.abs(components).argmax(axis=0)
    assert (components[largest, np.arange(7)] > 0).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_padded_sequences_are_the_table_with_zeros(seed):
    data = ragged(np.random.default_rng(seed), 30, 9)
    rows = np.arange(30)
    table = data.dense(rows, 9)
    fitted, wanted = pca.fit_ragged(data, rows, 0.9), pca.fit_dense(table, rows, 0.9)
    np.testing.assert_allclose(fitted.components, wanted.components, atol=1e-8)
    np.testing.assert_allclose(
        pca.transform_ragged(fitted, data, rows),
        pca.transform_dense(wanted, table, rows),
        atol=1e-4,  # scores of up to 3000 are float32
    )


def test_scores_go_where_they_are_wanted_and_are_rounded():
    table = np.random.default_rng(4).normal(size=(30, 5))
    fitted = pca.fit_dense(table, np.arange(30), 2)
    out = np.full((30, 2), 7.0, np.float32)
    found = pca.transform_dense(fitted, table, np.arange(10), rounded=True, out=out)
    assert found is out
    expected = fitted.transform(table[:10]).round(4).astype(np.float32)
    np.testing.assert_array_equal(found[:10], expected)
    assert (found[10:] == 7).all()


def test_blocks_hold_every_row_once():
    data = ragged(np.random.default_rng(2), 30, 5)
    blocks = [rows for rows, _ in data.blocks(np.arange(30), 5, at_once=7)]
    assert [len(rows) for rows in blocks] == [7, 7, 7, 7, 2]
    seen = np.concatenate(blocks)
    assert sorted(seen.tolist()) == list(range(30))


def test_rows_longer_than_those_fitted_to_are_cut():
    data = Ragged(np.array([1, 2, 3, 9, 9, 9], np.int32), np.array([0, 1, 3, 6]))
    fitted = pca.fit_ragged(data, np.array([0, 1]), 1)
    assert len(fitted.mean) == 2
    longer = pca.transform_ragged(fitted, data, np.arange(3))[2]
    np.testing.assert_allclose(longer, fitted.transform(np.array([[9.0, 9.0]]))[0], rtol=1e-6)


def test_no_rows_have_no_components():
    with pytest.raises(ValueError, match="no rows"):
        pca.fit_dense(np.zeros((3, 2)), np.array([], int), 1)
