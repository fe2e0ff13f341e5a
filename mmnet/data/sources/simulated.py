"""A simulated log with known true rates: events, counts, items and the effects behind them.

Other sources have shares, but the rates behind them are unknown. Here the logit of the rate is
a sum of known effects, so that an error splits into what a model missed and what is unknowable:

    lambda = logistic(base + category + trend + lift + tags + author + title + cover + duration
                      + age + item level + item walk)             shares ~ Binomial(clicks, lambda)

Two regimes share items, clicks and all draws of one seed and differ in the sizes of the effects
only: in `history` an item's own level and slow walk dominate, in `content` what its row in the
items table says. Clicks do not depend on the rate. The sizes are frozen (`PARAMETERS`): a digest
in the tests fails when one changes, since results on other parameters do not compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet import checks
from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import budgets
from mmnet.data.columns import SEPARATOR, separator_of
from mmnet.data.tables import Table, Tables

REGIME, ITEMS, PERIODS, CLICKS = "history", 4000, 40, 2_000_000
"""Default sizes of the simulation."""

START = np.datetime64("2024-01-01", "ms")
"""Start of period 0 (UTC, a Monday); a period of the event stream is one day."""

LIKE_LOGIT, LIKE_SLOPE, LIKE_LEVEL_SD, SHARE_LOGIT = -2.2, 0.7, 0.4, -3.15
"""Likes: logit at the usual share rate, part of the share rate's deviation that they have, sd of an
item's own level, and the logit of the usual share rate."""

_DAY_MILLISECONDS = 24 * 60 * 60 * 1000

CATEGORIES = (
    *("music", "sport", "news", "cooking", "travel", "comedy"),
    *("science", "games", "fashion", "animals", "health", "cars"),
)


@dataclass(frozen=True)
class Parameters:
    """All sizes of one regime; sds are of the logit of the rate, lengths are in periods."""

    # What differs between the regimes: how much each effect moves the logit.
    base_logit: float  # where every effect is 0; sets the median rate to 3 to 4 percent
    category_sd: float  # level of a category
    tag_sd: float  # one tag; an item moves by the mean of its tags
    author_sd: float  # level of an author
    title_sd: float  # sum over the words of a title
    cover_sd: float  # projection of the cover vector on the hidden direction
    duration_sd: float  # log duration; longer items are shared less
    level_sd: float  # the item's own constant level: nothing but its history tells it
    walk_sd: float  # the item's own walk, stationary

    # Time, equal in both.
    walk_memory: float = 0.97  # correlation of the item's walk at neighbouring periods
    trend_rise_sd: float = 0.3  # straight rise or fall of a category, first to last period
    trend_walk_sd: float = 0.15  # a category's slow walk around its straight line, stationary
    trend_memory: float = 0.9  # correlation of that walk at neighbouring periods
    lift_block: int = 24  # a category has at most one event in every block of so many periods
    lift_probability: float = 0.6  # that a block has one
    lift_periods: tuple[int, int] = (3, 6)  # an event lasts so long, both ends included
    lift_range: tuple[float, float] = (0.4, 0.9)  # increase of the logit
    age_drop: float = 0.3  # what the logit loses with age in the long run
    age_scale: float = 5.0  # age at which 63 percent of that is lost

    # Items.
    category_power: float = 0.5  # the k-th largest category has a share of ~ k ** -power
    tags_per_category: int = 15  # a tag belongs to one category
    tag_power: float = 1.0  # the same power law for the tags of a category: some are rare
    tag_counts: tuple[float, ...] = (0.4, 0.4, 0.2)  # probability of 1, 2, 3 tags
    items_per_author: int = 10  # on average
    author_power: float = 0.7  # few authors release much
    vocabulary: int = 1500  # words
    word_power: float = 1.0  # Zipf's law
    function_words: int = 20  # the most frequent words never carry an effect
    word_effect_probability: float = 0.3  # that any other word does
    title_words: tuple[int, int] = (4, 12)  # words of a title, both ends included
    cover_dim: int = 32  # floats of a cover vector
    duration_median_seconds: float = 45.0
    duration_log_sd: float = 0.8
    early_release: int = 12  # releases are uniform from so long before period 0 to the last period

    # Clicks.
    volume_power: float = 1.35  # P(volume > v) ~ v ** -power ...
    volume_range: float = 400.0  # ... up to so many times the smallest volume
    volume_log_sd: float = 0.6  # of a factor on top, so that some items get next to nothing
    volume_noise_sd: float = 0.7  # of the log of the volume from period to period
    volume_age_scale: float = 4.0  # volume falls like 1 / (1 + age / scale)
    life_minimum: int = 4  # an item is shown for at least so long after its release ...
    life_mean: float = 12.0  # ... and on average so long
    outage_start: float = 0.03  # probability that an item drops out at a period
    outage_stay: float = 0.5  # probability that it stays out one more


PARAMETERS = {
    "history": Parameters(
        base_logit=-3.15,
        category_sd=0.25,
        tag_sd=0.2,
        author_sd=0.2,
        title_sd=0.15,
        cover_sd=0.15,
        duration_sd=0.05,
        level_sd=0.62,
        walk_sd=0.4,
    ),
    "content": Parameters(
        base_logit=-3.15,
        category_sd=0.42,
        tag_sd=0.45,
        author_sd=0.2,
        title_sd=0.36,
        cover_sd=0.36,
        duration_sd=0.05,
        level_sd=0.25,
        walk_sd=0.15,
    ),
}


@dataclass(frozen=True)
class Simulation:
    """The contract tables and the truth behind them.

    Attributes:
        counts: item_id, period, clicks, shares (int64); rows with clicks only.
        items: item_id, category, tags (`;`-separated), author, title (string), duration
            (seconds), release (int64 period, negative before the first period).
        vectors: name -> table of item_id and vector (list of float32); here `cover`.
        truth: a row per released (item, period), also those without clicks: item_id, period,
            true_share_rate (100 * lambda, percent) and content_share_rate (percent), the mean of
            the true rate over the item's own level and walk, with all else known. No prediction
            without the item's history has a smaller expected squared error.
        lifts: the events of the categories: category, first_period, last_period, lift (logit).
        variance_shares: effect -> its share of the variance of the logit over `truth`
            (covariance with the sum over the variance of the sum); they add up to 1.
    """

    counts: pa.Table
    items: pa.Table
    vectors: dict[str, pa.Table]
    truth: pa.Table
    lifts: pa.Table
    variance_shares: dict[str, float]


def simulated(
    directory: Path | None,
    flags: TableFlags,
    *,
    regime: str = REGIME,
    items: int = ITEMS,
    periods: int = PERIODS,
    clicks: int = CLICKS,
    seed: int = 0,
    likes: bool = False,
) -> Tables:
    """The source `--source=simulated`: what `simulate` draws, with the columns the flags name.

    Args:
        directory: None; there is nothing to read.
        flags: `item_column`, `period_column`, `numerator`, `denominator` name the columns.
        regime: see `simulate`, as for the other options.
        items: number of items.
        periods: number of periods.
        clicks: total clicks.
        seed: repeats the same log.
        likes: whether the counts have a column `likes`, see `draw_likes`.

    Raises:
        InputError: a directory, or an option out of range.
    """
    if directory is not None:
        raise InputError(
            f"--source=simulated reads no files; remove --source_dir. Received: {directory}"
        )
    what = f"--source_set: {items:,} items in {periods:,} periods"
    budgets.check_memory(16 * items * periods, what, "simulate fewer items or periods")
    try:
        simulation = simulate(regime=regime, items=items, periods=periods, clicks=clicks, seed=seed)
    except ValueError as error:
        raise InputError(f"--source_set: {error}") from None
    counts = [flags.item_column, flags.period_column, flags.denominator, flags.numerator]
    of_counts = simulation.counts.rename_columns(counts)
    if likes:
        of_counts = of_counts.append_column("likes", pa.array(draw_likes(simulation, seed=seed)))
    catalogue = [flags.item_column, *simulation.items.column_names[1:]]
    tags = pc.replace_substring(simulation.items["tags"], SEPARATOR, separator_of(flags))
    items_table = simulation.items.rename_columns(catalogue)
    place = items_table.schema.get_field_index("tags")
    return Tables(
        counts=Table(of_counts, "counts"),
        items=Table(items_table.set_column(place, "tags", tags), "items"),
        vectors={
            name: Table(vectors.rename_columns([flags.item_column, "vector"]), name)
            for name, vectors in simulation.vectors.items()
        },
        truth=simulation.truth,
    )


def simulate(
    *,
    regime: str = REGIME,
    items: int = ITEMS,
    periods: int = PERIODS,
    clicks: int = CLICKS,
    seed: int = 0,
) -> Simulation:
    """Draws items, clicks and shares from the planted effects.

    >>> simulation = simulate(items=30, periods=5, clicks=2000)
    >>> for row in simulation.counts.slice(0, 2).to_pylist():
    ...     print(row)
    {'item_id': 'i000004', 'period': 0, 'clicks': 11, 'shares': 0}
    {'item_id': 'i000006', 'period': 0, 'clicks': 21, 'shares': 0}
    >>> for row in simulation.items.select(["item_id", "tags", "title"]).slice(0, 2).to_pylist():
    ...     print(row["item_id"], row["tags"], row["title"], sep=", ")
    i000004, sport-11;sport-07;sport-12, begada roli ridi pomi
    i000006, games-11, rifo goke fifasa fefo sopi site garu tese baba

    Args:
        regime: `history` or `content`, a key of `PARAMETERS`.
        items: number of items.
        periods: number of periods, 0 ... periods - 1.
        clicks: total clicks, met exactly.
        seed: repeats the same log.

    Raises:
        ValueError: an argument is out of range, or so few items were drawn that none is shown.
    """
    sizes = PARAMETERS[checks.one_of(PARAMETERS, regime=regime)]
    checks.at_least(1, items=items)
    checks.at_least(1, periods=periods)
    checks.at_least(1, clicks=clicks)
    checks.at_least(0, seed=seed)

    # The items table, and what each of its columns adds to the logit: [items].
    ids = _labels("i", _stream(seed, "ids").permutation(items))
    release = _stream(seed, "release").integers(-sizes.early_release, periods, items)
    category = _draw_categories(sizes, items, seed)
    tags, tag_effect = _draw_tags(sizes, category, seed)
    author, author_effect = _draw_authors(sizes, items, seed)
    title, title_effect = _draw_titles(sizes, items, seed)
    cover, cover_effect = _draw_covers(sizes, items, seed)
    duration, duration_effect = _draw_durations(sizes, items, seed)
    columns = {
        "item_id": ids,
        "category": pa.array(CATEGORIES).take(pa.array(category)),
        "tags": tags,
        "author": author,
        "duration": duration,
        "title": title,
        "release": release,
    }

    # What changes over time: [categories, periods] or [items, periods].
    age = np.arange(periods) - release[:, None]
    category_level = sizes.category_sd * _standardised(_stream(seed, "category"), len(CATEGORIES))
    trend = _draw_trends(sizes, periods, seed)
    lift, lifts = _draw_lifts(sizes, periods, seed)
    level = sizes.level_sd * _stream(seed, "level").standard_normal(items)
    walk = sizes.walk_sd * _slow_walk(_stream(seed, "walk"), items, periods, sizes.walk_memory)

    # Per cell from here on: a cell is an item at a period from its release on. [cells]
    item, period = np.nonzero(age >= 0)
    known = {
        "category": category_level[category][item],
        "trend": trend[category[item], period],
        "lift": lift[category[item], period],
        "tags": tag_effect[item],
        "author": author_effect[item],
        "title": title_effect[item],
        "cover": cover_effect[item],
        "duration": duration_effect[item],
        "age": sizes.age_drop * np.expm1(-age[item, period] / sizes.age_scale),
    }
    own = {"level": level[item], "walk": walk[item, period]}
    content_logit = sizes.base_logit + sum(known.values())
    logit = content_logit + sum(own.values())
    rate = _logistic(logit)
    truth = {
        "item_id": ids.take(pa.array(item)),
        "period": period.astype(np.int64),
        "true_share_rate": 100 * rate,
        "content_share_rate": 100
        * _mean_logistic(content_logit, np.hypot(sizes.level_sd, sizes.walk_sd)),
    }

    cell_clicks = _draw_clicks(sizes, age, clicks, seed)[item, period]
    cell_shares = _stream(seed, "shares").binomial(cell_clicks, rate)
    clicked = np.flatnonzero(cell_clicks)
    counts = {
        "item_id": truth["item_id"].take(pa.array(clicked)),
        "period": truth["period"][clicked],
        "clicks": cell_clicks[clicked],
        "shares": cell_shares[clicked],
    }
    return Simulation(
        counts=pa.table(counts),
        items=pa.table(columns),
        vectors={"cover": pa.table({"item_id": ids, "vector": _lists(cover)})},
        truth=pa.table(truth),
        lifts=lifts,
        variance_shares=_variance_shares(known | own, logit),
    )


def draw_likes(simulation: Simulation, *, seed: int = 0) -> np.ndarray:
    """Draws the likes of every row of the counts, a second numerator that goes with the shares.

    The logit of the rate of likes is that of the true share rate, around a mean of its own and with
    `LIKE_SLOPE` of its size, plus a level of the item that shares tell nothing about. All other
    draws of the simulation stay as they are.

    Args:
        simulation: the counts and true share rates.
        seed: repeats the same likes.

    Returns:
        int64 [rows of the counts], at most the clicks.

    >>> draw_likes(simulate(items=30, periods=5, clicks=2000))[:4]
    array([2, 5, 1, 1])
    """
    stream = _stream(seed, "likes")
    counts, truth = simulation.counts, simulation.truth
    names = simulation.items["item_id"].to_pandas()
    level = pd.Series(LIKE_LEVEL_SD * stream.standard_normal(len(names)), index=names)
    keys = ["item_id", "period"]
    true = counts.select(keys).to_pandas().merge(truth.to_pandas(), on=keys, how="left")
    rate = true["true_share_rate"].to_numpy() / 100
    logit = LIKE_LOGIT + LIKE_SLOPE * (np.log(rate / (1 - rate)) - SHARE_LOGIT)
    logit += level.loc[true["item_id"]].to_numpy()
    return stream.binomial(counts["clicks"].to_numpy(), _logistic(logit))


def events(
    simulation: Simulation, *, seed: int = 0, rows_per_batch: int = 1_000_000
) -> Iterator[pa.RecordBatch]:
    """Streams one row per click; counted by item and UTC day they are the counts again.

    Each batch holds clicks of many items and periods in random order.

    >>> batch = next(events(simulate(items=30, periods=5, clicks=2000)))
    >>> for row in batch.slice(0, 2).to_pylist():
    ...     print(row["item_id"], row["timestamp"], row["share"])
    i000008 2024-01-03 15:50:28.936000+00:00 0
    i000011 2024-01-02 15:46:31.539000+00:00 0

    Args:
        simulation: gives the counts.
        seed: of the times within a day and the order of the rows.
        rows_per_batch: rows of every batch but the last; memory grows with it.

    Yields:
        item_id (string), timestamp (UTC, milliseconds; period 0 is the day of `START`), share
        (int8, 1 where the click led to a share).

    Raises:
        ValueError: `rows_per_batch` is below 1 or `seed` below 0.
    """
    checks.at_least(1, rows_per_batch=rows_per_batch)
    checks.at_least(0, seed=seed)
    return _stream_events(simulation.counts, seed, rows_per_batch)


def _stream_events(counts: pa.Table, seed: int, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    stream = _stream(seed, "events")
    counts = counts.take(pa.array(stream.permutation(counts.num_rows))).combine_chunks()
    ids = counts["item_id"].combine_chunks()
    period, shares = counts["period"].to_numpy(), counts["shares"].to_numpy()
    ends = np.cumsum(counts["clicks"].to_numpy())  # [rows], clicks up to and with each row
    starts = ends - counts["clicks"].to_numpy()
    for first in range(0, int(ends[-1]), rows_per_batch):
        click = np.arange(first, min(first + rows_per_batch, int(ends[-1])))
        row = np.searchsorted(ends, click, side="right")
        order = stream.permutation(len(click))
        click, row = click[order], row[order]
        time = period[row] * _DAY_MILLISECONDS + stream.integers(0, _DAY_MILLISECONDS, len(click))
        yield pa.record_batch(
            {
                "item_id": ids.take(pa.array(row)),
                "timestamp": pa.array(START + time, pa.timestamp("ms", tz="UTC")),
                "share": pa.array((click - starts[row] < shares[row]).astype(np.int8)),
            }
        )


# ----------------------------------------------------------------------------------- items


def _draw_categories(sizes: Parameters, items: int, seed: int) -> np.ndarray:
    """Index into `CATEGORIES`, [items]; which category is large changes with the seed."""
    stream = _stream(seed, "categories")
    share = stream.permutation(_power_law(len(CATEGORIES), sizes.category_power))
    return stream.choice(len(CATEGORIES), items, p=share)


def _draw_tags(sizes: Parameters, category: np.ndarray, seed: int) -> tuple[pa.Array, np.ndarray]:
    """1 to 3 different tags of the item's category, and the mean of their effects, [items]."""
    stream = _stream(seed, "tags")
    shape = (len(CATEGORIES), sizes.tags_per_category)
    effect = sizes.tag_sd * stream.standard_normal(shape)
    popularity = stream.permuted(
        np.tile(_power_law(sizes.tags_per_category, sizes.tag_power), (len(CATEGORIES), 1)), axis=1
    )
    number = stream.choice(len(sizes.tag_counts), len(category), p=sizes.tag_counts) + 1
    # The k largest of log(p) + Gumbel noise are k draws without replacement.
    keys = np.log(popularity)[category] + stream.gumbel(size=(len(category), shape[1]))
    order = np.argsort(-keys, axis=1)[:, : len(sizes.tag_counts)]  # [items, 3]
    taken = np.arange(len(sizes.tag_counts)) < number[:, None]
    effects = np.where(taken, effect[category[:, None], order], 0.0).sum(axis=1) / number
    names = pa.array([f"{name}-{tag:02d}" for name in CATEGORIES for tag in range(shape[1])])
    chosen = (category[:, None] * shape[1] + order)[taken]
    return _joined(names.take(pa.array(chosen)), number, SEPARATOR), effects


def _draw_authors(sizes: Parameters, items: int, seed: int) -> tuple[pa.Array, np.ndarray]:
    """The author of each item and its effect, [items]."""
    stream = _stream(seed, "authors")
    num_authors = max(1, items // sizes.items_per_author)
    author = stream.choice(num_authors, items, p=_power_law(num_authors, sizes.author_power))
    effect = sizes.author_sd * stream.standard_normal(num_authors)
    return _labels("a", stream.permutation(num_authors)).take(pa.array(author)), effect[author]


def _draw_titles(sizes: Parameters, items: int, seed: int) -> tuple[pa.Array, np.ndarray]:
    """A title of made-up words and the sum of its words' effects, [items]."""
    stream = _stream(seed, "titles")
    low, high = sizes.title_words
    probability = _power_law(sizes.vocabulary, sizes.word_power)  # [words], frequent first
    carries = stream.random(sizes.vocabulary) < sizes.word_effect_probability
    carries[: sizes.function_words] = False
    effect = np.where(carries, stream.standard_normal(sizes.vocabulary), 0.0)
    effect[carries] -= np.average(effect[carries], weights=probability[carries])
    # A word now adds 0 on average, so a title's variance is its mean length times a word's.
    effect *= sizes.title_sd / np.sqrt((low + high) / 2 * (probability @ effect**2))

    number = stream.integers(low, high + 1, items)
    word = stream.choice(sizes.vocabulary, number.sum(), p=probability)
    owner = np.repeat(np.arange(items), number)
    words = _made_up_words(sizes.vocabulary).take(pa.array(word))
    return _joined(words, number, " "), np.bincount(owner, effect[word], minlength=items)


def _draw_covers(sizes: Parameters, items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cover vectors of normal noise, float32 [items, cover_dim], and their effect, [items]."""
    stream = _stream(seed, "covers")
    direction = stream.standard_normal(sizes.cover_dim)
    direction /= np.linalg.norm(direction)
    cover = stream.standard_normal((items, sizes.cover_dim)).astype(np.float32)
    # Not `cover @ direction`: BLAS sums in an order that depends on the machine.
    return cover, sizes.cover_sd * (cover * direction).sum(axis=1)


def _draw_durations(sizes: Parameters, items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Durations in seconds, to a tenth, and their effect, [items]."""
    deviation = _stream(seed, "durations").standard_normal(items)
    seconds = sizes.duration_median_seconds * np.exp(sizes.duration_log_sd * deviation)
    return np.maximum(np.round(seconds, 1), 0.1), -sizes.duration_sd * deviation


def _made_up_words(number: int) -> pa.Array:
    """Up to 4900 different words of two or three syllables, the same in every simulation."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words, base = [], len(syllables)
    for index in range(number):
        first, second = divmod(index * 2957 % base**2, base)  # 2957 is prime: nothing repeats
        third = syllables[index % base] if index % 3 == 2 else ""
        words.append(syllables[first] + syllables[second] + third)
    return pa.array(words)


# ------------------------------------------------------------------------------------ time


def _draw_trends(sizes: Parameters, periods: int, seed: int) -> np.ndarray:
    """A straight line and a slow walk around it per category, [categories, periods]."""
    stream = _stream(seed, "trends")
    rise = sizes.trend_rise_sd * _standardised(stream, len(CATEGORIES))
    line = rise[:, None] * (np.arange(periods) / max(periods - 1, 1) - 0.5)
    walk = _slow_walk(stream, len(CATEGORIES), periods, sizes.trend_memory)
    return line + sizes.trend_walk_sd * walk


def _draw_lifts(sizes: Parameters, periods: int, seed: int) -> tuple[np.ndarray, pa.Table]:
    """The events: what they add, [categories, periods], and their table.

    Two events of a category are at least one period apart.
    """
    stream = _stream(seed, "lifts")
    effect, rows = np.zeros((len(CATEGORIES), periods)), []
    for category, name in enumerate(CATEGORIES):
        for block in range(0, periods, sizes.lift_block):
            happens = stream.random() < sizes.lift_probability
            length = stream.integers(sizes.lift_periods[0], sizes.lift_periods[1] + 1)
            first = block + stream.integers(1, sizes.lift_block - length)
            lift = stream.uniform(*sizes.lift_range)
            if happens and first < periods:
                last = min(int(first + length), periods) - 1
                effect[category, first : last + 1] = lift
                rows.append((name, int(first), int(last), float(lift)))
    types = {
        "category": pa.string(),
        "first_period": pa.int64(),
        "last_period": pa.int64(),
        "lift": pa.float64(),
    }
    return effect, pa.table(
        {name: pa.array([row[n] for row in rows], of) for n, (name, of) in enumerate(types.items())}
    )


def _draw_clicks(sizes: Parameters, age: np.ndarray, clicks: int, seed: int) -> np.ndarray:
    """Clicks per item and period, int64 [items, periods], that add up to `clicks`."""
    stream = _stream(seed, "clicks")
    items, periods = age.shape
    # A Pareto law cut at `volume_range` times its smallest value, by its inverse.
    tail = 1 - sizes.volume_range**-sizes.volume_power
    volume = (1 - tail * stream.random((items, 1))) ** (-1 / sizes.volume_power)
    volume *= np.exp(sizes.volume_log_sd * stream.standard_normal((items, 1)))
    further = sizes.life_mean - sizes.life_minimum
    life = sizes.life_minimum + stream.geometric(1 / (1 + further), (items, 1)) - 1
    noise = np.exp(sizes.volume_noise_sd * stream.standard_normal(age.shape))
    shown = (age >= 0) & (age < life)
    out = np.zeros(items, bool)
    for period in range(periods):
        chance = stream.random(items)
        out = chance < np.where(out, sizes.outage_stay, sizes.outage_start)
        shown[:, period] &= ~out
    if not shown.any():
        raise ValueError(
            "`items` and `periods` must leave an item to show; use more of either. "
            f"Received: items={items}, periods={periods}, seed={seed}"
        )
    intensity = (volume * noise / (1 + np.maximum(age, 0) / sizes.volume_age_scale))[shown]
    drawn = np.zeros(age.shape, np.int64)
    drawn[shown] = stream.multinomial(clicks, intensity / intensity.sum())
    return drawn


# ----------------------------------------------------------------------------------- parts


def _stream(seed: int, name: str) -> np.random.Generator:
    """Returns a separate generator for each purpose, so that draws do not affect each other."""
    return np.random.default_rng([seed, *name.encode()])


def _standardised(stream: np.random.Generator, number: int) -> np.ndarray:
    """Normal draws with mean 0 and sd 1 exactly: few categories must not decide the variance."""
    draw = stream.standard_normal(number)
    return (draw - draw.mean()) / draw.std()


def _slow_walk(stream: np.random.Generator, rows: int, periods: int, memory: float) -> np.ndarray:
    """Stationary first-order autoregression of variance 1, [rows, periods]."""
    walk = stream.standard_normal((rows, periods))
    for period in range(1, periods):
        walk[:, period] *= np.sqrt(1 - memory**2)
        walk[:, period] += memory * walk[:, period - 1]
    return walk


def _power_law(number: int, power: float) -> np.ndarray:
    weight = np.arange(1, number + 1) ** -float(power)
    return weight / weight.sum()


def _logistic(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit))


def _mean_logistic(logit: np.ndarray, sd: float) -> np.ndarray:
    """E[logistic(logit + sd * z)] over standard normal z, by Gauss-Hermite quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(15)
    mean = np.zeros_like(logit)
    for point, weight in zip(points, weights / weights.sum(), strict=True):
        mean += weight * _logistic(logit + sd * point)
    return mean


def _variance_shares(effects: dict[str, np.ndarray], logit: np.ndarray) -> dict[str, float]:
    centred = logit - logit.mean()
    total = (centred**2).sum()
    if total == 0:
        return dict.fromkeys(effects, 0.0)
    return {name: float((effect * centred).sum() / total) for name, effect in effects.items()}


def _labels(letter: str, number: np.ndarray) -> pa.Array:
    """`i000123` for 123."""
    digits = pc.utf8_lpad(pc.cast(pa.array(number), pa.string()), 6, "0")
    return pc.binary_join_element_wise(letter, digits, "")


def _joined(parts: pa.Array, lengths: np.ndarray, separator: str) -> pa.Array:
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, parts), separator)


def _lists(rows: np.ndarray) -> pa.Array:
    """A matrix as a column of lists."""
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
