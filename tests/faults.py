"""Stops a process, as far as its files can tell, at any of the moments that change them.

Every call that makes, renames, removes or flushes something below a directory is a moment. `die`
ends there as SIGKILL does: nothing that would clean up afterwards gets through any more. `fail` is
an error of the system at that one moment, after which the program may tidy up.
"""

import builtins
import contextlib
import errno
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from experiments.reliability.wholeness import Wholeness
from mmnet import files
from mmnet.checks import InputError

CALLS = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir", "fsync", "open")


class Dead(BaseException):
    """The process is gone."""


class Moments:
    """Counts the moments below a directory, and acts at them.

    Args:
        root: what happens elsewhere does not count.
        at: the moment to act at, from 0; None only counts.
        how: "die" or "fail".
        then: called at every moment, before it.
    """

    def __init__(self, root, at=None, how="die", then=None):
        self.root, self.at, self.how, self.then = Path(root).resolve(), at, how, then
        self.count, self.dead, self._inside = 0, False, False

    def _is_below(self, target, dir_fd):
        if dir_fd is not None:
            target = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), target)
        if isinstance(target, int):
            target = os.readlink(f"/proc/self/fd/{target}")
        target = os.path.abspath(os.fsdecode(target))
        return target == str(self.root) or target.startswith(f"{self.root}{os.sep}")

    def pass_by(self, target, dir_fd=None):
        """One moment: may raise."""
        if self._inside:
            return
        self._inside = True
        try:
            if self.dead:
                raise Dead
            if not self._is_below(target, dir_fd):
                return
            if self.then is not None:
                self.then()
            number, self.count = self.count, self.count + 1
            if number == self.at:
                if self.how == "die":
                    self.dead = True
                    raise Dead
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        finally:
            self._inside = False

    @contextlib.contextmanager
    def watching(self, monkeypatch):
        """Puts the moments into place."""
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._wrapped(getattr(os, name), name))
            for module in (builtins, io):
                patch.setattr(module, "open", self._opened(open))
            yield self

    def _wrapped(self, real, name):
        def call(target, *rest, **named):
            flags = rest[0] if name == "open" and rest else named.get("flags", 0)
            writes = name != "open" or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes:
                self.pass_by(target, named.get("dir_fd"))
            return real(target, *rest, **named)

        return call

    def _opened(self, real):
        def call(file, mode="r", *rest, **named):
            if set(mode) & set("wax+"):
                self.pass_by(file)
            return real(file, mode, *rest, **named)

        return call


def every_moment(act, fresh, monkeypatch, how):
    """Runs `act` on a fresh place once per moment, and yields each place it was stopped in."""
    place = fresh("counting")
    with Moments(place).watching(monkeypatch) as moments:
        act(place)
    assert moments.count > 2
    for at in range(moments.count):
        place = fresh(str(at))
        stopped, expected = True, (Dead,) if how == "die" else (OSError, InputError)
        with Moments(place, at, how).watching(monkeypatch) as passed:
            try:
                act(place)
            except expected:
                pass
            else:  # an error in tidying up afterwards may be let pass
                assert how == "fail"
                stopped = False
        assert passed.count > at
        yield place, stopped


def watched(root, monkeypatch, act):
    """Runs a task and looks at every visible file at every moment that changes one."""
    whole = Wholeness(root)
    with Moments(root, then=whole).watching(monkeypatch) as moments:
        act()
    whole()
    return moments.count, whole.read


def visible(place):
    return sorted(path.name for path in place.iterdir() if not path.name.startswith("."))


def run_driver(name, *flags, limit=None):
    """A driver in its own process, with a limit on the size of files."""

    def limited():
        import resource  # POSIX only

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", f"mmnet.{name}", *flags],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limited if limit else None,
    )


def every_state(root, keep, monkeypatch, act):
    """Copies of a directory as it was before each moment of `act` that found other visible files.

    One of them is what SIGKILL leaves, whenever it comes.

    Args:
        root: the directory.
        keep: where copies go.
        monkeypatch: of the test.
        act: what is killed.
    """
    copies, last = [], None

    def look():
        nonlocal last
        found = {
            (str(path.relative_to(root)), (stat := path.stat()).st_ino, stat.st_size)
            for path in sorted(root.rglob("*"))
            if path.is_file() and not any(p.startswith(".") for p in path.relative_to(root).parts)
        }
        if found != last:
            last = found
            copies.append(shutil.copytree(root, keep / str(len(copies))))

    root.mkdir(parents=True, exist_ok=True)
    with Moments(root, then=look).watching(monkeypatch):
        act()
    look()
    return copies


def put_back(copy, root):
    """Makes the directory what it was, after so long that its hidden files are nobody's."""
    shutil.rmtree(root)
    shutil.copytree(copy, root)
    age_hidden(root)


def age_hidden(root):
    """Makes files that waited for their name so old that the next write takes them away."""
    long_ago = time.time() - 2 * files.STALE_SECONDS
    for path in root.rglob(".*"):
        os.utime(path, (long_ago, long_ago))
