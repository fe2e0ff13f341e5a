"""Small simulated worlds: items, counts and events with a planted effect of category and tags.

The case tests write them as other programs do, drive the product with the files, and compare what
comes out with what was written.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mmnet import driver
from mmnet.config import PrepareConfig
from mmnet.data import dataset as datasets

CATEGORIES = {"food": 0.08, "music": 0.05, "sport": 0.02, "travel": 0.12}
TAGS = {"diy": 0.03, "funny": 0.06, "how-to": 0.0, "live": 0.02, "news": 0.01, "retro": 0.0}
WORDS = ["blue", "bread", "city", "cloud", "dog", "forest", "night", "paper", "piano", "storm"]

FIRST = "2024-03-04"  # a Monday
NUM_ITEMS, NUM_DAYS, NUM_PERIODS = 40, 14, 20
EVENTS_A_DAY = 6
NUM_EVENTS = NUM_ITEMS * NUM_DAYS * EVENTS_A_DAY

TAXONOMIES = "--taxonomies=category,tags"
FIELDS = (TAXONOMIES, "--categoricals=author", "--numerics=duration", "--texts=title")
COUNTED = ("--numerator=shared", "--denominator=events")
SMALL = ("--window=3", "--min_test_rows=1", "--min_target_clicks=1", "--engine_threads=1")


def items():
    """One row per item; `tags` holds lists."""
    draws = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "item_id": [f"v{number:04d}" for number in range(NUM_ITEMS)],
            "category": draws.choice(list(CATEGORIES), NUM_ITEMS),
            "tags": [
                list(draws.choice(list(TAGS), draws.integers(1, 4), replace=False))
                for _ in range(NUM_ITEMS)
            ],
            "author": [f"a{draws.integers(0, 12)}" for _ in range(NUM_ITEMS)],
            "duration": draws.integers(5, 300, NUM_ITEMS),
            "title": [" ".join(draws.choice(WORDS, 5)) for _ in range(NUM_ITEMS)],
        }
    )


def joined(table, separator=";"):
    """The items with their tags as one text each."""
    return table.assign(tags=[separator.join(tags) for tags in table["tags"]])


def rates(table):
    """True share rate of each item, as a probability."""
    of_tags = [sum(TAGS[tag] for tag in tags) for tags in table["tags"]]
    return (table["category"].map(CATEGORIES) + of_tags).clip(0.001, 0.6).to_numpy()


def counts(first=FIRST, freq="D", clicks=90):
    """One row per item and period, sorted; dates are timestamps."""
    draws, table = np.random.default_rng(3), items()
    shape = NUM_ITEMS, NUM_PERIODS
    seen = draws.poisson(clicks, shape)
    shared = draws.binomial(seen, rates(table)[:, None])
    return pd.DataFrame(
        {
            "item_id": np.repeat(table["item_id"].to_numpy(), NUM_PERIODS),
            "period": np.tile(pd.date_range(first, periods=NUM_PERIODS, freq=freq), NUM_ITEMS),
            "clicks": seen.ravel(),
            "shares": shared.ravel(),
        }
    )


def events():
    """Six events per item and day, in the order of items and days, in whole seconds."""
    draws, table = np.random.default_rng(4), items()
    who = np.repeat(np.arange(NUM_ITEMS), NUM_DAYS * EVENTS_A_DAY)
    days = np.tile(np.repeat(np.arange(NUM_DAYS), EVENTS_A_DAY), NUM_ITEMS)
    seconds = days * 86_400 + draws.integers(0, 86_400, NUM_EVENTS)
    first = np.datetime64(FIRST, "s")
    return pd.DataFrame(
        {
            "user_id": draws.integers(1, 500, NUM_EVENTS),
            "item_id": table["item_id"].to_numpy()[who],
            "timestamp": first + seconds.astype("timedelta64[s]"),
            "shared": (draws.random(NUM_EVENTS) < rates(table)[who]).astype(int),
        }
    )


def of_counts(table):
    """Clicks and shares that a table of counts holds, int64 [items, periods] each."""
    names = sorted(table["item_id"].unique())
    wide = table.pivot_table(index="item_id", columns="period", aggfunc="sum").loc[names]
    return wide["clicks"].to_numpy(np.int64), wide["shares"].to_numpy(np.int64)


def of_events(table, shared="shared"):
    """Events and shares by item and day, counted without the product, int64 [items, days]."""
    cells = table.groupby(["item_id", table["timestamp"].dt.date])[shared].agg(["size", "sum"])
    wide = cells.unstack(fill_value=0)
    return wide["size"].to_numpy(np.int64), wide["sum"].to_numpy(np.int64)


class Drives:
    """Drives `mmnet.prepare` in this process, in the working directory.

    Args:
        capsys: of pytest.
    """

    def __init__(self, capsys):
        self._capsys, self._made = capsys, 0
        self.out = self.err = ""

    def run(self, flags, task, *arguments):
        """Runs a driver; returns its exit code, and keeps what it printed in `out` and `err`."""
        code = driver.run(flags, "", task, arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    def made(self, *arguments):
        """The dataset that `prepare` makes."""
        self._made += 1
        place = f"dataset-{self._made}"
        code = self.run(PrepareConfig, "prepare", *SMALL, *arguments, f"--dataset_dir={place}")
        assert code == driver.OK, self.err
        return datasets.load(place)

    def refused(self, *arguments, flags=PrepareConfig, task="prepare", place="--dataset_dir"):
        """The sentence with which a driver refuses its input; nothing is left behind."""
        before = sorted(Path().rglob("*"))
        small = SMALL if flags is PrepareConfig else ()
        code = self.run(flags, task, *small, *arguments, f"{place}=refused")
        assert code == driver.WRONG_INPUT, self.out + self.err
        assert sorted(Path().rglob("*")) == before
        assert "Traceback" not in self.err
        last = self.err.splitlines()[-1]
        assert last.startswith("error: ")
        return last.removeprefix("error: ")

    def rule(self, words):
        """The one line of the printed ledger that has the words."""
        (line,) = (line.strip() for line in self.out.splitlines() if words in line)
        return line


def holds(dataset, expected):
    """Asserts that a dataset has exactly these clicks and shares."""
    clicks, shares = expected
    np.testing.assert_array_equal(dataset.panel.clicks, clicks)
    np.testing.assert_array_equal(dataset.panel.shares, shares)


def same(one, other):
    """Asserts that two datasets are the same, byte for byte, but for where they came from."""
    assert one.fitted.spec == other.fitted.spec
    assert one.fitted.vocabularies == other.fitted.vocabularies
    assert one.fitted.calendar == other.fitted.calendar
    assert one.panel.item_ids.tolist() == other.panel.item_ids.tolist()
    assert one.panel.label(0) == other.panel.label(0)
    pairs = [
        *((getattr(one.panel, name), getattr(other.panel, name)) for name in ("clicks", "shares")),
        (one.panel.release, other.panel.release),
        (one.history, other.history),
        *((array, other.tensors[name]) for name, array in one.tensors.items()),
    ]
    for first, second in pairs:
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        assert first.tobytes() == second.tobytes()
    assert one.tensors.keys() == other.tensors.keys()
