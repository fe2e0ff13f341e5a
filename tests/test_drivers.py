"""The whole road through the drivers' own entry, on a small simulated log."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mmnet import config, driver, tasks
from mmnet.config import DriftConfig, EvaluateConfig, PredictConfig, PrepareConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.evaluation import metrics
from mmnet.evaluation.predicting import Predictor
from mmnet.files import scratch_directory, write_directory
from mmnet.flags import build, parse
from mmnet.tasks import evaluating, training
from mmnet.training.records import Record
from tests.conftest import without_drawing

pytestmark = pytest.mark.usefixtures("undrawn")


def run(flags, task, *arguments):
    return driver.run(flags, None, task, arguments)


def test_a_run_directory_has_what_the_readme_says(run_dir):
    names = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}
    assert {
        "flags.txt",
        "record.json",
        "architecture.md",
        "checkpoints/best.npz",
        "evaluation/metrics.json",
        "evaluation/systems.json",
        "evaluation/predictions.parquet",
        "evaluation/table.md",
        "evaluation/calibration.png",
        "evaluation/predicted_vs_true.png",
        "evaluation/error_by_age.png",
        "evaluation/error_by_clicks.png",
        "evaluation/outage.json",
        "evaluation/outage.png",
        "evaluation/attention.json",
        "evaluation/gates.png",
        "evaluation/decision.json",
        "evaluation/decision.md",
        "evaluation/decision.png",
        "evaluation/share_rate_by_category.png",
        "export/1/saved_model.pb",
        "export/1/assets.extra/checksums.json",
        "export/1/assets.extra/decision.json",
        "export/1/assets.extra/fitted.json",
        "export/1/assets.extra/profile.json",
        "export/1/assets.extra/tf_serving_warmup_requests",
    } <= names
    assert not [name for name in names if "/." in name or name.startswith(".")]  # nothing half


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_a_terminated_driver_leaves_nothing(tmp_path, capsys):
    def task(flags):
        def write(beside):
            (beside / "clicks.npy").touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

        with scratch_directory(tmp_path, ".events-"):
            write_directory(tmp_path / "dataset", write)

    before = signal.getsignal(signal.SIGTERM)
    assert run(PrepareConfig, task) == driver.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_cell_leaves_predictions_but_neither_plots_nor_export(tmp_path, simulated_flags):
    flags = [*simulated_flags, "--model=smoothed_history", "--outputs=predictions"]
    assert run(TrainConfig, "train", *flags, f"--run_dir={tmp_path / 'run'}") == 0
    names = {"metrics.json", "predictions.parquet", "degradation.json", "outage.json"}
    directory = tmp_path / "run" / "evaluation"
    assert {path.name for path in directory.iterdir()} == names
    # Intervals are for reports, and take time.
    texts = [path.read_text("utf-8") for path in directory.glob("*.json")]
    assert not [text for text in texts if "mse_low" in text]
    assert not (tmp_path / "run" / "export").exists()
    record = Record.read(tmp_path / "run" / "record.json")
    assert record.metrics["normal"]["n"] > 0
    assert set(record.fitted["validation"]) >= {"normal_mse", "cold_start_mse", "noisy_mse"}


def test_a_trial_does_not_open_the_test_split(tmp_path, simulated_flags, monkeypatch):
    class Closed:
        """The splits of a dataset without its test split."""

        def __init__(self, split):
            self.train, self.validation = split.train, split.validation
            self.first_targets = split.first_targets

        def __getattr__(self, name):
            raise AssertionError(f"{name} was opened")

        def __getitem__(self, name):
            return getattr(self, name)

    def train(flags, dataset, *rest):
        trained.append(True)
        real(flags, dataclasses.replace(dataset, split=Closed(dataset.split)), *rest)

    trained, real = [], training.train
    monkeypatch.setattr(training, "train", train)
    flags = [*simulated_flags, "--model=smoothed_history", "--outputs=validation"]
    assert run(TrainConfig, "train", *flags, f"--run_dir={tmp_path / 'run'}") == 0
    assert trained
    assert not (tmp_path / "run" / "evaluation").exists()
    record = Record.read(tmp_path / "run" / "record.json")
    assert record.metrics == {}
    assert record.fitted["validation"]["normal_mse"] > 0


def test_an_estimator_is_evaluated_again_from_what_it_stored(tmp_path, simulated_flags):
    directory = tmp_path / "run"
    flags = [*simulated_flags, "--model=smoothed_history", f"--run_dir={directory}"]
    assert run(TrainConfig, "train", *flags) == 0
    first = (directory / "evaluation" / "metrics.json").read_bytes()
    (directory / "evaluation" / "metrics.json").unlink()
    assert run(EvaluateConfig, "evaluate", f"--run_dir={directory}") == 0
    assert (directory / "evaluation" / "metrics.json").read_bytes() == first
    assert "degradation.png" in {path.name for path in (directory / "evaluation").iterdir()}
    assert (directory / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_what_is_exported_of_an_estimator_is_used_like_a_network(tmp_path, simulated_flags):
    flags = [*simulated_flags, "--model=smoothed_history", "--set=centre=fitted"]
    data, export = tmp_path / "data", f"--saved_model={tmp_path / 'run' / 'export'}"
    prepared = f"--dataset_dir={data}"
    assert run(TrainConfig, "train", *flags, prepared, f"--run_dir={tmp_path / 'run'}") == 0
    assert run(PredictConfig, "predict", export, "--verify") == driver.OK
    scores = tmp_path / "scores.parquet"
    assert run(PredictConfig, "predict", export, prepared, f"--output={scores}") == driver.OK
    found = pd.read_parquet(scores)["predicted_share_rate"]
    assert len(found) == len(datasets.load(data).panel.item_ids)
    assert found.between(0, 100).all()
    assert found.nunique() > len(found) / 2
    drift = f"--output={tmp_path / 'drift'}"
    assert run(DriftConfig, "drift", export, prepared, drift) in (driver.OK, 3)


def test_the_metrics_are_those_of_the_predictions(run_dir):
    stored = json.loads((run_dir / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    frame = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    assert {"split", "taxonomy_mean", "seed", "normal", "cold_start", "noisy"} <= set(stored)
    for scenario, rows in frame.groupby("scenario"):
        truth, predicted = rows["share_rate"], rows["predicted_share_rate"]
        assert stored[scenario]["mse"] == metrics.mse(truth.to_numpy(), predicted.to_numpy())
        assert stored[scenario]["n"] == len(rows)


def test_the_floors_stand_beside_the_model(run_dir):
    systems = json.loads((run_dir / "evaluation" / "systems.json").read_text(encoding="utf-8"))
    assert set(systems) == {"mmnet", "ha", "ha_taxonomy", "last_rate", "taxonomy_mean"}
    frame = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    truth = frame.loc[frame["scenario"] == "cold_start", "share_rate"].astype(float)
    # HA without history says 0, so its cold-start MSE is the mean square of the truth.
    assert systems["ha"]["cold_start"]["mse"] == pytest.approx((truth**2).mean(), rel=1e-6)


def test_the_record_says_what_was_run(run_dir):
    record = Record.read(run_dir / "record.json")
    assert record.flags["mode_weights"] == [1, 1, 1]
    assert set(record.stage_seconds) >= {"prepare", "train", "evaluate", "export"}
    assert 0 < record.missing_share < 1
    assert record.parameters > 1000
    assert set(record.split_dates) == {"train", "validation", "test"}
    assert "examples: test target has 50 clicks or more" in record.rows_per_rule


def test_evaluate_finds_the_same_metrics_again(own_copy):
    before = (own_copy / "evaluation" / "metrics.json").read_bytes()
    assert run(EvaluateConfig, "evaluate", f"--run_dir={own_copy}") == driver.OK
    assert (own_copy / "evaluation" / "metrics.json").read_bytes() == before


def test_evaluate_at_another_missing_rate_writes_beside(own_copy):
    arguments = [f"--run_dir={own_copy}", "--test_missing_rate=0"]
    assert run(EvaluateConfig, "evaluate", *arguments) == driver.OK
    stored = json.loads(
        (own_copy / "evaluation-rate-0-seed-0" / "metrics.json").read_text(encoding="utf-8")
    )
    assert stored["noisy"]["mse"] == stored["normal"]["mse"]  # nothing is hidden at rate 0


def test_evaluate_explains_every_example_on_request(own_copy):
    evaluation = own_copy / "evaluation"
    assert not (evaluation / "attention.parquet").exists()
    assert run(EvaluateConfig, "evaluate", f"--run_dir={own_copy}", "--explain") == driver.OK
    weights = pd.read_parquet(evaluation / "attention.parquet")
    rows = pd.read_parquet(evaluation / "predictions.parquet")
    keys = ["scenario", "item_id", "period"]
    pd.testing.assert_frame_equal(weights[keys], rows[keys])
    means = json.loads((evaluation / "attention.json").read_text(encoding="utf-8"))
    for scenario, part in weights.groupby("scenario"):
        fusion = part.filter(like="fusion_")
        np.testing.assert_allclose(fusion.sum(axis=1), 1, rtol=1e-5)  # four float32
        for name, mean in means[scenario]["fusion"].items():
            assert fusion[f"fusion_{name}"].mean() == pytest.approx(mean, rel=1e-4)


def test_the_outage_of_nothing_is_the_evaluation(run_dir):
    found = json.loads((run_dir / "evaluation" / "outage.json").read_text(encoding="utf-8"))
    names = {"nothing", "taxonomies", "meta", "text_title", "vector_cover", "content"}
    assert set(found) == names
    stored = json.loads((run_dir / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    for scenario in ("normal", "cold_start", "noisy"):
        # The table of predictions holds float64 of the same float32.
        assert found["nothing"][scenario]["mse"] == pytest.approx(stored[scenario]["mse"])


def test_what_attends_to_nothing_cannot_be_explained(run_dir, tmp_path, capsys):
    given = [f"--dataset_dir={run_dir / 'dataset'}", f"--run_dir={tmp_path / 'run'}"]
    for model in ("mmved", "ha"):
        arguments = [*given, f"--model={model}", "--explain"]
        assert run(TrainConfig, "train", *arguments) == driver.WRONG_INPUT
        error = capsys.readouterr().err
        assert f"--explain: --model={model} has no attention" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_floor_runs_through_the_same_driver(simulated_flags, tmp_path, monkeypatch):
    made, predictor_of = [], evaluating.predictor_of
    monkeypatch.setattr(
        evaluating,
        "predictor_of",
        lambda system, jit: made.append(system) or predictor_of(system, jit),
    )
    arguments = [*simulated_flags, "--model=ha", f"--run_dir={tmp_path / 'ha'}"]
    assert run(TrainConfig, "train", *arguments) == driver.OK
    systems = json.loads((tmp_path / "ha" / "evaluation" / "systems.json").read_text())
    assert "ha" in systems
    assert len(made) == len(systems)  # what asks a system is made once, for validation and test
    assert not (tmp_path / "ha" / "export").exists()


def test_an_unchanged_dataset_is_reused(simulated_flags, tmp_path, capsys):
    arguments = [*simulated_flags, f"--dataset_dir={tmp_path / 'd'}"]
    assert run(PrepareConfig, "prepare", *arguments) == driver.OK
    written = (tmp_path / "d" / "dataset.json").stat().st_mtime_ns
    assert run(PrepareConfig, "prepare", *arguments) == driver.OK
    assert "reusing" in capsys.readouterr().out
    assert (tmp_path / "d" / "dataset.json").stat().st_mtime_ns == written
    assert run(PrepareConfig, "prepare", *arguments, "--window=5") == driver.OK
    assert (tmp_path / "d" / "dataset.json").stat().st_mtime_ns != written


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no tables given; name --counts or --events and --items, a --source or --dataset_dir"),
        (["--counts=nowhere.csv"], "--items not given"),
        (["--widow=3"], "unknown flag --widow. Did you mean window?"),
        (["--model=mmnett", "--source=simulated"], "Did you mean mmnet?"),
        (["--source=simulated", "--set=unitts=3"], "Did you mean units?"),
        (["--source=simulatd"], "Did you mean simulated?"),
        (["--source=simulated", "--source_set=itms=3"], "Did you mean items?"),
        (["--mode_weights=1,1", "--source=simulated"], "--mode_weights must be three numbers"),
        (["--resume"], "--resume needs --run_dir"),
        (["--profile_steps=3"], "must be FIRST,LAST, counted from 1"),
        (["--profile_steps=a,b"], "--profile_steps: "),
    ],
)
def test_wrong_flags_are_one_sentence_exit_1_and_leave_nothing(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(TrainConfig, "train", *arguments) == driver.WRONG_INPUT
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]


def test_a_run_directory_below_a_file_is_refused(simulated_flags, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    arguments = [*simulated_flags, f"--run_dir={tmp_path / 'file' / 'run'}"]
    assert run(TrainConfig, "train", *arguments) == driver.WRONG_INPUT
    assert "cannot be created" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(own_copy, simulated_flags, capsys):
    assert (
        run(TrainConfig, "train", *simulated_flags, f"--run_dir={own_copy}") == driver.WRONG_INPUT
    )
    assert "already holds a run" in capsys.readouterr().err


def test_resuming_with_other_flags_is_refused(own_copy, capsys):
    arguments = ["--resume", f"--run_dir={own_copy}", "--learning_rate=0.5"]
    assert run(TrainConfig, "train", *arguments) == driver.WRONG_INPUT
    assert "--learning_rate=0.5 differs" in capsys.readouterr().err


def test_legacy_keras_is_refused(monkeypatch, capsys):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    assert run(TrainConfig, "train") == driver.WRONG_INPUT
    assert "TF_USE_LEGACY_KERAS" in capsys.readouterr().err


def test_an_internal_error_is_exit_2(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(tasks, "prepare", lambda flags: 1 / 0)
    assert run(PrepareConfig, "prepare", f"--dataset_dir={tmp_path}") == driver.INTERNAL
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [PrepareConfig, TrainConfig, EvaluateConfig, PredictConfig])
def test_help_names_every_flag(flags, capsys):
    assert run(flags, "", "--helpfull") == driver.OK
    shown = capsys.readouterr().out
    assert all(f"--{name}=" in shown for name in flags.model_fields)


@pytest.mark.parametrize("flag", ["--help", "--helpfull"])
@pytest.mark.parametrize("flags", [PrepareConfig, TrainConfig])
def test_help_for_a_reader_that_is_gone_ends_without_a_word(flags, flag, monkeypatch, capfd):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        assert run(flags, "", flag) == driver.NOBODY_READS
    assert capfd.readouterr().err == ""


def test_a_report_for_a_reader_that_is_gone_ends_without_a_word(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(tasks, "prepare", lambda flags: Console().print("a line of the report"))
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code = run(PrepareConfig, "prepare", f"--dataset_dir={tmp_path}")
    assert (code, capfd.readouterr().err) == (driver.NOBODY_READS, "")


def test_a_broken_pipe_of_another_program_is_an_internal_error(monkeypatch, tmp_path, capsys):
    def broken(flags):
        raise BrokenPipeError("a worker died")

    monkeypatch.setattr(tasks, "prepare", broken)
    assert run(PrepareConfig, "prepare", f"--dataset_dir={tmp_path}") == driver.INTERNAL
    assert "a worker died" in capsys.readouterr().err


def test_flags_of_a_run_run_again(run_dir):
    again = parse(TrainConfig, [f"--flagfile={run_dir / 'flags.txt'}"])
    assert again.model_dump(exclude=set(config.PLACES)) == {
        name: value
        for name, value in build(
            TrainConfig, Record.read(run_dir / "record.json").flags | {"mode_weights": ()}
        )
        .model_dump()
        .items()
        if name not in config.PLACES
    }


@pytest.mark.slow
def test_resuming_after_the_tables_changed_leaves_the_run_as_it_is(own_run, capsys):
    run_dir, counts = own_run

    def dataset():
        files = (path for path in (run_dir / "dataset").rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files}

    before = dataset()
    table = pd.read_csv(counts)
    table["shares"] = 0
    table.to_csv(counts, index=False)
    assert run(TrainConfig, "train", "--resume", f"--run_dir={run_dir}") == driver.OK
    assert dataset() == before


def test_evaluating_on_another_dataset_is_refused(own_copy, simulated_flags, tmp_path, capsys):
    other = [*simulated_flags, "--taxonomy_mean=paper", f"--dataset_dir={tmp_path / 'paper'}"]
    assert run(PrepareConfig, "prepare", *other) == driver.OK
    before = (own_copy / "evaluation" / "metrics.json").read_bytes()
    arguments = [f"--run_dir={own_copy}", f"--dataset_dir={tmp_path / 'paper'}"]
    assert run(EvaluateConfig, "evaluate", *arguments) == driver.WRONG_INPUT
    assert "trained on a different dataset" in capsys.readouterr().err
    assert (own_copy / "evaluation" / "metrics.json").read_bytes() == before


def test_flags_that_a_prepared_dataset_contradicts_are_refused(run_dir, tmp_path, capsys):
    given = [f"--dataset_dir={run_dir / 'dataset'}", f"--run_dir={tmp_path / 'run'}"]
    assert run(TrainConfig, "train", *given, "--taxonomy_mean=paper") == driver.WRONG_INPUT
    assert "--taxonomy_mean=paper differs from how" in capsys.readouterr().err
    assert run(TrainConfig, "train", *given, "--horizon=1,2") == driver.WRONG_INPUT
    said = capsys.readouterr().err
    assert "--horizon=1,2 differs from how" in said
    assert "was prepared, with 1; leave it out" in said
    assert not (tmp_path / "run").exists()


def test_a_prepared_dataset_brings_its_own_flags(run_dir, tmp_path):
    given = [f"--dataset_dir={run_dir / 'dataset'}", f"--run_dir={tmp_path / 'run'}", "--model=ha"]
    assert run(TrainConfig, "train", *given) == driver.OK
    assert Record.read(tmp_path / "run" / "record.json").flags["taxonomies"] == ["category", "tags"]
    assert run(EvaluateConfig, "evaluate", f"--run_dir={tmp_path / 'run'}") == driver.OK


def test_a_refused_option_does_not_block_the_run_directory(run_dir, tmp_path, capsys):
    given = [f"--dataset_dir={run_dir / 'dataset'}", f"--run_dir={tmp_path / 'run'}"]
    for wrong in ("--mode_weights=-1,1,1", "--set=units=0", "--set=tcn_filters=8,4"):
        assert run(TrainConfig, "train", *given, wrong) == driver.WRONG_INPUT
        error = capsys.readouterr().err
        assert error.startswith("error: --model=mmnet: ")
        assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_option_with_a_flag_of_its_own_is_not_set_otherwise(simulated_flags, capsys):
    arguments = [*simulated_flags, "--set=noisy_rate=0.1"]
    assert run(TrainConfig, "train", *arguments) == driver.WRONG_INPUT
    assert "has its own flag; use --noisy_rate" in capsys.readouterr().err


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run on CSV tables whose columns have awkward names and roles, in bfloat16."""
    directory = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(0)
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(60)]})
    items["system"] = draw.choice(["x", "y"], 60)  # also a column of predictions
    items["year"] = draw.integers(2000, 2009, 60)  # a category and a number
    items["title"] = draw.choice(["a b", "c d", "b c"], 60)
    cells = pd.MultiIndex.from_product([items["item_id"], range(16)], names=["item_id", "period"])
    counts = cells.to_frame(index=False)
    counts["clicks"] = draw.integers(50, 90, len(counts))
    counts["shares"] = draw.binomial(counts["clicks"], 0.2)
    items.to_csv(directory / "items.csv", index=False)
    counts.to_csv(directory / "counts.csv", index=False)
    arguments = [
        f"--counts={directory / 'counts.csv'}",
        f"--items={directory / 'items.csv'}",
        *("--taxonomies=system", "--categoricals=year", "--numerics=year", "--texts=title"),
        *("--precision=mixed_bfloat16", "--min_test_rows=20", "--epochs=1", "--horizon=2"),
        *("--split_ratios=4,1,1", "--set=units=8", "--set=field_width=4", "--nojit"),
        f"--run_dir={directory / 'run'}",
    ]
    compiled, make = [], Predictor.__init__
    try:
        with without_drawing(), pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Predictor,
                "__init__",
                lambda self, model, jit: compiled.append(model.name) or make(self, model, jit),
            )
            assert run(TrainConfig, "train", *arguments) == driver.OK
        # Once for training, evaluation and export together.
        assert compiled == ["attending"]
        yield directory / "run", directory / "counts.csv"
    finally:
        keras.config.set_dtype_policy("float32")


def test_awkward_columns_and_half_precision_reach_the_export(own_run):
    run_dir, _ = own_run
    frame = pd.read_parquet(run_dir / "evaluation" / "predictions.parquet")
    assert set(frame["taxonomy_system"]) == {"x", "y"}
    assert (run_dir / "export" / "1" / "saved_model.pb").exists()
    assert Record.read(run_dir / "record.json").stage_seconds["export"] > 0


def test_counts_of_another_calendar_are_not_scored(own_run, tmp_path, capsys):
    run_dir, counts = own_run
    table = pd.read_csv(counts)
    table["period"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(table["period"], unit="D")
    table.to_csv(tmp_path / "dates.csv", index=False)
    arguments = [
        f"--saved_model={run_dir / 'export'}",
        f"--counts={tmp_path / 'dates.csv'}",
        f"--items={counts.with_name('items.csv')}",
    ]
    assert run(PredictConfig, "predict", *arguments) == driver.WRONG_INPUT
    assert "was trained on periods given as integers" in capsys.readouterr().err


@pytest.mark.slow(first=True)
def test_a_run_killed_three_times_ends_as_if_nothing_had_happened(simulated_flags, tmp_path):
    command = [
        *(sys.executable, "-m", "mmnet.train"),
        *simulated_flags,
        *("--set=units=16", "--epochs=2", "--batch_size=32", "--deterministic"),
        *("--steps_per_execution=8", "--checkpoint_seconds=0", "--outputs=predictions"),
    ]
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, f"--run_dir={straight}"], check=True, **quiet)

    moments = random.Random()  # three moments nobody chose; the seed is in the message if it fails
    seed = moments.randrange(10**6)
    moments.seed(seed)
    resume = []
    for _ in range(3):
        process = subprocess.Popen([*command, f"--run_dir={killed}", *resume], **quiet)
        deadline = time.monotonic() + 120
        before = set(killed.glob("checkpoints/*.npz"))
        while process.poll() is None and time.monotonic() < deadline:
            if set(killed.glob("checkpoints/*.npz")) - before:  # training has begun
                time.sleep(moments.uniform(0, 3))
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        resume = ["--resume"]
    subprocess.run([*command, f"--run_dir={killed}", "--resume"], check=True, **quiet)

    with (
        np.load(straight / "checkpoints" / "best.npz") as wanted,
        np.load(killed / "checkpoints" / "best.npz") as found,
    ):
        assert set(wanted.files) == set(found.files)
        for name in wanted.files:
            np.testing.assert_array_equal(found[name], wanted[name], err_msg=f"seed {seed}")
    for name in ("metrics.json", "predictions.parquet"):
        whole, resumed = (run / "evaluation" / name for run in (straight, killed))
        assert whole.read_bytes() == resumed.read_bytes(), name
