import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import InspectConfig
from mmnet.inspection import looking
from tests.inspection.generated import alarms, clean, look

COUNTS, ITEMS, CLICKS, SHARES = clean(19)


def test_duplicate_keys_with_equal_counts_are_named(tmp_path):
    draw = np.random.default_rng(0)
    rows = np.repeat(np.arange(len(COUNTS["period"])), draw.integers(1, 4, len(COUNTS["period"])))
    twice = {name: values[rows] for name, values in COUNTS.items()}
    twice["tag"] = draw.integers(0, 50, len(rows))  # one row per tag, as in KuaiRec
    found = look(tmp_path, twice, ITEMS)
    (said,) = [one for one in alarms(found) if "duplicate keys with equal counts" in one]
    assert "where tag differs" in said
    assert "repeats" not in found.choices.proposed
    # The figures are those of the log without them.
    assert found.quality.cells == len(COUNTS["period"])


def test_exact_repeats_are_left_out_by_the_flagfile(tmp_path):
    twice = {name: np.concatenate([values, values[:9]]) for name, values in COUNTS.items()}
    found = look(tmp_path, twice, ITEMS)
    assert found.choices.proposed["repeats"].values == ("drop",)


@pytest.mark.parametrize(("rows", "proposed"), [(3, False), (10**6, True)])
def test_a_numerator_above_its_denominator_is_named(rows, proposed, tmp_path):
    above = dict(COUNTS, shares=COUNTS["shares"].copy())
    above["shares"][:rows] = above["clicks"][:rows] + 1
    found = look(tmp_path, above, ITEMS, numerator="shares", denominator="clicks")
    assert any("the numerator is above its denominator" in one for one in alarms(found))
    assert ("rate_may_exceed_one" in found.choices.proposed) == proposed


def test_leaking_columns_are_left_out_and_the_others_named(tmp_path):
    total = CLICKS.sum(axis=1)
    rate = SHARES.sum(axis=1) / np.maximum(total, 1)
    newest = np.argsort(np.argsort(ITEMS["release"])) >= 0.9 * len(total)
    leaking = {
        "views": total,
        "later": CLICKS[:, CLICKS.shape[1] // 2 :].sum(axis=1),
        "hot": np.where(rate > np.median(rate[total > 0]), "hot", "cold"),
        "checked": pa.array(["yes", "no"] * (len(total) // 2), mask=newest),
    }
    found = look(tmp_path, COUNTS, ITEMS | leaking)
    assert {one.column for one in found.columns.leaks} == leaking.keys()
    named = {*found.choices.tables.taxonomies, *found.choices.tables.categoricals}
    assert named == {"category", "author", "verified"}
    assert set(found.choices.tables.numerics) == {"duration", "followers"}
    assert found.choices.tables.texts == ("title",)


def test_a_release_that_is_the_first_period_is_history(tmp_path):
    seen = (CLICKS > 0).any(axis=1)
    first = np.where(seen, (CLICKS > 0).argmax(axis=1), CLICKS.shape[1])
    found = look(tmp_path, COUNTS, dict(ITEMS, release=first))
    assert not found.choices.tables.release
    assert any("release equals the first period" in note for note in found.notes)
    late = dict(ITEMS, release=first - 1 - np.arange(len(first)) % 5)
    assert look(tmp_path, COUNTS, late).choices.tables.release == "release"


def test_mistakes_in_both_tables_are_named_at_once(tmp_path):
    counts = {name: np.append(values, values[:1]) for name, values in COUNTS.items()}
    items = {name: pa.array(values)[:-1] for name, values in ITEMS.items()}
    items["item_id"] = pa.array(["v0001", *items["item_id"].to_pylist()[1:]])
    found = look(tmp_path, counts, items, numerics=("duration", "title"), texts=("titel",))
    said = " ".join(one.sentence for one in found.problems)
    for part in (
        "item 'v0001'",
        "'v0000' is not in",
        "column title: a numeric",
        "no column 'titel'",
    ):
        assert part in said, part


def test_events_are_counted_and_what_is_wrong_with_them_is_left_out(tmp_path):
    draw = np.random.default_rng(0)
    rows = 4000
    log = {
        "item_id": [f"v{n:04}" for n in draw.integers(0, 60, rows)],
        "timestamp": 1_714_521_600 + draw.integers(0, 20 * 86_400, rows),
        "liked": draw.integers(0, 2, rows),
    }
    items = {"item_id": [f"v{n:04}" for n in range(50)], "kind": ["a", "b"] * 25}
    for name, columns in (("events", log), ("items", items)):
        pa.parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    places = {name: str(tmp_path / f"{name}.parquet") for name in ("events", "items")}
    found = looking.look(InspectConfig(**places))
    assert found.choices.proposed["unknown_items"].values == ("drop",)
    assert found.choices.proposed["period"].values == ("1d",)
    assert found.quality.items == 50
    assert found.quality.rate == pytest.approx(50, abs=4)


def test_files_that_cannot_be_opened_are_named_together(tmp_path):
    with pytest.raises(InputError, match=r"no\.csv: no such file.*nor\.csv: no such file"):
        looking.look(InspectConfig(counts="no.csv", items="nor.csv"))
    with pytest.raises(InputError, match="--counts or --events and --items not given"):
        looking.look(InspectConfig())


def test_a_source_is_looked_at_too():
    sizes = ("items=200", "periods=20", "clicks=20000")
    found = looking.look(InspectConfig(source="simulated", source_set=sizes))
    assert not alarms(found)
    assert set(found.choices.tables.texts) == {"title"}


def test_further_rates_are_kept_and_their_columns_are_not_left_out(tmp_path):
    counts = COUNTS | {"views": COUNTS["clicks"] + 3, "likes": COUNTS["shares"] + 1}
    given = {"also_predict": ("like",), "rate": ("like=likes/views",), "horizon": (1, 2)}
    found = look(tmp_path, counts, ITEMS, **given)
    assert not alarms(found)
    assert not {"views", "likes"} & {one.column for one in found.choices.unused}
    assert found.choices.tables.also_predict == ("like",)
    counts["likes"][3] = counts["views"][3] + 1
    (said,) = alarms(look(tmp_path, counts, ITEMS, **given))
    assert "the numerator of --also_predict=like is above its denominator" in said
    with pytest.raises(InputError, match="--also_predict='like': no --rate has this name"):
        look(tmp_path, counts, ITEMS, also_predict=("like",))
