import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mmnet import driver
from mmnet.credentials import HIDDEN
from mmnet.experiments import plan
from mmnet.flags import parse
from mmnet.mma4ctr import config
from mmnet.mma4ctr.data import dataset
from mmnet.mma4ctr.experiments import records
from mmnet.mma4ctr.experiments.clicks import SYSTEM
from mmnet.training.records import Record
from tests.experiments.test_experiment import workers_here
from tests.mma4ctr.conftest import FAST, LOG
from tests.mma4ctr.files import feed, play, write_tiktok, write_wechat
from tests.pages import Page
from tests.test_credentials import secrets_in

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parents[2]
DRIVERS = {
    "prepare": config.PrepareConfig,
    "train": config.TrainConfig,
    "evaluate": config.EvaluateConfig,
    "predict": config.PredictConfig,
    "experiment": config.ExperimentConfig,
}


def run(name, *arguments):
    return driver.run(DRIVERS[name], "", name, arguments, tasks="mmnet.mma4ctr.tasks")


def test_no_file_of_a_dataset_or_a_run_holds_a_secret_of_its_flags(place):
    assert f"custom_user_agent={HIDDEN}" in (place / "run/record.json").read_text()
    assert secrets_in(place) == []


def test_a_run_leaves_what_the_design_says(place):
    for name in (
        *("flags.txt", "places.txt", "record.json", "weights.npz", "export/1/saved_model.pb"),
        *("evaluation/metrics.json", "evaluation/table.md", "evaluation/predictions.parquet"),
        *(
            "evaluation/report.html",
            "evaluation/roc.png",
            "evaluation/training.png",
            "evaluation/rows.png",
            "logs",
        ),
    ):
        assert (place / "run" / name).exists(), name
    record = Record.read(place / "run" / "record.json")
    assert record.parameters == 128 * record.metrics["in_features"] + 4393
    assert set(record.inputs) == {"user_action.csv", "feed_info.csv"}
    assert {"train", "features", "protocol", "export"} <= set(record.stage_seconds)
    own = parse(config.TrainConfig, [f"--flagfile={place / 'run' / 'flags.txt'}"])
    assert own.protocol == "c1"
    logged = EventAccumulator(str(place / "run" / "logs"), size_guidance={"tensors": 0})
    tags = logged.Reload().Tags()["tensors"]
    assert {"train/loss", "train/epoch_loss", "validation/auc", "best/validation/auc"} <= set(tags)
    assert "_hparams_/session_start_info" in logged.PluginTagToContent("hparams")


def test_evaluating_again_gives_the_same_numbers(place, tmp_path):
    own = shutil.copytree(place / "run", tmp_path / "run")
    path = own / "evaluation" / "metrics.json"
    before = json.loads(path.read_text())
    assert run("evaluate", f"--run_dir={own}") == 0
    assert json.loads(path.read_text())["test"] == pytest.approx(before["test"], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"fitted": {}}, "history is missing or damaged"),
        ({"fitted": {"history": [{"epoch": 1}], "best_epoch": 1}}, "history.0.loss is missing"),
        ({"fitted": "x"}, "record.json, the record of the run, is missing or damaged"),
    ],
)
def test_a_damaged_record_is_refused(place, tmp_path, capsys, change, wrong):
    shutil.copytree(place / "run", tmp_path / "run")
    record = tmp_path / "run" / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    assert run("evaluate", f"--run_dir={tmp_path / 'run'}") == 1
    assert wrong in capsys.readouterr().err


def test_predictions_are_the_metrics(place):
    from mmnet.mma4ctr.evaluation import metrics

    rows = pyarrow.parquet.read_table(place / "run" / "evaluation" / "predictions.parquet")
    found = json.loads((place / "run" / "evaluation" / "metrics.json").read_text())["test"]
    label, score = rows["label"].to_numpy(), rows["probability"].to_numpy()
    assert metrics.auc(label, score) == pytest.approx(found["auc"], abs=1e-6)
    assert len(rows) == found["rows"]


def test_pairs_are_scored_by_the_saved_model(place, tmp_path, capsys):
    data = dataset.load(place / "dataset")
    users, items = data.user_ids, data.item_ids
    pairs = pa.table({"user_id": [*users[:3], 10**9], "item_id": items[:4]})
    pyarrow.parquet.write_table(pairs, tmp_path / "pairs.parquet")
    output = tmp_path / "scores.parquet"
    arguments = [f"--pairs={tmp_path / 'pairs.parquet'}", f"--output={output}"]
    assert run("predict", f"--saved_model={place / 'run' / 'export'}", *arguments) == 0
    scores = pyarrow.parquet.read_table(output)
    assert scores["known_user"].to_pylist() == [True, True, True, False]
    probability = scores["calibrated_probability"].to_numpy()
    assert ((probability > 0) & (probability < 1)).all()


def test_the_saved_model_is_verified_by_the_driver(place, capsys):
    assert run("predict", f"--saved_model={place / 'run' / 'export'}", "--verify") == 0
    assert capsys.readouterr().out.count("ok  ") == 4


def test_an_unchanged_log_is_not_prepared_again(place):
    spec = place / "dataset" / "dataset.json"
    before = spec.stat().st_mtime_ns
    assert run("prepare", *LOG, f"--dataset_dir={place / 'dataset'}") == 0
    assert spec.stat().st_mtime_ns == before


def test_a_finished_run_is_not_overwritten(place, capsys):
    data = f"--dataset_dir={place / 'dataset'}"
    assert run("train", data, f"--run_dir={place / 'run'}", *FAST) == 1
    assert "already holds a run" in capsys.readouterr().err
    assert run("train", f"--run_dir={place / 'run'}", "--resume", "--epochs=9") == 1
    assert "--epochs=9 differs" in capsys.readouterr().err


def test_tiktok_goes_the_same_way(tmp_path):
    log = ["--source=tiktok", "--generate=users=40", "--generate=items=900", "--min_rows=30"]
    log += ["--generate=rows=12000", "--generate=rate=0.05", f"--dataset_dir={tmp_path / 'data'}"]
    assert run("train", *log, f"--run_dir={tmp_path / 'run'}", *FAST, "--protocol=p0") == 0
    found = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert found["protocol"] == "p0"
    assert run("prepare", *log, "--label=finish") == 0
    spec = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert spec["label"] == "finish"
    assert spec["positives"] / spec["rows"] > 0.15


@pytest.mark.slow
def test_umap_maps_are_drawn_of_rows_and_hidden_vectors(place, tmp_path):
    pytest.importorskip("umap")
    own = shutil.copytree(place / "run", tmp_path / "run")
    assert run("evaluate", f"--run_dir={own}", "--umap=40") == 0
    for name in ("inputs", "hidden"):
        for dimensions in (2, 3):
            path = own / "evaluation" / f"umap_{name}_{dimensions}d.png"
            assert path.stat().st_size > 10_000


def test_the_main_roads_scores_filter_items_and_become_columns(place, tmp_path):
    items = dataset.load(place / "dataset").item_ids
    decision = np.where(np.arange(len(items)) % 2, "keep", "drop")
    table = {"item_id": items.astype(str), "predicted_share_rate": np.linspace(0, 9, len(items))}
    scores = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(pa.table(table | {"decision": decision}), scores)
    data = f"--dataset_dir={place / 'dataset'}"
    more = [data, f"--item_scores={scores}", "--first_time=5", "--min_rows=20", *FAST]
    assert run("train", *more, f"--run_dir={tmp_path / 'run'}") == 0
    found = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    plain = json.loads((place / "run" / "evaluation" / "metrics.json").read_text())
    assert found["in_features"] == plain["in_features"] + 2
    rows = pyarrow.parquet.read_table(tmp_path / "run" / "evaluation" / "predictions.parquet")
    assert set(rows["item_id"].to_pylist()) <= set(items[1::2].tolist())
    assert run("evaluate", f"--run_dir={tmp_path / 'run'}") == 0  # finds the scores again


def test_rates_and_scores_of_days_before_reach_the_export_and_trees_are_compared(place, tmp_path):
    pytest.importorskip("lightgbm")
    data, draw = dataset.load(place / "dataset"), np.random.default_rng(0)
    items, days = data.item_ids, np.arange(2, 16)
    table = {
        "item_id": np.repeat(items, len(days)).astype(str),
        "period": np.tile(days, len(items)),
        "predicted_share_rate": draw.random(len(items) * len(days)),
    }
    scores, own = tmp_path / "scores.parquet", tmp_path / "run"
    pyarrow.parquet.write_table(pa.table(table), scores)
    flags = ["--past_rates", "--user_features=none", "--matrix=visual", "--loss=bce", "--lightgbm"]
    flags += [f"--dataset_dir={place / 'dataset'}", f"--item_scores={scores}", *FAST, "--epochs=1"]
    assert run("train", *flags, f"--run_dir={own}") == 0
    found = json.loads((own / "evaluation" / "metrics.json").read_text())
    assert "LightGBM" in found["references"]
    rows = pyarrow.parquet.read_table(own / "evaluation" / "predictions.parquet").to_pandas()
    label = rows.pop("label")
    for name, scored in found["references"].items():
        probability = rows[name.lower().replace(" ", "_")]
        loss = -np.mean(np.log(np.where(label == 1, probability, 1 - probability)))
        assert loss == pytest.approx(scored["log_loss_calibrated"], rel=1e-4)
    # The export knows each item as it is after the last day.
    last = pd.DataFrame(table).query("period == 15").set_index("item_id")["predicted_share_rate"]
    from mmnet.mma4ctr import tasks

    made = tasks.restored(data, parse(config.TrainConfig, flags), own)
    of_items = made.features.moments.reshape(len(items), -1, 4)[:, -1, 0]
    np.testing.assert_allclose(of_items, last[items.astype(str)], rtol=1e-6)
    pairs = pa.table({"user_id": data.user_ids[:50], "item_id": items[:50]})
    pyarrow.parquet.write_table(pairs, tmp_path / "pairs.parquet")
    arguments = [f"--pairs={tmp_path / 'pairs.parquet'}", f"--output={tmp_path / 'clicks.parquet'}"]
    assert run("predict", f"--saved_model={own / 'export'}", *arguments) == 0
    clicks = pyarrow.parquet.read_table(tmp_path / "clicks.parquet")["probability"].to_numpy()
    state, item = made.protocol.last_state[:50], np.arange(50)
    known = np.isin(np.arange(50), made.protocol.edges.user) & made.needed[:50]
    wanted = made.model.net(made.features.rows(state, item, "train"))[0].numpy()
    # float32 sums in another order.
    np.testing.assert_allclose(clicks[known], wanted[known], atol=1e-5)


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (["--past_rates", "--protocol=c2"], "--past_rates are rates before a row, and --protocol"),
        (["--lightgbm", "--model=bpr"], "--lightgbm reads rows of features, and --model=bpr has"),
        (["--matrix=none", "--user_features=none"], "leave the model without inputs"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(place, tmp_path, capsys, flags, wrong):
    given = [f"--dataset_dir={place / 'dataset'}", f"--run_dir={tmp_path / 'run'}"]
    assert run("train", *given, *flags) == 1
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_baseline_runs_and_exports_nothing(place, tmp_path, capsys):
    data, run_dir = f"--dataset_dir={place / 'dataset'}", tmp_path / "run[x]"
    assert run("train", data, "--model=bpr", f"--run_dir={run_dir}", *FAST) == 0
    assert not (run_dir / "export").exists()
    table = (run_dir / "evaluation" / "table.md").read_text()
    assert "| bpr, c1 |" in table
    told = capsys.readouterr().out
    # Every cell of the table is there, and a row is a line, however long.
    for row in [line.strip("| ").split(" | ") for line in table.splitlines() if "---" not in line]:
        assert any(line.split() == " ".join(row).split() for line in told.splitlines()), row
    assert f"run     {run_dir}" in told  # brackets and all
    assert f"report  {run_dir / 'evaluation' / 'report.html'}" in told


def columns_of(page, row):
    """Heading -> text, of a row of the table of scores."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    (head,) = [line for line in lines if line.startswith("| System | Seeds |")]
    (mine,) = [line for line in lines if line.startswith(f"| {row} | 2 |")]
    return dict(zip(*([c.strip() for c in line.split("|")] for line in (head, mine)), strict=True))


def test_an_experiment_fills_its_table_and_then_only_reads(place, tmp_path, capsys):
    arguments = [
        *(f"--dataset_dir={place / 'dataset'}", *FAST, "--seeds=0,1", "--evaluate_at=1,2"),
        "--reference=P0",
        *(
            "--row=P0: --protocol=p0",
            "--row=P0-r: --protocol=p0 --user_features=rate --matrix=none",
        ),
        "--published=P0-r: .99",
        *("--figure=epochs", f"--results={tmp_path / 'results'}", f"--cells={tmp_path / 'cells'}"),
    ]
    (tmp_path / "cells").mkdir()
    earlier = tmp_path / "cells" / "0123456789abcdef.json"  # a cell as earlier versions kept it
    earlier.write_text('{"row": "P0", "seed": 0}')
    with workers_here():
        assert run("experiment", *arguments) == 0
    assert "4 cells, 4 of them run now" in capsys.readouterr().out
    page = (tmp_path / "results" / "results.md").read_text()
    rows = {name: columns_of(page, name) for name in ("P0", "P0-r")}
    assert "AUC, epoch 1" in rows["P0"]
    assert "Difference from P0 with its 95 % interval" in page
    assert len(re.findall(r"^\| P0-r \| [+-][^|]*\[[^|]*\] p ", page, re.MULTILINE)) == 1
    assert rows["P0-r"]["columns"] == "2"  # the rate and the device
    assert rows["P0-r"]["published"] == ".99"
    text = (tmp_path / "results" / "results.csv").read_text().splitlines()
    assert sum(",chosen," in line for line in text) == 4
    assert (tmp_path / "results" / "epochs.png").exists()
    shown = Page((tmp_path / "results" / "report.html").read_text(encoding="utf-8")).values("Rows")
    assert set(shown) == {"P0", "P0-r"}
    frame = pd.read_csv(tmp_path / "results" / "rows.csv").set_index(["metric", "system"])
    means = pd.read_csv(tmp_path / "results" / "results.csv").query("at == 'chosen'")
    kept = records.read(tmp_path)  # as the ledger reads it
    assert not kept.earlier
    for row, of_row in means.groupby("row"):
        assert kept.by_seed(row) == dict(zip(of_row["seed"], of_row["auc"], strict=True))
        assert set(kept.by_seed(row, 2)) == {0, 1}
    for row, mean in means.groupby("row")["auc"].mean().items():
        found = frame.loc[("auc", row)]
        assert found["value"] == pytest.approx(mean)
        assert found["low"] < mean < found["high"]
    assert {"user_auc", "pr_auc", "log_loss"} <= set(frame.index.get_level_values("metric"))
    assert frame.loc[("auc", "P0-r"), "p_adjusted"] <= 1
    cells = {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*/record.json")}
    assert len(cells) == 4
    assert run("experiment", *arguments) == 0  # no worker is started
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "cells").glob("*/record.json")} == cells
    assert f"report  {tmp_path / 'results' / 'report.html'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "--dataset_dir=d"], "needs --source_dir"),
        (["prepare", "--source_dir=nowhere"], "--dataset_dir not given"),
        (["prepare", "--source=wechats", "--dataset_dir=d"], "Did you mean wechat?"),
        (["prepare", "--generate=user=3", "--dataset_dir=d"], "has no option 'user'"),
        (["train"], "no files given; name --source_dir, --generate or --dataset_dir"),
        (["train", "--run_dir=r", "--dataset_dir=d"], "d is not a dataset directory"),
        (["train", "--epoch=3"], "Did you mean epochs?"),
        (["train", "--pca_widths=1,2"], "must be three numbers"),
        (["evaluate", "--run_dir=r"], "contains no run"),
        (["predict", "--saved_model=r"], "no SavedModel there"),
        (["experiment"], "no directory for the results"),
        (["experiment", "--results=r"], "no --row"),
        (["experiment", "--results=r", "--table=T: p1"], "no flagfile p1.txt"),
        (["experiment", "--results=r", "--row=a: --source=b --source_dir=c"], "must be one of wec"),
        (["experiment", "--results=r", "--row=a:", "--row=a:"], "two rows have this name"),
        (["experiment", "--results=r", "--row=a: --seed=3"], "--seed is set for each cell"),
        (["experiment", "--results=r", "--row=abc:", "--published=abd: 1"], "Did you mean abc?"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_one(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_nothing_to_read_is_refused(place, tmp_path, capsys):
    data = [f"--dataset_dir={place / 'dataset'}", f"--run_dir={tmp_path / 'run'}"]
    assert run("train", *data, "--matrix=none") == 1
    assert "--matrix=none leaves no modality" in capsys.readouterr().err
    assert run("train", *data, "--source=tiktok") == 1
    assert "--source=tiktok differs" in capsys.readouterr().err


def test_items_that_the_item_file_lacks_are_named_or_dropped(tmp_path, capsys):
    plays = [play(1, n % 4 + 1, day=n % 14 + 1) for n in range(60)]
    source = write_wechat(tmp_path / "raw", plays, [feed(n) for n in (1, 2, 3)])
    flags = [f"--source_dir={source}", f"--dataset_dir={tmp_path / 'data'}"]
    assert run("prepare", *flags) == 1
    assert "feed_info.csv lacks item 4" in capsys.readouterr().err
    assert run("prepare", *flags, "--unknown_items=drop") == 0
    assert (
        "| log | the item is in the item files | 60 | 45 | 15 |"
        in (dataset.load(tmp_path / "data").folder / "ledger.md").read_text()
    )


def test_missing_feature_files_are_named(tmp_path, capsys):
    source = write_tiktok(tmp_path, [dict.fromkeys(config_columns(), 1)])
    flags = [f"--source_dir={source}", f"--dataset_dir={tmp_path / 'd'}", "--min_rows=1"]
    assert run("prepare", "--source=tiktok", *flags) == 1
    assert "track1_video_*.txt: no such file" in capsys.readouterr().err


def config_columns():
    from mmnet.data.sources import tiktok

    return tiktok.COLUMNS


@pytest.mark.parametrize("name", DRIVERS)
def test_help_reads_without_tensorflow(name):
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['{name}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('mmnet.mma4ctr.{name}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--flagfile=FILE" in ran.stdout


def test_the_results_page_repeats_lines_that_the_experiments_wrote():
    folder = ROOT / "experiments" / "mma4ctr"
    page = (folder / "README.md").read_text(encoding="utf-8")
    sources = [*folder.glob("*/results/results.md"), *folder.glob("*/results.md")]
    sources.append(ROOT / "experiments" / "performance" / "mma4ctr.md")
    stored = {line for path in sources for line in path.read_text("utf-8").splitlines()}
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    assert not [row for row in rows if row not in stored]


EXPERIMENTS = sorted((ROOT / "experiments" / "mma4ctr").glob("*/experiment.txt"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_every_experiment_is_read(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    arguments = [f"--experiment={path.parent}", f"--flagfile={path}"]
    flags = parse(config.ExperimentConfig, arguments)
    planned = plan.plan(flags, SYSTEM)
    assert planned.rows
    assert flags.title
    SYSTEM.check(planned, flags)
