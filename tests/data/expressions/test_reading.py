"""Flags name counts and rates; where a rate is cut is never guessed."""

import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.expressions import rates, read_count, read_rate
from mmnet.data.expressions.tree import Column

COLUMNS = ["likes", "plays", "ms", "a/b", "all (plays", "likes - plays", "it's"]


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("r=likes/plays", ("likes", "plays")),
        ("r= likes / events", ("likes", "events")),
        ("r=ms >= 3000/events", ("ms >= 3000", "events")),
        ("r=ms == 'a/b'/\"a/b\"", ("ms == 'a/b'", '"a/b"')),
        ("r=(ms / 1000)/(plays / 2)", ("(ms / 1000)", "(plays / 2)")),
        ("r=likes + (ms / 1000)/plays", ("likes + (ms / 1000)", "plays")),
        (
            "r=ms in (1, 2) and '/' != \"it's\"/events",
            ("ms in (1, 2) and '/' != \"it's\"", "events"),
        ),
        ("r=likes - plays/events", ("likes - plays", "events")),
        ("r=all (plays/events", ("all (plays", "events")),
        ("r=likes/all (plays", ("likes", "all (plays")),
    ],
)
def test_a_rate_is_cut_at_its_only_slash(setting, parts):
    rate = read_rate(setting, COLUMNS)
    assert (rate.numerator.text, rate.denominator.text) == parts
    assert (rate.numerator_column, rate.denominator_column) == ("r_numerator", "r_denominator")


@pytest.mark.parametrize(
    "setting",
    [
        *("likes/plays", "r=likes", "r=likes/", "r=/plays", "r=(likes/plays)", "r='likes/plays"),
        *("r=likes/plays/2", "r=likes / 2/plays", "a b=likes/plays", "r=a/b/plays", "r=", "r"),
        *("r=(likes/plays)/2/3", "r=\x1b/" + 500 * "/"),
    ],
)
def test_a_rate_that_could_be_cut_twice_or_not_at_all_is_refused(setting):
    with pytest.raises(InputError) as caught:
        read_rate(setting, COLUMNS)
    assert "--rate must be NAME=NUMERATOR/DENOMINATOR, such as finish='play_ms" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 450


def test_a_columns_whole_name_comes_first():
    assert read_count("likes - plays", "numerator", COLUMNS).expression == Column("likes - plays")
    assert read_count("a/b", "numerator", COLUMNS).columns == ["a/b"]
    assert read_count("likes -  plays", "numerator", COLUMNS).columns == ["likes", "plays"]


@pytest.mark.parametrize("text", ["1", "true", "'x'", "1 < 2", "events > 0", "2 * events"])
def test_what_is_the_same_for_every_event_is_refused(text):
    with pytest.raises(InputError, match="names no column, so it is the same for every event"):
        read_count(text, "numerator", COLUMNS)


def test_a_count_is_named_by_its_text():
    numerator = "ms >= 0.9 * plays and likes"
    [rate] = rates(TableFlags(numerator=numerator, denominator="events"), COLUMNS)
    assert (rate.numerator_column, rate.denominator_column) == (numerator, "events")
    assert rate.columns == ["ms", "plays", "likes"]
    assert rate.numerator.is_condition
    assert not rate.denominator.is_condition
    assert read_count(f"ms ==\n'{300 * 'x'}'", "numerator", COLUMNS).title.startswith("ms ==\\n'x")
