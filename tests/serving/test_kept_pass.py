"""First passes that are kept: found whole, or made again."""

import errno
import os
import shutil

import pytest

from mmnet.checks import InputError
from mmnet.data.ledger import Rule
from mmnet.serving import kept_pass

LEDGER = [Rule("counts", "item is in the items table", 9, 7, "two are not")]
KEYS = [kept_pass.hashed(number) for number in range(5)]


def made(tmp_path, name="made"):
    place = tmp_path / name
    place.mkdir()
    (place / "clicks.npy").write_bytes(b"clicks" * 100)
    (place / "survey.json").write_text("{}")
    return place


def taken(tmp_path, cache, key=KEYS[0]):
    """What a job finds: the ledger, and the contents of the files."""
    place = tmp_path / "taken"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    ledger = kept_pass.take(str(cache), key, place, 2)
    return ledger, {path.name: path.read_bytes() for path in place.iterdir()}


@pytest.mark.parametrize("links", [True, False])
def test_a_kept_pass_is_found_whole(tmp_path, monkeypatch, links):
    def refused(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    place, cache = made(tmp_path), tmp_path / "cache"
    assert taken(tmp_path, cache) == (None, {})
    kept_pass.keep(str(cache), KEYS[0], place, LEDGER, 2)
    wanted = {path.name: path.read_bytes() for path in place.iterdir()}
    shutil.rmtree(place)
    assert taken(tmp_path, cache) == (LEDGER, wanted)
    assert taken(tmp_path, cache, KEYS[1]) == (None, {})


@pytest.mark.parametrize("name", ["clicks.npy", "survey.json", kept_pass.LEDGER, kept_pass.SUMS])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_a_damaged_pass_is_not_used_and_replaced(tmp_path, name, how):
    place, cache = made(tmp_path), tmp_path / "cache"
    kept_pass.keep(str(cache), KEYS[0], place, LEDGER, 1)
    (path,) = cache.rglob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if how == "flipped":
        path.write_bytes(content)
    assert taken(tmp_path, cache) == (None, {})
    kept_pass.keep(str(cache), KEYS[0], place, LEDGER, 1)
    assert taken(tmp_path, cache)[0] == LEDGER
    assert [one.name for one in (cache / kept_pass.FOLDER).iterdir()] == [KEYS[0]]


def test_the_pass_that_was_not_used_for_longest_is_removed(tmp_path):
    place, cache = made(tmp_path), tmp_path / "cache"
    for age, key in enumerate(KEYS[: kept_pass.MOST]):
        kept_pass.keep(str(cache), key, place, LEDGER, 1)
        os.utime(cache / kept_pass.FOLDER / key / kept_pass.SUMS, (1000 + age, 1000 + age))
    taken(tmp_path, cache)  # now it is the second that was not used for longest
    kept_pass.keep(str(cache), KEYS[4], place, LEDGER, 1)
    left = {path.name for path in (cache / kept_pass.FOLDER).iterdir()}
    assert left == {KEYS[0], *KEYS[2 : kept_pass.MOST], KEYS[4]}


def test_of_two_jobs_at_once_both_are_done(tmp_path, monkeypatch):
    """The other job's pass is renamed into its place between removal and renaming."""
    place, cache, rename = made(tmp_path), tmp_path / "cache", os.rename
    other = made(tmp_path, "other")

    def second(source, target):
        monkeypatch.setattr(os, "rename", rename)
        kept_pass.keep(str(cache), KEYS[0], other, LEDGER, 1)
        rename(source, target)

    monkeypatch.setattr(os, "rename", second)
    kept_pass.keep(str(cache), KEYS[0], place, LEDGER, 1)
    assert taken(tmp_path, cache)[0] == LEDGER
    assert [one.name for one in (cache / kept_pass.FOLDER).iterdir()] == [KEYS[0]]


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(InputError, match=r"^--static_cache=.*cache: Not a directory$"):
        kept_pass.keep(str(tmp_path / "cache"), KEYS[0], made(tmp_path), LEDGER, 1)


def test_a_file_is_known_by_more_than_its_content(tmp_path):
    path = tmp_path / "items.parquet"
    path.write_bytes(b"items")
    known = kept_pass.identity(path)
    assert not kept_pass.are_settled([path])
    stat = path.stat()
    path.write_bytes(b"other")  # as long, and with the same time
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert kept_pass.identity(path) != known
    copy = tmp_path / "copy"
    copy.write_bytes(b"other")
    assert kept_pass.identity(copy)[1] == known[1]
    os.replace(copy, path)
    assert kept_pass.identity(path)[1:] != known[1:]
