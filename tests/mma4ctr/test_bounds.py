"""No finite input of the second system makes a score that is not finite."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.mma4ctr.config import MODALITIES
from mmnet.mma4ctr.data import fusion, item_scores, modalities
from mmnet.mma4ctr.data.features import Features, Scaler
from mmnet.mma4ctr.data.modalities import Raw
from mmnet.mma4ctr.data.pca import Ragged
from mmnet.mma4ctr.data.sources import tiktok
from mmnet.mma4ctr.evaluation.metrics import Platt
from mmnet.mma4ctr.models.network import Clicks, network
from mmnet.mma4ctr.serving import scoring
from mmnet.schema import LARGEST_ENTRY, LARGEST_RATE
from tests import extremes
from tests.mma4ctr.files import write_tiktok
from tests.mma4ctr.logs import reduction

STATES = ITEMS = 16
COLUMNS = 7  # 3 of a state, 4 of an item


@pytest.fixture(scope="module")
def system():
    """A model, and what of it is made to score; tables and scales are set in each test."""
    zeros = np.zeros(COLUMNS, "float32")
    features = Features(zeros[:3] * np.ones((STATES, 1), "f"), np.ones((ITEMS, 4), "f"), {}, {})
    features.scalers["train"] = Scaler(zeros, zeros)
    model = Clicks(features, network(COLUMNS, seed=1, arch="readme"))
    scored = tf.function(lambda inputs: model(inputs), jit_compile=True)
    return model, scored


def table(seed, rows, columns):
    """What a table may hold: entries of the largest size that reading and PCA leave."""
    draw = np.random.default_rng(seed)
    among = np.clip(extremes.FLOATS, -LARGEST_RATE, LARGEST_RATE)
    # TensorFlow reads subnormal numbers as 0, NumPy does not.
    among[np.abs(among) < np.finfo("float32").tiny] = 0
    return draw.choice(among, (rows, columns))


@settings(max_examples=15)
@given(seed=st.integers(0), fitted_on=st.integers(1, STATES))
def test_rows_of_extreme_features_score_finite_probabilities(system, seed, fitted_on):
    model, scored = system
    states, items = table([seed, 0], STATES, 3), table([seed, 1], ITEMS, 4)
    ends = [fusion.min_max(one, np.arange(len(one)) < fitted_on) for one in (states, items)]
    low, factor = (np.concatenate(one) for one in zip(*ends, strict=True))
    assert np.isfinite([low, factor]).all()
    rows = model.rows
    for weight, value in (
        (rows.state_table, states),
        (rows.item_table, items),
        (rows.low, low),
        (rows.factor, factor),
    ):
        weight.assign(value)
    every = np.arange(STATES, dtype="int32")
    probability = scored({"state": every, "item": every}).numpy()
    assert np.isfinite(probability).all()
    features = Features(states, items, {"train": Scaler(low, factor)}, {})
    # The same float32 operations one by one, so the same bits on any processor, but for results
    # below the smallest normal number, which TensorFlow makes 0.
    np.testing.assert_allclose(
        model.rows(every, every),
        features.rows(every, every, "train"),
        rtol=0,
        atol=np.finfo("float32").tiny,
    )
    ids, known = np.arange(STATES), np.ones(STATES, bool)
    folded = scoring.Folded(model, every, ids, ids, known, known, Platt(2.0, -1.0))
    wanted = tf.constant([*range(STATES), -1, 2**63 - 1, -(2**63)], tf.int64)
    for found in folded.pairs(wanted, wanted[::-1]).values():
        assert np.isfinite(tf.cast(found, "float64")).all()


@settings(max_examples=10)
@given(seed=st.integers(0), matrix=st.sampled_from(["vat_concat", "vat_cross", "at_cross"]))
def test_modalities_of_extreme_files_make_finite_features(seed, matrix):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(0, 4, ITEMS)
    values = draw.choice(extremes.integers("int32"), lengths.sum())
    tokens = Ragged(values, np.append(0, np.cumsum(lengths)))
    vectors = np.clip(draw.choice(extremes.FLOATS, (ITEMS, 6)), -LARGEST_ENTRY, LARGEST_ENTRY)
    everyone = np.ones(ITEMS, bool)
    part = np.zeros(ITEMS, "int16")
    raws = {
        "visual": Raw(everyone, vectors=vectors, part=part),
        "acoustic": Raw(everyone, vectors=vectors[::-1], part=part),
        "textual": Raw(everyone, tokens, ids=(draw.integers(0, 3, ITEMS),), lists=(tokens,)),
    }
    fit = draw.random(ITEMS) < 0.5
    fit[0] = True
    for rounded in (False, True):
        tables = modalities.tables(raws, fit, reduction(rounded=rounded))
        assert all(np.isfinite(one).all() for one in tables.values())
        present = dict.fromkeys(MODALITIES, everyone)
        for narrowed in (False, True):
            found = fusion.item_part(
                matrix, tables, present, fit, narrowed=narrowed, rounded=rounded
            )
            assert np.isfinite(found).all()
            assert np.isfinite(fusion.scaled(found, fit)).all()


def test_entries_of_vectors_are_read_within_their_limit(tmp_path):
    huge = [1e30, -1e30, *[0.25] * 126]
    files = {"videos": [[(3, huge)]], "audios": [[(3, huge)]], "titles": [(3, {"7": 1})]}
    write_tiktok(tmp_path, [], **files)
    raw = tiktok.catalogue(tmp_path, np.array([3])).modalities["visual"]
    np.testing.assert_array_equal(raw.vectors[0, :3], [LARGEST_ENTRY, -LARGEST_ENTRY, 0.25])


def test_scores_of_items_are_read_within_the_largest_rate(tmp_path):
    path = tmp_path / "scores.parquet"
    scores = {"item_id": ["3", "5"], "predicted_share_rate": [1e300, -1.5e308]}
    pyarrow.parquet.write_table(pa.table(scores), path)
    found = item_scores.read(str(path), np.array([3, 5, 8]))
    np.testing.assert_array_equal(found.columns[:, 0], [LARGEST_RATE, -LARGEST_RATE, 0])
