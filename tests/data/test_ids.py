"""Rows of items by their ids, also where keys do not distinguish them."""

import numpy as np
import pyarrow as pa
import pytest

from mmnet.data import ids as ids_room
from mmnet.data.ids import ItemIds

STREAM = np.random.default_rng(5)
SHORT = [f"{number}" for number in STREAM.permutation(300)]
MIXED = [("é" if number % 3 else "x") * (number % 40) + str(number) for number in range(300)]
LONG = [f"{'long' * 30}{number}" for number in range(300)]


def wanted(known, asked):
    places = {one: row for row, one in enumerate(known)}
    return [places.get(one, -1) for one in asked]


@pytest.mark.parametrize("known", [SHORT, MIXED, LONG], ids=["short", "mixed", "long"])
@pytest.mark.parametrize("keys", ["as they are", "alike"])
def test_every_id_is_found_and_no_other(monkeypatch, known, keys):
    if keys == "alike":  # 0 from the first word on
        monkeypatch.setattr(ids_room, "_ODD", np.uint64(0))
    chunks = [known[:100], known[100:]]
    ids = ItemIds(pa.chunked_array(chunks))
    asked = [*reversed(known), "", "0", f"{known[0]}\0", known[1][:-1], None, *LONG[:2]]
    # A part of a larger array, whose bytes do not begin at 0.
    sliced = pa.chunked_array([pa.array(["another", *asked])]).slice(1)
    assert ids.rows(sliced).tolist() == wanted(known, asked)
    assert ids.are_unique()


def test_an_unknown_id_with_the_key_of_a_known_one_is_unknown(monkeypatch):
    monkeypatch.setattr(ids_room, "_ODD", np.uint64(0))
    ids = ItemIds(pa.chunked_array([["a"]]))
    assert ids.rows(pa.chunked_array([["b", "a"]])).tolist() == [-1, 0]


def test_duplicates_are_noticed():
    assert not ItemIds(pa.chunked_array([["a", "b"], ["a"]])).are_unique()
    assert ItemIds(pa.chunked_array([], pa.string())).are_unique()
