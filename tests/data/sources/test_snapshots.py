import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import sources

ITEMS = "repo,language\na,C\nb,Go\n"
FLAGS = {"item_column": "repo", "denominator": "stars", "numerator": "forks", "period": "7d"}


def load(tmp_path, rows, *, items=ITEMS, time="week", **flags):
    (tmp_path / "snapshots.csv").write_text(f"repo,{time},stars,forks\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text(items)
    named = FLAGS | flags
    settings = (f"time={time}",)
    return sources.load(
        TableFlags(source="snapshots", source_dir=str(tmp_path), source_set=settings, **named)
    )


def rows_of(found):
    columns = found.counts.data.to_pydict()
    return sorted(
        zip(columns["repo"], columns["period"], columns["stars"], columns["forks"], strict=True)
    )


def dropped(found):
    return [rule.dropped for rule in found.ledger]


def test_counts_are_the_differences_of_snapshots_a_period_apart(tmp_path):
    # Mondays of 2024; in any order.
    late = ["a,2024-01-08,120,13", "b,2024-01-08,9,1"]
    found = load(tmp_path, [*late, "a,2024-01-01,100,10", "b,2024-01-01,5,1"])
    assert rows_of(found) == [("a", "2024-01-08", 20, 3), ("b", "2024-01-08", 4, 0)]
    assert dropped(found) == [2, 0, 0]


def test_a_skipped_snapshot_leaves_its_period_and_the_next_missing(tmp_path):
    before = ["a,2024-01-01,100,10", "a,2024-01-08,110,11"]
    found = load(tmp_path, [*before, "a,2024-01-22,150,15", "a,2024-01-29,160,16"])
    # The 40 stars up to 01-22 belong to two weeks: to neither.
    assert rows_of(found) == [("a", "2024-01-08", 10, 1), ("a", "2024-01-29", 10, 1)]
    assert dropped(found) == [2, 0, 0]


def test_a_counter_that_fell_leaves_its_period_missing(tmp_path):
    stars_fell, forks_fell = "a,2024-01-08,90,10", "a,2024-01-15,95,9"
    found = load(tmp_path, ["a,2024-01-01,100,10", stars_fell, forks_fell, "a,2024-01-22,99,10"])
    assert rows_of(found) == [("a", "2024-01-22", 4, 1)]
    assert dropped(found) == [1, 2, 0]


def test_a_numerator_that_grew_more_is_missing_unless_rates_may_exceed_one(tmp_path):
    rows = ["a,2024-01-01,100,10", "a,2024-01-08,102,13"]
    found = load(tmp_path, rows)
    assert rows_of(found) == []
    assert dropped(found) == [1, 0, 1]
    assert rows_of(load(tmp_path, rows, rate_may_exceed_one=True)) == [("a", "2024-01-08", 2, 3)]


def test_no_new_denominator_is_a_count_of_zero(tmp_path):
    assert rows_of(load(tmp_path, ["a,2024-01-01,7,1", "a,2024-01-08,7,1"])) == [
        ("a", "2024-01-08", 0, 0)
    ]


def test_one_items_last_snapshot_is_not_anothers_first(tmp_path):
    assert rows_of(load(tmp_path, ["a,2024-01-01,5,1", "b,2024-01-08,9,2"])) == []


def test_whole_numbers_may_count_the_snapshots(tmp_path):
    assert rows_of(load(tmp_path, ["a,3,5,1", "a,4,9,2"])) == [("a", 4, 4, 1)]


def test_two_snapshots_of_an_item_in_one_period_are_refused(tmp_path):
    rows = ["a,2024-01-01,5,1", "b,2024-01-03,5,1", "a,2024-01-07,6,1"]
    with pytest.raises(InputError) as caught:
        load(tmp_path, rows)
    assert str(caught.value) == (
        f"{tmp_path}/snapshots.csv line 4: duplicate row for item 'a' in period 2024-01-01 "
        "with other values: week is '2024-01-01' in line 2 and '2024-01-07' here; keep one of the "
        "snapshots, or make --period narrower"
    )
    with pytest.raises(InputError):
        load(tmp_path, rows, repeats="drop")


def test_exact_repeats_of_a_snapshot_are_left_out_by_a_flag(tmp_path):
    rows = ["a,2024-01-01,5,1", "a,2024-01-08,9,2", "a,2024-01-01,5,1"]
    with pytest.raises(InputError) as caught:
        load(tmp_path, rows)
    assert str(caught.value) == (
        f"{tmp_path}/snapshots.csv line 4: exact duplicate of line 2 (item 'a' in period "
        "2024-01-01); remove it, or set --repeats=drop"
    )
    found = load(tmp_path, rows, repeats="drop")
    assert rows_of(found) == [("a", "2024-01-08", 4, 1)]
    assert dropped(found) == [1, 1, 0, 0]


def test_how_text_is_written_may_be_said(tmp_path):
    load(tmp_path, ["a,3,5,1", "a,4,9,2"])
    (tmp_path / "items.csv").write_bytes("repo,language\na,语言\nb,Go\n".encode("gbk"))
    flags = {"source": "snapshots", "source_dir": str(tmp_path), "source_set": ("time=week",)}
    found = sources.load(TableFlags(**flags | FLAGS, text_set=("items.encoding=gbk",)))
    assert found.items.data["language"].to_pylist() == ["语言", "Go"]


def test_a_counter_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path, ["a,2024-01-01,5,1", "a,2024-01-08,many,1"])
    assert str(caught.value) == (
        f"{tmp_path}/snapshots.csv line 3, column stars: a counter must be a whole number of 0 or "
        "more, below 2**53. Received: 'many'"
    )


def test_ids_and_taxonomies_keep_their_zeros(tmp_path):
    found = load(
        tmp_path,
        ["007,1,5,1", "007,2,9,2"],
        items="repo,language\n007,01\n",
        taxonomies=("language",),
    )
    assert rows_of(found) == [("007", 2, 4, 1)]
    assert found.items.data["language"].to_pylist() == ["01"]


def test_the_files_are_inputs(tmp_path):
    found = load(tmp_path, ["a,1,5,1", "a,2,9,2"])
    assert [path.name for path in found.inputs] == ["snapshots.csv", "items.csv"]


def test_a_directory_is_needed_and_a_source_must_be_known(tmp_path):
    with pytest.raises(InputError) as caught:
        sources.load(TableFlags(source="snapshots"))
    assert str(caught.value) == "--source=snapshots needs --source_dir, the directory of its files"
    with pytest.raises(InputError, match=r"^`source` must be one of .* Did you mean snapshots\?$"):
        sources.load(TableFlags(source="snapshot"))
    with pytest.raises(InputError, match=r"^--source_dir=nowhere is not a directory$"):
        sources.load(TableFlags(source="snapshots", source_dir="nowhere"))
    with pytest.raises(InputError) as caught:
        sources.load(
            TableFlags(source="snapshots", source_dir=str(tmp_path), source_set=("tme=week",))
        )
    assert str(caught.value) == (
        "--source_set=tme=week: snapshots has no option 'tme'. Did you mean time? "
        "(available: snapshots, items, time)"
    )


def test_the_real_snapshots(real_log):
    found = sources.load(
        TableFlags(
            source="snapshots",
            source_dir=str(real_log("github_ranking")),
            source_set=("snapshots=weekly_*.csv.gz", "items=items_*.csv.gz", "time=week"),
            **(FLAGS | {"item_column": "repo_url"}),
        )
    )
    assert found.ledger[0].rows_in == 725_809
    assert len(found.items) == 20_343
    assert [rule.rows_in for rule in found.ledger[1:]] == [
        rule.rows_out for rule in found.ledger[:-1]
    ]
    assert len(found.counts) == found.ledger[-1].rows_out


def test_counters_of_further_rates_are_held_to_the_same_rules(tmp_path):
    further = {"also_predict": ("issue",), "rate": ("issue=issues/stars",)}
    rows = ["a,3,5,1,2", "a,4,9,2,4", "a,5,12,3,3", "a,6,13,3,9", "a,7,15,4,10"]
    (tmp_path / "snapshots.csv").write_text("\n".join(["repo,week,stars,forks,issues", *rows]))
    (tmp_path / "items.csv").write_text(ITEMS)
    named = {"source": "snapshots", "source_dir": str(tmp_path), "source_set": ("time=week",)}
    found = sources.load(TableFlags(**named, **FLAGS, **further))
    assert found.counts.data.to_pylist() == [
        {"repo": "a", "period": 4, "stars": 4, "forks": 1, "issues": 2},
        {"repo": "a", "period": 7, "stars": 2, "forks": 1, "issues": 1},
    ]
    # Issues fell once, and grew once by more than the stars.
    assert dropped(found) == [1, 1, 0, 1]
