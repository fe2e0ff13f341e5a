"""Tuning from flags to the best row's flagfile; what a trial trains is made up."""

from unittest.mock import Mock

import pytest

from mmnet.config import ExperimentConfig
from mmnet.experiments import cells
from mmnet.flags import parse
from mmnet.tasks import experimenting
from mmnet.training.records import Record
from mmnet.training.resume import Checkpoint, Checkpoints, Progress

pytest.importorskip("optuna")

SMALL = [
    *("--source=simulated", "--source_set=items=200", "--source_set=periods=16"),
    *("--source_set=clicks=100000", "--taxonomies=category", "--release=release"),
    "--min_test_rows=20",
]
WORTH = [5.0, 6.0, 7.0, 8.0, 9.0, 4.0]
"""Validation error of each trial; the median of the first four is 6.5."""


@pytest.mark.parametrize("fast", [False, True])
def test_a_trial_that_is_worse_ends_early_however_fast_it_is_trained(tmp_path, monkeypatch, fast):
    told, servers = [], set()

    def run(given, jobs, console, lock, system, enough, server):
        """Trains four epochs; what is trained fast is not watched."""
        (cell,) = given
        (worth,) = WORTH[len(told) : len(told) + 1]
        history = []
        for epoch in range(1, 5):
            row = {"epoch": epoch, "monitor": worth + 4 - epoch}
            history = [*history, row]
            Checkpoints(cell.directory / "checkpoints").write(
                Checkpoint(Progress(step=epoch, epoch=epoch, history=history), {}, {}, {})
            )
            if not fast and enough(cell):
                break
        else:
            metrics = dict.fromkeys(("normal_mse", "cold_start_mse", "noisy_mse"), worth)
            Record(fitted={"validation": metrics}).write(cell.directory / "record.json")
        told.append(len(history))
        servers.add(server)
        return 1

    monkeypatch.setattr(cells, "run", run)
    monkeypatch.setattr(cells, "ForkServer", lambda *_: Mock())
    folder = tmp_path / "experiment"
    (folder / "rows").mkdir(parents=True)
    (folder / "rows/gru.txt").write_text("# GRU: as it is\n--model=gru\n--epochs=4\n")
    flags = [*SMALL, "--tune=gru", "--trials=6", f"--experiment={folder}"]
    flags += [f"--cells={tmp_path / 'cells'}", "--monitor=normal"]
    experimenting.experiment(parse(ExperimentConfig, flags))
    assert told == [4, 4, 4, 4, 4 if fast else 2, 4]
    (server,) = servers
    server.close.assert_called_once()
    first, *_ = (folder / "rows/gru_tuned.txt").read_text().splitlines()
    assert first == (
        "# GRU, tuned: best of 6 trials, 1 of which ended early, on validation (normal 4.0000)"
    )
