import dataclasses

import numpy as np
import pytest

from mmnet.mma4ctr.config import MODALITIES, TrainConfig
from mmnet.mma4ctr.data import features, fusion, protocols
from mmnet.mma4ctr.data.sources import SOURCES
from tests.mma4ctr.logs import log, reduction

WIDTHS = {
    "wechat": {"visual": 192, "acoustic": 242, "textual": 73},
    "tiktok": {"visual": 71, "acoustic": 10, "textual": 22},
}
PUBLISHED = {  # matrix -> in_features of WeChat and TikTok at d = 21
    "vat_concat": (194, 169),
    "va_concat": (172, 125),
    "vt_concat": (172, 137),
    "at_concat": (172, 76),
    "va_cross": (172, 54),
    "vt_cross": (117, 66),
    "at_cross": (117, 54),
    "vat_cross": (139, 76),
    "visual": (150, 93),
    "acoustic": (150, 32),
    "textual": (95, 44),
}
ITEMS = 300


def random_tables(source):
    draw = np.random.default_rng(0)
    return {
        name: (100 * draw.random((ITEMS, width))).astype(np.float32)
        for name, width in WIDTHS[source].items()
    }


PRESENT = {name: np.ones(ITEMS, bool) for name in MODALITIES}
EVERYONE = np.ones(ITEMS, bool)


def item_part(matrix, source="wechat", tables=None, present=PRESENT, fit=EVERYONE):
    return fusion.item_part(
        matrix,
        tables or random_tables(source),
        present,
        fit,
        narrowed=SOURCES[source].narrowed,
        rounded=False,
    )


@pytest.mark.parametrize("source", ["wechat", "tiktok"])
@pytest.mark.parametrize("matrix", PUBLISHED)
def test_every_published_width(matrix, source):
    expected = PUBLISHED[matrix][source == "tiktok"]
    users = 22 * len(fusion.modalities_of(matrix))
    assert users + item_part(matrix, source).shape[1] == expected


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, (129, 104)), (5, (146, 121)), (11, (164, 139)), (15, (176, 151)), (30, (221, 196))],
)
def test_every_published_length_of_the_user_embedding(length, expected, monkeypatch):
    for source, width in zip(("wechat", "tiktok"), expected, strict=True):
        tables = random_tables(source)
        monkeypatch.setattr(features, "_tables", lambda *_, tables=tables: tables)
        data, flags = (
            log(items=ITEMS, source=source),
            TrainConfig(protocol="p0", user_length=length),
        )
        rows = protocols.build(data, flags, EVERYONE, seed=0)
        assert features.build(data, rows, flags, reduction()).in_features == width


def test_a_single_modality_is_not_scaled():
    tables = random_tables("tiktok")
    np.testing.assert_array_equal(item_part("visual", "tiktok", tables), tables["visual"])


def test_a_concatenation_is_scaled_tables_side_by_side():
    tables = random_tables("tiktok")
    found = item_part("at_concat", "tiktok", tables)
    expected = np.hstack(
        [(t - t.min(0)) / (t.max(0) - t.min(0)) for t in (tables["acoustic"], tables["textual"])]
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


def principal(table, width):
    centred = table.astype(np.float64) - table.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:width]
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(width), largest])[:, None]
    return centred @ axes.T


def scaled(table):
    return (table - table.min(0)) / (table.max(0) - table.min(0))


@pytest.mark.parametrize(
    ("matrix", "reduced", "kept"),
    [("va_cross", "visual", "acoustic"), ("at_cross", "textual", "acoustic")],
)
def test_a_product_brings_the_wider_to_the_narrower(matrix, reduced, kept):
    tables = random_tables("tiktok")
    expected = principal(scaled(tables[reduced]), 10) * scaled(tables[kept])
    found = item_part(matrix, "tiktok", tables)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_of_two_equally_wide_ones_the_second_is_rotated():
    tables = random_tables("tiktok") | {"textual": random_tables("tiktok")["acoustic"][::-1]}
    expected = scaled(tables["acoustic"]) * principal(scaled(tables["textual"]), 10)
    np.testing.assert_allclose(item_part("at_cross", "tiktok", tables), expected, atol=1e-4)


def test_a_product_of_three_reduces_the_two_wider_ones():
    tables = random_tables("tiktok")
    expected = scaled(tables["acoustic"])
    for name in ("visual", "textual"):
        expected = expected * principal(scaled(tables[name]), 10)
    np.testing.assert_allclose(item_part("vat_cross", "tiktok", tables), expected, atol=1e-4)


def test_rows_need_all_three_modalities_wherever_several_are_joined():
    present = {
        "visual": np.array([True, True, False]),
        "acoustic": np.array([True, False, True]),
        "textual": np.array([True, True, True]),
    }
    assert fusion.needed("visual", present).tolist() == [True, True, False]
    assert fusion.needed("vt_concat", present).tolist() == [True, False, False]
    assert fusion.needed("none", present).all()


def test_a_constant_column_becomes_zero_and_others_are_not_clipped():
    table = np.array([[1, 5], [3, 5], [7, 5]], np.float32)
    found = fusion.scaled(table, np.array([True, True, False]))
    np.testing.assert_array_equal(found, [[0, 0], [1, 0], [3, 0]])


def test_statistics_are_of_the_items_to_fit_to_only():
    tables, fit = random_tables("tiktok"), np.arange(ITEMS) < 150
    before = item_part("vat_cross", "tiktok", tables, fit=fit)
    tables["visual"][200:] *= 1000
    after = item_part("vat_cross", "tiktok", tables, fit=fit)
    np.testing.assert_array_equal(before[:200], after[:200])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04, and no more", b"\x93NUMPY"])
def test_kept_tables_that_are_damaged_are_made_again(content, tmp_path):
    data, flags = dataclasses.replace(log(), folder=tmp_path), TrainConfig(user_length=4)
    rows = protocols.build(data, flags, np.ones(len(data.item_ids), bool), seed=0)
    first = features.build(data, rows, flags, reduction())
    (kept,) = tmp_path.glob("tables-*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(content)
    np.testing.assert_array_equal(features.build(data, rows, flags, reduction()).items, first.items)
    assert kept.read_bytes() == whole
