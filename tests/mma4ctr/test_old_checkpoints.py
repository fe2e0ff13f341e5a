import numpy as np

from mmnet.mma4ctr import old_checkpoints
from mmnet.training.resume import Checkpoint, Checkpoints, Progress

NETWORK = ["model/0004/kernel", "model/0005/bias"]
KERNEL, BIAS = np.ones((2, 1), "float32"), np.zeros(1, "float32")


def old(directory):
    """The end of epoch 3: the first one undone once, the second one not logged."""
    rows = [
        {"epoch": epoch, "loss": 2.0, "learning_rate": 0.005, "auc": 0.5 + epoch / 10, "seconds": 4}
        for epoch in (1, 3)
    ]
    settings = {"seed": 1, "retries": [{"epoch": 1, "auc": 0.4, "learning_rate": 0.005}]}
    arrays = dict(zip(NETWORK, (KERNEL, BIAS), strict=True)) | {"run/base_rate": np.array(0.005)}
    best = {"best/0": KERNEL + 3, "best/1": BIAS + 3, "reached/2/0": KERNEL, "reached/2/1": BIAS}
    return Checkpoints(directory).write(
        Checkpoint(Progress(3, 3, 0.8, 3, rows, 8.0), settings, arrays, best)
    )


def test_an_old_checkpoint_is_written_anew(tmp_path):
    path = old(tmp_path)
    old_checkpoints.convert(tmp_path, NETWORK, 7, "validation/auc")
    assert [one.stem for one in Checkpoints(tmp_path).paths()] == [
        path.stem,
        "epoch_000003_step_0000000021",
    ]
    found = Checkpoints(tmp_path).newest()
    assert found.settings == {"seed": 1, "precision": "float32", "steps_per_epoch": 7}
    assert set(found.arrays) == set(NETWORK)
    np.testing.assert_array_equal(found.best[NETWORK[0]], KERNEL + 3)
    np.testing.assert_array_equal(found.others["epoch-2"][NETWORK[1]], BIAS)
    progress = found.progress
    assert (progress.step, progress.epoch, progress.best_epoch) == (21, 3, 3)
    assert progress.undone == [{"epoch": 1, "metrics": {"validation/auc": 0.4}}]
    assert [row["step"] for row in progress.history] == [7, 14, 21]
    assert [row.get("unlogged", False) for row in progress.history] == [False, True, False]
    assert progress.history[2]["metrics"] == {"validation/auc": 0.8}
    assert progress.history[2]["epoch_seconds"] == 4


def test_a_checkpoint_of_the_trainer_stays_as_it_is(tmp_path):
    arrays = dict.fromkeys(NETWORK, KERNEL)
    Checkpoints(tmp_path).write(Checkpoint(Progress(4, 1), {}, arrays, {}))
    (path,) = Checkpoints(tmp_path).paths()
    before = path.read_bytes()
    old_checkpoints.convert(tmp_path, NETWORK, 4, "validation/auc")
    assert [one.read_bytes() for one in Checkpoints(tmp_path).paths()] == [before]
