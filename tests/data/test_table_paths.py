"""Which files a flag names: names are literal where they exist, and nothing is lost unseen."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import table_paths


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "a"):
            pass


def found(pattern):
    return [str(path) for path in table_paths.find(pattern, "counts")]


def sentence(pattern):
    with pytest.raises(InputError) as caught:
        table_paths.found(pattern, "counts")
    return str(caught.value)


ODD = [
    *("d[12].csv", "a*b.csv", "what?.csv", "[ab]", "it's.csv", '"q".csv', "back\\slash.csv"),
    *("two\nlines.csv", "100%.csv", "%41.csv", "KEY=VALUE", "nb\u00a0sp.csv", "z\u200bw.csv"),
    *("-x.csv", "{a,b}.csv", "~", "$HOME", "猫.csv", "\udcff.csv", " .csv", "a;b.csv", " x "),
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_exists_is_literal(name):
    touch(name, "d1.csv", "d2.csv", "axxb.csv", "whats.csv", "a", "b", f"in/{name}", f"{name}s/a")
    assert found(name) == [name]
    assert found(f"{name}s") == [f"{name}s/a"]
    assert found("in") == [f"in/{name}"]


def test_only_a_name_that_does_not_exist_is_a_glob():
    touch("d1.csv", "d2.csv", "d3.csv", "deep/er/d4.csv")
    assert found("d[12].csv") == ["d1.csv", "d2.csv"]
    assert found("**/*.csv") == ["d1.csv", "d2.csv", "d3.csv", "deep/er/d4.csv"]


def test_a_glob_that_finds_a_directory_and_its_files_finds_each_file_once():
    touch("log/a/1.csv", "log/a/b/2.csv", "log/_SUCCESS", "log/a/_tmp/3.csv")
    assert found("log/a**") == ["log/a/1.csv", "log/a/b/2.csv"]
    assert found("log/a/**") == ["log/a/1.csv", "log/a/b/2.csv"]
    assert [str(path) for path in table_paths.found("log/a*", "counts").skipped] == ["log/a/_tmp"]


NAMES = ["a.csv", "b.parquet", "c", "_SUCCESS", ".a.csv.crc", "n.txt", "d.json.gz", "e.tar", "f.gz"]
FOLDERS = ["x", "day=1", "_tmp", ".git", "k=%2F"]


@settings(max_examples=60)
@given(
    st.sets(
        st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(NAMES)).map(
            lambda parts: "/".join((*parts[0], parts[1]))
        ),
        min_size=1,
    )
)
def test_of_a_directory_everything_is_read_or_skipped(tmp_path_factory, names):
    place = tmp_path_factory.mktemp("tree")
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).touch()
    hidden = [one for one in names if any(part[0] in "._" for part in one.split("/"))]
    data = {one for one in names if one not in hidden and not one.endswith(("n.txt", "e.tar"))}
    if not data:
        assert "no file of a table in this directory" in sentence(str(place))
        return
    files = table_paths.found(str(place), "counts")
    assert files.paths == sorted(place / one for one in data)
    assert files.folders == {
        place / one: dict(
            (part[:-3] + "/" if part == "k=%2F" else part).split("=")
            for part in one.split("/")[:-1]
            if "=" in part
        )
        for one in data
    }
    for one in names - data:  # itself, or the folder that it is in
        assert any((place / one).is_relative_to(skipped) for skipped in files.skipped)


def test_folders_below_the_fixed_part_of_a_name_are_columns():
    name = "in=0/log/day=2024-05-31/c=%C3%A9%2Fa/user=__HIVE_DEFAULT_PARTITION__/=/x=/1.csv"
    touch(name)
    inner = {"c": "é/a", "user": "", "x": ""}
    for pattern in ("in=0/log", "in=0/log/day=*", "in=0/log/day=2024-0[5]*/*/*/*/*/*.csv"):
        (columns,) = table_paths.found(pattern, "events").folders.values()
        assert columns == {"day": "2024-05-31"} | inner
    (columns,) = table_paths.found("in=0/log/day=2024-05-31", "events").folders.values()
    assert columns == inner
    assert list(table_paths.found(name, "events").folders.values()) == [{}]


def test_links_to_directories_are_followed_once():
    touch("disk/day=1/a.csv")
    os.makedirs("log")
    os.symlink("../disk/day=1", "log/day=1")
    os.symlink("..", "log/back")
    os.symlink("../disk/day=1", "log/day=2")
    files = table_paths.found("log", "events")
    assert [str(path) for path in files.paths] == ["log/day=1/a.csv"]
    assert [str(path) for path in files.skipped] == ["log/back", "log/day=2"]


def test_what_is_not_a_file_is_skipped_and_a_broken_link_is_not():
    touch("log/a.csv")
    os.mkfifo("log/pipe.csv")
    os.symlink("nowhere", "log/link.csv")
    files = table_paths.found("log", "counts")
    assert [path.name for path in files.paths] == ["a.csv", "link.csv"]
    assert [path.name for path in files.skipped] == ["pipe.csv"]


def test_a_directory_that_cannot_be_listed_is_refused(monkeypatch):
    touch("log/a.csv")

    def walk(place, onerror, **_):
        onerror(PermissionError(13, "Permission denied", "log/secret"))
        yield from ()

    monkeypatch.setattr(table_paths.os, "walk", walk)
    assert sentence("log") == (
        "log/secret: the directory cannot be listed: Permission denied (--counts)"
    )


@pytest.mark.parametrize(
    ("log", "kind"),
    [
        (".hoodie/x", "Hudi"),
        ("metadata/v1.metadata.json", "Iceberg"),
        ("deeper/_delta_log/0.json", "Delta"),
    ],
)
def test_a_table_with_a_log_of_its_own_is_refused(log, kind):
    touch("t/1.parquet", "t/deeper/2.parquet", f"t/{log}")
    place = "t/deeper" if "deeper" in log else "t"
    way_out = " here; name its own directory alone, or" if kind == "Delta" else ";"
    for pattern in ("t", "t*"):
        assert sentence(pattern) == (
            f"{place} is a {kind} table, whose log lists its current files, which mmnet does "
            f"not read{way_out} export the table as plain Parquet (--counts)"
        )


@pytest.mark.parametrize("pattern", ["none.csv", "x" * 5000, "a\0b", "no/*/**", "**/\0"])
def test_a_name_of_nothing_is_refused(pattern):
    shown = pattern.replace("\0", "\\x00")
    shown = shown if len(shown) <= 200 else shown[:199] + "…"
    assert sentence(pattern) == f"{shown}: no such file, directory or glob pattern (--counts)"


def test_a_directory_without_a_table_lists_what_it_has():
    touch("d/a.orc", "d/b.txt", "d/.x", "d/_SUCCESS")
    assert sentence("d") == (
        "d: no file of a table in this directory; it has files that end in .orc, .txt (--counts)"
    )


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.CSV", ".csv"),
        ("part-0.c000.snappy.parquet", ".parquet"),
        ("part-0", ""),
        ("part-0.gz", ""),
        ("a.tsv.zip", ".tsv"),
        ("a.txt.gz", ".txt"),
    ],
)
def test_the_ending_of_a_packer_is_none(name, ending):
    assert table_paths.ending(table_paths.Path(name)) == ending


def test_what_programs_left_behind_is_not_what_a_glob_is_for():
    touch("log/1.csv", "log/_SUCCESS", "log/_temporary/0/1.csv", "log/day=1/2.csv", "_old/3.csv")
    assert found("log/*") == ["log/1.csv", "log/day=1/2.csv"]
    assert found("log/**/*.csv") == ["log/1.csv", "log/day=1/2.csv"]
    assert [str(path) for path in table_paths.found("log/*", "counts").skipped] == [
        "log/_SUCCESS",
        "log/_temporary",
    ]
    assert found("_old/*.csv") == ["_old/3.csv"]
    assert found("log/_temporary/*/*.csv") == ["log/_temporary/0/1.csv"]
    assert found("*/_temporary/*/*.csv") == ["log/_temporary/0/1.csv"]


@pytest.mark.parametrize(
    "pattern", ["log", "log/*.parquet", "log/day=*/*.parquet", "log/day=1", "log/day=1/hour=2"]
)
def test_a_part_of_a_table_with_a_log_is_refused_too(pattern):
    touch(
        "log/_delta_log/0.json",
        "log/1.parquet",
        "log/day=1/hour=2/3.parquet",
        "log/day=1/2.parquet",
    )
    said = sentence(pattern)
    assert said.startswith("log is a Delta table, whose log lists its current files")
