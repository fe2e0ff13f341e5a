import numpy as np
import pytest
import tensorflow as tf

from mmnet.encoders import tokens
from mmnet.encoders.tokens import TokenLookup, encode, fit_vocabulary, tokenize


def words(*texts):
    return [[token.decode() for token in row] for row in tokenize(tf.constant(texts)).to_list()]


@pytest.mark.parametrize(
    ("written", "tokens"),
    [
        ("Ten QUICK recipes", ["ten", "quick", "recipes"]),
        ("C++ and C# in 10 minutes!", ["c++", "and", "c#", "in", "10", "minutes"]),
        ("don't—stop…(now)", ["don", "t", "stop", "now"]),
        ("#cats 😀😀", ["#cats"]),
        ("猫と犬 cats", ["猫", "と", "犬", "cats"]),  # Han and Hiragana: a character is a token
        ("ไทย", ["ไ", "ท", "ย"]),
        ("안녕 세상", ["안녕", "세상"]),  # Korean has spaces
        ("ÉCOLE naïve", ["école", "naïve"]),
        ("two\nlines\tand tab", ["two", "lines", "and", "tab"]),
        ("", []),
        ("   ", []),
        ("?!… —", []),
    ],
)
def test_cuts_a_text_into_lower_case_tokens(written, tokens):
    assert words(written) == [tokens]


def test_a_batch_may_be_all_empty_or_nothing():
    assert words("", "") == [[], []]
    assert tokenize(tf.constant([], tf.string)).to_list() == []


def test_the_vocabulary_holds_what_is_frequent_most_frequent_first():
    texts = np.array(["b a c", "b a", "b d", "once"], object)
    # b 3 times, a twice; c, d and once are rare, so that the unknown row is trained.
    assert fit_vocabulary([texts], 10) == ["b", "a"]
    assert fit_vocabulary([texts], 1) == ["b"]
    assert fit_vocabulary([texts], 10, min_count=1) == ["b", "a", "c", "d", "once"]


def test_the_vocabulary_of_nothing_is_empty():
    assert fit_vocabulary([np.array([], object)], 10) == []
    assert fit_vocabulary([np.array(["", "!"], object)], 10) == []


def test_the_vocabulary_does_not_depend_on_how_many_texts_are_held():
    texts = np.array([f"word{i % 7} word{i % 3}" for i in range(50)], object)
    whole = fit_vocabulary([texts], 10)
    assert fit_vocabulary([texts], 10, at_once=4) == whole
    assert fit_vocabulary([texts[9::-1], texts[10:]], 10, at_once=4) == whole


def test_looks_tokens_up_and_pads():
    lookup = TokenLookup(["b", "a"], max_tokens=3)
    found = lookup(tf.constant(["a b", "a x b a", ""]))
    # a is 3, b is 2, what is unknown is 1, padding is 0; the fourth token is cut off.
    np.testing.assert_array_equal(found, [[3, 2, 0], [3, 1, 2], [0, 0, 0]])
    assert found.dtype == tf.int32


def test_an_empty_vocabulary_knows_nothing():
    found = TokenLookup([], max_tokens=2)(tf.constant(["a", ""]))
    np.testing.assert_array_equal(found, [[1, 0], [0, 0]])


def test_beginnings_of_long_texts_have_the_ids_of_the_whole_texts(monkeypatch):
    texts = np.array(
        [
            "ΟΔΟΣ ΣΑΣ " * 9,  # a final sigma has a letter of its own
            "猫と犬" * 30,  # no space to cut at
            "a" * 200 + " b c d e",  # a word longer than the beginning
            "! " * 100 + "b a c b",  # no token in the beginning
            "b a",
            "",
            "d c " * 50,
        ],
        object,
    )
    lookup = TokenLookup(["οδος", "σας", "b", "猫", "犬", "a", "d"], max_tokens=3)
    whole = lookup(tf.constant(list(texts))).numpy()
    read, tokens_of = [], tokens.tokenize
    monkeypatch.setattr(
        tokens,
        "tokenize",
        lambda part: read.append([len(text.decode()) for text in part.numpy()]) or tokens_of(part),
    )
    np.testing.assert_array_equal(encode(texts, lookup), whole)
    assert (whole[:, -1] > 0).tolist() == [True, True, True, True, False, False, True]
    # 48 characters at first, up to a space; then the three texts that have more tokens, as a whole.
    begun, again = read
    assert max(begun) <= 48
    assert begun[4:6] == [3, 0]
    assert len(again) == 3
