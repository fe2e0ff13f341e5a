"""What older commits wrote still loads, and scores as they scored; see `make.py`.

The archives were made on one machine. Other processors add matrix products up in another order, and
since a63bf34 so does the temporal convolution, in a run but not in an export. Rounding is all that
the tolerances allow for: on the processor that made them, exports score the same to the bit.
"""

import json
import pathlib
import shutil
import tarfile

import numpy as np
import pyarrow.parquet
import pytest

import mmnet as package
from mmnet import config, driver
from mmnet.mma4ctr import config as clicks_config
from mmnet.promotion import nights
from mmnet.promotion.history import History
from mmnet.promotion.nights import Night
from mmnet.promotion.versions import Origin, Versions
from mmnet.training.records import Record
from tests.compat.make import MMNET, MMNET_RUN, NIGHTS_RUN, SMALL

pytestmark = pytest.mark.usefixtures("undrawn")

HERE = pathlib.Path(__file__).parent
COMMITS = sorted({path.parent.name for path in HERE.glob("*/*.tar.xz")})
QUICK = "a63bf34"
"""The commit whose artefacts are read in every run of the tests, those of others in slow ones."""
NIGHTS = sorted(path.parent.name for path in HERE.glob("*/nights.tar.xz"))

# float32 sums of some hundred products in another order: two digits of the 6e-8 that it rounds at.
SAME = {"rtol": 1e-5, "atol": 1e-6}
# Adam moves a weight by up to 0.001 a step however small its gradient is, so that a gradient that
# is all rounding may go either way: a few of some dozen steps.
SAME_TRAINING = {"rtol": 1e-3, "atol": 5e-3}


def mmnet(name, *flags):
    kinds = {"train": config.TrainConfig, "evaluate": config.EvaluateConfig}
    kinds |= {"predict": config.PredictConfig, "drift": config.DriftConfig}
    kinds |= {"nightly": config.NightlyConfig}
    return driver.run(kinds[name], None, name, flags)


def mma4ctr(name, *flags):
    kinds = {"train": clicks_config.TrainConfig, "evaluate": clicks_config.EvaluateConfig}
    kinds["predict"] = clicks_config.PredictConfig
    return driver.run(kinds[name], None, name, flags, tasks="mmnet.mma4ctr.tasks")


def unpacked(commit, systems, factory):
    """A directory with the artefacts of one commit."""
    place = factory.mktemp(commit)
    for system in systems:
        with tarfile.open(HERE / commit / f"{system}.tar.xz") as packed:
            packed.extractall(place, filter="data")
    return place


@pytest.fixture(
    scope="module",
    params=[pytest.param(one, marks=[pytest.mark.slow] * (one != QUICK)) for one in COMMITS],
)
def old(request, tmp_path_factory):
    """The unpacked artefacts of one commit. Tests that write into a run have their own copy."""
    return unpacked(request.param, ("mmnet", "mma4ctr"), tmp_path_factory)


@pytest.fixture(scope="module", params=NIGHTS)
def old_nights(request, tmp_path_factory):
    """Two nights of one commit, and the tables of three. Nights have their own copy."""
    return unpacked(request.param, ("nights",), tmp_path_factory) / "nights"


@pytest.fixture(autouse=True)
def only_seeded(monkeypatch):
    """Leaves out --deterministic, which old runs have: it would hold for all later tests too."""
    import tensorflow as tf

    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: None)


def same_table(path, stored, tolerance, added=()):
    """Ids, periods and decisions are equal, scores up to rounding; `added` are later columns."""
    found, wanted = (pyarrow.parquet.read_table(one) for one in (path, stored))
    assert found.column_names == [*wanted.column_names, *added]
    assert found.select(wanted.column_names).schema.equals(wanted.schema)
    for name in wanted.column_names:
        now, then = found[name].to_pylist(), wanted[name].to_pylist()
        if pyarrow.types.is_floating(wanted.schema.field(name).type):
            np.testing.assert_allclose(now, then, **tolerance, err_msg=name)
        else:
            assert now == then, name


def same_numbers(found, wanted, tolerance):
    """Two JSON documents; numbers up to rounding."""
    if isinstance(wanted, dict):
        ends = {name for name in found if name.endswith(("_low", "_high"))}  # of newer versions
        assert set(found) - (ends - set(wanted)) == set(wanted)
        for name in wanted:
            same_numbers(found[name], wanted[name], tolerance)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for now, then in zip(found, wanted, strict=True):
            same_numbers(now, then, tolerance)
    elif isinstance(wanted, float):
        np.testing.assert_allclose(found, wanted, **tolerance)
    else:
        assert found == wanted


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def refused(capsys, sentence):
    """What was run before has ended in one sentence, which has these words."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert sentence in error


# ------------------------------------------------------------------------------- share rates


def test_an_old_export_scores_tables_and_explains(old, tmp_path):
    where = [f"--counts={old}/mmnet/tables/counts.csv", f"--items={old}/mmnet/tables/items.csv"]
    where += [f"--vectors=cover:{old}/mmnet/tables/cover.parquet"]
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mmnet/run/export", "--explain", "--rule=stored"]
    assert mmnet("predict", *asked, *where, f"--output={found}") == driver.OK
    same_table(found, old / "mmnet" / "explained.parquet", SAME)


def test_an_old_export_scores_an_old_dataset(old, tmp_path):
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mmnet/run/export", f"--dataset_dir={old}/mmnet/dataset"]
    assert mmnet("predict", *asked, f"--output={found}") == driver.OK
    same_table(found, old / "mmnet" / "scores.parquet", SAME)


def test_an_old_export_is_verified(old, capsys):
    assert mmnet("predict", f"--saved_model={old}/mmnet/run/export", "--verify") == driver.OK
    assert "WRONG" not in capsys.readouterr().out


@pytest.mark.slow
def test_an_old_export_describes_its_training_data(old, tmp_path):
    asked = [f"--saved_model={old}/mmnet/run/export", f"--dataset_dir={old}/mmnet/dataset"]
    assert mmnet("drift", *asked, f"--output={tmp_path / 'drift'}") in (driver.OK, 3)
    assert read(tmp_path / "drift" / "drift.json")
    ranked = tmp_path / "ranked.parquet"
    assert mmnet("predict", *asked, f"--ranking_features={ranked}") == driver.OK
    found, wanted = (
        pyarrow.parquet.read_table(path)["predicted_share_rate"]
        for path in (ranked, old / "mmnet" / "scores.parquet")
    )
    np.testing.assert_allclose(found, wanted, **SAME)


def test_an_old_dataset_is_trained_on(old, tmp_path):
    flags = [f"--dataset_dir={old}/mmnet/dataset", "--model=ha", f"--run_dir={tmp_path / 'ha'}"]
    assert mmnet("train", *flags, "--outputs=predictions") == driver.OK
    found = Record.read(tmp_path / "ha" / "record.json").metrics
    wanted = read(old / "mmnet" / "run" / "evaluation" / "systems.json")["ha"]
    for scenario in ("normal", "cold_start", "noisy"):
        same_numbers(found[scenario], wanted[scenario], SAME)


def test_an_old_run_is_evaluated_again_once_its_dataset_is_named(old, tmp_path, capsys):
    run_dir = shutil.copytree(old / "mmnet" / "run", tmp_path / "run")
    evaluation = old / "mmnet" / "run" / "evaluation"
    assert mmnet("evaluate", f"--run_dir={run_dir}") == driver.WRONG_INPUT
    refused(capsys, "or choose another --dataset_dir")  # it was made on another machine
    where = f"--dataset_dir={old}/mmnet/dataset"
    assert mmnet("evaluate", f"--run_dir={run_dir}", where) == driver.OK
    for name in ("metrics.json", "attention.json", "outage.json"):
        if (evaluation / name).exists():  # not every network has attention
            same_numbers(read(run_dir / "evaluation" / name), read(evaluation / name), SAME)
    predictions = "predictions.parquet"
    same_table(run_dir / "evaluation" / predictions, evaluation / predictions, SAME)


def test_an_old_run_is_resumed_within_its_epoch_and_ends_as_it_would_have(old, tmp_path):
    run_dir = shutil.copytree(old / "mmnet" / "interrupted", tmp_path / "run")
    small = (old / "mmnet" / "plain").exists()
    straight = old / "mmnet" / ("straight" if small else "run")
    dataset = old / "mmnet" / ("plain" if small else "dataset")
    flags = ["--resume", f"--run_dir={run_dir}", f"--dataset_dir={dataset}"]
    assert mmnet("train", *flags, "--outputs=validation") == driver.OK
    with (
        np.load(run_dir / "checkpoints" / "best.npz") as found,
        np.load(straight / "checkpoints" / "best.npz") as wanted,
    ):
        assert set(found.files) == set(wanted.files)
        for name in wanted.files:
            if wanted[name].dtype.kind == "f":
                np.testing.assert_allclose(found[name], wanted[name], **SAME_TRAINING)
            else:
                np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
    found, wanted = (Record.read(one / "record.json").fitted for one in (run_dir, straight))
    assert (found["best_epoch"], found["epochs"]) == (wanted["best_epoch"], wanted["epochs"])


@pytest.mark.slow
def test_training_starts_from_an_old_export(old, tmp_path):
    tables = old / "mmnet" / "tables"
    flags = [f"--{name}={tables / name}.csv" for name in ("counts", "items")]
    flags += [f"--vectors=cover:{tables / 'cover.parquet'}", f"--run_dir={tmp_path / 'run'}"]
    flags += [f"--warm_start={old / 'mmnet' / 'run' / 'export'}", "--warm_epochs=1"]
    network = SMALL if (old / "mmnet" / "plain").exists() else []
    assert mmnet("train", *flags, "--outputs=validation", *MMNET, *MMNET_RUN, *network) == driver.OK
    fitted = Record.read(tmp_path / "run" / "record.json").fitted
    assert fitted["epochs"] == 1


# ------------------------------------------------------------------------------------ clicks


def test_an_old_export_scores_pairs(old, tmp_path):
    found = tmp_path / "scores.parquet"
    asked = [f"--saved_model={old}/mma4ctr/run/export", f"--pairs={old}/mma4ctr/pairs.csv"]
    assert mma4ctr("predict", *asked, f"--output={found}") == driver.OK
    same_table(found, old / "mma4ctr" / "scores.parquet", SAME)


def test_an_old_run_of_clicks_is_evaluated_again_wherever_its_dataset_is(old, tmp_path, capsys):
    run_dir = shutil.copytree(old / "mma4ctr" / "run", tmp_path / "run")
    evaluation = old / "mma4ctr" / "run" / "evaluation"
    assert mma4ctr("evaluate", f"--run_dir={run_dir}") == driver.WRONG_INPUT
    refused(capsys, "--dataset_dir=")
    where = f"--dataset_dir={old}/mma4ctr/dataset"
    assert mma4ctr("evaluate", f"--run_dir={run_dir}", where) == driver.OK
    found, wanted = read(run_dir / "evaluation" / "metrics.json"), read(evaluation / "metrics.json")
    assert "planted probability" in found["references"]  # the dataset's truth was moved with it
    same_numbers(found, wanted, SAME)
    later = ("user_rate", "item_rate", "both_rates", "base_rate", "planted_probability")
    path = run_dir / "evaluation" / "predictions.parquet"
    same_table(path, evaluation / path.name, SAME, added=later)


def test_an_old_run_of_clicks_is_resumed_and_ends_as_it_would_have(old, tmp_path):
    if not (old / "mma4ctr" / "interrupted").exists():
        pytest.skip("it was made with --small")
    run_dir = shutil.copytree(old / "mma4ctr" / "interrupted", tmp_path / "run")
    straight = old / "mma4ctr" / "run"
    shutil.copytree(old / "mma4ctr" / "dataset", run_dir / "dataset")  # where it is looked for
    flags = ["--resume", f"--run_dir={run_dir}", "--outputs=metrics"]
    assert mma4ctr("train", *flags) == driver.OK
    with np.load(run_dir / "weights.npz") as found, np.load(straight / "weights.npz") as wanted:
        assert set(found.files) == set(wanted.files)
        for name in set(wanted.files) - {"dataset"}:
            np.testing.assert_allclose(found[name], wanted[name], **SAME_TRAINING)
        assert str(found["dataset"]) == str(wanted["dataset"])
    found, wanted = (Record.read(one / "record.json").fitted for one in (run_dir, straight))
    assert found["best_epoch"] == wanted["best_epoch"]
    assert len(found["history"]) == len(wanted["history"]) == 2


def test_an_old_dataset_of_clicks_is_trained_on(old, tmp_path):
    flags = [f"--dataset_dir={old}/mma4ctr/dataset", f"--run_dir={tmp_path / 'lr'}"]
    fast = ["--model=lr", "--epochs=1", "--jit=false", "--outputs=metrics", "--pca_widths=3,3,3"]
    assert mma4ctr("train", *flags, *fast, "--user_length=3", "--seed=5") == driver.OK
    found = Record.read(tmp_path / "lr" / "record.json").metrics["references"]
    wanted = read(old / "mma4ctr" / "run" / "evaluation" / "metrics.json")["references"]
    same_numbers(found, wanted, SAME)  # the rows are the same, and what they are compared with


# ------------------------------------------------------------------------------------ nights


def night(place, number, *flags):
    """Runs a night in a copy of the versions of earlier ones."""
    tables = place / "tables" / str(number)
    where = [f"--counts={tables / 'counts.csv'}", f"--items={tables / 'items.csv'}"]
    return mmnet("nightly", f"--models={place / 'models'}", *where, *NIGHTS_RUN, *flags)


def test_old_nights_are_known_and_the_same_night_is_not_run_again(old_nights, tmp_path, capsys):
    place = shutil.copytree(old_nights, tmp_path / "nights")
    found = Versions(place / "models")
    assert (found.champion(), found.numbers()) == (2, [1, 2])
    assert found.compared_path(2) == place / "models" / "compared" / "2"
    assert found.origin(1) == Origin(night="13", trained_until="11")
    second = Origin(night="14", trained_until="12", refitted_until="14", champion=1)
    assert found.origin(2) == second
    events = History(place / "models").events()
    assert [(one.outcome, one.period, one.champion) for one in events] == [
        ("promoted", "13", 1),
        ("promoted", "14", 2),
    ]
    assert all(one.is_finished() for one in nights.all_nights(place / "models"))
    assert mmnet("nightly", f"--models={place / 'models'}", "--history") == driver.OK
    assert night(place, 2, "--refit") == driver.OK
    assert "this night has been decided already" in capsys.readouterr().out
    assert History(place / "models").events() == events


@pytest.mark.slow
def test_an_old_champion_scores_as_it_did(old_nights, tmp_path):
    found = tmp_path / "scores.parquet"
    tables = old_nights / "tables" / "2"
    where = [f"--counts={tables / 'counts.csv'}", f"--items={tables / 'items.csv'}"]
    asked = [f"--saved_model={old_nights / 'models'}", "--rule=keep=0.5", f"--output={found}"]
    assert mmnet("predict", *asked, *where) == driver.OK
    same_table(found, old_nights / "scores.parquet", SAME)


@pytest.mark.slow
def test_old_versions_are_compared_and_rolled_back(old_nights, tmp_path):
    place = shutil.copytree(old_nights, tmp_path / "nights")
    tables = place / "tables" / "3"
    versions = package.Versions(place / "models")
    older = package.Export.load(place / "models" / "1")
    where = {"counts": str(tables / "counts.csv"), "items": str(tables / "items.csv")}
    compared = versions.champion.compare(older, **where, periods=1)
    assert compared["periods"] == [15]
    assert compared["scenarios"]["normal"]["unweighted"]["ratio"]["value"] > 0
    assert versions.roll_back(verbose=False) == 1


@pytest.mark.slow
def test_old_nights_go_on_from_their_champion_and_know_what_was_first_seen(old_nights, tmp_path):
    place = shutil.copytree(old_nights, tmp_path / "nights")
    items = place / "tables" / "3" / "items.csv"
    lines = items.read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("i00,c0,")
    lines[1] = lines[1].replace("i00,c0,", "i00,c2,")  # a value that the first night has seen
    items.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert night(place, 3) == driver.OK
    document = Night(place / "models" / "nights" / "15").document()
    assert document["changed_fields"] == {"category": pytest.approx(1 / 52)}
    assert document["comparison"]["periods"] == [14, 15]
    assert document["champion_before"] == 2
    assert document["outcome"] in ("promoted", "kept")
    assert [one.number for one in History(place / "models").events()] == [1, 2, 3]
