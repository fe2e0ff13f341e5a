"""Each kind of input means the same wherever a table comes in, not only as counts or events."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from mmnet import driver
from mmnet.checks import InputError
from mmnet.config import EncodeConfig
from mmnet.encoders import handles, hub_text
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import interactions, item_scores
from mmnet.mma4ctr.data.sources import tiktok, wechat
from mmnet.mma4ctr.serving import pairs
from tests.cases import test_c07_backslash as backslash
from tests.cases import worlds
from tests.data import test_content as content
from tests.data.sources import test_kuairand as kuairand
from tests.mma4ctr import files as layout

TABLES = ("--counts=counts.csv", "--items=items.csv", worlds.TAXONOMIES)


@pytest.fixture
def tables(drives):
    worlds.counts().to_csv("counts.csv", index=False)
    worlds.joined(worlds.items()).to_csv("items.csv", index=False)


# ---------------------------------------------------------------------------------- counts


def test_json_documents_are_no_tables(drives, tables):
    Path("counts.csv").write_text(json.dumps({"item_id": "v0000", "period": worlds.FIRST}))
    assert drives.refused(*TABLES).startswith("counts.csv ")


# --------------------------------------------------------------------------------- vectors


def vectors():
    draws = np.random.default_rng(5)
    numbers = [draws.random(3).round(3).tolist() for _ in range(worlds.NUM_ITEMS)]
    return pd.DataFrame({"item_id": worlds.items()["item_id"], "cover": numbers})


def spaced(table):
    return table.assign(cover=[" ".join(map(str, one)) for one in table["cover"]])


def recbole(table):
    typed = {"item_id": "item_id:token", "cover": "cover:float_seq"}
    spaced(table).rename(columns=typed).to_csv("cover.item", sep="\t", index=False)


def blobs(table):
    data = pa.Table.from_pandas(table, preserve_index=False)
    pa.parquet.write_table(data.set_column(0, "item_id", data["item_id"].cast(pa.binary())), "b")


def beside_leftovers(table):
    Path("folder/.ipynb_checkpoints").mkdir(parents=True)
    for place in ("folder", "folder/.ipynb_checkpoints"):
        table.to_parquet(f"{place}/part.parquet")


@pytest.mark.parametrize(
    ("write", "place"),
    [
        (lambda table: table.to_json("cover.jsonl", orient="records", lines=True), "cover.jsonl"),
        (lambda table: table.to_json("cover.json", orient="records"), "cover.json"),
        (lambda table: spaced(table).to_csv("cover.csv.gz", index=False), "cover.csv.gz"),
        (
            lambda table: spaced(table).to_csv("c.csv", index=False, sep=";", encoding="utf-16"),
            "c.csv",
        ),
        (lambda table: table.assign(cover=table["cover"].map(str)).to_csv("l.csv"), "l.csv"),
        (recbole, "cover.item"),
        (blobs, "b"),
        (beside_leftovers, "folder"),
        (beside_leftovers, "fold*/*"),
    ],
)
def test_vectors_of_any_kind(drives, tables, write, place):
    vectors().to_parquet("usual.parquet")
    usual = drives.made(*TABLES, "--vectors=cover:usual.parquet")
    assert usual.tensors["vector_cover"].shape == (worlds.NUM_ITEMS, 3)
    write(vectors())
    worlds.same(drives.made(*TABLES, f"--vectors=cover:{place}"), usual)


def lost_digits(table):
    table.assign(item_id=7.2e18 + np.arange(len(table))).to_parquet("cover")
    return "cover row 1, column item_id: 7.2e+18 is an id that was converted to a floating-point"


def of_arrow(table):
    pa.feather.write_feather(pa.Table.from_pandas(table), "cover")
    return "cover is an Arrow (Feather) file"


def of_delta(table):
    Path("cover/_delta_log").mkdir(parents=True)
    table.to_parquet("cover/one.parquet")
    return "cover is a Delta table"


def repeated(table):
    pd.concat([table, table[:1]]).to_parquet("cover")
    return "cover row 41, column item_id: duplicate of an earlier row of item 'v0000'"


def in_capitals(table):
    table.rename(columns={"item_id": "ITEM_ID"}).to_parquet("cover")
    return "cover has no column 'item_id' (named by --item_column); it has ITEM_ID, cover. Did you"


@pytest.mark.parametrize("write", [lost_digits, of_arrow, of_delta, repeated, in_capitals])
def test_vectors_that_are_refused(drives, tables, write):
    begins = write(vectors())
    assert drives.refused(*TABLES, "--vectors=cover:cover").startswith(begins)


# ---------------------------------------------------------------------------- items to encode

REPEATS = ("--repeats=drop",)
ENCODE = ("--text_encoder=hub", "--text_handle=letters", "--encoder_cache=cache")


@pytest.fixture
def encode(drives, monkeypatch):
    """Vectors that `mmnet.encode` writes of the titles, by item; no network is loaded."""
    monkeypatch.setattr(hub_text, "HubTextEncoder", content.Letters)
    monkeypatch.setattr(handles, "bert_folders", lambda handle, preprocessor: ())
    monkeypatch.setattr("mmnet.data.content.load_tensorflow", lambda **_: None)

    def run(items, *more, title="title"):
        given = (f"--items={items}", f"--texts={title}", "--output=vectors", *ENCODE, *more)
        assert drives.run(EncodeConfig, "encode", *given) == driver.OK, drives.err
        rows = pa.parquet.read_table(f"vectors/{title}.parquet").to_pylist()
        (of_item,) = {name for name in rows[0] if name != "vector"}
        return {row[of_item]: row["vector"] for row in rows}

    return run


def letters(table):
    """The same by hand: how often each title has an a, a b and a c."""
    titles = dict(zip(table["item_id"].astype(str), table["title"], strict=True))
    return {name: [title.count(letter) for letter in "abc"] for name, title in titles.items()}


def typed(table):
    spelled = table[["item_id", "title"]].add_suffix(":token")
    spelled.to_csv("items.item", sep="\t", index=False)


def in_folders(table):
    Path("folder/.ipynb_checkpoints").mkdir(parents=True)
    Path("folder/day=1").mkdir()
    table[:9].to_parquet("folder/day=1/one.parquet")
    table[9:][["title", "item_id"]].to_csv("folder/two", index=False)
    table.to_csv("folder/.ipynb_checkpoints/two.csv", index=False)


QUOTED = worlds.items().assign(title=[f'{one}, "abc"' for one in worlds.items()["title"]])
FRENCH = worlds.items().assign(title=[f"{one} é" for one in worlds.items()["title"]])
NUMBERED = worlds.items().assign(item_id=np.arange(worlds.NUM_ITEMS))


@pytest.mark.parametrize(
    ("table", "write", "flags"),
    [
        (QUOTED, lambda table: table.to_csv("i", index=False), ()),
        (QUOTED, lambda table: backslash.spark(table[["item_id", "title"]], "i"), ()),
        (FRENCH, lambda table: table.to_csv("i", index=False, sep=";", encoding="utf-16"), ()),
        (
            FRENCH,
            lambda table: table.to_csv("i", index=False, encoding="latin-1"),
            ("--text_set=items.encoding=latin-1",),
        ),
        (FRENCH, lambda table: table.to_json("i", orient="records", lines=True), ()),
        (NUMBERED, lambda table: table.astype({"item_id": float}).to_parquet("i"), ()),
        (
            QUOTED,
            lambda table: pd.concat([table, table[:3]]).to_json("i", orient="records"),
            REPEATS,
        ),
    ],
)
def test_items_of_any_kind_are_encoded(encode, table, write, flags):
    write(table)
    assert encode("i", *flags) == letters(table)


def test_items_of_folders_and_of_recbole_are_encoded(drives, encode):
    in_folders(worlds.items())
    assert encode("folder") == letters(worlds.items())
    assert drives.rule("items files:").endswith(": 3 in, 1 dropped")
    typed(worlds.items())
    assert encode("items.item") == letters(worlds.items())
    assert "separated by tabs" in drives.rule("items files:")


def test_items_with_names_in_chinese_are_encoded(encode):
    table = worlds.items().rename(columns={"item_id": "视频编号", "title": "标题"})
    table.to_csv("i", index=False)
    assert encode("i", "--item_column=视频编号", title="标题") == letters(worlds.items())


def of_lost_digits(table):
    table.assign(item_id=7.2e18 + np.arange(len(table))).to_parquet("i")
    return "i row 1, column item_id: 7.2e+18 is an id that was converted to a floating-point"


def of_repeats(table):
    pd.concat([table, table[:1]]).to_json("i", orient="records", lines=True)
    return "i line 41: exact duplicate of line 1 (item 'v0000'); remove it, or set --repeats=drop"


def of_contradictions(table):
    pd.concat([table, table[:1].assign(title="other")]).to_csv("i", index=False)
    return "i line 42: duplicate row for item 'v0000' with other values: title is "


def of_latin_letters(table):
    FRENCH.to_csv("i", index=False, encoding="latin-1")
    return "i line 2, column title: not UTF-8 text; set its encoding"


def of_hudi(table):
    Path("i/.hoodie").mkdir(parents=True)
    table.to_parquet("i/one.parquet")
    return "i is a Hudi table"


@pytest.mark.parametrize(
    "write", [of_lost_digits, of_repeats, of_contradictions, of_latin_letters, of_hudi]
)
def test_items_that_are_not_encoded(drives, encode, write):
    begins = write(worlds.items())
    given = ("--items=i", "--texts=title", *ENCODE)
    said = drives.refused(*given, flags=EncodeConfig, task="encode", place="--output")
    assert said.startswith(begins)


# ------------------------------------------------------------------------------ RecBole's files


def test_atomic_files_of_recbole(drives, tables):
    flags = (*worlds.FIELDS, *worlds.COUNTED)
    table = worlds.events()
    table.to_csv("events.csv", index=False)
    usual = drives.made("--events=events.csv", "--items=items.csv", *flags)
    items = worlds.joined(worlds.items(), " ")
    types = {"tags": "token_seq", "title": "token_seq", "duration": "float"}
    items.columns = [f"{name}:{types.get(name, 'token')}" for name in items.columns]
    items.to_csv("log.item", sep="\t", index=False)
    seconds = table["timestamp"].astype("int64").astype(float)
    table.assign(timestamp=seconds).rename(
        columns={
            **{"user_id": "user_id:token", "item_id": "item_id:token"},
            **{"timestamp": "timestamp:float", "shared": "shared:float"},
        }
    ).to_csv("log.inter", sep="\t", index=False)
    worlds.same(drives.made("--events=log.inter", "--items=log.item", *flags), usual)


# ------------------------------------------------------------------------------------- sources


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_publishers_log_that_was_saved_again(drives, separator, encoding):
    kuairand.write(Path(), kuairand.ROWS)
    usual = kuairand.rows_of(kuairand.load("."), "impressions", "long_view")
    (log,) = Path().glob("log_*")
    pd.DataFrame(kuairand.ROWS).to_csv(log, index=False, sep=separator, encoding=encoding)
    assert kuairand.rows_of(kuairand.load("."), "impressions", "long_view") == usual


@pytest.mark.parametrize("ending", ["csv.gz", "csv.zip", "csv.zst", "jsonl", "parquet"])
def test_a_publishers_log_of_another_kind(drives, ending):
    kuairand.write(Path(), kuairand.ROWS)
    usual = kuairand.rows_of(kuairand.load("."), "impressions", "long_view")
    (log,) = Path().glob("log_*")
    log.unlink()
    table, place = pd.DataFrame(kuairand.ROWS), f"log_standard.{ending}"
    if ending == "jsonl":
        table.to_json(place, orient="records", lines=True)
    elif ending == "parquet":
        table.astype({"video_id": "float64"}).to_parquet(place)
    elif ending == "csv.zst":
        with pa.CompressedOutputStream(place, "zstd") as file:
            file.write(table.to_csv(index=False).encode())
    else:
        table.to_csv(place, index=False)
    assert kuairand.rows_of(kuairand.load("."), "impressions", "long_view") == usual


def test_a_publishers_items_in_another_encoding(drives):
    kuairand.write(Path(), kuairand.ROWS)
    items = Path("video_features_basic_pure.csv")
    items.write_bytes(kuairand.VIDEOS.replace("Kmovie", "上传").encode("gbk"))
    found = kuairand.load(".", text_set=("items.encoding=gbk",))
    assert "上传" in found.items.data["upload_type"].to_pylist()


def test_a_publishers_log_that_is_refused(drives):
    kuairand.write(Path(), kuairand.ROWS)
    table = pd.DataFrame(kuairand.ROWS)
    table.assign(video_id=table["video_id"] + 7.2e18).to_parquet("log_lost.parquet")
    with pytest.raises(
        InputError, match=r"^log_lost\.parquet row 1, column video_id: 7\.2e\+18 is"
    ):
        kuairand.load(".")
    Path("_delta_log").mkdir()
    with pytest.raises(InputError, match=r"is a Delta table, .* \(--source_dir\)$"):
        kuairand.load(".")


# ----------------------------------------------------------------------------- the second system

PAIRS = pd.DataFrame({"user_id": [1, 2, 3], "item_id": [10, 11, 12]})


def read_pairs(pattern, text_set=()):
    """User and item ids of a table of pairs."""
    pieces = list(pairs.pieces(pairs.opened(pattern, text_set)))
    return [np.concatenate(ids) for ids in zip(*pieces, strict=True)]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("pairs.csv", lambda name: PAIRS.to_csv(name, index=False, sep=";", encoding="utf-16")),
        ("pairs", lambda name: PAIRS.to_csv(name, index=False)),
        ("pairs.csv.gz", lambda name: PAIRS.to_csv(name)),
        ("pairs.csv", lambda name: PAIRS.astype(float).to_csv(name, index=False)),
        ("pairs.jsonl", lambda name: PAIRS.to_json(name, orient="records", lines=True)),
        ("pairs.PARQUET", lambda name: PAIRS.astype(float).to_parquet(name)),
        (
            "pairs.inter",
            lambda name: PAIRS.add_suffix(":token").to_csv(name, index=False, sep="\t"),
        ),
    ],
)
def test_pairs_of_any_kind(drives, name, write):
    write(name)
    user, item = read_pairs(name)
    assert (user.tolist(), item.tolist()) == ([1, 2, 3], [10, 11, 12])


def test_pairs_with_marks_that_can_be_read_in_two_ways(drives):
    Path("pairs.csv").write_text('user_id,item_id,query\n1,10,"cat\n2,11,dog\n3,12,dog"\n')
    with pytest.raises(InputError, match=r"^pairs\.csv line 2: .*--text_set=quote=none$"):
        read_pairs("pairs.csv")
    assert read_pairs("pairs.csv", ["quote=none"])[0].tolist() == [1, 2, 3]
    assert read_pairs("pairs.csv", ["quote=doubled"])[0].tolist() == [1]


def test_pairs_and_scores_that_are_refused(drives):
    (PAIRS + 7.2e18).to_parquet("lost")
    with pytest.raises(InputError, match=r"^lost row 1, column user_id: 7\.2e\+18 is an id that"):
        read_pairs("lost")
    PAIRS.rename(columns={"user_id": "User_ID"}).to_csv("case", index=False)
    with pytest.raises(InputError, match=r"Did you mean User_ID\?$"):
        read_pairs("case")
    PAIRS.assign(predicted_share_rate=1.0).add_prefix("").to_parquet("scores")
    found = item_scores.read("scores", np.array([10, 11, 12, 13]))
    assert found.columns[:, 1].tolist() == [1, 1, 1, 0]
    Path("delta/_delta_log").mkdir(parents=True)
    PAIRS.to_parquet("delta/one.parquet")
    for read in (read_pairs, item_scores.check):
        with pytest.raises(InputError, match="is a Delta table"):
            read("delta/*.parquet")


def test_scores_with_another_separator(drives):
    PAIRS.assign(predicted_share_rate=1.0).to_csv("scores", index=False, sep="~")
    with pytest.raises(InputError, match="has no column 'item_id'"):
        item_scores.check("scores", ["pairs.separator=~"])
    said = ["item_scores.separator=~"]
    item_scores.check("scores", said)
    assert item_scores.read("scores", np.array([10, 13]), said).columns[:, 1].tolist() == [1, 0]


def test_a_publishers_clicks_in_another_encoding(drives):
    layout.write_wechat(Path(), [layout.play(feed=3)], [layout.feed(3, manual_keyword_list="")])
    for name in ("user_action.csv", "feed_info.csv"):
        text = Path(name).read_text("utf-8")
        Path(name).write_text(text.replace(",", "~"), "utf-16-le")
    said = ("separator=~", "events.encoding=utf-16-le", "items.encoding=utf-16-le")
    flags = InteractionFlags(source_dir=".", text_set=said)
    with pytest.raises(InputError, match=r"user_action\.csv"):
        interactions.read(InteractionFlags(source_dir="."))
    assert interactions.read(flags)[0].item_id.tolist() == [3]
    assert wechat.catalogue(Path(), np.array([3]), said).item_ids.tolist() == [3]


def test_lines_of_json_have_no_settings(drives):
    with pytest.raises(InputError, match=r"^--text_set=items\.encoding=gbk: .* are lines of JSON"):
        tiktok.catalogue(Path(), np.array([3]), ["items.encoding=gbk"])
