"""Ensembles: trained, resumed, evaluated and exported. Single models: see tests/test_drivers.py."""

import dataclasses
import types
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mmnet import tasks
from mmnet.checks import InputError
from mmnet.config import EvaluateConfig, PredictConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.flags import parse
from mmnet.layers.attention import HANAttention
from mmnet.models import REGISTRY, Builder
from mmnet.models.fine_granularity import bounded, disturbed_history, model_inputs
from mmnet.models.heads import PredictedRate
from mmnet.models.options import GruOptions
from mmnet.models.seeding import seeded
from mmnet.serving import exported
from mmnet.serving.bundle import verify
from mmnet.tasks import starting, training
from mmnet.tasks.building import model_options
from mmnet.tasks.evaluating import log_plots, restored, title_of
from mmnet.training import fitting
from mmnet.training.records import Record
from mmnet.training.resume import load_arrays
from mmnet.training.run_directory import SHARE_RATES
from mmnet.training.tensorboard import PNG
from tests.conftest import without_drawing

MSE = [f"{scenario}_mse" for scenario in SCENARIOS]
FLAGS = ["--model=gru", "--epochs=1", "--batch_size=32", "--nojit", "--checkpoint_seconds=0"]


class Line(Builder):
    """A network of a few weights with random states and a gate: it is traced in no time."""

    def __call__(self, spec, **options):
        chosen = self.options(**options)
        with seeded(chosen.seed):
            inputs = model_inputs(spec)
            own = disturbed_history(bounded(inputs, spec), chosen, spec)
            history = keras.layers.Dense(3, name="gru")(own.share_rate)
            cover = keras.layers.Dense(3, name="encoded_vector_cover")(inputs["vector_cover"])
            fused = HANAttention(name="gated_fusion")([history, cover])[0]
            fused = keras.layers.Dropout(0.2, seed=chosen.seed)(fused)
            output = keras.layers.Dense(1)(fused)
            rate = PredictedRate(spec.rate_scale, spec.rate_mean, link="identity", name="rate")
            return keras.Model(inputs, rate(output), name="gru")


@pytest.fixture(scope="module", autouse=True)
def line():
    """`--model=gru` is a `Line`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGISTRY, "gru", Line("gru.gru", GruOptions))
        yield


class Closed:
    """The splits of a dataset without its test split."""

    def __init__(self, split):
        self.train, self.validation = split.train, split.validation
        self.first_targets = split.first_targets

    def __getattr__(self, name):
        raise AssertionError(f"{name} was opened")

    def __getitem__(self, name):
        return getattr(self, name)


def train(flags, run_dir, *more):
    """Trains up to validation, with the test split closed."""

    def closed(flags, dataset, *rest):
        real(flags, dataclasses.replace(dataset, split=Closed(dataset.split)), *rest)

    real = training.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", closed)
        flags = [*flags, "--outputs=validation", f"--run_dir={run_dir}", *more]
        starting.train(parse(TrainConfig, flags))


@pytest.fixture(scope="module")
def flags(run_dir):
    return [f"--dataset_dir={run_dir / 'dataset'}", *FLAGS]


@pytest.fixture(scope="module")
def pair(flags, tmp_path_factory):
    """An ensemble of the seeds 1 and 2, trained, evaluated and exported."""
    directory = tmp_path_factory.mktemp("pair") / "run"
    with without_drawing():
        arguments = [*flags, "--ensemble=2", "--seed=1", f"--run_dir={directory}"]
        tasks.train(parse(TrainConfig, arguments))
    return directory


def weights(directory, dataset):
    return load_arrays(directory / "checkpoints" / "best.npz", datasets.load(dataset).fingerprint)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_member_ends_as_it_would_alone_to_the_bit(flags, pair, run_dir, tmp_path):
    train(flags, tmp_path / "alone", "--seed=2")
    dataset = run_dir / "dataset"
    alone = weights(tmp_path / "alone", dataset)
    assert_same(weights(pair / "members" / "2", dataset), alone)
    first = weights(pair / "members" / "1", dataset)
    assert any(not np.array_equal(first[name], array) for name, array in alone.items())
    told = Record.read(tmp_path / "alone" / "record.json").fitted
    assert Record.read(pair / "record.json").fitted["members"][1] == {"seed": 2} | told


def test_the_record_has_the_ensemble_and_each_member_on_validation(pair, run_dir):
    record = Record.read(pair / "record.json")
    assert record.flags["ensemble"] == 2
    assert [member["seed"] for member in record.fitted["members"]] == [1, 2]
    assert [member["epochs"] for member in record.fitted["members"]] == [1, 1]
    for name in MSE:
        alone = [member["validation"][name] for member in record.fitted["members"]]
        # The squared error of a mean is at most the mean of the squared errors.
        assert 0 < record.fitted["validation"][name] < np.mean(alone)
    assert (pair / "members" / "1" / "logs").exists()
    assert not (pair / "checkpoints").exists()


def test_the_model_of_a_run_scores_as_its_record_says(pair):
    own = SHARE_RATES.read(pair)
    dataset = datasets.load(own.dataset_dir)
    model = restored(dataset, own, pair)
    examples = dataset.examples("validation")
    _, inputs = next(Windows(dataset).batches(examples, len(examples)))
    mse = np.mean((np.asarray(model(inputs)) - Windows(dataset).targets(examples)) ** 2)
    record = Record.read(pair / "record.json")
    # Another program for the same float32 sums.
    assert record.fitted["validation"]["normal_mse"] == pytest.approx(mse, rel=1e-5)
    weights = sum(int(np.prod(one.shape)) for one in model.trainable_variables)
    assert record.parameters == weights


class Killed(BaseException):
    pass


def test_killed_in_the_second_member_it_goes_on_from_there(
    flags, pair, run_dir, tmp_path, monkeypatch, capsys
):
    real, seen = fitting._Run.save, []

    def save(run, **options):
        real(run, **options)
        seen.append(run.progress.step)
        if len(seen) == 6:  # a member has three executions and an epoch's end
            raise Killed

    monkeypatch.setattr(fitting._Run, "save", save)
    with pytest.raises(Killed):
        train(flags, tmp_path / "run", "--ensemble=2", "--seed=1")
    monkeypatch.undo()
    assert len(list((tmp_path / "run").glob("members/*"))) == 2
    assert not (tmp_path / "run" / "record.json").exists()
    capsys.readouterr()
    train([], tmp_path / "run", "--resume")
    assert f"resuming from step {seen[-1]}" in capsys.readouterr().err
    for seed in "12":
        found = weights(tmp_path / "run" / "members" / seed, run_dir / "dataset")
        assert_same(found, weights(pair / "members" / seed, run_dir / "dataset"))
    whole, killed = (Record.read(run / "record.json") for run in (pair, tmp_path / "run"))
    assert killed.fitted == whole.fitted
    assert killed.metrics == {}
    assert whole.metrics


def test_an_interrupted_member_names_the_run_to_resume(flags, tmp_path, monkeypatch):
    def interrupt(run):
        run.signals.came = True
        real(run)

    real = fitting._Run.stop_if_asked
    monkeypatch.setattr(fitting._Run, "stop_if_asked", interrupt)
    with pytest.raises(fitting.Interrupted) as stopped:
        train(flags, tmp_path / "run", "--ensemble=2")
    assert f"--run_dir={tmp_path / 'run'} --resume continues" in str(stopped.value)


@pytest.mark.parametrize("model", ["smoothed_history", "ha"])
def test_a_model_that_draws_nothing_has_no_ensemble(model):
    wanted = rf"^--ensemble=3: --model={model} draws nothing at random, .*; remove --ensemble$"
    with pytest.raises(InputError, match=wanted):
        model_options(TrainConfig(model=model, ensemble=3))


def test_the_title_of_an_ensemble_says_so():
    assert title_of(TrainConfig(ensemble=3)) == "mmnet, ensemble of 3"
    modes = TrainConfig(model="gru", ensemble=3, mode_weights=(1, 0, 0.5))
    assert title_of(modes) == "gru, ensemble of 3, modes 1,0,0.5"


def test_evaluate_finds_the_metrics_of_an_ensemble_again(pair, undrawn):
    file = pair / "evaluation" / "metrics.json"
    first = file.read_bytes()
    file.unlink()
    tasks.evaluate(EvaluateConfig(run_dir=str(pair)))
    assert file.read_bytes() == first
    assert '"gru, ensemble of 2"' in (pair / "evaluation" / "systems.json").read_text()


def test_the_export_of_an_ensemble_is_one_model_that_scores_as_the_run_does(pair, tmp_path):
    assert [one.problem for one in verify(pair / "export")] == [""] * 9  # seven signatures
    assert exported.modalities(pair / "export") == ("history", "vector_cover")
    own = SHARE_RATES.read(pair)
    flags = {"saved_model": str(pair / "export"), "dataset_dir": own.dataset_dir}
    tasks.predict(PredictConfig(**flags, explain=True, output=str(tmp_path / "scores.parquet")))
    scores = pd.read_parquet(tmp_path / "scores.parquet").set_index("item_id")
    dataset = datasets.load(own.dataset_dir)
    assert len(scores) == len(dataset.panel.item_ids)
    weights = scores[["weight_history", "weight_vector_cover"]].sum(axis="columns")
    np.testing.assert_allclose(weights, 1, rtol=1e-6)  # a mean of float32 weights


@pytest.mark.slow
def test_an_ensemble_after_another_ends_as_it_would_alone(flags, pair, tmp_path):
    series = training.Series()
    for seed in (7, 1):
        arguments = ["--outputs=predictions", "--ensemble=2", f"--seed={seed}"]
        arguments += [f"--run_dir={tmp_path / str(seed)}"]
        starting.train(parse(TrainConfig, [*flags, *arguments]), series)
    alone, after, before = (
        pd.read_parquet(run / "evaluation" / "predictions.parquet")
        for run in (pair, tmp_path / "1", tmp_path / "7")
    )
    pd.testing.assert_frame_equal(after, alone, check_exact=True)
    assert not before.equals(alone)


@pytest.mark.slow
def test_an_ensemble_of_trees_is_exported_as_one_model(run_dir, tmp_path):
    pytest.importorskip("lightgbm")
    flags = [f"--dataset_dir={run_dir / 'dataset'}", "--model=lightgbm", "--set=num_trees=5"]
    with without_drawing():
        arguments = [*flags, "--ensemble=2", f"--run_dir={tmp_path / 'run'}"]
        tasks.train(parse(TrainConfig, arguments))
    assert not [one.problem for one in verify(tmp_path / "run" / "export") if one.problem]
    fitted = Record.read(tmp_path / "run" / "record.json").fitted
    assert [(one["seed"], one["trees"]) for one in fitted["members"]] == [(0, 5), (1, 5)]
    assert {"normal_mse", "cold_start_mse", "noisy_mse"} <= fitted["validation"].keys()


def test_what_a_search_fitted_is_not_fitted_again():
    dataset: Any = types.SimpleNamespace(fingerprint="a")
    series, flags = training.Series(), TrainConfig(model="ha", outputs="validation")
    fitted = series.system(object(), dataset, flags)
    series.fitted = {"trees": 5}
    run = flags.model_copy(update={"outputs": "all", "epochs": 9})
    series.becomes(run, dataset)
    assert series.system(object(), dataset, run) is fitted
    assert series.fitted == {"trees": 5}
    other = run.model_copy(update={"seed": 1})  # the next member of an ensemble
    assert series.system(object(), dataset, other) is not fitted
    assert series.fitted is None


def test_an_ensemble_of_which_a_member_is_missing_is_refused(pair, tmp_path):
    (run := tmp_path / "run").mkdir()
    for name in ("flags.txt", "places.txt"):
        (run / name).write_bytes((pair / name).read_bytes())
    with pytest.raises(
        InputError, match=r"members.1.checkpoints.best\.npz: no weights of a finished"
    ):
        tasks.evaluate(EvaluateConfig(run_dir=str(run)))


def test_tensorboard_shows_the_plots_of_the_last_evaluation(tmp_path):
    directory = tmp_path / "evaluation"
    directory.mkdir()
    log_plots(tmp_path, directory)
    assert not (tmp_path / "logs").exists()  # the run of a baseline, which logs nothing
    (tmp_path / "logs").mkdir()
    for width in (3, 4):
        png = PNG + b"\0\0\0\rIHDR" + width.to_bytes(4, "big") + (2).to_bytes(4, "big")
        (directory / "calibration.png").write_bytes(png)
        log_plots(tmp_path, directory)
    found = EventAccumulator(str(tmp_path / "logs" / "evaluation"), {"tensors": 0}).Reload()
    assert found.Tags()["tensors"] == ["evaluation/calibration"]
    (event,) = found.Tensors("evaluation/calibration")
    assert event.tensor_proto.string_val[:2] == [b"4", b"2"]
