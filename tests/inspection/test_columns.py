import numpy as np
import pyarrow as pa
import pytest

from mmnet.config import TableFlags
from mmnet.data.tables import Table
from mmnet.inspection import columns

DRAW = np.random.default_rng(0)
WORDS = ["alpha", "beta", "gamma", "delta", "new", "old", "big", "small", "red", "blue"]
TAGS = ["rock", "pop", "jazz", "folk", "soul"]


def lists(separator):
    return [
        separator.join(DRAW.choice(TAGS, DRAW.integers(1, 4), replace=False)) for _ in range(100)
    ]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("tags", lists(";"), "list"),
        ("tags", lists("|"), "list"),
        ("tag", [f"{n % 7},{(n + 1) % 7}" if n % 3 else str(n % 7) for n in range(100)], "list"),
        ("tags", [["a", "b"], ["a"], []] * 30, "list"),
        ("title", [" ".join(DRAW.permutation(WORDS)[:6]) for _ in range(100)], "text"),
        ("title", [f"官邸幹部から緊急情報第{n}号が届いた" for n in range(100)], "text"),
        ("lang", ["en", "de", "ja", None] * 25, "category"),
        ("genre", ["Arts and Crafts", "Film and TV"] * 50, "category"),
        ("author_id", [n // 3 for n in range(100)], "category"),
        ("music_type", [float(n % 5) for n in range(100)], "category"),
        ("verified", [True, False] * 50, "category"),
        ("slug", [f"item-{n}" for n in range(100)], "useless"),
        ("music_id", [10**9 + 7919 * n for n in range(100)], "useless"),
        ("index", list(range(100)), "useless"),
        ("state", ["on"] * 100, "useless"),
        ("nothing", [None] * 100, "useless"),
        ("extra", [{"a": 1}] * 10, "useless"),
        ("length", [f"{n / 7:.2f}" for n in range(100)], "number"),
        ("price", [f"1.{n:03},50" for n in range(100)], "number"),
        ("year", [1990 + n % 30 for n in range(100)], "number"),
        ("cover", [f"covers/{n}.JPG" for n in range(100)], "image"),
        ("vector", [[0.5, 1.5]] * 10, "vector"),
        ("uploaded", [f"2024-05-{1 + n % 28:02}" for n in range(100)], "time"),
        ("upload_dt", [20240501 + n % 28 for n in range(100)], "time"),
        ("created_at", [1_714_521_600_000 + 1000 * n for n in range(100)], "time"),
    ],
)
def test_what_a_column_is(name, values, kind):
    table = Table(pa.table({name: values}), "items")
    found = columns.item_kind(columns.profile(table, name, TableFlags()))
    assert (found.kind, bool(found.reason)) == (kind, True)


def test_text_in_an_unknown_encoding_is_named_and_not_read():
    table = Table(pa.table({"title": pa.array([b"caf\xe9"], pa.binary())}), "items")
    (found,) = columns.profiles(table, TableFlags())
    assert columns.item_kind(found).kind == "useless"


def test_a_separator_that_is_given_is_the_one():
    table = Table(pa.table({"tags": ["a~b", "c"] * 20}), "items")
    assert columns.profile(table, "tags", TableFlags(list_separator="~")).separator == "~"
