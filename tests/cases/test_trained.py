"""The commands of the cases that need a model: what is scored, checked and reported.

One small model for all of them: weekly counts, and items whose columns have odd names.
"""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from mmnet import driver
from mmnet.config import DriftConfig, EvaluateConfig, PredictConfig, TrainConfig
from tests.cases import worlds
from tests.cases.test_c16_names import ODD, ODD_FIELDS
from tests.conftest import SMALL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

TABLES = ("--counts=counts.csv", "--items=items.csv")
SHORT = [*SMALL, "--epochs=1", *worlds.SMALL]


def write(items=None, counts=None):
    items = worlds.joined(worlds.items()) if items is None else items
    items.rename(columns=ODD).to_csv("items.csv", index=False)
    counts = worlds.counts(freq="W-MON") if counts is None else counts
    counts.to_csv("counts.csv", index=False)


@pytest.fixture(scope="module")
def trained(made_once):
    """A run directory, with its tables in `tables` below it."""

    def train(place):
        with pytest.MonkeyPatch.context() as patch:
            (place / "tables").mkdir(parents=True)
            patch.chdir(place / "tables")
            write()
            flags = [*TABLES, *ODD_FIELDS, "--period=7d", *SHORT, f"--run_dir={place / 'run'}"]
            assert driver.run(TrainConfig, "", "train", flags) == driver.OK

    return made_once("cases", train)


@pytest.fixture
def predict(drives, trained):
    """A function that scores tables of the working directory: the scores by item."""
    write()
    export = f"--saved_model={trained / 'run/export'}"

    def predicted(*flags):
        code = drives.run(PredictConfig, "predict", export, *TABLES, *flags)
        assert code == driver.OK, drives.err
        return pyarrow.parquet.read_table("scores.parquet").to_pandas().set_index("item_id")

    predicted.export = export
    return predicted


def test_a_model_of_weeks_scores_the_next_week(drives, predict):
    scores = predict()
    assert "40 items scored for 2024-07-22: scores.parquet" in drives.out
    assert set(scores["period"].astype(str)) == {"2024-07-22"}
    assert (scores["observed_periods"] == 3).all()
    recent = worlds.of_counts(worlds.counts(freq="W-MON"))[0][:, -3:].sum(axis=1)
    assert scores["seen_clicks"].tolist() == recent.tolist()


def test_a_model_of_weeks_refuses_days(drives, predict):
    write(counts=worlds.counts())
    code = drives.run(PredictConfig, "predict", predict.export, *TABLES)
    assert code == driver.WRONG_INPUT
    assert "counts.csv" in drives.err
    code = drives.run(PredictConfig, "predict", predict.export, *TABLES, "--period=1d")
    assert code == driver.WRONG_INPUT
    assert "the model was trained on periods of 7d" in drives.err
    assert not Path("scores.parquet").exists()


def test_odd_names_are_verified_compared_and_trained_again(drives, predict, trained):
    assert drives.run(PredictConfig, "predict", "--verify", predict.export) == driver.OK
    assert drives.out.count("ok  ") >= 5
    assert drives.run(DriftConfig, "drift", predict.export, *TABLES) == driver.OK
    assert "no drift" in drives.out
    run = shutil.copytree(trained / "run", Path("copy"))
    files = [f"--flagfile={run / name}" for name in ("flags.txt", "places.txt")]
    flags = [*files, *TABLES, "--outputs=predictions", "--run_dir=again"]
    assert drives.run(TrainConfig, "train", *flags) == driver.OK, drives.err
    first, second = (
        pyarrow.parquet.read_table(place / "evaluation/predictions.parquet").to_pandas()
        for place in (run, Path("again"))
    )
    pd.testing.assert_frame_equal(first, second, rtol=1e-4)


ODD_TEXTS = {
    0: 'two lines\nof a "title", with a comma\r\nand 🐈🔥 émojis',
    1: "猫と犬 " * 20_000,
    2: "x" * 300_000,
    3: "nul \0 inside",
    4: "\u2028 line\u0085sep \x0b\x0c",
    5: "",
    6: "NA",
    7: "&amp; <b>html</b>",
}
ODD_LENGTHS = {12: "inf", 13: "NaN", 14: "1e308", 15: "-5", 16: "NULL"}
ODD_VALUES = [(8, "category", "never seen"), (10, "category", ""), (11, "author", "nobody")]
ODD_VALUES += [(9, "tags", "how-to;new tag;;how-to")]


def odd_items():
    table = worlds.joined(worlds.items()).astype({"duration": object})
    for column, values in (("title", ODD_TEXTS), ("duration", ODD_LENGTHS)):
        for row, value in values.items():
            table.loc[row, column] = value
    for row, column, value in ODD_VALUES:
        table.loc[row, column] = value
    return table


def test_odd_texts_and_numbers_are_scored_alike_in_every_format(drives, predict):
    usual = predict()
    table = odd_items()
    write(table)
    of_text = predict()
    for field in ("Video Category", "tags (raw)", "author.name"):
        assert f"{field}: 1 of " in drives.out
    numbers = pd.to_numeric(table["duration"], errors="coerce")
    table.assign(duration=numbers).rename(columns=ODD).to_parquet("items.csv")
    of_numbers = predict()
    assert np.isfinite(of_text["predicted_share_rate"]).all()
    pd.testing.assert_frame_equal(of_text, of_numbers)
    same = of_text.index[17:]
    np.testing.assert_allclose(
        of_text.loc[same, "predicted_share_rate"],
        usual.loc[same, "predicted_share_rate"],
        rtol=0.05,  # the means of categories miss a few items
    )


def test_a_word_in_a_column_of_numbers_is_refused(drives, predict):
    table = odd_items()
    table.loc[17, "duration"] = "None"
    write(table[17:])
    flags = [*TABLES, "--unknown_items=drop"]
    assert drives.run(PredictConfig, "predict", predict.export, *flags) == driver.WRONG_INPUT
    assert (
        "items.csv line 2, column Duration, s: a numeric column's value must be a number. "
        "Received: 'None'" in drives.err
    )


def test_new_items_are_scored(drives, predict):
    table = worlds.joined(worlds.items())
    new = table[:5].assign(item_id=[f"n{number}" for number in range(5)])
    write(pd.concat([table, new]))
    scores = predict()
    assert len(scores) == 45
    assert (scores.loc["n0":"n4", "observed_periods"] == 0).all()


def test_only_items_are_those_that_are_there(drives, predict):
    pd.DataFrame({"item_id": ["v0003", "v0001", "elsewhere"]}).to_json(
        "only.jsonl", orient="records", lines=True
    )
    assert predict("--only_items=only.jsonl").index.tolist() == ["v0001", "v0003"]
    assert "only_items: item is in the items table: 3 in, 1 dropped  ('elsewhere' is not)" in (
        drives.out
    )
    for wrong, words in (
        ("elsewhere", "only.csv (--only_items): none of its 1 items is in items.csv"),
        ("V0003", "'V0003' is not in the items table, but 'v0003' is"),
    ):
        Path("only.csv").write_text(f"item_id\n{wrong}\n")
        flags = [*TABLES, "--only_items=only.csv", "--output=none.parquet"]
        assert drives.run(PredictConfig, "predict", predict.export, *flags) == driver.WRONG_INPUT
        assert words in drives.err
        assert not Path("none.parquet").exists()


def test_another_separator_of_tags_is_reported(drives, predict):
    write(worlds.joined(worlds.items(), "|"))
    predict()
    assert "items.csv: tags (raw): " in drives.err
    assert "values are unknown to the model" in drives.err
    scores = predict("--list_separator=|")
    assert drives.err == ""
    write()
    pd.testing.assert_frame_equal(scores, predict())


def test_a_target_that_is_always_zero_is_reported_wherever_it_is_used(drives):
    write(counts=worlds.counts().assign(shares=0))
    flags = [*TABLES, *ODD_FIELDS, "--model=gru", "--set=units=8", "--nojit", "--epochs=1"]
    flags += [*worlds.SMALL, "--run_dir=run"]
    assert drives.run(TrainConfig, "train", *flags) == driver.OK
    before, _, after = drives.out.partition("epoch 1")
    assert after
    assert "targets have the same rate, 0 %: nothing can be learned from them" in before
    how = ["--saved_model=run/export", *TABLES, "--rule=stored", "--explore"]
    assert drives.run(PredictConfig, "predict", *how) == driver.OK
    assert "so its decisions are meaningless" in drives.out + drives.err
    assert drives.run(EvaluateConfig, "evaluate", "--run_dir=run") == driver.OK
    assert "nothing can be learned from them" in drives.out
