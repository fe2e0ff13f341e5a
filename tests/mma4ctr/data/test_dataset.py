import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import dataset, generator
from tests.mma4ctr.files import feed, play, write_wechat

LOG = ("users=20", "feeds=30", "rows=400", "rate=0.2", "text_scale=0.002")


@pytest.fixture
def place(tmp_path):
    """A directory with a dataset of generated files that lie beside it."""
    flags = InteractionFlags(generate=LOG, source_dir=str(tmp_path / "here" / "files"), min_rows=2)
    dataset.prepare(flags, tmp_path / "here" / "dataset")
    return tmp_path / "here"


def as_an_earlier_version(directory, truth=None):
    """Rewrites a dataset as before the systems shared a store; before that, a truth was a path."""
    spec = json.loads((directory / "dataset.json").read_text())
    folder = directory / spec["folder"]
    (folder / "checksums.json").unlink(missing_ok=True)  # which no earlier version wrote
    name = spec["content"][:16]
    folder.rename(directory / name)
    if truth:
        (directory / name / "truth.npz").unlink()
    spec |= {"key": spec["fingerprint"], "fingerprint": spec["content"], "folder": name}
    spec["truth"] = str(truth or f"{name}/truth.npz")
    del spec["content"], spec["format"]
    (directory / "dataset.json").write_text(json.dumps(spec))
    return dataset.load(directory)


def test_a_moved_dataset_knows_its_truth_without_the_files(place, tmp_path):
    planted = dataset.truth(dataset.load(place / "dataset"))
    shutil.move(place / "dataset", tmp_path / "there")
    shutil.rmtree(place)
    found = dataset.load(tmp_path / "there")
    assert str(tmp_path) not in (tmp_path / "there" / "dataset.json").read_text()
    np.testing.assert_array_equal(dataset.truth(found).taste, planted.taste)


def test_a_dataset_that_lost_its_truth_is_not_whole_and_is_prepared_again(place):
    lost = dataset.load(place / "dataset").folder / "truth.npz"
    lost.write_bytes(b"PK")
    with pytest.raises(
        InputError, match=r"truth\.npz is missing or truncated; prepare the dataset"
    ):
        dataset.truth(dataset.load(place / "dataset"))
    lost.unlink()
    with pytest.raises(
        InputError, match=r"truth\.npz is missing or truncated; prepare the dataset"
    ):
        dataset.load(place / "dataset")
    again = InteractionFlags(source_dir=str(place / "files"), min_rows=2)
    assert dataset.truth(dataset.prepare(again, place / "dataset")) is not None


def test_a_damaged_truth_of_the_files_is_refused_before_they_are_read(place):
    (place / "files" / "truth.npz").write_bytes(b"PK")
    again = InteractionFlags(source_dir=str(place / "files"), min_rows=2)
    with pytest.raises(InputError, match=r"truth\.npz is damaged; generate the log again, or"):
        dataset.prepare(again, place / "other")
    assert not (place / "other").exists()


def test_a_truth_of_another_log_is_refused(place):
    path = place / "files" / "truth.npz"
    with np.load(path) as stored:
        np.savez(path, **{**stored, "user_ids": stored["user_ids"] + 10**6})
    again = InteractionFlags(source_dir=str(place / "files"), min_rows=2)
    with pytest.raises(InputError, match=r"truth\.npz is of another log: it lacks users"):
        dataset.prepare(again, place / "other")


def test_a_log_that_was_not_generated_has_no_truth(tmp_path, capsys):
    plays = [play(1, n % 3 + 1, day=n + 1) for n in range(9)]
    source = write_wechat(tmp_path / "raw", plays, [feed(n) for n in (1, 2, 3)])
    made = dataset.prepare(InteractionFlags(source_dir=str(source)), tmp_path / "dataset")
    assert dataset.truth(made) is None
    before = made.spec.model_copy(update={"truth": str(source / "truth.npz")})  # as of old
    assert dataset.truth(dataclasses.replace(made, spec=before)) is None
    assert capsys.readouterr().out == ""


def test_a_dataset_of_an_earlier_version_is_as_good_as_a_new_one(place):
    new = dataset.load(place / "dataset")
    old = as_an_earlier_version(place / "dataset")
    for name in (*dataset.ROWS, "user_ids", "item_ids"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))
    assert old.spec.content == new.spec.content  # what trained weights belong to
    planted = generator.Truth.read(place / "files" / "truth.npz")
    np.testing.assert_array_equal(dataset.truth(old).taste, planted.taste)
    flags = InteractionFlags(source_dir=str(place / "files"), min_rows=2)
    assert dataset.prepare(flags, place / "dataset").folder == old.folder  # unchanged, so reused
    changed = dataset.prepare(flags.model_copy(update={"min_rows": 3}), place / "dataset")
    assert [path for path in (place / "dataset").iterdir() if path.is_dir()] == [changed.folder]


def test_the_truth_of_an_earlier_version_is_found_where_it_was_and_in_raw_files(place, tmp_path):
    old = as_an_earlier_version(place / "dataset", place / "files" / "truth.npz")
    assert len(dataset.truth(old).user_ids) == 20
    shutil.move(place / "files", place / "dataset" / "raw")
    assert len(dataset.truth(old).user_ids) == 20


def test_an_earlier_version_says_that_its_truth_is_gone(place, tmp_path, capsys):
    gone = tmp_path / "gone" / "truth.npz"
    assert dataset.truth(as_an_earlier_version(place / "dataset", gone)) is None
    told = capsys.readouterr().out
    assert f"{gone} is missing" in told
    assert "prepare the dataset again" in told.lower()
    assert told.count("\n") == 1


def test_what_files_hold_decides_and_not_their_times_or_their_place(tmp_path):
    def prepared():
        dataset.prepare(InteractionFlags(source_dir=str(source)), tmp_path / "dataset")
        return (tmp_path / "dataset" / "dataset.json").stat().st_mtime_ns

    plays = [play(1, n % 3 + 1, day=n + 1) for n in range(9)]
    source = write_wechat(tmp_path / "raw", plays, [feed(n) for n in (1, 2, 3)])
    first = prepared()
    os.utime(source / "user_action.csv")
    source = shutil.move(source, tmp_path / "elsewhere")
    assert prepared() == first

    log = source / "user_action.csv"
    before, lines = log.stat(), log.read_bytes().splitlines(keepends=True)
    lines[1], lines[2] = lines[2], lines[1]  # as many bytes
    log.write_bytes(b"".join(lines))
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert log.stat().st_size == before.st_size
    assert prepared() > first


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("user", lambda array: array + 1),
        ("item", lambda array: array - 1),
        ("label", lambda array: array[:-1]),
        ("item_ids", lambda array: array[:-1]),
        ("user_ids", lambda array: array + 10**6),
        ("textual.present", lambda array: array[:-1]),
        ("textual.tokens_offsets", lambda array: array[::-1]),
        ("textual.tokens", lambda array: array[:-1]),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(place, name, damage):
    folder = dataset.load(place / "dataset").folder
    (folder / "checksums.json").unlink()  # as an earlier version wrote it
    np.save(folder / f"{name}.npy", damage(np.load(folder / f"{name}.npy")))
    with pytest.raises(InputError, match=r"\.npy is damaged: it does not match the dataset's"):
        dataset.load(place / "dataset")
