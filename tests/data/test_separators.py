"""Lists whose separator is not the expected one are noticed, names and paths are not."""

import itertools

import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.data.separators import check
from mmnet.data.tables import Table

TAGS = ["how-to", "funny", "news", "diy"]
LISTS = [list(tags) for size in (1, 2, 2, 3) for tags in itertools.permutations(TAGS, size)]


def of(values):
    return Table(pa.table({"tags": values}), "items")


@pytest.mark.parametrize(
    ("separator", "name"),
    [("|", "|"), (",", ","), (", ", ","), ("\t", "tab"), (" ", "space"), ("/", "/")],
)
def test_lists_with_another_separator_are_refused(separator, name):
    values = [None, *(separator.join(tags) for tags in LISTS)]
    with pytest.raises(InputError) as caught:
        check(of(values), "tags", "taxonomies")
    assert str(caught.value) == (
        f"items table row 6, column tags: {'how-to' + separator + 'funny'!r} looks like a list, as "
        f"most values of the column do; set --list_separator='{name}' to read lists, or "
        "--list_separator=';' to keep such values whole"
    )


@pytest.mark.parametrize("separator", ["|", ",", "\t", "/"])
def test_few_lists_of_values_that_stand_alone_elsewhere_are_refused(separator):
    joined = [separator.join(tags) for tags in itertools.combinations(TAGS, 2)]
    name = "tab" if separator == "\t" else separator
    with pytest.raises(InputError) as caught:
        check(of([*TAGS * 20, *joined]), "tags", "taxonomies")
    assert str(caught.value) == (
        f"items table row 81, column tags: {joined[0]!r} looks like a list, of values that also "
        f"occur alone in the column; set --list_separator='{name}' to read lists, or "
        "--list_separator=';' to keep such values whole"
    )
    numbers = [separator.join(pair) for pair in itertools.combinations("2345678", 2)]
    with pytest.raises(InputError, match=r"row 61, column tags: .* a list, of values"):
        check(of([*"2345" * 15, *numbers]), "tags", "taxonomies")
    check(of([*TAGS * 200, *joined]), "tags", "taxonomies")  # fewer than one in a hundred
    check(of([*TAGS * 20, *joined[:4]]), "tags", "taxonomies")  # four different ones


@pytest.mark.parametrize(
    "values",
    [
        [";".join(tags) for tags in LISTS],
        [str(tags) for tags in LISTS],
        LISTS,
        [1, 2, 3],
        TAGS,
        [f"{first} {last}" for first in "abcdefgh" for last in "stuvwxyz"],  # names
        [f"{upper}/{lower}" for upper in "abcdefgh" for lower in "stuvwxyz"],  # paths
        [f"{town}, {land}" for town in "abcdefgh" for land in "xyz"],
        [f"{number},5" for number in range(50)],
        [*TAGS * 20, *(f"{tag} {other}" for tag in TAGS for other in TAGS)],  # words of names
        [*"abcdefgh", *(f"{town}, {land}" for town in "abcdefgh" for land in "xyz")] * 2,
    ],
)
def test_other_values_are_left_alone(values):
    check(of(values), "tags", "taxonomies")
