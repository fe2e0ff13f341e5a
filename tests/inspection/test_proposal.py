import numpy as np
import pyarrow as pa

from mmnet.config import InspectConfig
from mmnet.data.calendars import Calendar
from mmnet.data.counts import Panel
from mmnet.data.tables import Table
from mmnet.inspection import columns, proposal
from mmnet.inspection.choices import Choices

DRAW = np.random.default_rng(0)
N = 200
NUMBERS = Calendar(kind="integer")


def proposed(calendar=NUMBERS, first_rows=None, **catalogue):
    kind = DRAW.integers(0, 3, N)
    clicks = DRAW.integers(20, 60, (N, 20))
    shares = DRAW.binomial(clicks, np.array([0.1, 0.3, 0.6])[kind][:, None])
    first = np.arange(N) % 10
    clicks[np.arange(20) < first[:, None]] = 0
    shares[clicks == 0] = 0
    first_period = 19_850 if calendar.kind == "time" else 0
    panel = Panel(np.arange(N).astype(str), clicks, shares, first, calendar, first_period)
    made = {name: values(kind, first) for name, values in catalogue.items()}
    table = Table(pa.table({"item_id": np.arange(N).astype(str)} | made), "items")
    choices = Choices(InspectConfig())
    own = tuple(columns.profiles(table, choices.given))
    items = proposal.Catalogue(table, own, "item_id")
    found = proposal.of_items(items, panel, first, [slice(0, N)], choices, first_rows)
    return choices.tables, found, {one.column: one.reason for one in choices.unused}


def test_what_tells_is_a_taxonomy_and_what_does_not_is_a_category():
    flags, found, _ = proposed(
        kind=lambda kind, first: [f"k{one}" for one in kind],
        shade=lambda kind, first: [f"s{one}" for one in DRAW.integers(0, 4, N)],
    )
    assert (flags.taxonomies, flags.categoricals) == (("kind",), ("shade",))
    assert [one.column for one in found.told] == ["kind", "shade"]


def test_lists_share_one_separator():
    def tags(separator):
        return lambda kind, first: [
            separator.join(DRAW.permutation([*"abcdef"])[: 1 + n % 3]) for n in range(N)
        ]

    flags, _, unused = proposed(one=tags("|"), two=tags("|"), other=tags(";"))
    assert flags.list_separator == "|"
    assert {*flags.taxonomies, *flags.categoricals} == {"one", "two"}
    assert "all columns need the same --list_separator" in unused["other"]


def test_a_time_after_the_first_clicks_is_no_release():
    days = Calendar(kind="time", width=86_400)

    def dates(shift):
        start = days.start(19_850).to_datetime64().astype("M8[D]")
        return lambda kind, first: start + first + shift

    flags, _, unused = proposed(days, born=dates(-3 - np.arange(N) % 4), updated=dates(5))
    assert flags.release == "born"
    assert "not a release: after the first clicks of 100%" in unused["updated"]


def test_images_need_a_flag_more():
    flags, _, unused = proposed(cover=lambda kind, first: [f"{n}.png" for n in range(N)])
    assert not flags.images
    assert "--image_encoder" in unused["cover"]


def test_empty_values_of_all_types():
    table = pa.table({"list": [[], None, ["a"]], "text": ["", None, "a"], "n": [np.nan, None, 1.0]})
    for name in table.column_names:
        found = proposal.is_empty(Table(table, "items"), name)
        assert found.tolist() == [True, True, False], name
