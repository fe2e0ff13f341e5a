"""Quotation marks that are never closed lose no rows: they are letters, or the file is refused."""

import pytest

from tests.cases import worlds

ITEMS = ("--counts=counts.csv", "--items=items.csv", worlds.TAXONOMIES, "--texts=title")
EVENTS = ("--events=events.csv", "--items=items.csv", worlds.TAXONOMIES, *worlds.COUNTED)
LETTERS = "quotation marks are part of the values"


def plain(table, path):
    """As a shell or a crawler writes: nothing is quoted, whatever the titles hold."""
    with open(path, "w", encoding="utf-8") as file:
        for row in [table.columns, *table.itertuples(index=False)]:
            file.write(",".join(map(str, row)) + "\n")


@pytest.mark.parametrize("unknown", ["fail", "drop"])
def test_titles_that_begin_with_a_mark_lose_no_items(drives, unknown):
    counts = worlds.counts()
    counts.to_csv("counts.csv", index=False)
    table = worlds.joined(worlds.items())
    table.loc[20, "title"] = '"Best of the week'
    table.loc[29, "title"] = '"Alien hunters" react'
    plain(table, "items.csv")
    made = drives.made(*ITEMS, f"--unknown_items={unknown}")
    worlds.holds(made, worlds.of_counts(counts))
    assert made.panel.item_ids.tolist() == worlds.items()["item_id"].tolist()
    assert LETTERS in drives.rule("items files:")


def searches(closing):
    """Events whose last column is a search: one mark opens in line 502, another follows."""
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    table = worlds.events()
    query = ["cat"] * len(table)
    query[500], query[2000] = '"cat', closing
    plain(table[["item_id", "timestamp", "shared", "user_id"]].assign(query=query), "events.csv")
    return worlds.of_events(table)


@pytest.mark.parametrize("closing", ['"dog', "dog"])
def test_a_mark_that_only_opens_is_a_letter(drives, closing):
    expected = searches(closing)
    worlds.holds(drives.made(*EVENTS), expected)
    assert LETTERS in drives.rule("events files:")


def test_marks_that_close_many_lines_later_can_be_read_in_two_ways(drives):
    expected = searches('dog"')
    said = drives.refused(*EVENTS)
    assert said.startswith("events.csv line 502: ")
    assert "--text_set=quote=none" in said
    worlds.holds(drives.made(*EVENTS, "--text_set=events.quote=none"), expected)
    drives.made(*EVENTS, "--text_set=events.quote=doubled")
    assert drives.rule("has an item").endswith(": 1,860 in, 0 dropped")  # 1,500 lines are one value
