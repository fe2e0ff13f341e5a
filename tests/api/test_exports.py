import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

import mmnet
from mmnet import tasks
from mmnet.config import PredictConfig
from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.flags import parse


@pytest.fixture(scope="module")
def export(run_dir):
    return mmnet.Export.load(run_dir / "export")


@pytest.fixture(scope="module")
def tables(run_dir):
    """The run's own tables as data frames."""
    found = input_tables.load_tables(datasets.load(run_dir / "dataset").fitted.tables)
    counts, items = found.counts.data.to_pandas(), found.items.data.to_pandas()
    return {"counts": counts, "items": items, "vectors": {"cover": found.vectors["cover"].data}}


def test_scores_frames_as_predict_scores_files(run_dir, export, tables, tmp_path):
    arguments = [f"--saved_model={run_dir / 'export'}", f"--dataset_dir={run_dir / 'dataset'}"]
    arguments += [f"--output={tmp_path / 'scores.parquet'}", "--rule=stored", "--explain"]
    tasks.predict(parse(PredictConfig, arguments))
    wanted = pq.read_table(tmp_path / "scores.parquet").to_pandas()
    found = export.score(**tables, rule="stored", explain=True)
    assert found.equals(wanted)
    assert {f"weight_{name}" for name in export.modalities} < set(found.columns)
    of_dataset = export.score(dataset=mmnet.Dataset.load(run_dir / "dataset"), rule="stored")
    assert np.array_equal(of_dataset["decision"], wanted["decision"])
    (rule,) = export.rules.values()
    kept = wanted["predicted_share_rate"] >= rule["threshold"]
    assert np.array_equal(wanted["decision"] == "keep", kept)


def test_says_nothing_unless_asked(export, tables, capsys):
    export.score(**tables, as_of="20")
    assert capsys.readouterr().out == ""
    export.score(**tables, as_of=20, verbose=True)
    assert "items scored for 21" in capsys.readouterr().out


def test_verifies(run_dir, tmp_path):
    copy = shutil.copytree(run_dir / "export", tmp_path / "export")
    (copy / "1" / "assets.extra" / "decision.json").write_text("{}")
    with pytest.raises(mmnet.InputError, match=r"decision\.json"):
        mmnet.Export.load(copy).verify()


def test_watches_for_drift(export, tables):
    told = export.drift(**tables, checked=20)
    assert (told["period"], told["drifted"]) == (20, any(f["drifted"] for f in told["findings"]))
    counts = tables["counts"].assign(clicks=tables["counts"]["clicks"] * 100)
    assert export.drift(**tables | {"counts": counts}, checked="20")["drifted"]


def test_refuses_in_a_sentence(export, tables, tmp_path):
    with pytest.raises(mmnet.InputError, match="no SavedModel"):
        mmnet.Export.load(tmp_path)
    with pytest.raises(mmnet.InputError, match="'output' is an option of"):
        export.score(**tables, output="x.parquet")
    with pytest.raises(mmnet.InputError, match="no tables given"):
        export.score()


def test_errors_on_newer_tables_are_those_of_the_runs_own_test(run_dir, export, tables):
    test = export.first_targets["test"]
    periods = int(tables["counts"]["period"].max()) - test + 1
    found = export.evaluate(**tables, periods=periods)
    evaluated = mmnet.Run.open(run_dir).metrics
    for scenario in ("normal", "cold_start", "noisy"):
        assert found[scenario]["n"] == evaluated[scenario]["n"]
        # The SavedModel sums float32 in another order.
        assert found[scenario]["mse"] == pytest.approx(evaluated[scenario]["mse"], rel=1e-5)
    with pytest.raises(mmnet.InputError, match="has learned from the periods before"):
        export.evaluate(**tables, periods=periods + 1)


def test_two_exports_are_compared_on_the_same_rows(export, tables):
    found = export.compare(export, **tables, periods=2)
    assert found["periods"] == [22, 23]
    assert found["scenarios"]["noisy"]["unweighted"]["ratio"]["value"] == 1
    logged = tables["items"][["item_id"]].assign(period=20, decision="explore", propensity=0.1)
    found = export.compare(export, **tables, periods=2, decisions=logged, clip=5)
    assert found["weighting"]["clipped"] == 1
    assert found["weighting"]["largest"] == 10


def test_scores_of_several_outputs_have_a_row_per_horizon(several_outputs):
    export = mmnet.Export.load(several_outputs / "export")
    assert export.outputs == (
        *("predicted_share_rate", "predicted_share_rate_h3"),
        *("predicted_like", "predicted_like_h3"),
    )
    tables = {name: f"{several_outputs / name}.parquet" for name in ("counts", "items")}
    found = export.score(**tables, rule="keep=0.5")
    assert found["horizon"].tolist() == [1, 3] * 60
    assert found["decision"].notna().tolist() == [True, False] * 60
    assert found["predicted_like"].notna().all()
    assert list(export.rules) == ["keep=0.3 per category of like at 3", "keep=0.5"]
