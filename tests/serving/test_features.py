"""What a ranker reads of a period was known before it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mmnet import config, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.flags import parse

FIRST, LAST = 18, 20


@pytest.fixture(scope="module")
def tables(run_dir, tmp_path_factory):
    """The run's own tables as Parquet files."""
    directory = tmp_path_factory.mktemp("tables")
    found = input_tables.load_tables(datasets.load(run_dir / "dataset").fitted.tables)
    pq.write_table(found.counts.data, directory / "counts.parquet")
    pq.write_table(found.items.data, directory / "items.parquet")
    pq.write_table(found.vectors["cover"].data, directory / "cover.parquet")
    return directory


def written(run_dir, tables, output, *flags):
    arguments = [
        f"--saved_model={run_dir / 'export'}",
        f"--counts={tables / 'counts.parquet'}",
        f"--items={tables / 'items.parquet'}",
        f"--vectors=cover:{tables / 'cover.parquet'}",
        f"--ranking_features={output}",
        *flags,
    ]
    tasks.predict(parse(config.PredictConfig, arguments))
    return pq.read_table(output)


RANGE = (f"--ranking_from={FIRST}", f"--as_of={LAST}")


def test_a_row_per_item_and_period_with_all_that_is_known(run_dir, tables, tmp_path):
    found = written(run_dir, tables, tmp_path / "a.parquet", *RANGE).to_pandas()
    assert set(found["period"]) == {FIRST + 1, FIRST + 2, LAST + 1}
    assert not found.duplicated(["item_id", "period"]).any()
    weights = [name for name in found if name.startswith("weight_")]
    # Float32 weights of a handful of modalities.
    np.testing.assert_allclose(found[weights].sum(axis=1), 1, rtol=1e-6)
    assert (found["share_rate_low"] <= found["share_rate_high"]).all()
    release = pq.read_table(tables / "items.parquet").to_pandas().set_index("item_id")["release"]
    assert (release.loc[found["item_id"]].to_numpy() <= found["period"].to_numpy()).all()
    assert (release > FIRST + 1).any()  # there are items to be left out


@pytest.mark.parametrize(
    "flag", ["output=scores", "processes=2", "runtime=onnx", "rule=stored", "only_items=a.csv"]
)
def test_a_flag_of_scores_is_refused(run_dir, tables, tmp_path, flag):
    name = flag.partition("=")[0]
    with pytest.raises(InputError, match=f"--{name} does not go with --ranking_features"):
        written(run_dir, tables, tmp_path / "a.parquet", f"--{flag}")


def test_rewriting_the_future_moves_no_row(run_dir, tables, tmp_path):
    before = written(run_dir, tables, tmp_path / "a.parquet", *RANGE)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("items", "cover"):
        (other / f"{name}.parquet").write_bytes((tables / f"{name}.parquet").read_bytes())
    counts = pq.read_table(tables / "counts.parquet")
    later = pc.greater(counts["period"], LAST)
    clicks = pc.if_else(later, pc.add(counts["clicks"], 1000), counts["clicks"])
    counts = counts.set_column(counts.schema.get_field_index("clicks"), "clicks", clicks)
    shares = pc.if_else(later, clicks, counts["shares"])
    counts = counts.set_column(counts.schema.get_field_index("shares"), "shares", shares)
    assert pc.sum(pc.cast(later, pa.int64())).as_py() > 100
    pq.write_table(counts, other / "counts.parquet")
    after = written(run_dir, other, tmp_path / "b.parquet", *RANGE)
    assert after.equals(before)  # bit for bit
    moved = written(run_dir, other, tmp_path / "c.parquet")
    assert not moved.equals(written(run_dir, tables, tmp_path / "d.parquet"))


def test_the_scores_are_those_of_predict(run_dir, tables, tmp_path):
    found = written(run_dir, tables, tmp_path / "a.parquet", "--as_of=20").to_pandas()
    flags = config.PredictConfig(
        saved_model=str(run_dir / "export"),
        dataset_dir=str(run_dir / "dataset"),
        output=str(tmp_path / "scores.parquet"),
        as_of="20",
        explain=True,
    )
    tasks.predict(flags)
    scores = pq.read_table(tmp_path / "scores.parquet").to_pandas().set_index("item_id")
    np.testing.assert_array_equal(
        found["predicted_share_rate"], scores.loc[found["item_id"], "predicted_share_rate"]
    )


def test_periods_that_were_trained_on_are_marked(run_dir, tables, tmp_path):
    first = datasets.load(run_dir / "dataset").first_targets["validation"]
    flags = (f"--ranking_from={first - 3}", f"--as_of={first + 1}")
    found = written(run_dir, tables, tmp_path / "a.parquet", *flags).to_pandas()
    assert (found["in_training"] == (found["period"] < first)).all()
    assert found["in_training"].nunique() == 2


def test_a_range_that_runs_backwards_is_refused(run_dir, tables, tmp_path):
    with pytest.raises(InputError, match="is after --as_of=5"):
        written(run_dir, tables, tmp_path / "a.parquet", "--ranking_from=9", "--as_of=5")
    assert not (tmp_path / "a.parquet").exists()


def test_of_several_horizons_a_period_has_a_row_of_each(several_outputs, tmp_path):
    place = several_outputs
    arguments = [
        f"--saved_model={place / 'export'}",
        *(f"--{name}={place / name}.parquet" for name in ("counts", "items")),
        f"--ranking_features={tmp_path / 'a.parquet'}",
        *("--ranking_from=16", "--as_of=19"),
    ]
    tasks.predict(parse(config.PredictConfig, arguments))
    found = pq.read_table(tmp_path / "a.parquet").to_pandas()
    assert not found.duplicated(["item_id", "period", "horizon"]).any()
    both = found[found["period"] == 19].groupby("item_id")["horizon"].agg(tuple)
    assert set(both) == {(3, 1)}  # as of 16, and later as of 18
    assert {"like_low", "like_high", "predicted_like"} <= set(found)
    # Validation begins with period 18, whose outcomes no row was trained on.
    assert found.groupby("period")["in_training"].agg(set).to_dict() == {
        17: {True},
        **{period: {False} for period in (18, 19, 20, 21, 22)},
    }
