"""A target that is never or hardly ever above 0 is reported in one line before training."""

import pytest

from tests.cases import worlds

FLAGS = ("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS)


def write(shares):
    table = worlds.counts()
    table["shares"] = shares(table)
    table.to_csv("counts.csv", index=False)
    worlds.joined(worlds.items()).assign(category="all").to_csv("items.csv", index=False)
    return worlds.of_counts(table)


SHARES = {
    "none": lambda table: 0,
    "all": lambda table: table["clicks"],
    "rare": lambda table: ((table.index < 100) & (table.index % 20).isin([5, 16])).astype(int),
}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "train and 80 validation targets have the same rate, 0 %: nothing can be learned"),
        (
            "all",
            "train and 80 validation targets have the same rate, 100 %: nothing can be learned",
        ),
        (
            "rare",
            "only 5 of 600 train and 5 of 80 validation targets are above 0 %: what is learned",
        ),
    ],
)
def test_a_target_without_news_is_reported(drives, name, words):
    expected = write(SHARES[name])
    made = drives.made(*FLAGS)
    worlds.holds(made, expected)
    (note,) = (line for line in drives.out.splitlines() if line.startswith("note: "))
    assert words in note
