import numpy as np
import pyarrow as pa
import pytest

from mmnet.checks import InputError
from mmnet.config import InspectConfig, TableFlags
from mmnet.data.tables import Table
from mmnet.inspection import columns, layout
from mmnet.inspection.choices import Choices

DRAW = np.random.default_rng(0)
ITEMS = Table(pa.table({"vid": [f"v{n}" for n in range(20)]}), "items")


def found(log, *, events=False, **flags):
    table = Table(pa.table(log), "events" if events else "counts")
    choices = Choices(InspectConfig(**{"counts": "d/c.csv", "items": "d/i.csv"} | flags))
    rows = None if events else table
    of_log = layout.of_log(table, rows, ITEMS, columns.profiles(table, TableFlags()), choices)
    return of_log, {name: one.values for name, one in choices.proposed.items()}, choices


def grid(periods, **values):
    items, times = np.indices((20, len(periods)))
    return {
        "vid": [f"v{n}" for n in items.ravel()],
        "day": np.asarray(periods)[times.ravel()],
    } | {name: array.ravel() for name, array in values.items()}


DAYS = np.arange("2024-05-01", "2024-05-21", dtype="datetime64[D]")
SHOWN = DRAW.integers(20, 200, (20, 20))
SENT = DRAW.binomial(SHOWN, DRAW.beta(2, 8, (20, 1)))


def test_counts_by_day():
    _, flags, choices = found(grid(DAYS, shown=SHOWN, sent=SENT, rank=SHOWN % 7))
    assert flags["item_column"] == ("vid",)
    assert (flags["period_column"], flags["period"]) == (("day",), ("1d",))
    assert (flags["numerator"], flags["denominator"]) == (("sent",), ("shown",))
    assert "source" not in flags
    assert [one.column for one in choices.unused] == ["rank"]


def test_running_totals_become_snapshots():
    totals = {"shown": SHOWN.cumsum(axis=1), "sent": SENT.cumsum(axis=1)}
    _, flags, _ = found(grid(DAYS, **totals))
    assert flags["source"] == ("snapshots",)
    assert flags["source_set"] == ("snapshots=c.csv", "items=i.csv", "time=day")
    assert flags["source_dir"] == ("d",)
    assert (flags["numerator"], flags["denominator"]) == (("sent",), ("shown",))
    assert "period_column" not in flags


def test_what_is_given_is_kept():
    _, flags, choices = found(
        grid(DAYS, shown=SHOWN, sent=SENT), numerator="shown", denominator="sent", period="7d"
    )
    assert not {"numerator", "denominator", "period"} & set(flags)
    assert choices.tables.numerator == "shown"


def test_events_have_rates_of_their_columns_of_0_and_1():
    rows = 400
    instants = 1_714_521_600 + np.arange(rows) * 3000
    days = (instants + 8 * 3600).astype("M8[s]").astype("M8[D]")  # China
    log = {
        "vid": [f"v{n % 20}" for n in range(rows)],
        "time_ms": 1000 * instants,
        "date": [int(str(day).replace("-", "")) for day in days],
        "liked": (DRAW.random(rows) < np.arange(rows) % 20 / 20).astype(int),
        "played_ms": DRAW.integers(0, 90_000, rows),
    }
    _, flags, choices = found(log, events=True)
    assert (flags["time_column"], flags["time_format"]) == (("date",), ("%Y%m%d",))
    assert "8 h ahead of UTC" in choices.proposed["time_column"].reason
    assert (flags["numerator"], flags["denominator"]) == (("liked",), ("events",))


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"id": ["v1"], "day": [1], "n": [2]}, "no common column of item ids"),
        ({"video": ["v1", "v2"], "day": [1, 1], "n": [2, 3]}, "give both columns the same name"),
        ({"vid": ["v1", "v1"], "n": [2.5, 3.5]}, "no column that is recognised as times"),
        ({"vid": ["v1", "v1"], "day": [1, 2]}, "no column of counts"),
        ({"vid": ["v1"] * 3, "day": [1, 2, 3], "n": [5, 0, 4], "m": [0, 5, 4]}, "no count is"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(log, said):
    with pytest.raises(InputError, match=said):
        found(log)
