"""WeChat Big Data Challenge 2021: plays of short videos ("feeds") with seven kinds of feedback.

Origin and licence: Tencent's contest at https://algo.weixin.qq.com (preliminary round). Teams got
the files, `wechat_algo_data1.zip`, after registering; no open licence and no checksums are known to
us. Whole files have 7,317,882 (user_action.csv) and 106,444 rows (feed_info.csv).

| file | columns (comma, header) |
|---|---|
| user_action.csv | userid, feedid, date_ (1 to 14), device, read_comment, comment, like, play and stay (ms), click_avatar, forward, follow, favorite; one row per play |
| feed_info.csv | feedid, authorid, videoplayseconds, description, ocr, asr, bgm_song_id, bgm_singer_id, manual_keyword_list, machine_keyword_list, manual_tag_list, machine_tag_list, description_char, ocr_char, asr_char |
| feed_embeddings.csv (may be absent) | feedid, feed_embedding (512 numbers between spaces) |

Texts are word ids between spaces, lists are cut at ";", an entry of machine_tag_list is "id
probability", and ids of songs and singers are written as floats.
"""  # noqa: E501

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data.dialects import text_options
from mmnet.data.ledger import Rule
from mmnet.data.sources import reading
from mmnet.data.sources.reading import Scan, Totals, Vectors
from mmnet.data.tables import Table, Tables

BEHAVIOURS = (
    *("forward", "like", "favorite", "follow", "comment", "read_comment", "click_avatar"),
)
TEXTS = ("description", "ocr", "asr", "description_char", "ocr_char", "asr_char")
LISTS = ("manual_keyword_list", "machine_keyword_list", "manual_tag_list", "machine_tag_list")
IDS = ("authorid", "bgm_song_id", "bgm_singer_id")
EMBEDDINGS = "feed_embeddings.csv"
EMBEDDING_LENGTH = 512


def wechat(
    directory: Path | None,
    flags: TableFlags,
    *,
    behaviour: str = "forward",
    actions: str = "user_action.csv",
    feeds: str = "feed_info.csv",
    embeddings: str | None = EMBEDDINGS,
    tag_probability: float = 0.0,
) -> Tables:
    """Counts plays and one kind of feedback per feed and day.

    A period is the publisher's `date_`, a whole number. Items keep the publisher's column names;
    a feed that was played but has no row in feed_info.csv is an item whose columns are empty. The
    512 numbers of feed_embeddings.csv are the vectors `feed_embedding`.

    Args:
        directory: where the publisher's files are.
        flags: `item_column`, `period_column`, `numerator`, `denominator` name the counts' columns;
            `--numerator=like` counts likes.
        behaviour: what is counted where `--numerator` is left at shares.
        actions: file or glob of the plays.
        feeds: file or glob of the feeds.
        embeddings: file or glob of the vectors, none to leave them out.
        tag_probability: machine tags of a smaller probability are left out.

    Raises:
        InputError: no directory, a missing file or column, a value of the wrong kind.
    """
    directory = reading.needed(directory, "wechat")
    above = reading.chosen(
        "numerator",
        flags.numerator,
        contract="shares",
        option="behaviour",
        default=behaviour,
        columns=BEHAVIOURS,
    )
    plays = Scan(
        reading.find(directory, actions, "actions"),
        ("feedid", "date_", above),
        "actions",
        name="plays",
        said=text_options(flags.text_set, "events"),
    )
    counts, ledger = _counts(plays, above, flags)

    catalogue = Scan(
        reading.find(directory, feeds, "feeds"),
        ("feedid", *IDS, "videoplayseconds", *TEXTS, *LISTS),
        "feeds",
        name="feeds",
        said=text_options(flags.text_set, "items"),
    )
    items, item_rules = _items(catalogue, counts[flags.item_column], flags, tag_probability)
    found = Tables(
        Table(counts, "counts"),
        items,
        inputs=(*plays.paths, *catalogue.paths),
        ledger=(*ledger, *item_rules),
    )
    paths = reading.optional(directory, embeddings, EMBEDDINGS, "embeddings")
    if paths:
        columns = ("feedid", "feed_embedding")
        vectors, rules = _embeddings(
            Scan(
                paths,
                columns,
                "embeddings",
                name=columns[1],
                said=text_options(flags.text_set, "vectors"),
            ),
            flags,
        )
        found.vectors["feed_embedding"] = vectors
        found.inputs += tuple(paths)
        found.ledger += tuple(rules)
    return found


def _counts(plays: Scan, above: str, flags: TableFlags) -> tuple[pa.Table, list[Rule]]:
    totals = Totals(["item", "period"], {"below": "sum", "above": "sum"})
    complete = 0
    for batch in plays:
        rows = pa.table(
            {
                "item": reading.id_column(batch, "feedid"),
                "period": reading.whole_numbers(
                    batch, "date_", "actions", what="a day", allow_empty=True
                ),
                "below": reading.ones(len(batch)),
                "above": reading.zero_or_one(batch, above, "actions", allow_empty=True),
            }
        )
        there = pc.and_(
            pc.not_equal(rows["item"], ""),
            pc.and_(pc.is_valid(rows["period"]), pc.is_valid(rows["above"])),
        )
        rows = rows.filter(there)
        complete += len(rows)
        totals.add(rows)
    counts = totals.table()
    if not len(counts):
        raise InputError(f"{plays.paths[0]}: no plays are left after the rules of the ledger")
    rules = [
        plays.rule(),
        Rule("plays", f"feedid, date_ and {above} are not empty", plays.rows, complete),
        Rule("plays", "counted by feed and day", complete, complete, f"{len(counts)} counts rows"),
    ]
    names = [flags.item_column, flags.period_column, flags.denominator, flags.numerator]
    return counts.rename_columns(names), rules


def _items(
    feeds: Scan, played: pa.ChunkedArray, flags: TableFlags, tag_probability: float
) -> tuple[Table, list[Rule]]:
    catalogue, once = reading.one_row_each(feeds.whole(), "feedid", "feeds")
    data = catalogue.data
    columns = {flags.item_column: reading.id_column(catalogue, "feedid")}
    columns |= {name: reading.id_column(catalogue, name) for name in IDS}
    seconds = reading.whole_numbers(
        catalogue, "videoplayseconds", "feeds", what="a duration", allow_empty=True
    )
    columns["videoplayseconds"] = seconds.cast(pa.float64())
    for name in TEXTS:
        single = pc.replace_substring_regex(data[name], r"\s+", " ")
        columns[name] = pc.utf8_trim_whitespace(single)
    rules = [feeds.rule(), once]
    for name in LISTS:
        rows, entries = reading.pieces(data[name], ";")
        if name == "machine_tag_list":
            likely = _probabilities(catalogue, rows, entries) >= tag_probability
            if tag_probability > 0:
                rule = f"a machine tag's probability is at least {tag_probability}"
                rules.append(Rule("tags", rule, len(rows), int(likely.sum())))
            rows, entries = rows[likely], entries.filter(pa.array(likely))
            entries = pc.replace_substring_regex(entries, r"\s.*$", "")
        kept, values = reading.unique(rows, entries)
        rules.append(Rule(name, "is not a duplicate value of its feed", len(rows), len(kept)))
        columns[name] = reading.lists_of(kept, values, len(data))
    items = pa.table(columns)

    known = items[flags.item_column]
    unknown = pc.unique(played).filter(pc.invert(pc.is_in(pc.unique(played), known)))
    number = len(items) + len(unknown)
    note = f"{len(unknown)} feeds that were played have no row in {feeds.paths[0].name}"
    rules.append(Rule("feeds", "is an item, with empty columns if needed", number, number, note))
    more = pa.table({flags.item_column: unknown})
    items = pa.concat_tables([items, more], promote_options="default")
    return Table(items, "items"), rules


def _probabilities(feeds: Table, rows: np.ndarray, entries: pa.Array) -> np.ndarray:
    """Returns the second half of "id probability" entries; 1 where it is missing."""
    written = pc.replace_substring_regex(entries, r"^\S+\s*", "")
    try:
        numbers = pc.if_else(pc.equal(written, ""), "1", written).cast(pa.float64())
    except pa.ArrowInvalid:
        right = pc.match_substring_regex(entries, r"^\S+(\s+[-+.\deE]+)?$")
        wrong = int(np.argmin(np.asarray(right)))
        raise InputError(
            f"{feeds.where(rows[wrong], 'machine_tag_list')}: an entry must be a tag and its "
            f"probability. Received: {entries[wrong].as_py()!r}"
        ) from None
    return numbers.to_numpy(zero_copy_only=False)


def _embeddings(scan: Scan, flags: TableFlags) -> tuple[Table, list[Rule]]:
    vectors = Vectors(scan.name, EMBEDDING_LENGTH)
    for batch in scan:
        rows, entries = reading.pieces(batch.data["feed_embedding"], " ")
        lists = reading.lists_of(rows, _numbers(batch, rows, entries), len(batch))

        def where(row: int, batch: Table = batch) -> str:
            return batch.where(row, "feed_embedding")

        vectors.add(reading.id_column(batch, "feedid"), lists, where)
    table, rules = vectors.table(flags)
    return table, [scan.rule(), *rules]


def _numbers(batch: Table, rows: np.ndarray, entries: pa.Array) -> pa.Array:
    """Parses numbers from text, or returns the place of the first that is not a number."""
    try:
        return entries.cast(pa.float32())
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(entries.to_pandas(), errors="coerce")
        wrong = int(numbers.isna().to_numpy().argmax())
        raise InputError(
            f"{batch.where(rows[wrong], 'feed_embedding')}: must be numbers separated by spaces. "
            f"Received: {entries[wrong].as_py()!r}"
        ) from None
