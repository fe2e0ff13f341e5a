"""Large blocks that are freed are returned to the system, in any thread."""

import platform
import subprocess
import sys

import pytest

from mmnet.serving import freed_memory

# Blocks that are mapped, freed, and by this no longer mapped; then 32 MiB, with a small block above
# them or not, in this thread and in another, which has a heap of its own.
HELD = """
import sys, threading
from pathlib import Path
from mmnet.serving import freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20

if sys.argv[1] == "returned":
    assert freed_memory.return_large_blocks()
del (lambda: bytearray(b"x") * (31 << 20))()[:]
before = resident()

def work():
    blocks = [bytearray(b"x") * (8 << 20) for _ in range(4)]
    blocks.append(bytearray(1 << 16))
    del blocks[:-1]
    print(resident() - before)

work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def held(how):
    done = subprocess.run(
        [sys.executable, "-c", HELD, how], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to")
def test_large_blocks_are_returned_in_every_thread():
    assert max(held("kept")) >= 30  # MiB; else there is nothing to return
    # A new thread's heap and the small block are below 1 MiB.
    assert max(held("returned")) <= 1


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    assert not freed_memory.return_large_blocks()
