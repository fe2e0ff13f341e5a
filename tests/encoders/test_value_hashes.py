"""Hashes in place of values: the same in Python, in a table and in a request."""

import numpy as np
import pytest
import tensorflow as tf

from mmnet import schema
from mmnet.checks import InputError
from mmnet.encoders import tokens, value_hashes

WORDS = np.array(["music", "猫", "", "music"], object)


def test_a_hash_is_one_lower_case_token_below_2_to_the_63():
    hashes = value_hashes.hash_texts(WORDS)
    assert [[one.decode() for one in row] for row in tokens.tokenize(hashes).to_list()] == [
        [one] for one in hashes
    ]
    numbers = [int(one.removeprefix(schema.HASH_PREFIX)) for one in hashes]
    assert max(numbers) < value_hashes.SIZE
    assert (hashes[0] == hashes[3], len(set(hashes))) == (True, 3)


def test_the_hashes_of_today_are_those_of_any_day():
    # Exports hold them; FarmHash's Fingerprint64, modulo 2**63 - 1.
    assert value_hashes.hash_texts(["music", "猫"]).tolist() == [
        "h64x5816868264704420601",
        "h64x7020596511705960794",
    ]


def test_a_hash_is_not_hashed_again_but_what_only_begins_like_one_is():
    once = value_hashes.hash_texts(WORDS)
    np.testing.assert_array_equal(value_hashes.hash_texts(once), once)
    for near in ("h64x", "h64x12a", "xh64x12", "h64x12345678901234567890"):
        assert value_hashes.hash_texts([near])[0] != near


def test_two_values_with_one_hash_are_refused(monkeypatch):
    assert len(set(value_hashes.hash_vocabulary(["a", "b"], "items: column 'tags'"))) == 2
    monkeypatch.setattr(value_hashes, "SIZE", 1)
    with pytest.raises(InputError) as caught:
        value_hashes.hash_vocabulary(["a", "b"], "items.csv: column 'tags'")
    assert str(caught.value) == (
        "items.csv: column 'tags': the values 'a' and 'b' have the same hash; rename one of them, "
        "or leave out --hash_vocabularies"
    )


def test_a_value_that_is_written_like_the_hash_of_another_is_refused():
    (written,) = value_hashes.hash_texts(["a"])
    with pytest.raises(InputError, match="have the same hash"):
        value_hashes.hash_vocabulary(["a", written], "items.csv: column 'tags'")


def test_nothing_is_hashed_to_nothing():
    assert value_hashes.hash_texts([]).tolist() == []
    assert value_hashes.hash_vocabulary([], "items") == []
    assert value_hashes.hashed(tf.constant([], tf.string)).shape == (0,)
