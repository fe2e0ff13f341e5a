"""Counts stay in a dataset directory; `test_events.py` tests that they are used again."""

import pytest

from mmnet.data import kept_counts
from mmnet.data.kept_counts import ABOUT_FILE, COUNTS_FILE
from tests.faults import every_moment


def counted(scratch, text, parts=0):
    """What counting left in a scratch directory: one file, or with Spark a directory of parts."""
    scratch.mkdir(parents=True)
    counts = scratch / COUNTS_FILE
    if parts:
        counts.mkdir()
    for part in [counts / f"part-{number}.parquet" for number in range(parts)] or [counts]:
        part.write_text(text)
    (scratch / ABOUT_FILE).write_text(text)
    return counts, scratch / ABOUT_FILE


def contents(directory):
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("parts", [0, 2])
@pytest.mark.parametrize("parts_before", [0, 3])
def test_counts_replace_older_ones_whatever_engine_wrote_either(tmp_path, parts, parts_before):
    directory = tmp_path / "set"
    directory.mkdir()
    kept_counts.keep((), directory)
    assert contents(directory) == {}
    kept_counts.keep(counted(tmp_path / "old", "old", parts_before), directory)
    assert contents(directory) == contents(tmp_path / "old")
    kept_counts.keep(counted(tmp_path / "new", "new", parts), directory)
    assert contents(directory) == contents(tmp_path / "new")
    kept_counts.keep((directory / COUNTS_FILE, directory / ABOUT_FILE), directory)  # as they are
    assert contents(directory) == contents(tmp_path / "new")


@pytest.mark.parametrize("parts", [0, 2])
def test_what_counts_are_of_is_never_said_of_others(tmp_path, monkeypatch, parts):
    new = counted(tmp_path / "new", "new", parts)

    def fresh(name):
        (tmp_path / name / "set").mkdir(parents=True)
        old = counted(tmp_path / name / "scratch", "old", parts)
        kept_counts.keep(old, tmp_path / name / "set")
        return tmp_path / name

    for place, _ in every_moment(
        lambda place: kept_counts.keep(new, place / "set"), fresh, monkeypatch, "die"
    ):
        if (place / "set" / ABOUT_FILE).exists():
            found = contents(place / "set")
            assert {text for name, text in found.items() if name[0] != "."} in ({"old"}, {"new"})
        kept_counts.keep(new, place / "set")
        assert (place / "set" / ABOUT_FILE).read_text() == "new"
