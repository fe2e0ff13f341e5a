import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mmnet
from mmnet.config import TrainConfig
from mmnet.tasks import starting
from mmnet.training.run_directory import SHARE_RATES

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = {"window": 3, "min_target_clicks": 1, "min_test_rows": 1}


def frames():
    rng = np.random.default_rng(0)
    who, when = np.divmod(np.arange(40 * 16), 16)
    counts = pd.DataFrame({"item_id": [f"i{i}" for i in who], "period": when})
    counts["clicks"] = rng.integers(1, 30, len(counts))
    counts["shares"] = rng.binomial(counts["clicks"], 0.2)
    return counts, pd.DataFrame({"item_id": [f"i{i}" for i in range(40)]})


def test_a_run_shows_what_it_left(run_dir):
    run = mmnet.Run.open(run_dir)
    assert (run.flags.model, run.flags.epochs) == ("mmnet", 2)
    assert run.metrics == json.loads((run_dir / "evaluation/metrics.json").read_text())
    assert run.record["metrics"] == run.metrics
    assert set(run.predictions["scenario"]) == {"normal", "cold_start", "noisy"}
    assert "mmnet" in run.table
    row = run.systems.query("system == 'mmnet' and scenario == 'cold_start'").iloc[0]
    assert row["mse"] == run.metrics["cold_start"]["mse"]
    assert {"ha", "last_rate", "taxonomy_mean"} < set(run.systems["system"])
    assert run.dataset.describe()["items"] == len(run.dataset.item_ids)
    assert repr(run.export) == f"Export({str(run_dir / 'export' / '1')!r})"


def test_a_run_without_simple_rules_has_a_row_of_its_own_only(own_copy):
    (own_copy / "evaluation" / "systems.json").unlink()
    assert set(mmnet.Run.open(own_copy).systems["system"]) == {"mmnet"}


def test_its_model_is_the_exported_one(run_dir):
    run = mmnet.Run.open(run_dir)
    of_run = run.predictions.query("scenario == 'normal'")["predicted_share_rate"].to_numpy()
    found = run.model().predict(run.dataset.batches("test", 256), verbose=0)
    # Another batch size and no compilation: float32 rounding over a dozen layers.
    np.testing.assert_allclose(found, of_run, rtol=1e-4, atol=1e-4)


def test_frames_become_a_run_that_can_be_evaluated_and_resumed(tmp_path, capsys):
    counts, items = frames()
    run = mmnet.Run.train(
        *(tmp_path / "run",), counts=counts, items=items, model="ha", verbose=False, **SMALL
    )
    assert capsys.readouterr().out == ""
    assert run.flags.counts == ""  # the scratch file that the frame was in is gone
    metrics = run.metrics
    assert run.dataset.num_examples("test") == metrics["normal"]["n"]
    other = run.evaluate(test_missing_rate=0.9)
    assert other["noisy"] != metrics["noisy"]
    assert run.metrics == metrics
    again = mmnet.Run.train(
        *(tmp_path / "run",), counts=counts, items=items, resume=True, verbose=False
    )
    assert again.metrics == metrics
    with pytest.raises(mmnet.InputError, match="is not a network"):
        run.model()


def test_a_dataset_becomes_a_run_and_two_do_not_share_a_directory(tmp_path):
    dataset = mmnet.Dataset.from_tables(*frames(), **SMALL)
    run = mmnet.Run.train(tmp_path / "run", dataset, model="last_rate", verbose=False)
    assert isinstance(run.flags, TrainConfig)
    with pytest.raises(mmnet.InputError, match="already holds a run"):
        mmnet.Run.train(tmp_path / "run", dataset, model="ha")
    with pytest.raises(mmnet.InputError, match="the dataset already has its tables; remove counts"):
        mmnet.Run.train(tmp_path / "other", dataset, counts="counts.csv")


def test_what_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(mmnet.InputError, match="contains no run"):
        mmnet.Run.open(tmp_path)
    (tmp_path / "flags.txt").write_text("--model=ha\n")
    run = mmnet.Run.open(tmp_path)
    with pytest.raises(mmnet.InputError, match=r"metrics.json does not exist; finish the run"):
        run.metrics  # noqa: B018
    with pytest.raises(mmnet.InputError, match="no SavedModel"):
        run.export  # noqa: B018


def test_a_recipe_decides_about_the_inputs_of_frames(tmp_path, monkeypatch):
    trained = []

    def train(flags):
        trained.append(flags)
        SHARE_RATES.write(flags, Path(flags.run_dir))

    monkeypatch.setattr(starting, "train", train)
    counts, items = frames()
    run = mmnet.Run.train(
        *(tmp_path / "run",), counts=counts, items=items, recipe="direct", verbose=False, **SMALL
    )
    (flags,) = trained
    assert flags.set == ("evidence=true",)
    assert run.dataset.spec.age is not None
    with pytest.raises(mmnet.InputError, match="no column 'price'"):
        mmnet.Run.train(tmp_path / "refused", counts=counts, items=items, numerics=["price"])
    assert not (tmp_path / "refused").exists()
    other = {"recipe": "paper", "set": {"units": 8}}
    with pytest.raises(mmnet.InputError, match="--recipe=paper fixes all options"):
        mmnet.Run.train(tmp_path / "other", run.dataset, **other)
