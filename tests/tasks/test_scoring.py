import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet import config, driver, tasks
from mmnet.checks import InputError
from mmnet.config import PredictConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.flags import parse


def predict(*arguments):
    tasks.predict(parse(PredictConfig, arguments))


@pytest.fixture(scope="module")
def tables(run_dir, tmp_path_factory):
    """The run's own tables as Parquet files."""
    directory = tmp_path_factory.mktemp("tables")
    fitted = datasets.load(run_dir / "dataset").fitted
    found = input_tables.load_tables(fitted.tables)
    pq.write_table(found.counts.data, directory / "counts.parquet")
    pq.write_table(found.items.data, directory / "items.parquet")
    pq.write_table(found.vectors["cover"].data, directory / "cover.parquet")
    return directory


def table_flags(tables):
    return [
        f"--counts={tables / 'counts.parquet'}",
        f"--items={tables / 'items.parquet'}",
        f"--vectors=cover:{tables / 'cover.parquet'}",
    ]


def test_every_item_is_scored_for_the_period_after_the_last(run_dir, tables, tmp_path):
    predict(
        f"--saved_model={run_dir / 'export'}",
        *table_flags(tables),
        f"--output={tmp_path / 'scores.parquet'}",
    )
    scores = pq.read_table(tmp_path / "scores.parquet").to_pandas()
    items = pq.read_table(tables / "items.parquet").to_pandas()
    assert list(scores["item_id"]) == list(items["item_id"])
    assert set(scores["period"]) == {24}  # periods 0...23 were seen
    assert scores["predicted_share_rate"].between(0, 100).all()
    assert (scores["observed_periods"] == 0).any()  # items without history are scored too


def test_a_last_period_that_is_not_complete_is_named_and_not_scored_from(
    run_dir, tables, tmp_path, capsys
):
    found = pq.read_table(tables / "counts.parquet")
    last = np.flatnonzero(found["period"].to_numpy() == 23)
    pq.write_table(found.take(np.delete(np.arange(len(found)), last[3:])), tmp_path / "counts.pq")

    def scored(*more):
        where = [f"--counts={tmp_path / 'counts.pq'}", *table_flags(tables)[1:], *more]
        output = tmp_path / "scores.parquet"
        predict(f"--saved_model={run_dir / 'export'}", *where, f"--output={output}")
        return pq.read_table(output), capsys.readouterr().out

    scores, said = scored()
    assert "counts: in a complete period: " in said
    assert "3 dropped  (23 has " in said
    assert set(scores["period"].to_pylist()) == {23}
    assert scores.equals(scored("--as_of=22")[0])
    # A period that is named is used.
    for more in ("--as_of=23", "--use_partial"):
        scores, said = scored(more)
        assert set(scores["period"].to_pylist()) == {24}
        assert "complete period" not in said


def test_tables_and_the_prepared_dataset_give_the_same_scores(run_dir, tables, tmp_path):
    saved_model = f"--saved_model={run_dir / 'export'}"
    predict(saved_model, *table_flags(tables), f"--output={tmp_path / 'a.parquet'}")
    predict(
        saved_model, f"--dataset_dir={run_dir / 'dataset'}", f"--output={tmp_path / 'b.parquet'}"
    )
    of_tables, of_dataset = (pq.read_table(tmp_path / f"{name}.parquet") for name in "ab")
    assert of_tables.equals(of_dataset)


def test_scores_as_of_a_period_read_nothing_later(run_dir, tables, tmp_path):
    counts = pq.read_table(tables / "counts.parquet").to_pandas()
    later = counts["period"] > 15
    changed = counts.copy()
    changed.loc[later, "shares"] = changed.loc[later, "clicks"]
    pq.write_table(pa.Table.from_pandas(changed), tmp_path / "changed.parquet")
    flags = [f"--saved_model={run_dir / 'export'}", *table_flags(tables), "--as_of=15"]
    predict(*flags, f"--output={tmp_path / 'a.parquet'}")
    changed_counts = f"--counts={tmp_path / 'changed.parquet'}"
    predict(*flags, changed_counts, f"--output={tmp_path / 'b.parquet'}")
    before, after = (pq.read_table(tmp_path / f"{name}.parquet") for name in "ab")
    assert before["period"][0].as_py() == 16
    assert before.equals(after)


def test_new_items_with_unknown_values_are_scored(run_dir, tables, tmp_path):
    items = pq.read_table(tables / "items.parquet")
    row = {name: [None] for name in items.column_names} | {
        "item_id": ["brand new"],
        "category": ["never seen"],
    }
    new = pa.table({name: pa.array(row[name], items[name].type) for name in items.column_names})
    pq.write_table(pa.concat_tables([items, new]), tmp_path / "items.parquet")
    predict(
        f"--saved_model={run_dir / 'export'}",
        *table_flags(tables),
        f"--items={tmp_path / 'items.parquet'}",
        f"--output={tmp_path / 'scores.parquet'}",
    )
    last = pq.read_table(tmp_path / "scores.parquet").to_pylist()[-1]
    assert last["item_id"] == "brand new"
    assert np.isfinite(last["predicted_share_rate"])


def test_explained_scores_have_the_weights_and_reasons_of_each_input(run_dir, tables, tmp_path):
    flags = [f"--saved_model={run_dir / 'export'}", *table_flags(tables)]
    predict(*flags, f"--output={tmp_path / 'plain.parquet'}")
    predict(*flags, "--explain", f"--output={tmp_path / 'explained.parquet'}")
    plain, explained = (
        pq.read_table(tmp_path / f"{name}.parquet").to_pandas() for name in ("plain", "explained")
    )
    content = ("meta", "text_title", "vector_cover")
    weights = [f"weight_{name}" for name in ("history", *content)]
    reasons = [f"reason_{name}" for name in ("own_clicks", "taxonomies", *content)]
    assert list(explained) == [*plain, *weights, *reasons]
    # Two graphs of the same model: another order of float32 sums.
    np.testing.assert_allclose(
        explained["predicted_share_rate"], plain["predicted_share_rate"], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(explained[weights].sum(axis=1), 1, rtol=1e-5)
    assert (explained[reasons].std() > 0).all()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--as_of=99"], "--as_of=99 is outside the counts, which run from 0 to 23"),
        (["--as_of=soon"], "--as_of: a period must be a whole number. Received: 'soon'"),
        (["--saved_model="], "--saved_model not given"),
        (["--ranking_from=3"], "--ranking_from needs --ranking_features"),
        (["--output=/dev/null/scores.parquet"], "--output=/dev/null/scores.parquet: "),
    ],
)
def test_a_wrong_flag_is_one_sentence_and_exit_1(run_dir, tables, capsys, flags, sentence):
    saved_model = f"--saved_model={run_dir / 'export'}"
    arguments = [saved_model, *table_flags(tables), *flags]
    assert driver.run(PredictConfig, "", "predict", arguments) == driver.WRONG_INPUT
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_nothing_to_score_is_said(run_dir, capsys):
    saved_model = f"--saved_model={run_dir / 'export'}"
    assert driver.run(PredictConfig, "", "predict", [saved_model]) == driver.WRONG_INPUT
    assert "no tables given; name --counts" in capsys.readouterr().err


def test_a_dataset_of_another_model_is_refused(run_dir, simulated_flags, tmp_path, capsys):
    other = [*simulated_flags, "--window=3", f"--dataset_dir={tmp_path / 'other'}"]
    names = config.PrepareConfig.model_fields
    tasks.prepare(parse(config.PrepareConfig, other))
    assert set(names) < set(TrainConfig.model_fields)
    flags = [f"--saved_model={run_dir / 'export'}", f"--dataset_dir={tmp_path / 'other'}"]
    assert driver.run(PredictConfig, "", "predict", flags) == driver.WRONG_INPUT
    assert "was prepared for another model" in capsys.readouterr().err


def test_further_rates_that_the_model_does_not_have_are_refused(run_dir, tables):
    where = [f"--saved_model={run_dir / 'export'}", *table_flags(tables)]
    with pytest.raises(InputError, match=r"^--also_predict=like differs from .* model, none; leav"):
        predict(*where, "--also_predict=like", "--rate=like=shares/clicks")
