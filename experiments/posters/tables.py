"""The posters' log: weekly counts and an items table of films, from two public repositories.

    python experiments/posters/tables.py --posters=DIR --ratings=DIR --output=DIR

DIR of --posters is a checkout of github.com/antonsteenvoorden/ml1m-images (`images/1.jpg`, ...).
That of --ratings is one of github.com/amahuli00/rec_system, of which `movies.dat` and a Parquet
file of user, film, rating and time are read. Both hold parts of MovieLens 1M, whose terms allow
research and no redistribution: nothing of them is part of this project.

A count is a rating of four or five stars, its numerator one of five. The output has

    counts.parquet    item_id, period (the Monday of a week), clicks, shares
    items.parquet     item_id, title, year, genres (a list), poster (a file name, or null)

and the experiment beside this script reads it.
"""

import argparse
import re
from pathlib import Path

import pandas as pd

from mmnet.checks import InputError
from mmnet.files import make_directory

RATINGS = "candidate_gen/artifacts/data/train_positives.parquet"
FILMS = "data/ml-1m/movies.dat"
_TITLE = re.compile(r"(?P<title>.*?)\s*\((?P<year>\d{4})\)\s*$")


def counts_of(ratings: pd.DataFrame) -> pd.DataFrame:
    """Counts ratings per film and week.

    Args:
        ratings: movie_id, rating (4 or 5) and timestamp (seconds, UTC).

    >>> rows = {"movie_id": [7, 7], "rating": [4, 5], "timestamp": [956_703_932, 956_700_000]}
    >>> counts_of(pd.DataFrame(rows)).values.tolist()
    [['7', '2000-04-24', 2, 1]]
    """
    days = pd.to_datetime(ratings["timestamp"], unit="s").dt.normalize()
    monday = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    rows = pd.DataFrame(
        {
            "item_id": ratings["movie_id"].astype(str),
            "period": monday.dt.strftime("%Y-%m-%d"),
            "five": (ratings["rating"] == 5).astype("int64"),
        }
    )
    grouped = rows.groupby(["item_id", "period"], as_index=False)["five"]
    return grouped.agg(clicks="size", shares="sum")


def film(line: str) -> dict[str, object]:
    """Reads a line of `movies.dat`.

    >>> film("1::Toy Story (1995)::Animation|Comedy")
    {'item_id': '1', 'title': 'Toy Story', 'year': 1995, 'genres': ['Animation', 'Comedy']}
    """
    number, name, genres = line.split("::")
    parts = _TITLE.match(name)
    if parts is None:
        raise InputError(f"{FILMS}: a title must end with its year. Received: {name!r}")
    return {
        "item_id": number,
        "title": parts["title"],
        "year": int(parts["year"]),
        "genres": genres.split("|"),
    }


def main() -> None:
    """Writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("--posters", "--ratings", "--output"):
        parser.add_argument(name, type=Path, required=True)
    flags = parser.parse_args()
    counts = counts_of(pd.read_parquet(flags.ratings / RATINGS))
    lines = (flags.ratings / FILMS).read_text(encoding="latin-1").splitlines()
    items = pd.DataFrame([film(line) for line in lines if line])
    items = items[items["item_id"].isin(counts["item_id"])].reset_index(drop=True)
    posters = "images/" + items["item_id"] + ".jpg"
    there = [(flags.posters / name).is_file() for name in posters]
    items["poster"] = posters.where(pd.Series(there), None)
    make_directory(flags.output)
    counts.to_parquet(flags.output / "counts.parquet", index=False)
    items.to_parquet(flags.output / "items.parquet", index=False)
    print(
        f"{len(items):,} films, {sum(there):,} with a poster; {len(counts):,} counts of "
        f"{counts['clicks'].sum():,} ratings in {counts['period'].nunique()} weeks"
    )


if __name__ == "__main__":
    main()
