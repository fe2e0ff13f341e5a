"""Titles and covers, some of them missing, from tables to scores through frozen encoders."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from mmnet import driver
from mmnet.config import PredictConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.sources import simulated
from mmnet.training.records import Record
from tests.conftest import without_drawing

SIDE = 8


class MeanColour(tf.Module):
    """An image network in the hub's format: mean red, green and blue."""

    @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32)])
    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2])


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Counts and items as CSV, and covers: every fifth item has none, and one is no picture."""
    directory = tmp_path_factory.mktemp("tables")
    drawn = simulated.simulate(items=200, periods=20, clicks=300_000)
    drawn.counts.to_pandas().to_csv(directory / "counts.csv", index=False)
    items = drawn.items.to_pandas()[["item_id", "category", "title", "release"]]
    items.loc[::7, "title"] = ""
    items["cover"] = [f"{n % 50}.png" if n % 5 else "" for n in range(len(items))]
    items.loc[1, "cover"] = "gone.png"
    items.to_csv(directory / "items.csv", index=False)
    (directory / "covers").mkdir()
    for number in range(50):
        colour = (5 * number, 255 - 5 * number, 100)
        Image.new("RGB", (20, 30), colour).save(directory / "covers" / f"{number}.png")
    (directory / "covers" / "3.png").write_text("no picture")
    tf.saved_model.save(MeanColour(), str(directory / "network"))
    return directory


@pytest.fixture(scope="module")
def content_flags(tables, tiny_bert_dir, tmp_path_factory):
    return [
        "--texts=title",
        "--text_encoder=hub",
        "--text_pieces=32",
        f"--text_handle={tiny_bert_dir}",
        "--images=cover",
        "--image_encoder=hub",
        f"--image_weights={tables / 'network'}",
        f"--image_root={tables / 'covers'}",
        f"--encoder_cache={tmp_path_factory.mktemp('cache')}",
    ]


@pytest.fixture(scope="module")
def trained(tables, content_flags, tmp_path_factory):
    """The run directory of a small model of titles and covers."""
    run_dir = tmp_path_factory.mktemp("runs") / "content"
    flags = [
        f"--counts={tables / 'counts.csv'}",
        f"--items={tables / 'items.csv'}",
        *("--taxonomies=category", "--release=release", "--min_test_rows=20"),
        *("--set=units=8", "--set=field_width=4", "--set=modality_dropout=0.2"),
        *("--epochs=1", "--nojit"),
        *content_flags,
        f"--run_dir={run_dir}",
    ]
    with without_drawing():
        assert driver.run(TrainConfig, None, "train", flags) == 0
    return run_dir


def test_the_ledger_of_a_run_counts_what_has_no_vector(trained, tables):
    rows = Record.read(trained / "record.json").rows_per_rule
    items = pd.read_csv(tables / "items.csv", dtype=str, keep_default_na=False)
    assert rows["items: text of 'title' exists"] == (items["title"] != "").sum()
    bad = items["cover"].isin(["", "gone.png", "3.png"])
    assert rows["items: image of 'cover' exists"] == (~bad).sum()
    (told,) = (rule for rule in datasets.load(trained / "dataset").ledger if "cover" in rule.rule)
    assert "1 no such file: gone.png" in told.note
    assert "3.png" in told.note


def test_the_report_says_what_is_lost_without_title_or_cover(trained):
    table = (trained / "evaluation" / "table.md").read_text(encoding="utf-8")
    assert "vector_title" in table
    assert "vector_cover" in table


def score(trained, tables, output, *flags):
    arguments = [
        f"--saved_model={trained / 'export'}",
        f"--counts={tables / 'counts.csv'}",
        f"--items={tables / 'items.csv'}",
        f"--output={output}",
        *flags,
    ]
    return driver.run(PredictConfig, None, "predict", arguments)


def test_scoring_encodes_again_and_an_absent_cover_has_no_weight(
    trained, tables, content_flags, tmp_path
):
    places = [flag for flag in content_flags if not flag.startswith(("--texts", "--images"))]
    assert score(trained, tables, tmp_path / "scores.parquet", "--explain", *places) == 0
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    items = pd.read_csv(tables / "items.csv", dtype=str, keep_default_na=False)
    assert scores["item_id"].tolist() == items["item_id"].tolist()
    assert np.isfinite(scores["predicted_share_rate"]).all()
    bad = items["cover"].isin(["", "gone.png", "3.png"]).to_numpy()
    weights = scores["weight_vector_cover"].to_numpy()
    np.testing.assert_array_equal(weights > 0, ~bad)


@pytest.mark.parametrize("missing", ["text_handle", "image_weights", "image_root"])
def test_scoring_without_a_place_says_which_flag_names_it(
    missing, trained, tables, content_flags, tmp_path, capsys
):
    places = ("--text_handle", "--image_weights", "--image_root", "--encoder_cache")
    given = [flag for flag in content_flags if flag.startswith(places)]
    given = [flag for flag in given if not flag.startswith(f"--{missing}=")]
    output = tmp_path / "scores.parquet"
    assert score(trained, tables, output, *given) == 1
    assert f"needs --{missing}" in capsys.readouterr().err
    assert not output.exists()


def test_a_path_out_of_the_image_root_stops_the_run(tables, content_flags, tmp_path, capsys):
    items = pd.read_csv(tables / "items.csv", dtype=str, keep_default_na=False)
    items.loc[0, "cover"] = "../items.csv"
    items.to_csv(tmp_path / "items.csv", index=False)
    flags = [f"--counts={tables / 'counts.csv'}", f"--items={tmp_path / 'items.csv'}"]
    run_dir = tmp_path / "run"
    flags += ["--min_test_rows=20", *content_flags, f"--run_dir={run_dir}"]
    assert driver.run(TrainConfig, None, "train", flags) == 1
    assert "../items.csv" in capsys.readouterr().err
    assert not run_dir.exists()
