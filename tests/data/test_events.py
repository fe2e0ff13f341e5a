"""Events become counts as a plain loop would count them, and every event is accounted for."""

import datetime
import importlib.util
import json
import shutil
import zoneinfo
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet import driver
from mmnet.checks import InputError
from mmnet.config import (
    EvaluateConfig,
    PredictConfig,
    PrepareConfig,
    TableFlags,
    TaskFlags,
    TrainConfig,
)
from mmnet.data import dataset as datasets
from mmnet.data import events, tables
from mmnet.data.engines import Engine
from mmnet.data.sources import simulated
from mmnet.flags import parse

ITEMS = np.array(["a", "b", "007"], object)
UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
MONDAY = datetime.datetime(1970, 1, 5)
SECOND = datetime.timedelta(seconds=1)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, columns):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if name.endswith(".csv"):
        pa.csv.write_csv(table, name)
    else:
        pa.parquet.write_table(table, name)


def count(name="events.parquet", *, item_ids=ITEMS, first_period="", **flags):
    """The counts as a list of tuples, and the ledger."""
    flags = TableFlags(**{"events": name, "denominator": "events", "engine_threads": 1} | flags)
    output = Path("counted.parquet")
    ledger = events.count(flags, TaskFlags(first_period=first_period), item_ids, output)
    data = tables.read(str(output), "counts").data
    output.unlink() if output.is_file() else shutil.rmtree(output)
    return [tuple(row.values()) for row in data.to_pylist()], ledger


def rows_of(ledger):
    return [(rule.rows_in, rule.rows_out) for rule in ledger]


# ------------------------------------------------------------------------------ the oracle

# Around the two nights in which Berlin's clock is changed, around midnight there and in UTC, and
# around the Monday that begins a week.
EDGES = [
    datetime.datetime(2024, 3, 30, 23, tzinfo=UTC),
    datetime.datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime.datetime(2024, 3, 31, 22, tzinfo=UTC),
    datetime.datetime(2024, 4, 1, 0, tzinfo=UTC),
    datetime.datetime(2024, 10, 26, 22, tzinfo=UTC),
    datetime.datetime(2024, 10, 27, 1, tzinfo=UTC),
    datetime.datetime(2024, 10, 27, 23, tzinfo=UTC),
]
STEPS = [-3_600_000_001, -1_000_000, -1, 0, 0, 0, 1, 999_999, 1_800_000_000, 3_600_000_000]

VALUES = {  # mostly good ones, so that events reach the last rules
    "key": ["k1", "k2", "k3", "k4", "k5", "k6", None],
    "item": ["a", "a", "a", "b", "007", "x", "", None],
    "delay": [None, -60, 0, 0, 3600, 3601, 90_000],
    "user": ["u", "u", "u", "v", None],
    "shows": [None, -1, 0, 1, 1, 1, 2],
    "play": [None, float("nan"), float("inf"), -1.0, 0.0, 0.5, 1.0, 3.0],
    "length": [None, 1.0, 2.0, 2.0],
    "liked": [None, True, False],
    "kind": ["share", "show", None],
}


@st.composite
def event_lists(draw):
    """Up to 60 events, few of them far apart: many share their item, user, period, key or time."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    edges = [EDGES[n] for n in rng.integers(0, len(EDGES), 2)]
    rows = []
    for _ in range(draw(st.integers(1, 60))):
        row = {name: values[rng.integers(len(values))] for name, values in VALUES.items()}
        step = datetime.timedelta(microseconds=STEPS[rng.integers(len(STEPS))])
        row["time"] = None if rng.random() < 0.05 else edges[rng.integers(2)] + step
        rows.append(row)
    return rows


rules = st.fixed_dictionaries(
    {
        "period": st.sampled_from(["1h", "1d", "7d"]),
        "time_zone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
        "first_period": st.sampled_from(["", "", "", "2024-03-31", "2024-03-31T05:00"]),
        "events_until": st.sampled_from(["", "", "", "2024-10-27", "2024-10-27T02:30"]),
        "max_delay": st.sampled_from(["", "1h"]),
        "event_key": st.sampled_from([(), ("key",), ("key", "item")]),
        "cap": st.sampled_from([0, 0, 1, 2]),
    }
)
TIMES = ["instant", "milliseconds", "clock", "s", "ms", "us", "text", "csv"]
RATES = ("seen=shows/events", "like=liked/shows", "kind=kind == 'share'/kind != 'none'")


def clock_of(row, time_zone, form):
    """Time on the clock, and what is sorted by; None without a time."""
    if row["time"] is None:
        return None, None
    time = row["time"]
    if form == "milliseconds" or form == "ms":
        time = EPOCH + (time - EPOCH) // (SECOND / 1000) * (SECOND / 1000)
    if form == "s":
        time = EPOCH + (time - EPOCH) // SECOND * SECOND
    if form == "clock":
        return time.replace(tzinfo=None), time
    return time.astimezone(zoneinfo.ZoneInfo(time_zone)).replace(tzinfo=None), time


def value_of(expression, row):
    """What an expression of `RATES` counts of an event; None where there is no telling."""
    if expression == "events":
        return 1
    if expression == "play >= length":
        play, length = row["play"], row["length"]
        return None if play is None or np.isnan(play) or length is None else int(play >= length)
    column, _, text = expression.partition(" ")
    value = row[column]
    if text:
        same = value == text[4:-1]
        return None if value is None else int(same if text.startswith("==") else not same)
    if value is None or value < 0 or not np.isfinite(value) or value != int(value):
        return None
    return int(value)


def raw_rows(name):
    """What a file holds, as a key that sorts as engines do: empty last, NaN after all numbers."""
    if name.endswith(".csv"):
        as_text = dict.fromkeys(["key", "item", "user", *VALUES, "at", "arrived"], pa.string())
        read = pa.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True)
        table = pa.csv.read_csv(name, convert_options=read)
    else:
        table = pa.parquet.read_table(name)
    return [
        [(v in (None, ""), v != v, v if v == v and v is not None else 0) for v in row.values()]
        for row in table.to_pylist()
    ]


def oracle(rows, how, form, rates, raw):
    """The definition as a loop: counts by (item, period), and (rows in, rows out) per rule."""
    width = pd.Timedelta(how["period"].replace("d", "D")).to_pytimedelta()
    ledger, kept = [], list(rows)

    def keep(condition):
        before = len(kept)
        kept[:] = [row for row in kept if condition(row)]
        ledger.append((before, len(kept)))

    for row, ties in zip(kept, raw, strict=True):
        row["ties"] = ties
        row["local"], row["order"] = clock_of(row, how["time_zone"], form)
        values = [(value_of(over, row), value_of(under, row)) for over, under in rates]
        row["values"] = [None if None in pair else pair for pair in values]
        row["arrived"] = None
        if row["order"] is not None and row["delay"] is not None:
            row["arrived"] = row["order"] + datetime.timedelta(seconds=row["delay"])
    keep(lambda row: row["item"])
    keep(lambda row: row["local"] is not None)
    for row in kept:
        row["period"] = (row["local"] - MONDAY) // width
    if how["first_period"]:
        first = (datetime.datetime.fromisoformat(how["first_period"]) - MONDAY) // width
        keep(lambda row: row["period"] >= first)
    if how["events_until"]:
        until = datetime.datetime.fromisoformat(how["events_until"])
        keep(lambda row: row["local"] < until)
    if how["max_delay"]:
        most = datetime.timedelta(hours=1)
        keep(lambda row: row["arrived"] is None or row["arrived"] - row["order"] <= most)
    kept.sort(key=lambda row: (row["order"], row["ties"]))
    if how["event_key"]:
        seen = set()

        def first_of_key(row):
            key = tuple(row[name] for name in how["event_key"])
            return None in key or not (key in seen or seen.add(key))

        keep(first_of_key)
    if how["cap"]:
        times = defaultdict(int)

        def below_cap(row):
            if row["user"] is None:
                return True
            times[row["user"], row["item"], row["period"]] += 1
            return times[row["user"], row["item"], row["period"]] <= how["cap"]

        keep(below_cap)
    keep(lambda row: row["item"] in ITEMS)
    counts = {}
    for row in kept:
        cell = counts.setdefault((row["item"], row["period"]), [0] * 2 * len(rates))
        for number, pair in enumerate(row["values"]):
            if pair:
                cell[2 * number] += pair[1]
                cell[2 * number + 1] += pair[0]
    for number in range(len(rates)):
        ledger.append((len(kept), sum(row["values"][number] is not None for row in kept)))
    return counts, ledger


def file_of(rows, form):
    """Writes events with their times in one of many forms; returns the flags that read them."""
    order = [row["time"] for row in rows]
    late = [
        None if row["time"] is None or row["delay"] is None else row["time"] + row["delay"] * SECOND
        for row in rows
    ]
    if form in ("s", "ms", "us"):
        size = {"s": SECOND, "ms": SECOND / 1000, "us": SECOND / 1_000_000}[form]
        late = [None if t is None else (t - EPOCH) // size for t in late]
        order = [None if t is None else (t - EPOCH) // size for t in order]
        kind = pa.int64()
    elif form in ("text", "csv"):
        # Every row with an offset of its own.
        zones = ["Asia/Tokyo", "America/New_York", "UTC"]
        order, late = (
            [
                None
                if t is None
                else t.astimezone(zoneinfo.ZoneInfo(zones[n % 3]))
                .isoformat()
                .replace("+00:00", "Z")
                for n, t in enumerate(times)
            ]
            for times in (order, late)
        )
        kind = pa.string()
    elif form == "clock":
        order, late = ([t and t.replace(tzinfo=None) for t in times] for times in (order, late))
        kind = pa.timestamp("us")
    else:
        unit = "ms" if form == "milliseconds" else "us"
        order, late = (
            pa.array(times, pa.timestamp("us", tz="UTC")).cast(
                pa.timestamp(unit, tz="UTC"), safe=False
            )
            for times in (order, late)
        )
        kind = order.type
    types = {
        "key": pa.string(),
        "item": pa.string(),
        "user": pa.string(),
        "shows": pa.int32(),
        "play": pa.float64(),
        "length": pa.float64(),
        "liked": pa.bool_(),
        "kind": pa.string(),
    }
    columns = {name: pa.array([row[name] for row in rows], of) for name, of in types.items()}
    columns |= {"at": pa.array(order, kind), "arrived": pa.array(late, kind)}
    name = "events.csv" if form == "csv" else "events.parquet"
    write(name, columns)
    unit = {"time_unit": form} if form in ("s", "ms", "us") else {}
    return {"name": name, "time_column": "at", "item_column": "item", **unit}


def flags_of(how):
    flags = {name: how[name] for name in ("period", "time_zone", "events_until", "event_key")}
    flags |= {"bad_events": "drop", "unknown_items": "drop", "first_period": how["first_period"]}
    if how["max_delay"]:
        flags |= {"max_delay": how["max_delay"], "ingestion_column": "arrived"}
    if how["cap"]:
        flags |= {"user_column": "user", "max_events_per_user_item_period": how["cap"]}
    return flags


def as_dict(counted, period):
    """Counts by item and period number."""
    width = pd.Timedelta(period.replace("d", "D"))
    return {
        (row[0], (pd.Timestamp(row[1]) - pd.Timestamp(MONDAY)) // width): list(row[2:])
        for row in counted
    }


def cannot_be_dropped(counts, number, ledger):
    """Whether a rate has bad events, and would be the same everywhere without them."""
    rows, good = ledger[number - len(RATES) - 1]
    below, above = (sum(cell[2 * number + n] for cell in counts.values()) for n in (0, 1))
    return good < rows and good >= events.TELLING and above in (0, below)


def tried_on(*strategies, few, many):
    """A property, tried on few examples by default and on many with the slow tests."""

    def decorated(check):
        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(examples):
            settings(max_examples=examples)(given(*strategies)(check))()

        return test

    return decorated


@tried_on(event_lists(), rules, st.sampled_from(TIMES), few=12, many=40)
def test_counts_and_ledger_are_those_of_a_loop(rows, how, form):
    rates = [("play >= length", "events"), ("shows", "events"), ("liked", "shows")]
    rates.append(("kind == 'share'", "kind != 'none'"))
    read = file_of(rows, form) | flags_of(how) | {"rate": RATES, "numerator": "play >= length"}
    copies = [dict(row) for row in rows]
    wanted, wanted_ledger = oracle(copies, how, form, rates, raw_rows(read["name"]))
    if not wanted:
        with pytest.raises(InputError, match="no events are left"):
            count(**read)
        return
    if any(cannot_be_dropped(wanted, number, wanted_ledger) for number in range(len(rates))):
        with pytest.raises(InputError, match="so they cannot be dropped"):
            count(**read)
        return
    counted, ledger = count(**read)
    assert as_dict(counted, how["period"]) == wanted
    assert rows_of(ledger) == wanted_ledger
    assert counted == sorted(counted, key=lambda row: row[:2])


@tried_on(event_lists(), rules, st.randoms(), few=3, many=10)
def test_the_order_of_the_rows_decides_nothing(rows, how, random):
    read = flags_of(how) | {"numerator": "shows"}
    shuffled = list(rows)
    random.shuffle(shuffled)
    found = []
    for order in (rows, shuffled):
        try:
            found.append(count(**file_of(order, "instant"), **read))
        except InputError as error:
            found.append(str(error))
    assert found[0] == found[1]


@tried_on(event_lists(), rules, few=3, many=10)
def test_several_rates_in_one_pass_are_single_passes(rows, how):
    read = file_of(rows, "instant") | flags_of(how)
    try:
        together, ledger = count(
            **read, rate=RATES, numerator="seen_numerator", denominator="seen_denominator"
        )
    except InputError:
        return
    for number, rate in enumerate(RATES):
        numerator, denominator = rate.partition("=")[2].split("/")
        alone, own = count(**read, numerator=numerator, denominator=denominator)
        assert alone == [(*row[:2], *row[2 + 2 * number : 4 + 2 * number]) for row in together]
        assert rows_of(own) == rows_of([*ledger[: -len(RATES)], ledger[number - len(RATES)]])


# ------------------------------------------------------------------------------------- time


def test_weeks_start_on_mondays_and_days_at_local_midnight():
    times = pd.to_datetime(["2024-05-26T15:59:59Z", "2024-05-26T16:00:00Z", "2024-06-02T15:59:59Z"])
    write("events.parquet", {"item_id": ["a"] * 3, "timestamp": times, "shares": [1, 1, 1]})
    counted, _ = count(period="7d", time_zone="Asia/Shanghai")
    days = [row[1] for row in counted]
    assert days == [datetime.date(2024, 5, 20), datetime.date(2024, 5, 27)]
    assert [row[2] for row in counted] == [1, 2]


def test_hours_are_times_that_the_counts_table_reads_back():
    times = ["2024-03-31T00:59:59Z", "2024-03-31T01:00:00Z"]  # 01:59:59 and 03:00 in Berlin
    write("events.parquet", {"item_id": ["a"] * 2, "timestamp": times, "shares": [1, 0]})
    counted, _ = count(period="1h", time_zone="Europe/Berlin")
    assert [row[1].isoformat() for row in counted] == ["2024-03-31T01:00:00", "2024-03-31T03:00:00"]


def test_integer_periods_stay_as_they_are():
    columns = {"item_id": ["a"] * 4, "timestamp": [3, 3, 5, -1], "shares": [1, 0, 1, 0]}
    write("events.parquet", columns)
    wanted = [("a", -1, 1, 0), ("a", 3, 2, 1), ("a", 5, 1, 1)]
    assert count()[0] == wanted
    write("events.csv", columns)
    assert count("events.csv")[0] == wanted
    assert count(first_period="3", events_until="5")[0] == wanted[1:2]


def test_ids_are_text_whatever_they_look_like():
    columns = {"timestamp": [0, 0, 0], "shares": [1, 1, 1]}
    write("events.csv", {"item_id": ["007", "7", "007"], **columns})
    assert count("events.csv", item_ids=None)[0] == [("007", 0, 2, 2), ("7", 0, 1, 1)]
    write("events.parquet", {"item_id": [7.0, None, 7.0], **columns})
    counted, ledger = count(item_ids=None, bad_events="drop")
    assert counted == [("7", 0, 2, 2)]
    assert ledger[0].dropped == 1


def test_quoted_line_breaks_byte_order_marks_and_windows_line_ends_are_read():
    text = (
        '\ufeffitem_id,timestamp,title,shares\r\na,0,"one\r\nsong, two",1\r\na,0,"say ""x""",0\r\n'
    )
    Path("events.csv").write_bytes(text.encode())
    assert count("events.csv")[0] == [("a", 0, 2, 1)]


def test_several_files_are_one_table_and_folders_no_columns():
    for day in ("1", "2"):
        Path(f"events/day={day}").mkdir(parents=True)
        write(f"events/day={day}/part.parquet", {"item_id": ["a"], "timestamp": [0], "shares": [1]})
    assert count("events")[0] == [("a", 0, 2, 2)]
    assert count("events/*/part.parquet")[0] == [("a", 0, 2, 2)]


# ------------------------------------------------------------------- the simulator's stream


def test_the_simulators_events_are_its_counts_again():
    simulation = simulated.simulate(items=60, periods=9, clicks=20_000)
    batches = list(simulated.events(simulation, rows_per_batch=3000))
    for number, batch in enumerate(batches):
        write(f"events-{number}.parquet", pa.Table.from_batches([batch]))
    counted, ledger = count(
        "events-*.parquet", numerator="share", item_ids=simulation.items["item_id"].to_numpy()
    )
    start = simulated.START.astype("datetime64[D]").item()
    wanted = simulation.counts.sort_by([("item_id", "ascending"), ("period", "ascending")])
    assert counted == [
        (
            row["item_id"],
            start + datetime.timedelta(days=row["period"]),
            row["clicks"],
            row["shares"],
        )
        for row in wanted.to_pylist()
    ]
    assert {rule.dropped for rule in ledger} == {0}
    assert ledger[1].rows_in == 20_000


def test_a_delay_is_measured_on_no_clock_that_is_changed():
    columns = {
        "item_id": ["a", "a"],
        "timestamp": ["2024-03-31T00:30:00Z", "2024-03-31T00:30:00Z"],
        "arrived": ["2024-03-31T01:30:00Z", "2024-03-31T01:30:01Z"],  # 03:30 in Berlin, after 01:30
        "shares": [1, 1],
    }
    flags = {"time_zone": "Europe/Berlin", "ingestion_column": "arrived", "max_delay": "1h"}
    for times in (pa.string(), pa.timestamp("us", tz="UTC")):
        for name in ("timestamp", "arrived"):
            columns[name] = pa.array(columns[name], pa.string()).cast(times)
        write("events.parquet", columns)
        counted, ledger = count(**flags)
        assert counted[0][2:] == (1, 1)
        assert rows_of(ledger)[2] == (2, 1)
        columns |= {
            name: pa.array(columns[name]).cast(pa.timestamp("us", tz="UTC")).cast(pa.string())
            for name in ("timestamp", "arrived")
        }


# -------------------------------------------------------------------------- a table of rules


PLAYS = {
    "item_id": ["a", "a", "a", "b"],
    "timestamp": ["2024-05-31T10:00", "2024-05-31T10:00", "2024-06-01T00:00", "2024-06-01T10:00"],
    "play_ms": [3000, 10, 5000, 900],
    "length_ms": [3000, 3000, 4000, 1000],
    "kind": ["share", "play", "play", "it's"],
    "liked": [True, False, False, True],
    "two words": [1, 0, 1, 0],
    "when": pd.to_datetime(["2024-05-31"] * 4),
    "tags": [["x"], [], ["y"], []],
}


@pytest.mark.parametrize(
    ("numerator", "counted"),
    [
        ("play_ms >= length_ms", 2),
        ("play_ms > length_ms", 1),
        ("play_ms<1e3", 2),
        ("play_ms != 10", 3),
        ("kind == 'share'", 1),
        ("kind = 'it''s'", 1),
        ("kind <> 'play'", 2),
        ("liked", 2),
        ("liked == false", 2),
        ("two words", 2),
        ('"two words" == 0', 2),
        ("when == when", 4),
        ("events", 4),
    ],
)
def test_a_numerator_is_a_column_or_a_comparison(numerator, counted):
    write("plays.parquet", PLAYS)
    without = {name: PLAYS[name] for name in PLAYS if name != "tags"}
    write("plays.csv", without)
    of = {"numerator": numerator, "denominator": "length_ms", "rate_may_exceed_one": True}
    for name in ["plays.parquet"] if "when" in numerator else ["plays.parquet", "plays.csv"]:
        found, _ = count(name, **of)
        assert sum(row[3] for row in found) == counted
        assert sum(row[2] for row in found) == 11_000


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"numerator": "liked == 1 or 1"}, "--numerator: cannot read 'liked == 1 or 1'; write a"),
        ({"numerator": "__import__('os')"}, "--numerator: cannot read \"__import__('os')\"; write"),
        ({"numerator": "likes"}, "no column 'likes' (named by --numerator); it has item_id, "),
        ({"numerator": "play_ms > size"}, "no column 'size' (named by --numerator); it has"),
        ({"numerator": "tags"}, "column 'tags' holds array<string> values; a count is a number or"),
        ({"numerator": "play_ms == 'x'"}, "does not compare with the text 'x'; compare numbers"),
        ({"numerator": "when > 3"}, "does not compare with the number 3.0; compare numbers with"),
        ({"numerator": "when > liked"}, "does not compare with column 'liked', boolean values"),
        ({"rate": ("liked/events",)}, "--rate must be NAME=NUMERATOR/DENOMINATOR, such as"),
        ({"rate": ("a=liked/events/2",)}, "--rate must be NAME=NUMERATOR/DENOMINATOR, such as"),
        ({"rate": ("a=liked/events", "a=kind/events")}, "--rate names 'a' twice"),
        ({"period_column": "liked"}, "two columns named 'liked' (--item_column, --period_column"),
        (
            {"item_column": "id"},
            "plays.parquet has no column 'id' (named by --item_column); it has",
        ),
        (
            {"item_column": "tags"},
            "plays.parquet: column 'tags' named by --item_column has array",
        ),
        ({"time_column": "time"}, "has no column 'time' (named by --time_column); it has item_id"),
        ({"time_column": "tags"}, "column tags: a time must be a timestamp, a date, ISO 8601 text"),
        (
            {"time_column": "kind"},
            "column kind: 4 events have no time of 1970 to 2099 (ISO 8601, or",
        ),
        ({"period": "fortnight"}, "--period must be a width such as 1h, 1d, 7d or 1M. Received: "),
        (
            {"time_zone": "Mars"},
            "--time_zone must be a name such as Asia/Shanghai. Received: 'Mars'",
        ),
        ({"events_until": "soon"}, "--events_until: a period must be a date or time (ISO 8601)."),
        ({"max_delay": "1d"}, "--max_delay needs --ingestion_column, the column of arrival times"),
        (
            {"max_delay": "1d", "ingestion_column": "play_ms"},
            "set --time_unit=s, ms, us or ns",
        ),
        ({"max_delay": "x", "ingestion_column": "when"}, "--max_delay must be a width such as"),
        ({"event_key": ("id",)}, "has no column 'id' (named by --event_key); it has item_id,"),
        ({"max_events_per_user_item_period": 3}, "needs --user_column, the column of user ids"),
        ({"first_period": "2030-01-01"}, "no events are left after the rules; dropped: 4 by 'not"),
        ({"item_ids": ["a"]}, "item 'b' is not in the items table (1 such events); add it, or set"),
        ({"engine": "duckdb"}, "--engine must be a URL: duckdb://, duckdb://FILE, pyspark:// or"),
        (
            {"engine": "duckbd://"},
            "--engine=duckbd://... is not a known engine. Did you mean duckdb?; use",
        ),
        ({"engine": "duckdb://no.db"}, "--engine=duckdb://no.db: no DuckDB file no.db exists"),
        ({"engine_memory": "much"}, "--engine=duckdb:// with --engine_memory=much: "),
        (
            {"engine_spill": "plays.parquet/x"},
            "--engine_spill=plays.parquet/x cannot be created: ",
        ),
    ],
)
def test_a_wrong_flag_is_one_sentence(flags, said):
    write("plays.parquet", PLAYS)
    with pytest.raises(InputError) as caught:
        count("plays.parquet", **{"numerator": "liked"} | flags)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in Path().iterdir()] == ["plays.parquet"]


def with_value(**columns):
    """One good event, and one with other values."""
    good = {"item_id": "a", "timestamp": "2024-05-31", "clicks": 1, "shares": 1}
    return {name: [good[name], columns.get(name, good[name])] for name in good}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (with_value(item_id=None), "events.parquet, column item_id: 1 events have no item; correct "
         "them, or set --bad_events=drop. Received: None"),
        (with_value(timestamp="2024-02-30"), "events.parquet, column timestamp: 1 events have no "
         "time of 1970 to 2099 (ISO 8601, or as set by --time_unit or --time_format); correct "
         "them, or set --bad_events=drop. Received: '2024-02-30'"),
        (with_value(timestamp="1969-12-31"), "Received: '1969-12-31'"),
        (with_value(shares=-1), "events.parquet: 1 events of --numerator=shares and "
         "--denominator=clicks cannot be counted; values must be whole numbers of 0 or more, and "
         "both sides of a comparison must not be empty: correct them, or set --bad_events=drop. "
         "Received: shares=-1, clicks=1 (item 'a')"),
        (with_value(shares=None), "Received: shares=None, clicks=1 (item 'a')"),
        (with_value(clicks=float("nan")), "Received: shares=1, clicks=nan (item 'a')"),
        (with_value(clicks=1.5), "Received: shares=1, clicks=1.5 (item 'a')"),
        (with_value(shares=2**53), f"Received: shares={2**53}, clicks=1 (item 'a')"),
    ],
)  # fmt: skip
def test_bad_events_are_told_or_left_out(columns, said):
    write("events.parquet", columns)
    with pytest.raises(InputError) as caught:
        count(denominator="clicks")
    assert said in str(caught.value)
    counted, ledger = count(denominator="clicks", bad_events="drop")
    assert counted == [("a", datetime.date(2024, 5, 31), 1, 1)]
    assert sum(rule.dropped for rule in ledger) == 1


def test_numbers_are_times_where_their_size_shows_it():
    now = 1_714_521_600
    for unit, size in {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.items():
        times = [now * size, (now + 86_400) * size - 1]
        columns = {"item_id": ["a"] * 2, "timestamp": times, "shares": [1, 0]}
        for name in ("events.parquet", "events.csv"):
            write(name, columns)
            found = count(name)
            assert [row[1:] for row in found[0]] == [(datetime.date(2024, 5, 1), 2, 1)]
            assert count(name, time_unit=unit) == found
    write("events.parquet", columns | {"timestamp": [now, now + 86_400]})
    with pytest.raises(
        InputError, match="if these are times, set their unit with --time_unit=s, ms, us or"
    ):
        count(time_unit="index")


def days_of_events(*more, days=60, per_day=4):
    """Events spread over whole days, and others at given times."""
    start = datetime.datetime(2024, 3, 4)
    times = [
        start + datetime.timedelta(days=day, hours=23 * number // (per_day - 1), minutes=59)
        for day in range(days)
        for number in range(per_day)
    ]
    times += [datetime.datetime.fromisoformat(time) for time in more]
    columns = {"timestamp": times, "item_id": ["a"] * len(times), "shares": [0] * len(times)}
    write("events.parquet", columns)


def test_stray_events_are_named_and_left_out_when_asked():
    days_of_events("1970-01-01T00:00", "2099-01-01T00:00")
    with pytest.raises(InputError) as caught:
        count()
    assert str(caught.value) == (
        "events.parquet, column timestamp: 2 of 242 rows are in periods far away from all others, "
        "2024-03-04 to 2024-05-02: 1970-01-01 (1), 2099-01-01 (1); correct them, or set "
        "--stray_periods=drop (or keep, if they are correct)"
    )
    counted, ledger = count(stray_periods="drop")
    assert (len(counted), rows_of(ledger)[3]) == (60, (242, 240))
    assert len(count(first_period="2024-03-04", events_until="2090-01-01")[0]) == 60


def test_a_last_day_that_ends_early_is_named_and_left_out():
    days_of_events("2024-03-24T14:02", "2024-03-24T13:00", days=20)
    counted, ledger = count()
    assert (len(counted), rows_of(ledger)[3]) == (20, (82, 80))
    assert ledger[3].note == (
        "2024-03-24 has no event after 2024-03-24 14:02, though each of the 7 before runs to its "
        "end; --use_partial keeps it"
    )
    assert len(count(use_partial=True)[0]) == 21
    days_of_events("2024-03-24T23:30", days=20)
    assert len(count()[0]) == 21


def test_a_last_day_with_few_events_is_left_out_too():
    days_of_events(*["2024-03-24T23:59"] * 9, days=20, per_day=30)
    counted, ledger = count()
    assert len(counted) == 20
    assert "has 9 events, less than a third of any of the 7 periods before" in ledger[3].note


def test_events_of_months_are_counted_by_months():
    days_of_events(days=150)
    counted, _ = count(period="1M", use_partial=True)
    found = [(str(row[1]), row[2]) for row in counted]
    wanted = [("2024-03-01", 28), ("2024-04-01", 30), ("2024-05-01", 31), ("2024-06-01", 30)]
    assert found == [(month, 4 * days) for month, days in [*wanted, ("2024-07-01", 31)]]


@pytest.mark.parametrize(
    ("freq", "given", "fits"),
    [
        ("W-MON", "1d", "7d"),
        ("W-MON", "5d", "7d"),
        ("MS", "30d", "1M"),
        ("MS", "7d", "1M"),
        ("QS", "1M", "3M"),
    ],
)
def test_periods_shorter_than_the_steps_of_events_are_refused(freq, given, fits):
    write_events(pd.date_range("2024-01-01", periods=24, freq=freq))
    said = f"periods are {fits} apart, but --period={given}; set --period={fits}$"
    with pytest.raises(InputError, match=said):
        count(period=given)
    assert len(count(period=fits)[0]) == 24


def write_events(times):
    columns = {"timestamp": list(times), "item_id": ["a"] * len(times), "shares": [0] * len(times)}
    write("events.parquet", columns)


def test_mondays_are_noticed_whatever_the_hour():
    days = pd.date_range("2024-03-04", periods=12, freq="W-MON")
    write_events(days + pd.to_timedelta(np.random.default_rng(0).integers(0, 86_400, 12), "s"))
    with pytest.raises(InputError, match="periods are 7d apart, but --period=1d"):
        count()


@pytest.mark.parametrize(
    "times",
    [
        pd.date_range("2024-01-01", periods=3, freq="MS"),  # so few that it may be chance
        pd.date_range("2024-01-01", periods=90, freq="5D"),
        pd.date_range("2024-01-01", periods=1),
        [
            *pd.date_range("2024-01-01", periods=12, freq="MS"),
            *pd.date_range("2024-02-03", "2024-08-09"),
        ],
    ],
)
def test_events_that_are_not_all_of_a_coarser_calendar_are_counted(times):
    write_events(times)
    counted, _ = count(period="30d", use_partial=True)
    assert sum(row[2] for row in counted) == len(times)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("Mon Mar 04 17:26:04 +0000 2024", "--time_format='%a %b %d %H:%M:%S %z %Y'"),
        ("13/4/2024 17:26", "--time_format='%d/%m/%Y %H:%M'"),
    ],
)
def test_a_message_about_times_names_the_format_that_fits(text, flag):
    write("events.csv", {"item_id": ["a"], "timestamp": [text], "shares": [1]})
    with pytest.raises(InputError) as caught:
        count("events.csv")
    said = f"(ISO 8601, or as set by --time_unit or --time_format); set {flag}. Received: {text!r}"
    assert str(caught.value).endswith(said)
    assert len(count("events.csv", time_format=flag[15:-1])[0]) == 1


def test_numbers_of_two_units_are_refused_or_left_out():
    times = [1_714_521_600, 1_714_521_601, 1_714_521_602_000]
    write("events.parquet", {"item_id": ["a"] * 3, "timestamp": times, "shares": [1, 0, 0]})
    with pytest.raises(InputError, match=r"1 events have no time .* Received: 1714521602000"):
        count()
    assert count(bad_events="drop")[0] == [("a", datetime.date(2024, 5, 1), 2, 1)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"e.csv": b""}, "e.csv is not a readable CSV file (events table): it is empty"),
        ({"e.csv": b"item_id,timestamp,shares\n"}, "e.csv: the events table has no rows"),
        ({"e.csv": b"item_id,timestamp,shares,shares\na,0,1,1\n"}, "e.csv has two columns named"),
        ({"e.csv": b"item_id,timestamp,shares\na,0\n"}, "e.csv line 2: 2 fields, but the header "),
        ({"e.parquet": b"PAR1"}, "e.parquet is not a readable Parquet file (events table): "),
        (
            {"e.csv": b"item_id\n1\n", "f.csv": b"b\n1\n"},
            "f.csv has no column 'item_id', but e.csv",
        ),
        ({"e.csv": b"a\n1\n", "f.parquet": b""}, "f.parquet is not a readable Parquet file"),
        ({}, "e.csv: no such file, directory or glob pattern (--events)"),
    ],
)
def test_an_unreadable_file_is_one_sentence(files, said):
    for name, content in files.items():
        Path(name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        count("." if len(files) > 1 else next(iter(files), "e.csv"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_named(monkeypatch):
    write("events.parquet", {"item_id": ["a"], "timestamp": [0], "shares": [1]})
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "pyspark" else found(name, *a)
    )
    with pytest.raises(InputError, match=r"pip install mmnet\[spark\]"):
        count(engine="pyspark://")


def test_sums_that_do_not_balance_are_an_error(monkeypatch):
    write("events.parquet", {"item_id": ["a"], "timestamp": [0], "shares": [1]})
    written, computed = Engine.write_parquet, Engine.computed
    with monkeypatch.context() as patch:  # an engine that writes fewer rows than it was given
        patch.setattr(Engine, "write_parquet", lambda self, t, *a: written(self, t.limit(0), *a))
        with pytest.raises(ValueError, match=r"1 counts rows of .* were counted, but 0"):
            count()
    # And one that loses cells in the middle of its work.
    monkeypatch.setattr(Engine, "computed", lambda self, cells: computed(self, cells.limit(1)))
    write("events.parquet", {"item_id": ["a", "b"], "timestamp": [0, 0], "shares": [1, 1]})
    with pytest.raises(ValueError, match="has 2 rows, but 1 were counted"):
        count()
    assert [path.name for path in Path().iterdir()] == ["events.parquet"]


# ------------------------------------------------------------------------ a table, and drivers


def test_a_table_of_a_warehouse_is_read_and_left_as_it_is():
    import duckdb

    with duckdb.connect("logs.db") as con:
        con.execute(
            "create schema web; create table web.plays as select 'a' item_id, 3 t, 1 shares"
        )
    before = Path("logs.db").read_bytes()
    flags = {"engine": "duckdb://logs.db", "time_column": "t"}
    assert count("web.plays", **flags)[0] == [("a", 3, 1, 1)]
    with pytest.raises(InputError, match=r"\(available: plays\). Did you mean plays\?"):
        count("web.play", **flags)
    assert Path("logs.db").read_bytes() == before


def items_and_events(rows_per_cell=30):
    """Files for the drivers: 40 items over 16 days; every third event is a share."""
    names = [f"i{n:02d}" for n in range(40)]
    write("items.csv", {"item_id": names, "category": ["x", "y"] * 20})
    cells = [(name, day) for name in names for day in range(16)]
    rows = [(name, day, n) for name, day in cells for n in range(rows_per_cell)]
    columns = {
        "item_id": [name for name, _, _ in rows],
        "timestamp": [datetime.datetime(2024, 5, 1 + day, n % 24) for _, day, n in rows],
        "share": [int(n % 3 == 0) for _, _, n in rows],
        "play_ms": [1000 * n for _, _, n in rows],
    }
    write("events.parquet", columns)


OWN = ["--events=events.parquet", "--items=items.csv", "--taxonomies=category", "--window=3"]
OWN += ["--min_test_rows=5", "--min_target_clicks=1", "--denominator=events"]
OWN += ["--numerator=share", "--rate=long=play_ms >= 10000/events"]


def run(flags, task, *arguments):
    return driver.run(flags, None, task, arguments)


def test_prepare_counts_events_once_and_keeps_counts_and_ledger(capsys, monkeypatch):
    items_and_events()
    assert run(PrepareConfig, "prepare", *OWN, "--dataset_dir=d") == driver.OK
    assert "events: has a time of 1970 to 2099 (timestamp): 19,200 in, 0 dropped" in (
        capsys.readouterr().out
    )
    (ledger,) = (path.read_text() for path in Path("d").glob("*/ledger.md"))
    assert "| events | item is in the items table | 19,200 | 19,200 | 0 |  |" in ledger
    assert (
        "| events, long | play_ms >= 10000 and events can be counted | 19,200 | 19,200 |" in ledger
    )
    about = json.loads(Path("d/dataset.json").read_text())
    assert about["ledger"][0]["rows_in"] == 19_200
    assert set(about["inputs"]) == {"events/events.parquet", "items.csv"}
    counted = pd.read_parquet("d/counts.parquet")
    assert list(counted.columns) == [
        *("item_id", "period", "events", "share", "long_denominator", "long_numerator")
    ]
    assert counted["share"].sum() == 6400
    assert counted["long_numerator"].sum() == 20 * 640

    monkeypatch.setattr(events, "count", lambda *_, **__: pytest.fail("counted again"))
    assert run(PrepareConfig, "prepare", *OWN, "--dataset_dir=d") == driver.OK
    assert "reusing" in capsys.readouterr().out
    again = ["--dataset_dir=d", "--window=4", "--engine_threads=1"]
    assert run(PrepareConfig, "prepare", *OWN, *again) == driver.OK
    assert datasets.load("d").fitted.task.window == 4
    assert Path("d/counts.parquet").is_file()

    # The counts are a counts table: any of their rates can be trained on.
    tables_flags = ["--counts=d/counts.parquet", "--items=items.csv", "--dataset_dir=e"]
    rate = ["--numerator=long_numerator", "--denominator=long_denominator"]
    assert run(PrepareConfig, "prepare", *OWN[2:6], *tables_flags, *rate) == driver.OK
    assert datasets.load("e").panel.shares.sum() == 20 * 640
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_train_evaluate_and_predict_from_events(capsys):
    items_and_events()
    # The other runs of the tests are not compiled with XLA.
    arguments = [*OWN, "--run_dir=run", "--epochs=1", "--set=units=4", "--jit"]
    arguments += ["--inputs=age,calendar"]
    assert run(TrainConfig, "train", *arguments) == driver.OK
    before = Path("run/evaluation/metrics.json").read_bytes()
    assert run(EvaluateConfig, "evaluate", "--run_dir=run") == driver.OK
    assert Path("run/evaluation/metrics.json").read_bytes() == before
    record = json.loads(Path("run/record.json").read_text())
    assert record["rows_per_rule"]["events: has an item (item_id)"] == 19_200
    assert not [name for name in record["flags"] if name.startswith("engine")]
    flags = parse(TrainConfig, ["--flagfile=run/flags.txt"])
    assert (flags.events, flags.rate) == ("events.parquet", ("long=play_ms >= 10000/events",))
    tables_flags = ["--events=events.parquet", "--items=items.csv"]
    predict = ["--saved_model=run/export", *tables_flags, "--output=from_events.parquet"]
    assert run(PredictConfig, "predict", *predict) == driver.OK
    predict = ["--saved_model=run/export", "--counts=run/dataset/counts.parquet", tables_flags[1]]
    assert run(PredictConfig, "predict", *predict, "--output=from_counts.parquet") == driver.OK
    pd.testing.assert_frame_equal(
        pd.read_parquet("from_events.parquet"), pd.read_parquet("from_counts.parquet")
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--counts=c.csv"], "--counts and --events cannot both be given; remove one of"),
        (["--source=simulated"], "--source has its own tables; remove"),
        (["--items="], "--items not given"),
        (["--numerator=play_ms"], "item 'i00' has 435,000 of 'play_ms' but 30 of 'events' in period"
         " 2024-05-01; if the numerator is not a subset of the denominator, set "
            "--rate_may_exceed_one",),
    ],
)  # fmt: skip
def test_tables_that_contradict_each_other_are_refused(arguments, said, capsys):
    items_and_events()
    assert run(PrepareConfig, "prepare", *OWN, *arguments, "--dataset_dir=d") == driver.WRONG_INPUT
    assert said in capsys.readouterr().err
    assert not Path("d").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("spoilt", "flags", "lines"),
    [
        ({"timestamp": "never"}, [], ["has an item (item_id): 3 in, 0 dropped"]),
        (
            {"item_id": "x"},
            ["--events_until=2025-01-01"],
            [
                "has an item (item_id): 3 in, 0 dropped",
                "has a time of 1970 to 2099 (timestamp): 3 in, 0 dropped",
                "before --events_until: 3 in, 0 dropped",
            ],
        ),
        (
            {"shares": -1},
            [],
            [
                "has an item (item_id): 3 in, 0 dropped",
                "has a time of 1970 to 2099 (timestamp): 3 in, 0 dropped",
                "item is in the items table: 3 in, 0 dropped",
            ],
        ),
    ],
)
def test_a_refusal_comes_after_the_ledger_so_far(spoilt, flags, lines, capsys):
    good = {"item_id": "a", "timestamp": "2024-05-31", "shares": 1}
    write("events.parquet", pa.Table.from_pylist([good, good, good | spoilt]))
    write("items.csv", {"item_id": ["a"]})
    before = sorted(Path().iterdir())
    arguments = ["--events=events.parquet", "--items=items.csv", "--denominator=events", *flags]
    code = driver.run(PrepareConfig, "", "prepare", [*arguments, "--dataset_dir=dataset"])
    *told, sentence = capsys.readouterr().err.splitlines()
    assert code == 1
    assert sentence.startswith("error: events.parquet")
    assert told == [*(f"  events: {line}" for line in lines), f"  {driver.INSPECT}"]
    assert sorted(Path().iterdir()) == before  # nothing is left, hidden or not


def test_a_run_that_refuses_its_events_leaves_nothing(capsys):
    items_and_events()
    wrong = ["--numerator=play_ms", "--run_dir=run"]
    assert run(TrainConfig, "train", *OWN, *wrong) == driver.WRONG_INPUT
    assert "set --rate_may_exceed_one" in capsys.readouterr().err
    assert not Path("run").exists()


def test_compressed_files_are_read():
    text = b"item_id,timestamp,shares\na,0,1\n"
    with pa.output_stream("events.csv.gz") as file:
        file.write(text)
    assert count("events.csv.gz")[0] == [("a", 0, 1, 1)]


def test_without_events_neither_ibis_nor_duckdb_is_loaded(modules_of_the_tasks):
    assert "mmnet.tasks.training" in modules_of_the_tasks
    assert not {"ibis", "duckdb", "pyspark", "lark"} & modules_of_the_tasks


# -------------------------------------------------------------------------------------- Spark


@pytest.mark.slow(first=True)
@pytest.mark.skipif(
    importlib.util.find_spec("pyspark") is None or shutil.which("java") is None,
    reason="needs PySpark (the extra spark) and Java 17",
)
def test_spark_counts_what_duckdb_counts():
    rng = np.random.default_rng(5)
    hows = [
        {"period": "1d", "time_zone": "Europe/Berlin", "cap": 2, "max_delay": "1h"}
        | {"first_period": "2024-03-31", "events_until": "2024-10-27T02:30", "event_key": ("key",)},
        {"period": "1h", "time_zone": "America/New_York", "cap": 0, "max_delay": ""}
        | {"first_period": "", "events_until": "", "event_key": ()},
    ]
    rows = []
    for _ in range(400):
        row = {name: values[rng.integers(len(values))] for name, values in VALUES.items()}
        step = datetime.timedelta(microseconds=STEPS[rng.integers(len(STEPS))])
        row["time"] = None if rng.random() < 0.05 else EDGES[rng.integers(len(EDGES))] + step
        rows.append(row)
    spark = "pyspark://?spark.sql.shuffle.partitions=2"
    for form in ("instant", "clock", "ms", "csv"):
        for how in hows:
            read = file_of(rows, form) | flags_of(how)
            read |= {"rate": RATES, "numerator": "play >= length", "engine_threads": 2}
            assert count(**read, engine=spark) == count(**read), (form, how)


# ------------------------------------------------------------------------------ large sums

MOST = 2**53 - 1


def test_sums_of_all_counts_may_pass_int64():
    items = np.array([f"i{number}" for number in range(2100)], object)
    write(
        "events.parquet",
        {"item_id": items, "timestamp": [3] * 2100, "seen": [MOST] * 2100, "likes": [1] * 2100},
    )
    counts, ledger = count(item_ids=items, numerator="likes", denominator="seen")
    assert {row[2:] for row in counts} == {(MOST, 1)}
    assert ledger[-1].note == f"2,100 counts rows: {2100 * MOST:,} of seen, 2,100 of likes"


def test_a_count_that_float64_does_not_hold_is_refused():
    write(
        "events.parquet",
        {"item_id": ["a"] * 3, "timestamp": [3] * 3, "seen": [MOST, 0, 0], "likes": [MOST, 1, 0]},
    )
    with pytest.raises(InputError) as caught:
        count(numerator="likes", denominator="seen")
    assert str(caught.value) == (
        "events.parquet: --numerator=likes adds up to 9.007e+15 for item 'a' in period 3, but a "
        "count must stay below 2**53 = 9,007,199,254,740,992; use a larger unit, or make "
        "--period narrower"
    )


# ------------------------------------------------------------ empty values, and what to drop


def sparse(likes):
    """Events of one item, of which some have a like."""
    return {"item_id": ["a"] * 45, "timestamp": [3] * 45, "likes": likes}


@pytest.mark.parametrize(
    "likes",
    [
        pa.array([1] * 27 + [None] * 18, pa.int64()),
        pa.array([1.0] * 27 + [None] * 9 + [float("nan")] * 9),
        pa.array([True] * 27 + [None] * 18),
        pa.array(["1"] * 27 + [""] * 9 + [None] * 9),
    ],
)
def test_a_drop_that_leaves_one_value_is_refused_and_empty_may_mean_zero(likes):
    write("events.parquet", sparse(likes))
    for bad_events in ("fail", "drop"):
        with pytest.raises(InputError) as caught:
            count(numerator="likes", bad_events=bad_events)
        assert "18 events of --numerator=likes" in str(caught.value)
        assert (
            "without them every rate would be 100 %, so they cannot be dropped: correct them, or "
            "set --empty_counts=zero if empty means 0. Received: likes="
        ) in str(caught.value)
    counted, ledger = count(numerator="likes", empty_counts="zero")
    assert counted == [("a", 3, 45, 27)]
    assert ledger[-1].dropped == 0


def test_empty_means_zero_for_nothing_but_empty_values():
    write("events.parquet", sparse(["1"] * 27 + [""] * 17 + ["many"]))
    with pytest.raises(
        InputError, match=r"1 events of --numerator=likes .* Received: likes='many'"
    ):
        count(numerator="likes", empty_counts="zero")
    write("events.parquet", sparse([1] * 27 + [None] * 18))
    # A comparison with an empty value is neither true nor false.
    with pytest.raises(InputError, match="18 events of --numerator=likes == 1"):
        count(numerator="likes == 1", empty_counts="zero")


def test_most_events_are_not_recommended_to_be_dropped():
    write("events.parquet", sparse([1] * 45) | {"item_id": ["a"] * 20 + [None] * 25})
    with pytest.raises(InputError) as caught:
        count(numerator="likes")
    assert str(caught.value) == (
        "events.parquet, column item_id: 25 events have no item; these are most of the events, so "
        "--item_column=item_id may be the wrong column. Received: None"
    )
    write("events.parquet", sparse([1] * 45) | {"item_id": ["x"] * 45})
    with pytest.raises(InputError) as caught:
        count(numerator="likes")
    assert str(caught.value) == (
        "events.parquet: item 'x' is not in the items table (45 such events); nor is any other; "
        "does --item_column=item_id name the ids of both tables?"
    )
