"""One clock, as users meet it: every spelling of a log's times is read right, or refused in words.

The same small log is written in each way that users' tools write times, as counts and as events.
It is either the log that ISO 8601 gives, or one sentence with what to set, and with that flag it
is the same log again.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmnet import driver
from mmnet.config import PrepareConfig
from mmnet.data import dataset as datasets

ITEMS = ["a", "b", "c"]
FLAGS = ["--items=items.csv", "--min_target_clicks=1", "--min_test_rows=1", "--dataset_dir=d"]
OF_EVENTS = ["--events=log.csv", "--numerator=shares", "--denominator=events"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Files have short names in messages."""
    monkeypatch.chdir(tmp_path)
    Path("items.csv").write_text("item_id\n" + "\n".join(ITEMS) + "\n")


def prepared(times, *flags, events=False):
    """Exit code of `prepare` on a log of three items at these times."""
    rows = [(item, time, 60 + at) for item in ITEMS for at, time in enumerate(times)]
    table = pd.DataFrame(rows, columns=["item_id", "period", "clicks"]).assign(shares=1)
    if events:
        table = table.rename(columns={"period": "timestamp"}).drop(columns="clicks")
    table.to_csv("log.csv", index=False)
    where = OF_EVENTS if events else ["--counts=log.csv"]
    return driver.run(PrepareConfig, None, "prepare", [*where, *FLAGS, *flags])


def read_right(times, periods, *flags, events=False):
    """Whether the log is read, and its panel has every row in its period."""
    assert prepared(times, *flags, events=events) == driver.OK
    found = datasets.load("d").panel
    assert [found.label(column) for column in range(found.num_periods)] == periods
    each = np.ones(len(periods)) if events else 60 + np.arange(len(periods))
    clicks = np.bincount(np.arange(len(times)) * len(periods) // len(times)) * each
    np.testing.assert_array_equal(found.clicks, [clicks] * len(ITEMS))
    return True


def refused(capsys, times, *flags, events=False):
    """The sentence that a log is refused with; nothing is left behind."""
    capsys.readouterr()
    before = set(Path().iterdir()) | {Path("log.csv")}
    assert prepared(times, *flags, events=events) == driver.WRONG_INPUT
    error = capsys.readouterr().err
    *ledger, sentence = error.splitlines()
    assert sentence.startswith(("error: log.csv", "error: --"))
    assert all(line.startswith("  ") for line in ledger)
    assert set(Path().iterdir()) == before
    return f"{sentence}\n"


# ------------------------------------------------------------------- days, as counts and events

DAYS = pd.date_range("2024-03-04", periods=20, freq="D")
LABELS = DAYS.strftime("%Y-%m-%d").tolist()

TIMES = {
    "date": "%Y-%m-%d",
    "bigquery": "%Y-%m-%d %H:%M:%S UTC",
    "ruby": "%Y-%m-%d %H:%M:%S +0000",
    "slashes": "%Y/%m/%d %H:%M:%S",
    "slashed date": "%Y/%m/%d",
    "hour": "%Y-%m-%d %H",
    "compact": "%Y%m%dT%H%M%SZ",
    "week and day": "%G-W%V-%u",
}
"""Read without a flag."""

FORMATS = {
    "twitter": ("%a %b %d %H:%M:%S +0000 %Y", "%a %b %d %H:%M:%S %z %Y"),
    "excel": ("%-m/%-d/%Y", "%m/%d/%Y"),
    "excel with a clock": ("%-m/%-d/%Y %-H:%M", "%m/%d/%Y %H:%M"),
    "german": ("%d.%m.%Y", "%d.%m.%Y"),
    "day of the year": ("%Y-%j", "%Y-%j"),
    "yymmdd": ("%y%m%d", "%y%m%d"),
    "yyyymmdd": ("%Y%m%d", "%Y%m%d"),
}
"""Written so, read with this --time_format only."""


BOTH = [
    (name, events) for name in TIMES for events in (False, True) if "date" not in name or not events
]


@pytest.mark.parametrize(("name", "events"), BOTH)
def test_a_spelling_that_can_mean_one_thing_is_read(name, events):
    assert read_right(DAYS.strftime(TIMES[name]).tolist(), LABELS, events=events)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_numbers_since_1970_are_read_in_any_unit(unit, events, capsys):
    numbers = DAYS.to_numpy(f"datetime64[{unit}]").astype(np.int64).tolist()
    assert read_right(numbers, LABELS, events=events)
    assert read_right(numbers, LABELS, f"--time_unit={unit}", events=events)
    if unit != "s":  # far in the future, in seconds
        error = refused(capsys, numbers, "--time_unit=s", events=events)
        assert ("60 events have no" if events else "a period must be a") in error
        assert "time of 1970 to 2099" in error
        assert str(numbers[0]) in error


@pytest.mark.parametrize("events", [False, True])
def test_offsets_and_z_may_be_mixed(events):
    local = DAYS.tz_localize("UTC").tz_convert("Europe/Berlin").astype(str)
    mixed = np.where(np.arange(20) % 2, DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"), local)
    assert read_right(mixed.tolist(), LABELS, events=events)


@pytest.mark.parametrize(
    ("name", "events"),
    [*((name, False) for name in FORMATS), ("twitter", True), ("excel with a clock", True)],
)
def test_any_other_spelling_is_refused_with_the_flag_that_reads_it(name, events, capsys):
    written, needed = FORMATS[name]
    times = DAYS.strftime(written).tolist()
    error = refused(capsys, times, events=events)
    flags = re.findall(r"--time_format=('[^']*'|[^\s,;]+)", error)
    assert [flag.strip("'.") for flag in flags] == [needed]
    assert read_right(times, LABELS, f"--time_format={needed}", events=events)


# -------------------------------------------------------------- weeks and months, as counts


def counts_of(start, freq):
    return pd.date_range(start, periods=20, freq=freq)


@pytest.mark.parametrize(
    ("start", "freq", "given", "right"),
    [
        ("2024-03-04", "W-MON", "1d", "7d"),
        ("2022-01-01", "MS", "1d", "1M"),
        ("2022-01-01", "MS", "30d", "1M"),
        ("2022-01-01", "MS", "7d", "1M"),
    ],
)
def test_a_width_that_is_not_the_logs_is_refused(start, freq, given, right, capsys):
    times = counts_of(start, freq).strftime("%Y-%m-%d").tolist()
    assert refused(capsys, times, f"--period={given}") == (
        f"error: log.csv, column period: periods are {right} apart, but --period={given}; set "
        f"--period={right}\n"
    )
    assert read_right(times, times, f"--period={right}")


def test_a_minute_is_no_month(capsys):
    assert refused(capsys, ["2024-03-04"] * 2, "--period=1m") == (
        "error: --period=1m is ambiguous: it may be minutes or months; "
        "set --period=1min or --period=1M\n"
    )


@pytest.mark.parametrize(
    ("start", "freq", "form", "needed", "said"),
    [
        ("2024-10-07", "W-MON", "%G%V", "--time_format=%G%V --period=7d",
         " line 2, column period: 202441 is a date written as a number, and numbers count "
         "periods; write it as 2024-05-31, or set --time_format=%G%V --period=7d, or "
         "--time_unit=index if it is the number of a period"),
        ("2022-06-01", "MS", "%Y%m", "--time_format=%Y%m --period=1M",
         " line 2, column period: 202206 is a date written as a number, and numbers count "
         "periods; write it as 2024-05-31, or set --time_format=%Y%m --period=1M, or "
         "--time_unit=index if it is the number of a period"),
        ("2022-06-01", "MS", "%Y-%m", "--period=1M",
         ", column period: values are months, but periods are 1d long; set --period=1M"),
        ("2024-10-07", "W-MON", "%G-W%V", "--period=7d",
         ", column period: values are weeks, but periods are 1d long; set --period=7d"),
    ],
)  # fmt: skip
def test_calendar_codes_are_no_counters(start, freq, form, needed, said, capsys):
    times = counts_of(start, freq)
    written = times.strftime(form).tolist()
    assert refused(capsys, written) == f"error: log.csv{said}\n"
    assert read_right(written, times.strftime("%Y-%m-%d").tolist(), *needed.split(" "))
