"""A dataset directory holds the old dataset or the new one, and loses no file of anyone else."""

import hashlib
import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.data import store
from mmnet.data.store import Store
from tests.faults import every_moment

STORE = Store("mmnet.prepare", 3, lambda folder, about: store.mapped(folder, "a"))


def fingerprint(value):
    return hashlib.sha256(str(value).encode()).hexdigest()


def write(directory, value, seen=None):
    """A dataset of three equal numbers; `seen` is called between its two files."""

    def fill(folder):
        np.save(folder / "a.npy", np.full(3, value))
        if seen:
            seen()
        (folder / store.LEDGER).write_text("a ledger\n")
        return {"value": value}

    with STORE.only_one(directory):
        return STORE.write(directory, fingerprint(value), fill)


def value_of(directory):
    """The value of a whole dataset."""
    found = STORE.load(directory)
    assert found.tolist() == [store.read(directory)["value"]] * 3
    assert (folder_of(directory) / store.LEDGER).read_text() == "a ledger\n"
    return found[0]


def folder_of(directory):
    return directory / store.read(directory)["folder"]


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def sentence(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


# -------------------------------------------------------------------------- old or new


@pytest.mark.parametrize("how", ["die", "fail"])
def test_stopped_at_any_moment_it_is_the_old_or_the_new_one(tmp_path, monkeypatch, how):
    def fresh(name):
        write(tmp_path / name / "set", 1)
        (tmp_path / name / "set" / "mine.txt").write_text("dear")
        return tmp_path / name

    found = []
    for place, _ in every_moment(lambda place: write(place / "set", 2), fresh, monkeypatch, how):
        directory = place / "set"
        found.append(value_of(directory))
        write(directory, 3)
        assert value_of(directory) == 3
        assert names(directory) == sorted([folder_of(directory).name, "dataset.json", "mine.txt"])
        assert names(place) == ["set"]
    assert set(found) == {1, 2}
    if how == "die":  # an error of tidying up may be let pass
        assert found == sorted(found)  # the new one from some moment on


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_damaged_dataset_is_replaced_by_a_whole_one_of_the_same_fingerprint(
    tmp_path, monkeypatch, how
):
    def fresh(name):
        directory = tmp_path / name / "set"
        write(directory, 1)
        (folder_of(directory) / "a.npy").write_bytes(b"")
        return tmp_path / name

    replaced = 0
    for place, _ in every_moment(lambda place: write(place / "set", 1), fresh, monkeypatch, how):
        directory = place / "set"
        found = STORE.unchanged(directory, fingerprint(1))
        if found is None:
            assert sentence(STORE.load, directory) == (
                f"{folder_of(directory)}/a.npy is missing or truncated; prepare the dataset again"
            )
            write(directory, 1)
        else:
            replaced += 1
        assert value_of(directory) == 1
    assert replaced > 0


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_first_dataset_is_whole_or_absent(tmp_path, monkeypatch, how):
    def fresh(name):
        (tmp_path / name).mkdir()
        return tmp_path / name

    for place, _ in every_moment(lambda place: write(place / "set", 1), fresh, monkeypatch, how):
        if store.read(place / "set") is None:
            assert "is not a dataset directory" in sentence(STORE.load, place / "set")
        else:
            assert value_of(place / "set") == 1
        write(place / "set", 2)  # what was left there is no one else's
        assert len(names(place / "set")) == 2


def test_while_a_dataset_is_written_the_old_one_is_read(tmp_path):
    seen = []
    write(tmp_path, 1)
    write(tmp_path, 2, lambda: seen.append(value_of(tmp_path)))
    assert (seen, value_of(tmp_path)) == ([1], 2)


def test_a_reader_keeps_the_arrays_that_it_has_opened(tmp_path):
    before, folder = write(tmp_path, 1), folder_of(tmp_path)
    write(tmp_path, 2)
    assert not folder.exists()
    assert before.tolist() == [1, 1, 1]


def test_a_dataset_that_is_replaced_while_it_is_opened_is_opened_again(tmp_path):
    looks = []

    def open_slowly(folder, about):
        looks.append(about["value"])
        if len(looks) == 1:
            write(tmp_path, 2)
        return store.mapped(folder, "a")

    write(tmp_path, 1)
    assert Store("", 3, open_slowly).load(tmp_path).tolist() == [2, 2, 2]
    assert looks == [1, 2]


def test_equal_datasets_have_equal_files(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name, 1)
    assert names(tmp_path / "one") == names(tmp_path / "other")
    one, other = (tmp_path / name / "dataset.json" for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_only_a_whole_dataset_of_the_same_fingerprint_is_unchanged(tmp_path):
    assert STORE.unchanged(tmp_path, fingerprint(1)) is None
    write(tmp_path, 1)
    assert STORE.unchanged(tmp_path, fingerprint(1)).tolist() == [1, 1, 1]
    assert STORE.unchanged(tmp_path, fingerprint(2)) is None
    (folder_of(tmp_path) / "a.npy").unlink()
    assert STORE.unchanged(tmp_path, fingerprint(1)) is None


# ------------------------------------------------------------------- files of others


def test_a_directory_with_files_but_no_dataset_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    wanted = f"{tmp_path} contains other files; choose another --dataset_dir"
    assert sentence(write, tmp_path, 1) == wanted
    assert names(tmp_path) == ["thesis.txt"]
    (tmp_path / "thesis.txt").unlink()
    (tmp_path / "0123456789abcdef").mkdir()  # named as ours are
    (tmp_path / "0123456789abcdef" / "thesis.txt").write_text("dear")
    assert sentence(write, tmp_path, 1) == wanted


def test_what_a_dataset_is_made_from_may_be_inside(tmp_path, monkeypatch):
    raw = tmp_path / "set" / "raw"
    raw.mkdir(parents=True)
    (raw / "log.csv").write_text("1\n")
    monkeypatch.chdir(tmp_path)
    for source in (raw / "log.csv", raw, raw.parent, "set/raw"):
        with STORE.only_one("set", source):
            pass
    with pytest.raises(InputError, match="contains other files"), STORE.only_one("set", tmp_path):
        pass
    assert (raw / "log.csv").read_text() == "1\n"


@pytest.mark.parametrize("name", ["notes.txt", "notes/a.npy"])
def test_a_folder_that_holds_a_file_of_someone_else_stays(tmp_path, name):
    write(tmp_path, 1)
    folder = folder_of(tmp_path)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("dear")
    write(tmp_path, 2)
    write(tmp_path, 1)  # its name is not used again
    assert (folder / name).read_text() == "dear"
    assert value_of(tmp_path) == 1


def test_a_second_writer_is_refused(tmp_path):
    with STORE.only_one(tmp_path / "set"):
        told = sentence(write, tmp_path / "set", 1)
    assert told == (
        f"--dataset_dir={tmp_path}/set is being prepared by another process; wait for it, or "
        "choose another directory"
    )
    assert not (tmp_path / "set").exists()  # it was made for the lock


# ------------------------------------------------------------------------- documents


def test_a_directory_without_a_dataset_is_refused_and_the_driver_named(tmp_path):
    wanted = "is not a dataset directory (no readable dataset.json); prepare one with python -m "
    wanted += "mmnet.prepare, or choose another --dataset_dir"
    assert sentence(STORE.load, tmp_path / "none") == f"--dataset_dir={tmp_path}/none {wanted}"
    write(tmp_path, 1)
    about = store.read(tmp_path)
    for text in ("", "[]", "{", json.dumps(about | {"folder": "../elsewhere"})):
        (tmp_path / "dataset.json").write_text(text)
        assert sentence(STORE.load, tmp_path) == f"--dataset_dir={tmp_path} {wanted}"
    write(tmp_path, 2)
    assert value_of(tmp_path) == 2


def test_another_format_and_a_document_that_lacks_something_are_refused(tmp_path):
    write(tmp_path, 1)
    assert sentence(Store("", 4, STORE.open).load, tmp_path) == (
        f"{tmp_path} has the format of another version; delete it and prepare it again"
    )
    demanding = Store("", 3, lambda folder, about: about["fitted"])
    assert sentence(demanding.load, tmp_path) == (
        f"{tmp_path}/dataset.json is missing or truncated; prepare the dataset again"
    )


def test_a_file_that_is_swapped_or_edited_is_refused(tmp_path):
    write(tmp_path, 1)
    other = write(tmp_path / "other", 2)
    array = folder_of(tmp_path) / "a.npy"
    np.save(array, other)  # of the same shape and type
    told = f"{array} is not the file that was prepared; prepare the dataset again"
    assert sentence(STORE.load, tmp_path) == told
    (folder_of(tmp_path) / "checksums.json").write_text("[" * 10_000)
    assert "checksums.json is missing or truncated" in sentence(STORE.load, tmp_path)


def test_a_large_file_is_checked_in_blocks_from_its_start_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 4)
    path = tmp_path / "a.npy"
    content = bytes(range(200))
    for place in (0, 3, 196, 199):
        path.write_bytes(content)
        whole = store._sum(path)
        path.write_bytes(content[:place] + b"x" + content[place + 1 :])
        changed = store._sum(path)
        assert whole[0] == changed[0] == 200
        assert whole[1] != changed[1]


# ------------------------------------------------------------------- earlier versions


def at_the_top(directory, value):
    """A dataset as the first system wrote it before it had folders."""
    write(directory, value)
    folder, about = folder_of(directory), store.read(directory)
    (folder / "checksums.json").unlink()
    for path in folder.iterdir():
        shutil.move(path, directory / path.name.replace("a.npy", "history.npy"))
    folder.rmdir()
    del about["folder"]
    (directory / "dataset.json").write_text(json.dumps(about))


def test_a_dataset_without_a_folder_is_read_and_replaced_and_nothing_else_is_removed(tmp_path):
    earlier = Store("", 3, lambda folder, about: store.mapped(folder, "history"))
    at_the_top(tmp_path, 1)
    others = ["counts.json", "counts.parquet", "history.csv", "my.npy", "tensor.npy"]
    for name in others:
        (tmp_path / name).write_text("dear")
    assert earlier.load(tmp_path).tolist() == [1, 1, 1]
    before = earlier.unchanged(tmp_path, fingerprint(1))
    write(tmp_path, 2)
    assert before.tolist() == [1, 1, 1]
    assert names(tmp_path) == sorted([folder_of(tmp_path).name, "dataset.json", *others])
    (tmp_path / "history.npy").write_text("dear")  # no dataset is there any more
    write(tmp_path, 3)
    assert (tmp_path / "history.npy").read_text() == "dear"


@pytest.mark.parametrize("how", ["die", "fail"])
def test_a_dataset_without_a_folder_is_the_old_or_the_new_one_too(tmp_path, monkeypatch, how):
    def fresh(name):
        at_the_top(tmp_path / name / "set", 1)
        return tmp_path / name

    either = Store("", 3, lambda f, about: store.mapped(f, "a" if "folder" in about else "history"))
    for place, _ in every_moment(lambda place: write(place / "set", 2), fresh, monkeypatch, how):
        directory = place / "set"
        value = store.read(directory)["value"]
        assert either.load(directory).tolist() == [value] * 3
        with STORE.only_one(directory):  # the next one to write removes what was replaced
            pass
        if "folder" in store.read(directory):
            assert names(directory) == sorted([folder_of(directory).name, "dataset.json"])
            assert not (folder_of(directory) / "replaced.json").exists()
            continue
        write(directory, 3)
        assert names(directory) == sorted([folder_of(directory).name, "dataset.json"])


def test_a_folder_of_sixteen_digits_and_a_key_are_the_second_systems_of_before(tmp_path):
    clicks = Store("", "mma4ctr-2", STORE.open)
    write(tmp_path, 1)
    folder_of(tmp_path).rename(tmp_path / "0123456789abcdef")
    about = {"folder": "0123456789abcdef", "key": fingerprint(1), "fingerprint": "of the rows"}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    assert clicks.unchanged(tmp_path, fingerprint(1)).tolist() == [1, 1, 1]
    assert store.read(tmp_path)["content"] == "of the rows"
    write(tmp_path, 2)
    assert names(tmp_path) == sorted([folder_of(tmp_path).name, "dataset.json"])


@pytest.mark.parametrize("error", [zlib.error, MemoryError, NotImplementedError, struct.error])
def test_whatever_a_reader_makes_of_a_damaged_file_it_is_refused(error):
    def reader(path):
        raise error

    with pytest.raises(InputError, match=r"^clicks\.npy is missing or truncated; prepare the"):
        store.opened(Path("clicks.npy"), reader)
