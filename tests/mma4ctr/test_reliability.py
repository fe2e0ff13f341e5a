"""The second system's drivers, killed at any moment: what bears its final name is whole, and the
same command ends as if nothing had happened."""

import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet import driver
from mmnet.experiments import plan, results
from mmnet.files import only_one
from mmnet.mma4ctr import config
from mmnet.mma4ctr.data import dataset, generator
from mmnet.mma4ctr.experiments import tables
from mmnet.mma4ctr.experiments.clicks import SYSTEM
from mmnet.training.records import Record
from mmnet.training.resume import Checkpoints
from tests.conftest import without_drawing
from tests.experiments.test_experiment import workers_here
from tests.faults import (
    age_hidden,
    every_moment,
    every_state,
    put_back,
    run_driver,
    visible,
    watched,
)
from tests.mma4ctr.files import feed, play, write_wechat
from tests.mma4ctr.logs import log
from tests.mma4ctr.test_drivers import FAST, run

pytestmark = pytest.mark.usefixtures("undrawn")

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

LOG = ["--generate=users=60", "--generate=feeds=150", "--generate=rows=8000"]
LOG += ["--generate=rate=0.05", "--generate=text_scale=0.03", "--min_rows=20"]
TRAIN = [*LOG, *FAST, "--deterministic"]
ROWS = ["--row=A: --matrix=visual", "--row=B: --matrix=none --user_features=rate"]
ROWS += ["--seeds=0", "--evaluate_at=1,2", "--figure=epochs"]


def trained(place, *more):
    """A small run whose dataset is inside."""
    assert run("train", *TRAIN, f"--run_dir={place}", *more) == 0
    return place


def outcome(place):
    """What two runs must agree in to the last bit."""
    with np.load(place / "weights.npz") as stored:
        weights = {name: stored[name].tobytes() for name in stored.files}
    metrics = json.loads((place / "evaluation" / "metrics.json").read_text())
    return weights, metrics, pq.read_table(place / "evaluation" / "predictions.parquet")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that nobody disturbed."""
    with without_drawing():
        return trained(tmp_path_factory.mktemp("straight") / "run")


def litter(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob(".*"))


# ------------------------------------------------------------------------------ datasets


def prepared(data, directory):
    """Writes a log of memory as `prepare` does."""
    flags = config.PrepareConfig(source_dir=str(directory))
    with dataset.STORE.only_one(directory):
        dataset._write(data, directory, f"of {len(data)} rows", [], {}, flags, True)


def test_a_dataset_is_the_old_or_the_new_one_and_is_made_anew(tmp_path, monkeypatch):
    old, new = log(0, rows=300), log(1, rows=400)

    def fresh(name):
        prepared(old, tmp_path / name / "set")
        (tmp_path / name / "set" / "mine.txt").write_text("not ours\n")
        return tmp_path / name

    for place, _ in every_moment(lambda p: prepared(new, p / "set"), fresh, monkeypatch, "die"):
        found = dataset.load(place / "set")
        wanted = {300: old, 400: new}[len(found)]
        np.testing.assert_array_equal(found.label, wanted.label)
        np.testing.assert_array_equal(found.item_ids, wanted.item_ids)
        age_hidden(place)
        prepared(new, place / "set")  # as the same command again does
        assert len(dataset.load(place / "set")) == 400
        (folder,) = [p.name for p in (place / "set").iterdir() if p.is_dir()]
        assert visible(place / "set") == sorted([folder, "dataset.json", "mine.txt"])
        assert not litter(place)
        shutil.rmtree(place)


def test_generated_files_are_never_those_of_two_logs(tmp_path, monkeypatch):
    def generate(directory, users):
        made = (f"users={users}", "feeds=30", "rows=300")
        dataset._generate(config.PrepareConfig(generate=made), directory / "raw")

    def fresh(name):
        generate(tmp_path / name, 20)
        return tmp_path / name

    def contents(place):
        found = {name: (place / "raw" / name).read_bytes() for name in visible(place / "raw")}
        # An archive tells the time of day; what is in it is the same.
        with np.load(place / "raw" / generator.TRUTH) as truth:
            return found | {generator.TRUTH: {n: truth[n].tobytes() for n in truth.files}}

    wanted = contents(fresh("old"))
    for place, _ in every_moment(lambda p: generate(p, 21), fresh, monkeypatch, "die"):
        generate(place, 20)  # with the flags of before: it must not take what is half of the new
        assert contents(place) == wanted
        shutil.rmtree(place)


def test_a_prepared_dataset_is_shared_and_what_is_left_of_others_goes(tmp_path):
    place = tmp_path / "data"
    arguments = ["prepare", *LOG, f"--dataset_dir={place}"]
    assert run(*arguments) == 0
    left = [place / "0123456789abcdef-1", place / ".0123456789abcdef-1.new-1"]
    for one in left:  # of a process that was killed before it could say that they are the dataset
        one.mkdir()
    with only_one(place, ""):  # another process makes another dataset there
        assert run(*arguments) == 0
        assert all(one.exists() for one in left)
    assert run(*arguments) == 0
    assert not any(one.exists() for one in left)


def test_an_array_that_is_cut_off_is_told_and_made_anew(tmp_path, capsys):
    plays = [play(n % 3 + 1, n % 4 + 1, day=n % 14 + 1) for n in range(60)]
    source = write_wechat(tmp_path / "raw", plays, [feed(n) for n in (1, 2, 3, 4)])
    flags = [f"--source_dir={source}", f"--dataset_dir={tmp_path / 'data'}"]
    assert run("prepare", *flags) == 0
    array = dataset.load(tmp_path / "data").folder / "label.npy"
    whole = array.read_bytes()
    array.write_bytes(whole[:-3])
    assert run("train", flags[1], f"--run_dir={tmp_path / 'run'}") == 1
    assert "label.npy is missing or truncated; prepare the dataset again" in capsys.readouterr().err
    assert run("prepare", *flags) == 0
    assert (dataset.load(tmp_path / "data").folder / "label.npy").read_bytes() == whole


# ------------------------------------------------------------------------------ whole drivers


@pytest.mark.slow
def test_whatever_training_is_killed_at_it_ends_the_same(straight, tmp_path, monkeypatch):
    place = tmp_path / "run"
    moments, read = watched(place, monkeypatch, lambda: trained(place, "--resume"))
    assert moments > 100
    assert read > 30
    shutil.rmtree(place)
    copies = every_state(
        place, tmp_path / "copies", monkeypatch, lambda: trained(place, "--resume")
    )
    assert len(copies) > 20
    wanted = outcome(straight)
    for copy in copies:
        put_back(copy, place)
        trained(place, "--resume")
        assert outcome(place) == wanted, sorted(p.name for p in copy.rglob("*"))
        assert not litter(place)


def test_death_before_the_first_checkpoint_needs_only_resume(straight, tmp_path, capsys):
    place = tmp_path / "run"
    shutil.copytree(straight, place)
    for name in ("checkpoints", "evaluation", "export"):
        shutil.rmtree(place / name)
    for name in ("weights.npz", "record.json"):
        (place / name).unlink()
    assert run("evaluate", f"--run_dir={place}") == 1
    assert "is not finished" in capsys.readouterr().err
    assert run("train", *TRAIN, f"--run_dir={place}") == 1
    assert "--resume" in capsys.readouterr().err
    assert run("train", f"--run_dir={place}", "--resume") == 0
    assert outcome(place) == outcome(straight)


def test_a_run_on_a_prepared_dataset_is_gone_on_with_by_its_directory_alone(tmp_path):
    """What the dataset had decided, its label for one, is in the run's flags."""
    data = f"--dataset_dir={tmp_path / 'data'}"
    assert run("prepare", *LOG, data) == 0
    place = tmp_path / "run"
    assert run("train", *FAST, data, f"--run_dir={place}", "--deterministic") == 0
    wanted = outcome(place)
    *_, newest = Checkpoints(place / "checkpoints").paths()
    newest.unlink()
    shutil.rmtree(place / "export")
    assert run("train", f"--run_dir={place}", "--resume") == 0
    assert outcome(place) == wanted
    assert (place / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.slow
def test_whatever_the_other_drivers_are_killed_at_they_end_the_same(
    straight, tmp_path, monkeypatch, undrawn
):
    place = tmp_path / "run"
    shutil.copytree(straight, place)
    data = dataset.load(place / "dataset")
    pairs = pa.table({"user_id": data.user_ids[:9], "item_id": data.item_ids[:9]})
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    drivers = {
        "evaluate": [f"--run_dir={place}", f"--dataset_dir={place / 'dataset'}"],
        "predict": [
            *(f"--saved_model={place / 'export'}", f"--pairs={tmp_path / 'pairs.parquet'}"),
            f"--output={place / 'scores.parquet'}",
        ],
        "experiment": [
            *(f"--dataset_dir={place / 'dataset'}", *FAST, *ROWS, "--deterministic"),
            *(f"--cells={place / 'cells'}", f"--results={place / 'results'}"),
        ],
    }
    for name, arguments in drivers.items():

        def act(name=name, arguments=arguments):
            with workers_here():
                assert run(name, *arguments) == 0

        copies = every_state(place, tmp_path / name, monkeypatch, act)
        assert len(copies) > 1
        wanted = whatever(place)
        for copy in copies:
            put_back(copy, place)
            moments, _ = watched(place, monkeypatch, act)
            # A finished experiment changes no file; it only takes its lock.
            assert moments > 1 or (name == "experiment" and copy == copies[-1])
            assert whatever(place) == wanted
            assert not litter(place)


def whatever(place):
    """All files but those that tell seconds; of cells what they were worth."""
    found = {}
    for path in sorted(place.rglob("*")):
        name = str(path.relative_to(place))
        timed = ("cells/", "results/results.csv", "results/state.json")
        if path.is_file() and (not name.startswith(timed) or name.endswith("metrics.json")):
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("how", ["die", "fail"])
def test_tables_half_of_which_are_new_are_made_again(tmp_path, monkeypatch, how):
    flags = config.ExperimentConfig(row=("A:",), seeds=(0,), experiment="x")
    planned = plan.plan(flags, SYSTEM)
    cell = plan.Cell("A", 0, 0, planned.rows["A"].flags, tmp_path / "cell")
    (cell.directory / "evaluation").mkdir(parents=True)
    rows = {"label": [0, 1, 1], "user_id": [1, 1, 2], "probability": [0.1, 0.2, 0.3]}
    rows |= {"calibrated_probability": [0.5, 0.5, 0.5]}
    pq.write_table(pa.table(rows), cell.directory / "evaluation" / "predictions.parquet")

    def record(auc):
        test = dict.fromkeys(tables.METRICS, auc) | {"rows": 10, "positives": 2}
        about = {"protocol": "c1", "in_features": 3, "parameters": 4, "epoch": 1}
        about |= {"seed": 0, "model": "lr"}
        metrics = about | {"test": test, "at_epoch": {}, "references": {}}
        return Record(metrics=metrics, fitted={"training_seconds": 1})

    made = {auc: SYSTEM.files(planned, {cell: record(auc)}, flags) for auc in (0.5, 0.75)}

    def write(place, auc=0.5):
        record(auc).write(cell.directory / "record.json")
        results.write(planned, [cell], flags, place / "results", lambda *_: made[auc])

    def contents(place):
        names = set(visible(place / "results")) - {"state.json"}
        return {name: (place / "results" / name).read_text() for name in names}

    def fresh(name):
        write(tmp_path / name)
        return tmp_path / name

    old = contents(fresh("old"))
    write(tmp_path / "old", 0.75)
    new = contents(tmp_path / "old")
    for place, _ in every_moment(lambda p: write(p, 0.75), fresh, monkeypatch, how):
        for name, text in contents(place).items():
            assert text in (old[name], new[name])
        write(place, 0.75)
        assert contents(place) == new


# ------------------------------------------------------------------ reruns, damage, locks, disks


def test_a_rerun_with_the_same_seed_is_the_same_to_the_bit(straight, tmp_path):
    again = trained(tmp_path / "again")
    assert outcome(again) == outcome(straight)
    other = trained(tmp_path / "other", "--seed=1")
    assert outcome(other)[0] != outcome(straight)[0]


def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_warning(straight, tmp_path):
    place = tmp_path / "run"
    shutil.copytree(straight, place)
    before, newest = Checkpoints(place / "checkpoints").paths()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged and was skipped"):
        assert run("train", f"--run_dir={place}", "--resume") == 0
    assert outcome(place) == outcome(straight)
    assert Checkpoints(place / "checkpoints").newest().progress.epoch == 2
    for path in (before, newest):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged"):
        assert run("train", f"--run_dir={place}", "--resume") == 1


@posix
def test_two_processes_do_not_share_a_directory(straight, tmp_path, capsys):
    runs = [f"--run_dir={straight}"]
    with only_one(straight, ""):
        for arguments in (["train", *runs, "--resume"], ["evaluate", *runs]):
            assert run(*arguments) == 1
            assert "is in use by another process" in capsys.readouterr().err
    made = [*LOG, f"--dataset_dir={tmp_path / 'set'}"]
    with only_one(tmp_path / "set", ""):
        for arguments in (["prepare", *made], ["train", *made, f"--run_dir={tmp_path / 'run'}"]):
            assert run(*arguments) == 1
            assert "is being prepared by another process" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    cells = [*ROWS, f"--cells={tmp_path / 'cells'}", f"--results={tmp_path / 'results'}"]
    with only_one(tmp_path / "cells", ""):
        assert run("experiment", *made, *cells) == 1
        assert "is in use by another experiment" in capsys.readouterr().err


def test_a_path_below_a_file_is_one_sentence(straight, tmp_path, capsys):
    (tmp_path / "file").write_text("dear")
    pq.write_table(pa.table({"user_id": [1], "item_id": [1]}), tmp_path / "pairs.parquet")
    data = f"--dataset_dir={straight / 'dataset'}"
    cells = f"--cells={tmp_path / 'cells'}"
    done = [data, *FAST, "--row=B: --matrix=none --user_features=rate", "--seeds=0"]
    for below in (str(tmp_path / "file" / "out"), str(tmp_path / "file")):
        scored = [f"--saved_model={straight / 'export'}", f"--pairs={tmp_path / 'pairs.parquet'}"]
        calls = [
            ["prepare", *LOG, f"--dataset_dir={below}"],
            ["train", *TRAIN, f"--run_dir={below}"],
            ["train", *TRAIN, f"--run_dir={tmp_path / 'run'}", f"--dataset_dir={below}"],
            ["predict", *scored, f"--output={tmp_path / 'file' / 'out'}"],
            ["experiment", *done, f"--cells={below}", f"--results={tmp_path / 'results'}"],
            ["experiment", *done, cells, f"--results={below}"],
        ]
        for arguments in calls:
            with workers_here():
                assert run(*arguments) == 1, arguments
            errors = capsys.readouterr().err
            assert "Traceback" not in errors
            error = errors.strip().splitlines()[-1]
            assert error.startswith("error: "), arguments
            assert "Not a directory" in error, arguments
    assert (tmp_path / "file").read_text() == "dear"


@posix
@pytest.mark.slow
@pytest.mark.parametrize("limit", [1_000, 50_000, 300_000])
def test_a_limit_on_file_sizes_is_one_sentence(tmp_path, limit):
    done = run_driver("mma4ctr.train", *TRAIN, f"--run_dir={tmp_path / 'run'}", limit=limit)
    assert done.returncode == driver.WRONG_INPUT, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    assert any(words in sentence for words in ("File too large", "limit is full"))
    assert not litter(tmp_path)
