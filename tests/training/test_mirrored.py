import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from mmnet import tasks
from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.flags import parse
from mmnet.mma4ctr import config as clicks
from mmnet.mma4ctr import tasks as clicks_tasks
from mmnet.tasks import starting
from mmnet.training import mirrored, resume
from mmnet.training.mirrored import FOLD, MirroredSteps, is_mirrored, scope_of
from mmnet.training.resume import Checkpoints

ROOT = Path(__file__).parents[2]


def on_two_devices(directory, *cases):
    """Runs cases of `two_devices.py` in one process; returns what each found."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.two_devices", directory, *cases],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {case: dict(np.load(directory / f"{case}.npz")) for case in cases}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_two_devices(
        tmp_path_factory.mktemp("two_devices"), "listwise", "every_state", "mixed_precision"
    )


def assert_alike(case, rtol):
    """Losses and float arrays of two devices are those of one, within a relative tolerance.

    Sums over a batch are formed in another order, each with a relative error of about 1e-7 per
    operation. An array is compared on the scale of its largest entry: an entry near 0 may be
    the difference of two large sums.
    """
    names = [name for name in case if name.startswith("1/")]
    assert names
    for name in names:
        one, two = case[name], case[f"2/{name[2:]}"]
        if one.dtype.kind == "f":
            atol = rtol * np.max(np.abs(one), initial=0)
            np.testing.assert_allclose(two, one, rtol=0, atol=atol, err_msg=name)


def test_two_devices_take_the_steps_of_one(found):
    # Weights, moments, batch statistics, averaged weights, sample weights, a regularizer, and ids
    # that occur several times in a batch; parts of 4 and 5 rows. Four steps of Adam.
    assert_alike(found["every_state"], rtol=1e-5)
    np.testing.assert_array_equal(
        found["every_state"]["2/optimizer/0000/adam/iteration"],
        found["every_state"]["1/optimizer/0000/adam/iteration"],
    )


def test_mixed_precision_takes_the_steps_of_one_device(found):
    case = found["mixed_precision"]
    assert case["dtypes"].tolist() == ["bfloat16", "float32"]
    kinds = {one.dtype for name, one in case.items() if "/model/" in name and one.dtype.kind == "f"}
    assert kinds == {np.dtype("float32")}
    # A sum in another order may round a value of 8 bits the other way, by 2**-8 of it. Squares of
    # gradients, sums of both, have several times as much.
    np.testing.assert_allclose(case["2/losses"], case["1/losses"], rtol=2**-8)
    assert_alike(case, rtol=2**-6)


def test_the_listwise_loss_is_that_of_the_whole_batch(found):
    losses = found["listwise"]["2/losses"]
    assert len(losses) == 2
    # Ten times as much as above: the loss of a batch is a sum over all of its rows.
    assert_alike(found["listwise"], rtol=1e-4)


def test_each_device_has_draws_of_its_own(found):
    one, two = (
        next(array for name, array in found["every_state"].items() if name == wanted)
        for wanted in (f"{n}/model/0000/pair/sums" for n in (1, 2))
    )
    # The first device draws what one device would. With the same draws on the second one, both
    # sums would be twice as large.
    total, squares = two - one
    assert total > 0
    assert total != one[0]
    assert squares != one[1]


def test_all_copies_keep_the_same_random_state(found):
    case = found["every_state"]
    states = [name[2:] for name in case if name.startswith("1/") and "seed_generator" in name]
    assert states
    for name in states:
        np.testing.assert_array_equal(case[f"2/{name}"], case[f"1/{name}"])


def test_a_resumed_run_ends_as_one_that_was_never_interrupted(found):
    case = found["every_state"]
    names = [name[6:] for name in case if name.startswith("again/")]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(case[f"again/{name}"], case[f"2/{name}"], err_msg=name)


def test_another_number_of_devices_is_refused_at_a_resume(found):
    told = str(found["every_state"]["refused"])
    assert "was trained with devices=2, this run has devices=1" in told


def test_more_devices_than_there_are_are_refused_before_a_table_is_read(tmp_path):
    rule = r"--devices=3: TensorFlow sees no GPU on this machine; use --devices=1"
    run = tmp_path / "run"
    flags = ["--devices=3", "--counts=missing.csv", "--items=missing.csv", f"--run_dir={run}"]
    with pytest.raises(InputError, match=rule):
        tasks.train(parse(TrainConfig, flags))
    assert not run.exists()
    flags = ["--devices=3", f"--run_dir={run}", "--source_dir=missing"]
    with pytest.raises(InputError, match=rule):
        clicks_tasks.train(parse(clicks.TrainConfig, flags))
    assert not run.exists()


@pytest.mark.parametrize("model", ["lightgbm", "ha"])
def test_what_takes_no_steps_is_refused(model):
    with pytest.raises(InputError, match=f"--model={model} has none; remove --devices"):
        tasks.train(parse(TrainConfig, ["--devices=2", f"--model={model}"]))


def test_a_search_is_refused():
    with pytest.raises(InputError, match="--recipe=auto compares trees and networks"):
        parse(TrainConfig, ["--devices=2", "--recipe=auto"])


def test_a_loss_over_the_whole_batch_is_refused():
    for flags in (["--model=dien"], ["--model=ngcf"], ["--model=lightgcn", "--faithful=recbole"]):
        with pytest.raises(InputError, match="computed over the whole batch"):
            clicks.check(parse(clicks.TrainConfig, ["--devices=2", *flags]))
    clicks.check(parse(clicks.TrainConfig, ["--devices=2", "--model=lightgcn"]))


def test_a_model_of_one_device_is_none_of_several():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert not is_mirrored(model)
    with scope_of(model):
        pass
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`model` must have the optimizer .*Received: SGD"):
        MirroredSteps(model, keras.losses.MeanSquaredError(), None, jit=False, size=1)


def test_the_streams_of_devices_are_far_from_those_of_other_seeds():
    # Seeds of layers are numbers below 2**31 near --seed; a stream's seed is taken modulo
    # 2**31 - 2.
    away = [FOLD * number % (2**31 - 2) for number in range(1, 65)]
    gaps = np.diff(sorted([0, *away, 2**31 - 2]))
    assert gaps.min() > 10**6


@pytest.mark.slow
def test_published_models_take_the_steps_of_one_device(tmp_path):
    cases = on_two_devices(tmp_path, "mmnet", "pairs")
    # The losses of four steps. Weights are not compared: the gradient of a bias before a batch
    # normalization is rounding alone, of which Adam makes a step as large as any.
    assert_alike({key: cases["mmnet"][key] for key in ("1/losses", "2/losses")}, rtol=1e-5)
    assert_alike(cases["pairs"], rtol=1e-4)


@pytest.mark.slow
def test_what_is_trained_apart_is_validated_and_saved(run_dir, tmp_path, monkeypatch):
    twins, copied = [], []
    copy = resume.copy_model

    def twin_of(model, build, number):
        twins.append(build())
        copy(model, twins[0])
        return twins[0]

    def copy_model(source, target):
        copied.append(source)
        copy(source, target)

    monkeypatch.setattr(mirrored, "twin_of", twin_of)
    monkeypatch.setattr(resume, "copy_model", copy_model)
    monkeypatch.setattr(starting, "devices_for", lambda number: None)
    run = tmp_path / "run"
    flags = [f"--dataset_dir={run_dir / 'dataset'}", f"--run_dir={run}", "--model=gru", "--nojit"]
    flags += ["--devices=2", "--epochs=2", "--set=units=8", "--outputs=validation"]
    tasks.train(parse(TrainConfig, flags))
    assert copied == [twins[0]] * 3  # after each epoch, and at the end
    assert "--devices=2" in (run / "flags.txt").read_text()
    stored = np.load(run / "checkpoints" / "best.npz")
    for number, variable in enumerate(resume.model_variables(twins[0])):
        np.testing.assert_array_equal(stored[f"array-{number}"], resume.to_array(variable))
    losses = [epoch["loss"] for epoch in Checkpoints(run / "checkpoints").newest().progress.history]
    assert losses[1] < losses[0]
