r"""Quotation marks after a backslash, as Spark writes them, mean what doubled ones mean."""

import pytest

from tests.cases import worlds

ITEMS = ("--counts=counts.csv", "--items=items.csv", worlds.TAXONOMIES, "--texts=title")
EVENTS = ("--events=events.csv", "--items=items.csv", worlds.TAXONOMIES, *worlds.COUNTED)


def spark(table, path):
    """As Spark's CSV writer does by default; a value without quotes and commas stays bare."""

    def cell(value):
        text = str(value)
        return '"' + text.replace('"', '\\"') + '"' if set(text) & set('",\n') else text

    with open(path, "w", encoding="utf-8") as file:
        for row in [table.columns, *table.itertuples(index=False)]:
            file.write(",".join(map(cell, row)) + "\n")


@pytest.mark.parametrize("title", ['he said "{}"', '"{}", he said'])
def test_titles_are_the_same_however_they_are_quoted(drives, title):
    worlds.counts().to_csv("counts.csv", index=False)
    table = worlds.joined(worlds.items())
    quoted = [title.format(one) if n % 10 == 0 else one for n, one in enumerate(table["title"])]
    table["title"] = quoted
    table.to_csv("items.csv", index=False)
    usual = drives.made(*ITEMS)
    worlds.holds(usual, worlds.of_counts(worlds.counts()))
    spark(table, "items.csv")
    worlds.same(drives.made(*ITEMS), usual)
    assert "quotation marks inside values follow a backslash" in drives.rule("items files:")


@pytest.mark.parametrize("page", ['/watch?q="cat"', '/watch?q="cat, dog"'])
def test_events_with_quoted_pages_are_all_counted(drives, page):
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)
    table = worlds.events()
    pages = [page if number % 7 == 0 else "/" for number in range(len(table))]
    table.insert(2, "page", pages)
    spark(table, "events.csv")
    worlds.holds(drives.made(*EVENTS), worlds.of_events(table))
    assert "quotation marks inside values follow a backslash" in drives.rule("events files:")
