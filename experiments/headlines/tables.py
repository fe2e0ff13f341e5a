"""The headlines' log: counts and items tables of randomised tests, from a public repository.

    python experiments/headlines/tables.py --tests=FILE --output=DIR

FILE is `data/processed/upworthy_clean.parquet` of github.com/elilk2/Upworthy-Analysis-Project, a
cleaned part of the Upworthy Research Archive (Matias et al., 2021): variants of an article's
headline, shown to readers who were assigned to them at random. The output has

    counts.parquet    item_id, period (the Monday of a week), clicks (readers who saw the variant),
                      shares (those of them who clicked)
    items.parquet     item_id ("TEST/NUMBER"), test, headline, lede, site (one value)

A variant is shown in one week only, so no item ever has a history. A test that lasted into a second
week counts as of that one, since its result was not known before.
"""

import argparse
import datetime
import html
import re
from pathlib import Path

import pandas as pd

from mmnet.files import make_directory

_TAG = re.compile(r"<[^>]*>")
COLUMNS = [
    *("clickability_test_id", "headline", "lede", "impressions", "clicks", "test_week"),
]


def monday(week: int) -> str:
    """The first day of a week that is written as year and number, weeks beginning on Mondays.

    Week 0 of a year is the last one of the year before.

    >>> monday(201446), monday(201400), monday(201352)
    ('2014-11-17', '2013-12-30', '2013-12-30')
    """
    year, number = divmod(week, 100)
    return datetime.datetime.strptime(f"{year}-{number}-1", "%Y-%W-%w").date().isoformat()


def plain(text: str | None) -> str:
    """The text of a piece of HTML.

    >>> plain("<p>Ham &amp; <b>eggs</b></p>")
    'Ham & eggs'
    """
    return " ".join(html.unescape(_TAG.sub(" ", text or "")).split())


def tables(tests: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts and items.

    Args:
        tests: a row per variant, with `COLUMNS`.

    >>> row = {"clickability_test_id": "t", "headline": "A &lt; B", "lede": None, "clicks": 3}
    >>> row |= {"impressions": 90, "test_week": 201446}
    >>> counts, items = tables(pd.DataFrame([row, row | {"test_week": 201447}]))
    >>> counts.values.tolist()
    [['t/0', '2014-11-24', 90, 3], ['t/1', '2014-11-24', 90, 3]]
    >>> items.values.tolist()[0]
    ['t/0', 't', 'A < B', '', 'upworthy']
    """
    of_test = tests.groupby("clickability_test_id")
    test = tests["clickability_test_id"].astype(str)
    ids = test + "/" + of_test.cumcount().astype(str)
    weeks = of_test["test_week"].transform("max").map(monday)
    counts = pd.DataFrame(
        {
            "item_id": ids,
            "period": weeks,
            "clicks": tests["impressions"],
            "shares": tests["clicks"],
        }
    )
    lede = tests["lede"].astype(object).where(tests["lede"].notna(), None)
    items = pd.DataFrame(
        {
            "item_id": ids,
            "test": test,
            "headline": tests["headline"].map(plain),
            "lede": lede.map(plain),
            "site": "upworthy",
        }
    )
    return counts, items


def main() -> None:
    """Writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--tests", "--output"):
        parser.add_argument(name, type=Path, required=True)
    flags = parser.parse_args()
    counts, items = tables(pd.read_parquet(flags.tests, columns=COLUMNS))
    make_directory(flags.output)
    counts.to_parquet(flags.output / "counts.parquet", index=False)
    items.to_parquet(flags.output / "items.parquet", index=False)
    print(
        f"{len(items):,} variants of {items['test'].nunique():,} tests in "
        f"{counts['period'].nunique()} weeks; {counts['clicks'].sum():,} readers"
    )


if __name__ == "__main__":
    main()
