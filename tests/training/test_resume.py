import dataclasses
import shutil

import keras
import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.training.resume import (
    Checkpoint,
    Checkpoints,
    Progress,
    load_arrays,
    progress_in,
    save_arrays,
    training_variables,
)

ARRAYS = {"model/0000/kernel": np.arange(6, dtype="float32").reshape(2, 3)}
BEST = {"model/0000/kernel": np.ones((2, 3), "float32")}


def checkpoint(step, epoch=0):
    row = {"epoch": 1, "loss": float("nan"), "metrics": {"normal_mse": 1.5}}
    return Checkpoint(Progress(step, epoch, 0.5, 1, [row]), {"seed": 1}, ARRAYS, BEST)


def test_reads_what_was_written(tmp_path):
    Checkpoints(tmp_path).write(checkpoint(3))
    read = Checkpoints(tmp_path).newest()
    np.testing.assert_array_equal(read.arrays["model/0000/kernel"], ARRAYS["model/0000/kernel"])
    np.testing.assert_array_equal(read.best["model/0000/kernel"], BEST["model/0000/kernel"])
    assert (read.progress.step, read.progress.best_value, read.settings) == (3, 0.5, {"seed": 1})
    assert read.progress.history[0]["metrics"] == {"normal_mse": 1.5}


def test_progress_is_read_alone(tmp_path):
    assert progress_in(tmp_path / "none") is None
    for step in (2, 10):
        Checkpoints(tmp_path).write(checkpoint(step, epoch=step // 5))
    found = progress_in(tmp_path)
    assert (found.step, found.epoch, len(found.history)) == (10, 2, 1)
    max(tmp_path.iterdir()).write_bytes(b"damaged")
    assert progress_in(tmp_path) is None


def test_arrays_of_other_moments_are_read_back_by_moment_and_name(tmp_path):
    others = {"begin": ARRAYS, "epoch-2": BEST}
    Checkpoints(tmp_path).write(dataclasses.replace(checkpoint(3), others=others))
    read = Checkpoints(tmp_path).newest()
    assert set(read.arrays) == set(read.best) == set(ARRAYS)
    for moment, arrays in others.items():
        assert set(read.others[moment]) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read.others[moment][name], array)


def test_checkpoints_of_steps_that_were_undone_go_and_the_one_that_undid_them_stays(tmp_path):
    files = Checkpoints(tmp_path)
    for step in (7, 9):
        files.write(checkpoint(step, epoch=1))
    files.write(checkpoint(5, epoch=1), undone=True)
    assert [path.stem for path in files.paths()] == ["epoch_000001_step_0000000005"]


def test_keeps_the_last_two(tmp_path):
    files = Checkpoints(tmp_path / "checkpoints")
    assert files.newest() is None
    for step in (9, 10, 11):
        files.write(checkpoint(step))
    assert len(files.paths()) == 2
    assert files.newest().progress.step == 11


def test_the_end_of_an_epoch_comes_after_its_last_step(tmp_path):
    files = Checkpoints(tmp_path)
    files.write(checkpoint(10, epoch=2))
    files.write(checkpoint(10, epoch=1))
    assert files.newest().progress.epoch == 2


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[content.index(ARRAYS["model/0000/kernel"].tobytes()) + 1] ^= 1
    path.write_bytes(content)


def damage_swap(path):
    """A whole file with valid zip sums, but other contents than its SHA-256 is of."""
    with np.load(path) as file:
        contents = {name: file[name] for name in file.files}
    np.savez(path, **{**contents, "model/0000/kernel": np.zeros((2, 3), "float32")})


def damage_empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, damage_swap, damage_empty])
def test_a_damaged_newest_file_is_passed_over_with_a_warning(damage, tmp_path):
    files = Checkpoints(tmp_path)
    files.write(checkpoint(1))
    damage(files.write(checkpoint(2)))
    with pytest.warns(UserWarning, match=r"step_0000000002.npz is damaged"):
        assert files.newest().progress.step == 1


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_only_damaged_files_are_refused(tmp_path):
    files = Checkpoints(tmp_path)
    damage_cut(files.write(checkpoint(1)))
    with pytest.raises(InputError, match=r"every checkpoint in .* is damaged; start again"):
        files.newest()


def a_wrong_method(path):
    """Says in the archive's directory that the first file is packed in a way nobody knows."""
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 10] = 77
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        a_wrong_method,
        damage_cut,
        lambda path: path.write_bytes(b""),
        lambda path: np.save(path.open("wb"), np.zeros(3)),
    ],
)
def test_damaged_weights_are_refused(damage, tmp_path):
    path = tmp_path / "best.npz"
    save_arrays({"0": np.zeros(3)}, path, "data")
    assert list(load_arrays(path, "data")) == ["0"]
    damage(path)
    with pytest.raises(InputError, match=r"best\.npz: no weights of a finished run found"):
        load_arrays(path, "data")


def test_a_pickled_object_is_not_loaded(tmp_path):
    files = Checkpoints(tmp_path)
    files.write(checkpoint(1))
    np.savez(tmp_path / "epoch_000000_step_0000000002.npz", trap=np.array([object()]))
    with pytest.warns(UserWarning, match="is damaged"):
        assert files.newest().progress.step == 1


def test_half_written_files_of_a_killed_process_are_cleared(tmp_path):
    (tmp_path / ".epoch_000000_step_0000000002.abc.npz").write_bytes(b"half")
    assert Checkpoints(tmp_path).newest() is None
    assert list(tmp_path.iterdir()) == []


def test_holds_random_states_statistics_and_counters(tiny, uninterrupted):
    names = " ".join(training_variables(uninterrupted[0]))
    for part in (
        "seed_generator_state",
        "moving_mean",
        "mode_counts",
        "iteration",
        "learning_rate",
        "dense_kernel_momentum",
        "dense_kernel_velocity",
        "total",
    ):
        assert part in names
    # The same names for a model built later in the same process, whatever Keras calls its layers.
    again = tiny.model()
    again.compile(keras.optimizers.Adam(), "mse")
    again.optimizer.build(again.trainable_variables)
    assert " ".join(training_variables(again)) == names


# -------------------------------------------------------------------------- exact resume


def test_resumes_exactly_at_every_boundary(tiny, uninterrupted, tmp_path):
    trained, result, run_dir = uninterrupted
    expected = tiny.arrays(trained)
    paths = sorted((run_dir / "checkpoints").iterdir())
    boundaries = [(0, 2), (0, 4), (0, 5), (1, 5), (1, 7), (1, 9), (1, 10), (2, 10)]
    found = [tuple(int(part) for part in path.stem.split("_")[1::2]) for path in paths]
    assert found == boundaries
    for path in paths:
        resumed_dir = tmp_path / path.stem
        (resumed_dir / "checkpoints").mkdir(parents=True)
        shutil.copy(path, resumed_dir / "checkpoints")
        # Another seed for the first weights and random states: all must come from the file.
        resumed, again = tiny.train(resumed_dir, tiny.model(seed=9), resume=True)
        for array, wanted in zip(tiny.arrays(resumed), expected, strict=True):
            np.testing.assert_array_equal(array, wanted, err_msg=path.stem)
        losses = [(row["loss"], row["monitor"]) for row in result.history]
        assert [(row["loss"], row["monitor"]) for row in again.history] == losses
        assert (again.steps, again.epochs, again.metrics) == (10, 2, result.metrics)


def test_a_resumed_run_may_have_more_epochs(tiny, uninterrupted, tmp_path):
    tiny.train(tmp_path, epochs=1)
    longer, result = tiny.train(tmp_path, tiny.model(seed=9), resume=True, epochs=2)
    assert result.epochs == 2
    for array, wanted in zip(tiny.arrays(longer), tiny.arrays(uninterrupted[0]), strict=True):
        np.testing.assert_array_equal(array, wanted)


@pytest.fixture
def copy(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted[2] / "checkpoints", tmp_path / "checkpoints")
    return tmp_path


def test_a_checkpoint_of_another_model_is_refused(tiny, copy):
    with pytest.raises(
        InputError, match=r"another model: .* float32 \[4, 8\] there and .* \[4, 9\]"
    ):
        tiny.train(copy, tiny.model(width=9), resume=True)


def test_a_checkpoint_of_other_settings_is_refused(tiny, copy):
    wanted = r"trained with learning_rate=0.01, this run has learning_rate=0.02; resume with"
    with pytest.raises(InputError, match=wanted):
        tiny.train(copy, resume=True, learning_rate=0.02)
    with pytest.raises(
        InputError, match=r"trained with batch_size=None, this run has batch_size=8"
    ):
        tiny.train(copy, resume=True, fixed={"batch_size": 8})


def test_checkpoints_are_not_overwritten_unasked(tiny, copy):
    with pytest.raises(
        InputError, match="holds the checkpoints of another run; add --resume to continue it"
    ):
        tiny.train(copy, resume=False)
