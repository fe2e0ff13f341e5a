"""An exact repeat of a row is another thing than two rows for one key."""

import pandas as pd
import pytest

from tests.cases import worlds

ITEMS = ("--items=items.csv", worlds.TAXONOMIES)
COUNTS = ("--counts=counts.csv", *ITEMS)
EVENTS = ("--events=events.csv", *ITEMS, *worlds.COUNTED)


@pytest.fixture(autouse=True)
def usual_items(drives):
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)


def test_events_that_came_twice_are_left_out_by_their_key(drives):
    table = worlds.events()
    table["event_id"] = [f"e{number}" for number in range(len(table))]
    again = table.sample(150, random_state=1)
    both = pd.concat([table, again]).sample(frac=1, random_state=2)
    both.to_csv("events.csv", index=False)
    worlds.holds(drives.made(*EVENTS), worlds.of_events(both))
    worlds.holds(drives.made(*EVENTS, "--event_key=event_id"), worlds.of_events(table))
    assert drives.rule("first event of its event_id").endswith(": 3,510 in, 150 dropped")


def test_repeated_counts_are_named_and_left_out_by_a_flag(drives):
    table = worlds.counts()
    pd.concat([table, table[:5]]).to_csv("counts.csv", index=False)
    assert drives.refused(*COUNTS) == (
        "counts.csv line 802: exact duplicate of line 2 (item 'v0000' in period 2024-03-04); "
        "remove it, or set --repeats=drop"
    )
    worlds.holds(drives.made(*COUNTS, "--repeats=drop"), worlds.of_counts(table))
    assert drives.rule("counts: is not an exact duplicate").endswith(": 805 in, 5 dropped")


@pytest.mark.parametrize("flags", [[], ["--repeats=drop"]])
def test_two_rows_for_one_key_are_refused_whatever_the_flag(drives, flags):
    table = worlds.counts()
    other = table[:1].assign(clicks=table["clicks"][0] + 1)
    pd.concat([table, table[3:5], other]).to_csv("counts.csv", index=False)
    said = drives.refused(*COUNTS, *flags)
    assert said.startswith("counts.csv line 804: duplicate row for item 'v0000' in period")
    assert f"clicks is '{table['clicks'][0]}' in line 2 and '{table['clicks'][0] + 1}' here" in said
