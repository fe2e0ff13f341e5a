"""A power cut at any moment leaves the old file or the new one; and the checker would notice.

`experiments/reliability/crash_states.py` does the same for every driver.
"""

import shutil
import sys

import pytest

from experiments.reliability import crashes

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

TWICE = """
import sys
from pathlib import Path
import numpy as np
from mmnet import files

root = Path(sys.argv[1])
exec(sys.argv[2])

def fill(folder):
    (folder / "below").mkdir()
    (folder / "below/part.txt").write_text("part\\n" * 400)
    mapped = np.lib.format.open_memmap(folder / "a.npy", mode="w+", shape=(500,), dtype="f8")
    mapped[:] = 3
    mapped.flush()

for text in ("old", "new and longer"):
    files.write_atomic(root / "deep/er/a.json", text * 500)
    files.write_directory(root / "set", fill)
"""


def examined(tmp_path, change=""):
    """Runs the program above under strace; returns what a crash may break and what it may lose."""
    root = tmp_path / "root"
    root.mkdir()
    disk = crashes.Disk(root)
    command = [sys.executable, "-c", TWICE, str(root), change]
    code, calls = crashes.record(command, tmp_path / "trace")
    assert code == 0
    disk.keep(calls)
    states, problems, _ = crashes.torn(disk, calls, ())
    assert states > 50
    return root, disk, calls, problems, crashes.lost(disk, calls, ())


def test_a_power_cut_at_any_moment_leaves_the_old_or_the_new(tmp_path):
    root, disk, calls, problems, lost = examined(tmp_path)
    assert problems == []
    assert lost == {"ordered": [], "unordered": []}
    disk.finish(calls)  # the model of the file system ends where the file system does
    modelled = disk.tree("all", set(range(len(disk.log))))
    real = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    assert {path: content for path, content in modelled.items() if content is not None} == {
        path: file.read_bytes() for path, file in real.items() if file.is_file()
    }


@pytest.mark.parametrize(
    ("change", "problem", "kind"),
    [
        ("files._to_disk = lambda path: None", "deep/er/a.json", "never published"),
        ("(root / 'b.txt').write_text('at once' * 500)", "b.txt", "never published"),
        ("(root / 'c.txt').write_text('1'); (root / 'c.txt').unlink()", "c.txt", "never published"),
    ],
)
def test_what_is_not_synchronised_or_not_renamed_is_noticed(tmp_path, change, problem, kind):
    *_, problems, _ = examined(tmp_path, change)
    assert any(one.startswith(f"{problem}: ") and kind in one for one in problems)


def test_entries_whose_directory_is_not_synchronised_may_be_lost(tmp_path):
    without = "files.make_directory = lambda path: path.mkdir(parents=True, exist_ok=True)"
    *_, problems, lost = examined(tmp_path, without)
    assert problems == []
    assert lost == {"ordered": [], "unordered": ["deep/er/a.json"]}
