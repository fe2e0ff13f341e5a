"""Killed at any moment, out of disk at any moment: what bears its final name is whole."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from experiments.reliability.wholeness import Wholeness
from mmnet import config, driver, files, tasks
from mmnet.checks import InputError
from mmnet.data import content
from mmnet.data import dataset as datasets
from mmnet.encoders import cache
from mmnet.encoders.cache import VectorCache
from mmnet.experiments import plan, results
from mmnet.files import only_one, write_atomic, write_directory
from mmnet.flags import parse
from mmnet.serving.bundle import verify
from mmnet.training.resume import Checkpoint, Checkpoints, Progress
from tests.faults import (
    age_hidden,
    every_moment,
    every_state,
    put_back,
    run_driver,
    visible,
    watched,
)

ROOT = Path(__file__).resolve().parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_file_is_the_old_or_the_new_one(tmp_path, monkeypatch, how):
    def fresh(name):
        place = tmp_path / name
        place.mkdir()
        (place / "a.txt").write_text("old")
        return place

    for place, _ in every_moment(
        lambda place: write_atomic(place / "a.txt", "new"), fresh, monkeypatch, how
    ):
        assert (place / "a.txt").read_text() in ("old", "new")
        assert visible(place) == ["a.txt"]
        if how == "fail":
            assert sorted(path.name for path in place.iterdir()) == ["a.txt"]


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_directory_is_the_old_or_the_new_one(tmp_path, monkeypatch, how):
    def write(text):
        def fill(beside):
            (beside / "deep").mkdir()
            (beside / "a.txt").write_text(text)
            (beside / "deep" / "b.txt").write_text(text)

        return fill

    def fresh(name):
        write_directory(tmp_path / name / "d", write("old"))
        return tmp_path / name

    def contents(place):
        """What a reader finds, who changes nothing."""
        found = files.directories(place)["d"]
        return {(found / name).read_text() for name in ("a.txt", "deep/b.txt")}

    aside = 0
    for place, _ in every_moment(
        lambda place: write_directory(place / "d", write("new")), fresh, monkeypatch, how
    ):
        assert contents(place) in ({"old"}, {"new"})
        aside += not (place / "d").exists()
        with pytest.raises(RuntimeError):  # the next one to write puts the old one back first
            write_directory(place / "d", Mock(side_effect=RuntimeError))
        assert [path.name for path in place.iterdir()] == ["d"]
        assert contents(place) in ({"old"}, {"new"})
        write_directory(place / "d", write("last"))
        assert contents(place) == {"last"}
        assert [path.name for path in place.iterdir()] == ["d"]
    assert aside == (how == "die")  # there is one such moment


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_checkpoint_is_the_last_or_the_next_one(tmp_path, monkeypatch, how):
    def checkpoint(step):
        return Checkpoint(Progress(step=step), {}, {"a": np.full(3, step)}, {})

    def fresh(name):
        for step in (1, 2):
            Checkpoints(tmp_path / name).write(checkpoint(step))
        return tmp_path / name

    for place, _ in every_moment(
        lambda place: Checkpoints(place).write(checkpoint(3)), fresh, monkeypatch, how
    ):
        found = Checkpoints(place).newest()  # without a warning: none is damaged
        assert found.progress.step in (2, 3)
        np.testing.assert_array_equal(found.arrays["a"], found.progress.step)


def test_a_dataset_is_the_old_or_the_new_one(run_dir, tmp_path, monkeypatch):
    dataset = datasets.load(run_dir / "dataset")
    older = dataclasses.replace(dataset, fingerprint="older")
    newer = dataclasses.replace(dataset, fingerprint="newer")

    def fresh(name):
        datasets.save(older, tmp_path / name / "set")
        return tmp_path / name

    found = set()
    for place, _ in every_moment(
        lambda place: datasets.save(newer, place / "set"), fresh, monkeypatch, "die"
    ):
        left = datasets.load(place / "set")
        np.testing.assert_array_equal(left.share_rate, dataset.share_rate)
        found.add(left.fingerprint)
        shutil.rmtree(place)
    assert found == {"older", "newer"}


# ------------------------------------------------------------------------------ whole drivers


@pytest.mark.slow
def test_whatever_train_is_killed_at_its_files_are_whole(simulated_flags, tmp_path, monkeypatch):
    flags = [*simulated_flags, "--set=units=4", "--set=field_width=2", "--epochs=2"]
    flags += ["--batch_size=64", "--checkpoint_seconds=0", f"--run_dir={tmp_path / 'run'}"]
    moments, read = watched(
        tmp_path,
        monkeypatch,
        lambda: tasks.train(parse(config.TrainConfig, flags)),
    )
    assert moments > 100
    assert read > 50
    assert not [check.problem for check in verify(tmp_path / "run/export") if check.problem]
    left = [path for path in (tmp_path / "run").rglob(".*")]
    assert not left


@pytest.mark.slow
def test_whatever_the_other_drivers_are_killed_at_their_files_are_whole(
    own_copy, tmp_path, monkeypatch
):
    run = own_copy
    before = json.loads((run / "evaluation/metrics.json").read_text())
    moments, _ = watched(
        tmp_path, monkeypatch, lambda: tasks.evaluate(config.EvaluateConfig(run_dir=str(run)))
    )
    assert moments > 20
    assert json.loads((run / "evaluation/metrics.json").read_text()) == before
    common = {"saved_model": str(run / "export"), "dataset_dir": str(run / "dataset")}
    out = tmp_path / "out"
    for act in (
        lambda: tasks.predict(config.PredictConfig(**common, output=str(out / "s.parquet"))),
        lambda: tasks.predict(
            config.PredictConfig(**common, ranking_features=str(out / "f.parquet"))
        ),
        lambda: tasks.drift(config.DriftConfig(**common, output=str(out / "drift"))),
    ):
        for _ in range(2):  # the first writes, the second replaces
            moments, read = watched(tmp_path, monkeypatch, act)
            assert moments > 2
            assert read > 0
    assert visible(out) == ["drift", "f.parquet", "s.parquet"]
    assert not list(out.rglob(".*"))


EXPERIMENT = [
    *("--source=simulated", "--source_set=items=200", "--source_set=periods=16"),
    *("--source_set=clicks=100000", "--taxonomies=category", "--release=release"),
    *("--min_test_rows=20", "--table=One: ha, ha_taxonomy", "--reference=ha", "--seeds=0"),
    "--replicates=100",
]


@pytest.mark.slow(first=True)
def test_whatever_an_experiment_is_killed_at_it_ends_the_same(tmp_path, monkeypatch, undrawn):
    place = tmp_path / "experiment"
    places = [f"--cells={place / 'cells'}", f"--results={place / 'results'}"]
    flags = parse(config.ExperimentConfig, [*EXPERIMENT, *places])

    def contents():
        results = sorted((place / "results").iterdir())
        return {
            path.name: path.read_bytes()
            for path in results
            # These four report seconds.
            if path.name not in ("results.md", "report.html", "cells.csv", "state.json")
        } | {"names": [path.name for path in results]}

    copies = every_state(place, tmp_path / "copies", monkeypatch, lambda: tasks.experiment(flags))
    assert len(copies) > 10
    wanted = contents()
    assert {"one.csv", "one.tex", "claims.json", "one_bars.png"} <= set(wanted)
    for copy in copies:
        put_back(copy, place)
        watched(place, monkeypatch, lambda: tasks.experiment(flags))
        assert contents() == wanted, visible(copy)
        assert not list(place.rglob(".*"))


@pytest.mark.parametrize("how", ["die", "fail"])
def test_tables_half_of_which_are_new_are_made_again(tmp_path, monkeypatch, how):
    planned, flags = plan.Plan({}, (), (0,), origins=1), config.ExperimentConfig()

    def write(place, title):
        found = {
            "a.csv": f"{title}\n",
            "results.md": f"{title}\n",
            title: "one\n",
            "same.md": "same\n",
        }
        titled = flags.model_copy(update={"title": title})
        return results.write(planned, [], titled, place, lambda *_: found)

    def fresh(name):
        write(tmp_path / name, "old")
        return tmp_path / name

    for place, _ in every_moment(lambda place: write(place, "new"), fresh, monkeypatch, how):
        for name in ("a.csv", "results.md"):
            assert (place / name).read_text() in ("old\n", "new\n")
        age_hidden(place)
        write(place, "new")
        assert [(place / name).read_text() for name in ("a.csv", "results.md")] == ["new\n"] * 2
        assert visible(place) == [
            "a.csv",
            "new",
            "report.html",
            "results.md",
            "same.md",
            "state.json",
        ]
        assert write(place, "new") == 0  # it says so, and is right


@pytest.mark.slow
def test_whatever_encoding_is_killed_at_it_ends_the_same(tmp_path, monkeypatch, tiny_bert_dir):
    two_vectors = functools.partial(cache.VectorCache, segment_bytes=2 * 2 * 64)  # of the tiny BERT
    monkeypatch.setattr(content, "VectorCache", two_vectors)
    items = pd.DataFrame({"item_id": list("abcdef"), "title": ["cat", "dog", "tips", "", "a", "b"]})
    items.to_csv(tmp_path / "items.csv", index=False)
    items[:3].to_csv(tmp_path / "fewer.csv", index=False)
    place = tmp_path / "place"
    common = ["--texts=title", "--text_encoder=hub", f"--text_handle={tiny_bert_dir}"]
    common += [f"--encoder_cache={place / 'cache'}", "--text_pieces=32"]

    def encode(name, *more):
        given = [*common, f"--items={tmp_path / name}", *more]
        tasks.encode(parse(config.EncodeConfig, given))

    def stored():
        """The keys of all vectors, each once."""
        keys = [np.load(path) for path in sorted(place.rglob("segment-*.keys.npy"))]
        keys = [key.tobytes() for key in np.concatenate(keys)]
        assert len(set(keys)) == len(keys)
        return set(keys)

    def write():
        encode("items.csv", f"--output={place / 'vectors'}")

    def prune():
        encode("fewer.csv", "--prune", f"--output={place / 'vectors'}")

    for act, number in ((write, 5), (prune, 3)):
        copies = every_state(place, tmp_path / act.__name__, monkeypatch, act)
        assert len(copies) > 3
        wanted = stored(), (place / "vectors" / "title.parquet").read_bytes()
        assert len(wanted[0]) == number
        for copy in copies:
            put_back(copy, place)
            watched(place, monkeypatch, act)
            assert (stored(), (place / "vectors" / "title.parquet").read_bytes()) == wanted
            assert not list(place.rglob(".*"))


# -------------------------------------------------------------------------------------- locks


@posix
def test_a_second_process_is_refused_until_the_first_ends(tmp_path):
    script = (
        "import sys; from mmnet.files import only_one\n"
        f"with only_one({str(tmp_path / 'd')!r}, 'busy'):\n"
        "    print('locked', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(InputError, match="busy"), only_one(tmp_path / "d", "busy"):
        pass
    child.kill()  # and no file is left that would keep the next one out
    child.wait()
    with only_one(tmp_path / "d", "busy"):
        assert list((tmp_path / "d").iterdir()) == []


@posix
def test_a_directory_made_for_a_lock_goes_with_it(tmp_path):
    with only_one(tmp_path / "lock", "busy", remove=True):
        assert (tmp_path / "lock").is_dir()
    assert not (tmp_path / "lock").exists()
    (tmp_path / "lock").mkdir()
    with only_one(tmp_path / "lock", "busy", remove=True):
        pass
    assert (tmp_path / "lock").exists()  # somebody else made it


@posix
def test_two_trainings_and_an_evaluation_do_not_share_a_run(own_copy, simulated_flags, tmp_path):
    new = parse(config.TrainConfig, [*simulated_flags, f"--run_dir={tmp_path / 'run'}"])
    with only_one(tmp_path / "run", ""), pytest.raises(InputError, match="is in use by another"):
        tasks.train(new)
    with only_one(own_copy, ""), pytest.raises(InputError, match="is in use by another"):
        tasks.evaluate(config.EvaluateConfig(run_dir=str(own_copy)))
    flags = parse(config.PrepareConfig, [*simulated_flags, f"--dataset_dir={tmp_path / 'set'}"])
    with (
        only_one(tmp_path / "set", ""),
        pytest.raises(InputError, match="is being prepared by another process"),
    ):
        tasks.prepare(flags)


# -------------------------------------------------------------- full disks, impossible paths


@posix
def test_a_full_disk_is_one_sentence_and_the_old_file_stays(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("old")
    monkeypatch.setattr(files.uuid, "uuid4", lambda: type("Fixed", (), {"hex": "0" * 32}))
    (tmp_path / f".a.{'0' * 12}.json").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_atomic(tmp_path / "a.json", "new" * 10_000)
    assert files.problem_of_place(caught.value).startswith(
        f"{tmp_path / 'a.json'}: No space left on device; free some space"
    )
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@posix
@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_a_device_is_never_replaced_by_a_file(device):
    before = os.stat(device)
    with pytest.raises(OSError, match="is a device or a pipe"):
        write_atomic(device, "x")
    assert os.stat(device) == before


@posix
@pytest.mark.slow
@pytest.mark.parametrize("limit", [1_000, 30_000, 200_000])
def test_a_limit_on_file_sizes_is_one_sentence(simulated_flags, tmp_path, limit):
    done = run_driver(
        "train",
        *simulated_flags,
        "--set=units=4",
        "--epochs=1",
        f"--run_dir={tmp_path / 'run'}",
        limit=limit,
    )
    assert done.returncode == 1, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    assert any(words in sentence for words in ("File too large", "limit is full"))
    if (tmp_path / "run").exists():
        Wholeness(tmp_path / "run")()


def test_a_path_below_a_file_is_one_sentence(run_dir, tmp_path):
    (tmp_path / "file").write_text("dear")
    below = str(tmp_path / "file" / "out")
    common = {"saved_model": str(run_dir / "export"), "dataset_dir": str(run_dir / "dataset")}
    made = [*EXPERIMENT, f"--results={tmp_path / 'results'}"]
    encoder = SimpleNamespace(fingerprint="0" * 64, dim=2, about={})
    column = SimpleNamespace(name="title")
    encoded = SimpleNamespace(column=column, vectors=np.ones((1, 2), np.float16))
    for act in (
        lambda: tasks.predict(config.PredictConfig(**common, output=f"{below}/s.parquet")),
        lambda: tasks.predict(config.PredictConfig(**common, ranking_features=f"{below}/s")),
        lambda: tasks.drift(config.DriftConfig(**common, output=below)),
        lambda: tasks.experiment(parse(config.ExperimentConfig, [*made, f"--cells={below}"])),
        lambda: results.write(
            plan.Plan({}, (), (0,), origins=1),
            [],
            config.ExperimentConfig(),
            Path(below),
            lambda *_: {"results.md": "a\n"},
        ),
        lambda: content.write(encoded, np.array(["a"]), "item_id", below),
        lambda: VectorCache(below, encoder),
    ):
        with pytest.raises((OSError, InputError)) as caught:
            act()
        told = files.problem_of_place(caught.value) or str(caught.value)
        assert "Not a directory" in told
        assert below in told
    assert (tmp_path / "file").read_text() == "dear"


def test_an_error_of_the_disk_is_no_traceback(tmp_path, monkeypatch, capsys):
    def full(flags):
        raise OSError("4096 requested and 12 written")

    monkeypatch.setattr(tasks, "prepare", full)
    assert driver.run(config.PrepareConfig, "", "prepare", []) == driver.WRONG_INPUT
    assert capsys.readouterr().err.startswith("error: a file could not be written completely")

    def broken(flags):
        raise OSError("something else")

    monkeypatch.setattr(tasks, "prepare", broken)
    assert driver.run(config.PrepareConfig, "", "prepare", []) == driver.INTERNAL
