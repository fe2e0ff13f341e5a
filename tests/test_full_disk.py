"""A disk that is full, or read-only, from any step on leaves what was there; and refusals work.

`experiments/reliability/full_disk.py` does the same for every driver.
"""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.reliability import refusing

SCRIPT = Path(__file__).parents[1] / "experiments" / "reliability" / "full_disk.py"
pytestmark = pytest.mark.skipif(not refusing.AVAILABLE, reason="needs Linux on x86-64")

WRITE = """
import sys
from pathlib import Path
from mmnet import files

root = Path(sys.argv[1])

def fill(folder):
    (folder / "below").mkdir()
    (folder / "below/part.txt").write_text("new")

try:
    files.write_atomic(root / "a.json", "new")
    files.write_directory(root / "set", fill)
except OSError as error:
    sys.exit(files.problem_of_place(error))
"""


def written(root, **how):
    """Steps of the program, what it has printed, and the files with the contents they have."""
    (root / "set/below").mkdir(parents=True)
    for name in ("a.json", "set/below/part.txt"):
        (root / name).write_text("old")
    with (root.parent / "told.txt").open("w+") as told:
        command = [sys.executable, "-c", WRITE, str(root)]
        steps = refusing.run(command, [root], **how, stderr=told)
        told.seek(0)
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        return steps, told.read(), {str(p.relative_to(root)): p.read_text() for p in files}


def test_every_step_is_seen_and_passes(tmp_path):
    steps, told, left = written(tmp_path / "root")
    assert (steps.code, steps.refused, told) == (0, 0, "")
    assert left == {"a.json": "new", "set/below/part.txt": "new"}
    calls = [call for call, _ in steps.done]
    assert calls[:3] == ["created", "write", "rename"]
    assert steps.done[2][1] == str(tmp_path / "root/a.json")
    assert calls.count("mkdir") == 2  # one that exists already would fail on any disk
    assert calls.count("rename") == 3


@pytest.mark.parametrize("name", ["ENOSPC", "EROFS"])
def test_what_was_there_remains_whichever_step_is_the_first_to_fail(tmp_path, name):
    code = getattr(errno, name)
    steps, *_ = written(tmp_path / "all")
    refused = [
        number
        for number, (call, _) in enumerate(steps.done)
        if code == errno.EROFS or call in refusing.NEED_SPACE
    ]
    assert len(refused) >= 5
    ends = set()
    for number in refused:
        root = tmp_path / str(number)
        steps, told, left = written(root, refuse=lambda at, n=number: code if at >= n else 0)
        whole = {path: text for path, text in left.items() if not path.startswith(".")}
        # A directory that was moved aside when the disk became read-only is found by our readers.
        if "set/below/part.txt" not in whole:
            (aside,) = (path for path in left if path.endswith("-old/below/part.txt"))
            whole["set/below/part.txt"] = left[aside]
        assert set(whole) == {"a.json", "set/below/part.txt"}
        assert set(whole.values()) <= {"old", "new"}
        if code == errno.ENOSPC:
            assert not [path for path in left if path.startswith(".")]
        if steps.code:
            assert told.startswith(f"{root}/")
            assert told.count("\n") == 1
        else:  # what could not be removed does not matter
            assert set(whole.values()) == {"new"}
        ends.add((steps.code, *whole.values()))
    assert {(1, "old", "old"), (1, "new", "old")} <= ends


@pytest.mark.slow(first=True)
def test_a_full_disk_ends_a_driver_in_a_sentence_and_leaves_what_was_there(tmp_path):
    page = tmp_path / "page.md"
    flags = ["--drivers=prepare,encode", "--points=1", "--forked", f"--output={page}"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 runs of 2 drivers with a disk that was full or read-only" in page.read_text()


AT_EXIT = """
import atexit, errno, os, sys
from mmnet import config, driver

def work(flags):
    for name in ("__autograph_generated_file1.py", "other.py"):
        atexit.register(lambda name=name: failed(name))
    failed("a.json")

def failed(name):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)

sys.exit(driver.run(config.PrepareConfig, "", work, []))
"""


def test_a_file_of_tensorflow_that_cannot_be_removed_at_exit_adds_no_traceback():
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=False
    )
    sentence, _, rest = done.stderr.partition("\n")
    assert (done.returncode, sentence) == (
        1,
        "error: a.json: Read-only file system; choose another path",
    )
    assert "'other.py'" in rest
    assert "__autograph_generated_file" not in rest
