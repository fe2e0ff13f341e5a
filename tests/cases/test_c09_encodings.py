"""Encodings, separators and marks in numbers are recognised, or refused with the flag to set."""

import pytest

from tests.cases import worlds

CHINESE = dict(zip(worlds.CATEGORIES, ("美食", "音乐", "体育", "旅行"), strict=True))
FRENCH = dict(zip(worlds.CATEGORIES, ("crêpes", "musique", "été", "voyage"), strict=True))
FLAGS = ("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS)


def items(names, halves=False, **how):
    table = worlds.joined(worlds.items())
    table["category"] = table["category"].map(names)
    if halves:
        table["duration"] = [f"{seconds},50" for seconds in table["duration"]]
    table.to_csv("items.csv", index=False, **how)


def counts(**columns):
    table = worlds.counts()
    table.assign(**columns).to_csv("counts.csv", index=False)
    return worlds.of_counts(table)


@pytest.fixture
def expected(drives):
    return counts()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_encoding_with_a_mark_is_recognised(drives, expected, encoding):
    items(CHINESE)
    usual = drives.made(*FLAGS)
    assert set(usual.fitted.vocabularies["field_category"]) == set(CHINESE.values())
    items(CHINESE, encoding=encoding)
    made = drives.made(*FLAGS)
    worlds.holds(made, expected)
    worlds.same(made, usual)


@pytest.mark.parametrize(
    ("names", "encoding"), [(CHINESE, "gbk"), (FRENCH, "latin-1"), (FRENCH, "cp1252")]
)
def test_an_encoding_without_a_mark_needs_a_flag(drives, expected, names, encoding):
    items(names)
    usual = drives.made(*FLAGS)
    items(names, encoding=encoding)
    said = drives.refused(*FLAGS)
    assert said.startswith("items.csv")
    assert "not utf-8 text" in said.lower()
    assert "--text_set=encoding=" in said
    worlds.same(drives.made(*FLAGS, f"--text_set=items.encoding={encoding}"), usual)


@pytest.mark.parametrize(("encoding", "flags"), [("utf-8", []), ("latin-1", ["encoding"])])
def test_a_table_of_french_excel(drives, expected, encoding, flags):
    table = worlds.joined(worlds.items())
    table["category"] = table["category"].map(FRENCH)
    table.assign(duration=table["duration"] + 0.5).to_csv("items.csv", index=False)
    usual = drives.made(*FLAGS)
    items(FRENCH, halves=True, sep=";", encoding=encoding)
    flags = [f"--text_set=items.{name}={encoding}" for name in flags]
    made = drives.made(*FLAGS, *flags)
    worlds.holds(made, expected)
    worlds.same(made, usual)
    assert "separated by semicolons" in drives.rule("items files:")
    assert "numbers of duration have a comma before decimals" in drives.err


@pytest.mark.parametrize(
    ("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
def test_counts_with_another_separator(drives, separator, word):
    items(CHINESE, encoding="utf-8-sig")
    table = worlds.counts()
    table.to_csv("counts.csv", index=False, sep=separator)
    worlds.holds(drives.made(*FLAGS), worlds.of_counts(table))
    assert word in drives.rule("counts files:")


def test_one_count_with_a_mark_between_thousands(drives):
    items(CHINESE)
    table = worlds.counts()
    table.loc[3, "clicks"] = 1090
    text = table["clicks"].map("{:,}".format)
    assert text[3] == "1,090"
    counts(clicks=text)
    worlds.holds(drives.made(*FLAGS), worlds.of_counts(table))


def test_abbreviated_thousands_are_refused(drives):
    items(CHINESE)
    text = worlds.counts()["clicks"].astype(str)
    text[3] = "1.2K"
    counts(clicks=text)
    assert drives.refused(*FLAGS) == (
        "counts.csv line 5, column clicks: clicks must be a whole number of 0 or more, below "
        "2**53. Received: '1.2K'"
    )
