"""Fields are compared as they were when an item was first seen, whatever happens to them later."""

import json
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.columns import values_of
from mmnet.data.tables import Table
from mmnet.files import only_one
from mmnet.promotion import first_seen

FLAGS = TableFlags(taxonomies=["tags"], numerics=["length"], texts=["title"], text_encoder="tokens")


def items(ids, **columns):
    given = {
        "item_id": ids,
        "tags": ["a"] * len(ids),
        "length": [1.0] * len(ids),
        "title": ["t"] * len(ids),
    }
    return Table(pa.table(given | columns), "items")


def test_a_column_that_is_filled_later_reads_as_it_was(tmp_path):
    first_seen.update(tmp_path, items(["x", "y"], tags=["", "b"], length=[None, 2]), FLAGS)
    later = items(["y", "x", "z"], tags=["b", "hit", "hit"], length=[2, 9, 9])
    found = first_seen.update(tmp_path, later, FLAGS)
    assert found.new == 1
    assert found.changed == {"tags": 1 / 3, "length": 1 / 3}
    before = found.apply(later).data
    assert before["tags"].to_pylist() == ["b", None, "hit"]
    assert before["length"].to_pylist() == [2, None, 9]
    assert before["title"].equals(later.data["title"])
    accepted = found.apply(later, ["tags"]).data
    assert accepted["tags"].equals(later.data["tags"])
    assert accepted["length"].to_pylist() == [2, None, 9]


def test_a_number_that_changes_keeps_its_first_value(tmp_path):
    first_seen.update(tmp_path, items(["x", "y"], length=[3, 4]), FLAGS)
    later = items(["x", "y"], length=[5, 4])
    assert first_seen.update(tmp_path, later, FLAGS).apply(later).data["length"].to_pylist() == [
        3,
        4,
    ]


def test_a_column_that_appears_later_is_missing_for_items_seen_before_it(tmp_path):
    few = TableFlags(taxonomies=["tags"])
    first_seen.update(tmp_path, items(["x"]), few)
    later = items(["x", "y"])
    found = first_seen.update(tmp_path, later, FLAGS)
    assert found.changed == {"length": 0.5, "title": 0.5}
    assert found.apply(later).data["title"].to_pylist() == [None, "t"]
    # And still is, when all columns have been there for a while.
    again = first_seen.update(tmp_path, later, FLAGS)
    assert again.changed == found.changed
    assert again.new == 0


def test_spelling_and_order_are_no_change(tmp_path):
    first_seen.update(tmp_path, items(["1"], tags=["b; a"], length=["2.50"]), FLAGS)
    later = items([1.0], tags=[["a", "b"]], length=[2.5])
    assert not first_seen.update(tmp_path, later, FLAGS).changed


def test_lists_and_dictionaries_become_missing_too(tmp_path):
    first_seen.update(tmp_path, items(["x", "y"]), FLAGS)
    for column in (
        pa.array([["q"], ["a"]]),
        pa.array(["q", "a"]).dictionary_encode(),
        pa.chunked_array([["q"], ["a"]]),
    ):
        later = items(["x", "y"], tags=column)
        before = first_seen.update(tmp_path, later, FLAGS).apply(later)
        assert values_of(before, "tags", "taxonomies")[0].tolist() == [1]


VALUES = st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from([None, 1.0, 2.5]))
NIGHTS = st.lists(
    st.dictionaries(st.sampled_from("uvwxyz"), VALUES, min_size=1), min_size=1, max_size=6
)


@settings(max_examples=15)
@given(NIGHTS, st.integers(1, 3))
def test_after_any_nights_items_read_as_on_their_first(tmp_path_factory, nights, most):
    """Against a dictionary; with files joined as soon as there are more than `most`."""
    directory, known = tmp_path_factory.mktemp("nights"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first_seen, "MOST_FILES", most)
        for night in nights:
            table = items(
                list(night),
                tags=[tag for tag, _ in night.values()],
                length=pa.array([length for _, length in night.values()], pa.float64()),
            )
            found = first_seen.update(directory, table, FLAGS)
            known = night | known
            before = found.apply(table).data
            assert before["length"].to_pylist() == [known[item][1] for item in night]
            assert [tag or "" for tag in before["tags"].to_pylist()] == [
                known[item][0] if known[item][0] == tag else "" for item, (tag, _) in night.items()
            ]
            differ = np.mean([known[item][1] != night[item][1] for item in night])
            assert found.changed.get("length", 0) == differ
    assert len(list(directory.glob("*.parquet"))) <= most


@pytest.mark.parametrize("lost", [first_seen.FILE, "0000001.parquet"])
def test_a_night_that_is_killed_is_made_up_for_by_the_next(tmp_path, monkeypatch, lost):
    """Killed before the description was written, or before the file of values was."""
    first_seen.update(tmp_path, items(["x"]), FLAGS)
    write = first_seen.write_atomic

    def killed(path, content):
        if path.name == lost:
            raise KeyboardInterrupt
        return write(path, content)

    later = items(["x", "y"], length=[1, 2])
    monkeypatch.setattr(first_seen, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        first_seen.update(tmp_path, later, FLAGS)
    monkeypatch.undo()
    assert first_seen.update(tmp_path, later, FLAGS).new == 1
    assert first_seen.update(tmp_path, items(["x", "y"]), FLAGS).changed == {"length": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0000000.parquet",
        "0000001.parquet",
        first_seen.FILE,
    ]


def test_no_value_and_no_id_can_be_read_from_the_files(tmp_path):
    first_seen.update(tmp_path, items(["secret-id"], title=["secret title"]), FLAGS)
    assert b"secret" not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    other = tmp_path / "other"
    first_seen.update(other, items(["secret-id"], title=["secret title"]), FLAGS)
    ours, theirs = (pq.read_table(place / "0000000.parquet") for place in (tmp_path, other))
    for name in ("item", "hash:title"):
        assert ours[name] != theirs[name]
        assert ours[name].type == pa.uint64()


def test_damage_and_a_second_process_are_refused(tmp_path):
    first_seen.update(tmp_path, items(["x"]), FLAGS)
    with (
        only_one(tmp_path, "mine"),
        pytest.raises(InputError, match="another process is updating"),
    ):
        first_seen.update(tmp_path, items(["x"]), FLAGS)
    (tmp_path / "0000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"0000000.parquet is missing or damaged"):
        first_seen.update(tmp_path, items(["x"]), FLAGS)
    (tmp_path / first_seen.FILE).write_text(json.dumps({"format": 2}))
    with pytest.raises(InputError, match=r"first_seen.json is damaged; delete"):
        first_seen.update(tmp_path, items(["x"]), FLAGS)


# ------------------------------------------------------------------------------------ refusals


def fitted(**columns):
    spec = types.SimpleNamespace(vectors=[types.SimpleNamespace(name="cover", of="given")])
    return types.SimpleNamespace(tables=TableFlags(**columns), spec=spec)


BEFORE, AFTER = fitted(taxonomies=["tags"]), fitted(taxonomies=["tags"], numerics=["late"])


def test_a_filled_in_column_is_refused_by_name():
    (reason,) = first_seen.refusals(BEFORE, BEFORE, {"tags": 0.25, "unread": 1.0}, [])
    assert reason.startswith("field tags: 25.0% of the items have another value than")
    assert "--accept_field=tags" in reason
    assert not first_seen.refusals(BEFORE, BEFORE, {"tags": 0.25}, ["tags"])
    assert not first_seen.refusals(BEFORE, BEFORE, {"tags": 0.0005}, [])  # spelling, corrected


def test_a_field_that_the_champion_lacks_is_refused_by_name():
    (reason,) = first_seen.refusals(BEFORE, AFTER, {}, [])
    assert reason.startswith("field late: the champion does not read it; if it is known when")
    assert not first_seen.refusals(BEFORE, AFTER, {}, ["late"])
    assert not first_seen.refusals(AFTER, BEFORE, {}, [])
    assert first_seen.fields_of(AFTER) == ("tags", "late", "cover")


def test_an_accepted_field_must_exist():
    with pytest.raises(InputError, match=r"--accept_field=lat: .* only tags, late, cover"):
        first_seen.refusals(BEFORE, AFTER, {}, ["lat"])
