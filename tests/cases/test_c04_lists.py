"""Tags mean the same however their list is written; another separator is noticed."""

import pytest

from tests.cases import worlds

FLAGS = ("--counts=counts.csv", "--items=items.csv", worlds.TAXONOMIES)
NAMES = {",": ",", "|": "|", " ": "space"}


def write(of_tags):
    table = worlds.items()
    worlds.counts().to_csv("counts.csv", index=False)
    table.assign(tags=[of_tags(tags) for tags in table["tags"]]).to_csv("items.csv", index=False)


@pytest.fixture
def usual(drives):
    write(";".join)
    made = drives.made(*FLAGS)
    assert set(made.fitted.vocabularies["field_tags"]) == set(worlds.TAGS)
    return made


def test_a_list_literal_is_a_list(drives, usual):
    write(lambda tags: str(list(map(str, tags))))
    worlds.same(drives.made(*FLAGS), usual)


@pytest.mark.parametrize("separator", NAMES)
def test_another_separator_is_refused_with_both_ways_out(drives, usual, separator):
    write(separator.join)
    said = drives.refused(*FLAGS)
    assert said.startswith("items.csv line ")
    assert "column tags: " in said
    assert f"set --list_separator='{NAMES[separator]}' to read lists" in said
    worlds.same(drives.made(*FLAGS, f"--list_separator={NAMES[separator]}"), usual)


def test_values_with_another_separator_may_be_kept_whole(drives, usual):
    write("|".join)
    made = drives.made(*FLAGS, "--list_separator=;")
    values = made.fitted.vocabularies["field_tags"]
    assert set(values) == {"|".join(tags) for tags in worlds.items()["tags"]}
