import numpy as np
import pytest

from mmnet.layers.embedding import FieldEmbedding, SequenceEmbedding, TokenEncoder
from tests.conformance import check_layer

RATE = np.array([[0.5, 0.0, 2.0]], "float32")  # [batch=1, window=3], standard deviations
MISSING = np.array([[0, 1, 0]], "float32")
CLICKS = np.array([[50, 0, 25]], "float32")
CATEGORY = np.array([[2], [0]], "int32")  # [batch=2, values=1]; the second item has none
TAGS = np.array([[3, 2, 0, 0], [0, 0, 0, 0]], "int32")  # two tags; none
DURATION = np.array([1.5, -0.5], "float32")


def test_a_step_is_value_times_its_vector_plus_its_flags_vector():
    layer = SequenceEmbedding(2)
    layer.build((None, 3))
    layer.value_vectors.assign([[1, 10], [2, 20], [3, 30]])
    layer.flag_vectors.assign([[100, 100], [-1, -2]])  # seen, missing
    expected = [[[100.5, 105], [-1, -2], [106, 160]]]
    np.testing.assert_allclose(layer(RATE, MISSING), expected, rtol=1e-6)


def test_each_taxonomy_has_its_own_vectors():
    layer = SequenceEmbedding(2)
    rate, missing = np.stack([RATE, RATE], -1), np.stack([MISSING, MISSING], -1)
    first, second = np.moveaxis(np.asarray(layer(rate, missing)), 2, 0)
    assert first.shape == (1, 3, 2)
    assert np.all(first != second)


def test_without_flags_a_missing_step_is_zero():
    embedded = SequenceEmbedding(4, flags=False)(RATE, MISSING)
    np.testing.assert_array_equal(np.asarray(embedded)[0, 1], np.zeros(4))


def test_evidence_adds_the_logarithm_of_the_clicks():
    layer = SequenceEmbedding(2, evidence=True)
    layer.build((None, 3))
    layer.evidence_vectors.assign(np.ones((3, 2)))
    without = layer(RATE, MISSING, 0 * CLICKS)
    added = np.asarray(layer(RATE, MISSING, CLICKS)) - without
    np.testing.assert_allclose(added[0, :, 0], np.log([51, 1, 26]), rtol=1e-5, atol=1e-6)


def test_evidence_without_clicks_is_refused():
    with pytest.raises(ValueError, match="`clicks` must be given"):
        SequenceEmbedding(2, evidence=True)(RATE, MISSING)


def fields(**options):
    """A category of 3 rows, tags of 4 rows, one number; width 2; tables that read as row.column."""
    layer = FieldEmbedding((3, 4), num_numerics=1, units=2, **{"pooling": "max", **options})
    layer.build()
    category = [[0, 0], [1, 1], [2, 2]]
    tags = [[10, 10], [11, 11], [12, 19], [13, 15]]
    layer.table.assign(category + tags)
    layer.numeric_vectors.assign([[2, 4]])
    return layer


def test_fields_are_looked_up_pooled_and_scaled():
    first, second = np.asarray(fields()([CATEGORY, TAGS], [DURATION]))
    # Category row 2; the larger of tags 3 and 2, entry by entry; 1.5 times its vector.
    np.testing.assert_array_equal(first, [[2, 2], [13, 19], [3, 6]])
    # Nothing known: the missing rows.
    np.testing.assert_array_equal(second, [[0, 0], [10, 10], [-1, -2]])


def test_tags_can_be_averaged():
    first, second = np.asarray(fields(pooling="mean")([CATEGORY, TAGS], [DURATION]))
    np.testing.assert_array_equal(first[1], [12.5, 17])
    np.testing.assert_array_equal(second[1], [10, 10])


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_the_order_of_tags_does_not_matter(pooling):
    layer = fields(pooling=pooling)
    shuffled = TAGS[:, [2, 1, 3, 0]]
    np.testing.assert_array_equal(
        layer([CATEGORY, TAGS], [DURATION]), layer([CATEGORY, shuffled], [DURATION])
    )


def test_an_id_beyond_its_table_reads_as_unknown():
    beyond = np.array([[3], [-1]], "int32")  # row 3 would belong to the tags
    embedded = fields()([beyond, TAGS], [DURATION])
    np.testing.assert_array_equal(np.asarray(embedded)[:, 0], [[1, 1], [1, 1]])


def test_fields_without_numbers_and_numbers_without_fields():
    assert FieldEmbedding((3, 4), units=2, pooling="max")([CATEGORY, TAGS]).shape == (2, 2, 2)
    assert FieldEmbedding((), num_numerics=1, units=2, pooling="max")([], [DURATION]).shape == (
        2,
        1,
        2,
    )
    with pytest.raises(ValueError, match="`fields` must be at least 1"):
        FieldEmbedding((), units=2, pooling="max")


TOKENS = np.array([[5, 2, 7, 0], [0, 0, 0, 0]], "int32")  # three words; none


def test_a_text_without_words_is_zeros():
    encoded = np.asarray(TokenEncoder(10, 3, dropout=0.0)(TOKENS))
    np.testing.assert_array_equal(encoded[1], np.zeros(3))
    assert np.all(encoded[0] != 0)


def test_padding_does_not_change_a_text():
    layer = TokenEncoder(10, 3, dropout=0.0)
    padded = np.pad(TOKENS, ((0, 0), (0, 5)))
    np.testing.assert_allclose(layer(TOKENS), layer(padded), rtol=1e-6)


def test_dropout_acts_in_training_only():
    layer = TokenEncoder(10, 30, dropout=0.5, seed=0)
    np.testing.assert_array_equal(layer(TOKENS), layer(TOKENS))
    assert np.mean(np.asarray(layer(TOKENS[:1], training=True)) != layer(TOKENS[:1])) > 0.5


@pytest.mark.parametrize("taxonomies", [0, 2])
def test_sequence_embedding_conforms(taxonomies, tmp_path):
    def wide(x):
        return np.stack([x] * taxonomies, -1) if taxonomies else x

    check_layer(
        SequenceEmbedding(4, evidence=True),
        *(wide(x) for x in (RATE, MISSING, CLICKS)),
        tmp_path=tmp_path,
        golden="SequenceEmbedding_taxonomies" if taxonomies else None,
    )


def test_field_embedding_conforms(tmp_path):
    layer = FieldEmbedding((3, 4), num_numerics=1, units=2, pooling="max")
    check_layer(layer, [CATEGORY, TAGS], [DURATION], tmp_path=tmp_path)


def test_token_encoder_conforms(tmp_path):
    check_layer(TokenEncoder(10, 3, dropout=0.0), TOKENS, tmp_path=tmp_path)
