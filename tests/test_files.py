"""A file is the old one or the new one, never a part."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from mmnet import files
from mmnet.checks import InputError
from mmnet.files import problem_of_place, scratch_directory, write_atomic


def files_in(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.mark.parametrize("content", [b"\x00\r\n\xff", b""])
def test_writes_bytes_as_they_are(tmp_path, content):
    path = write_atomic(tmp_path / "a.bin", content)
    assert path.read_bytes() == content
    assert files_in(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(("there", "what"), [("/dev/null", "a device or a pipe"), (".", "a dir")])
def test_a_place_that_no_file_can_have_is_one_sentence(tmp_path, there, what):
    path = tmp_path / "a.json"
    path.symlink_to(there)
    with pytest.raises(OSError, match=f"is {what}") as caught:
        write_atomic(path, "{}")
    assert problem_of_place(caught.value).startswith(f"{path}: is {what}")
    assert problem_of_place(caught.value).endswith(", not a regular file; choose another path")


def test_writes_text_as_utf_8_with_its_own_line_ends(tmp_path):
    write_atomic(tmp_path / "a.md", "ω = 6\n")
    assert (tmp_path / "a.md").read_bytes() == b"\xcf\x89 = 6\n"


def test_makes_the_directory(tmp_path):
    write_atomic(tmp_path / "evaluation" / "new" / "a.txt", "a")
    assert (tmp_path / "evaluation" / "new" / "a.txt").read_text() == "a"


def test_a_function_gets_a_path_beside_the_file_with_its_suffix(tmp_path):
    seen = []

    def write(path):
        seen.append(path)
        path.write_text("new")

    write_atomic(str(tmp_path / "a.parquet"), write)
    assert seen[0].parent == tmp_path
    assert seen[0].suffix == ".parquet"
    assert seen[0].name != "a.parquet"
    assert files_in(tmp_path) == ["a.parquet"]


def test_replaces_an_older_file(tmp_path):
    write_atomic(tmp_path / "a.txt", "a longer old text")
    write_atomic(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_half_way_keeps_the_old_file_and_leaves_nothing(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")

    def write(path):
        path.write_text("ha")
        raise error

    with pytest.raises(type(error)):
        write_atomic(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert files_in(tmp_path) == ["a.txt"]


def test_a_function_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "a.txt", lambda path: None)
    assert files_in(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "plain.txt").write_text("a")
    write_atomic(tmp_path / "a.txt", "a")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_a_reader_never_sees_a_part(tmp_path):
    path = tmp_path / "a.txt"
    texts = {"a" * 200_000, "b" * 100_000}
    write_atomic(path, "a" * 200_000)
    done = threading.Event()
    seen = set()

    def read():
        while not done.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        for text in sorted(texts):
            write_atomic(path, text)
    done.set()
    reader.join()
    assert seen <= texts


def test_what_a_killed_process_left_goes_once_nobody_writes_to_it(tmp_path):
    dead, alive, other = (
        tmp_path / f".{name}"
        for name in ("a.0123456789ab.txt", "a.ba9876543210.txt", "b.0123456789ab.txt")
    )
    for path in (dead, alive, other):
        path.write_text("half")
    for path in (dead, other):
        os.utime(path, (0, 0))
    write_atomic(tmp_path / "a.txt", "new")
    assert files_in(tmp_path) == sorted([alive.name, other.name, "a.txt"])


@pytest.mark.skipif(os.name != "posix", reason="locks of directories in use are POSIX locks")
def test_scratch_directories_that_a_killed_process_left_are_cleared_and_no_others(tmp_path):
    used = scratch_directory(tmp_path, ".events-")
    Path(used.name, "counts.parquet").write_text("mine")
    script = f"""
import os
from mmnet.files import scratch_directory
made = scratch_directory({str(tmp_path)!r}, ".events-")
open(os.path.join(made.name, "spill"), "w").close()
os._exit(0)  # as a kill: nothing is cleaned up
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    (tmp_path / ".events-of-my-own").mkdir()
    (left,) = {*tmp_path.iterdir()} - {Path(used.name), tmp_path / ".events-of-my-own"}
    assert (left / "spill").exists()
    with scratch_directory(tmp_path, ".events-") as another:
        there = {path.name for path in tmp_path.iterdir()}
        assert there == {Path(used.name).name, Path(another).name, ".events-of-my-own"}
    assert Path(used.name, "counts.parquet").read_text() == "mine"
    used.cleanup()
    assert [path.name for path in tmp_path.iterdir()] == [".events-of-my-own"]


def test_scratch_directories_are_made_where_they_are_wanted_or_refused(tmp_path):
    with scratch_directory(tmp_path / "new" / "spill") as scratch:
        assert os.path.dirname(scratch) == str(tmp_path / "new" / "spill")
    (tmp_path / "file").touch()
    told = r"temporary files: Not a directory; choose another directory with --engine_spill$"
    with pytest.raises(InputError, match=told):
        scratch_directory(tmp_path / "file")


def test_a_clock_that_jumps_makes_no_file_of_a_live_process_stale(tmp_path, monkeypatch):
    live = tmp_path / ".a.0123456789ab.json"
    live.write_text("{")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * files.STALE_SECONDS)
    write_atomic(tmp_path / "a.json", "{}")
    assert live.read_text() == "{"
    os.utime(live, (now - 2 * files.STALE_SECONDS,) * 2)
    write_atomic(tmp_path / "a.json", "{}")
    assert files_in(tmp_path) == ["a.json"]


def test_what_a_library_says_of_the_disk_becomes_a_sentence_with_the_file(tmp_path):
    def fill(path):
        raise OSError(errno.ENOSPC, f"Error writing bytes. Detail: {os.strerror(errno.ENOSPC)}")

    with pytest.raises(OSError, match="Detail") as caught:
        write_atomic(tmp_path / "a.parquet", fill)
    assert problem_of_place(caught.value) == (
        f"{tmp_path / 'a.parquet'}: No space left on device; free some space or choose another path"
    )
    with pytest.raises(OSError, match="Detail") as caught:
        files.write_directory(tmp_path / "set", fill)
    assert problem_of_place(caught.value).startswith(f"{tmp_path / 'set'}: No space left on device")


def test_the_path_that_tensorflow_names_is_in_the_sentence():
    class PermissionDeniedError(Exception):
        __module__ = "tensorflow.python.framework.errors_impl"

    error = PermissionDeniedError(f"/runs/export/variables; {os.strerror(errno.EROFS)}")
    assert problem_of_place(error) == (
        "/runs/export/variables: Read-only file system; choose another path"
    )
    error = PermissionDeniedError(f"{{{{node Save}}}} {os.strerror(errno.EROFS)}")
    assert problem_of_place(error) == "Read-only file system; choose another path"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_of_temporary_files_is_named_whatever_library_writes_them(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space left") as caught, written_by_a_library() as file:
        file.write("x")
    assert problem_of_place(caught.value) == (
        f"{tmp_path}: cannot write temporary files: No space left on device; free some space or "
        "set TMPDIR to another directory"
    )


def written_by_a_library():
    """A temporary file on a full disk: what was written is lost when it is closed."""
    return tempfile._TemporaryFileWrapper(open("/dev/full", "w"), "/dev/full", delete=False)
