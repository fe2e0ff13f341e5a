"""The record of a run: its code, machine, data and results."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

import mmnet
from mmnet.checks import InputError
from mmnet.files import write_atomic

PACKAGES = ("tensorflow", "keras", "keras-tcn", "numpy")


class Record(BaseModel):
    """`record.json` of a run directory.

    Attributes:
        flags: every resolved flag.
        versions: versions of Python, mmnet and the packages that decide about numbers.
        machine: processor, cores and accelerators.
        git_commit: commit of mmnet's own checkout; None when it was installed some other way.
        git_clean: nothing of the package was changed or added since that commit (flags and inputs
            are in the record itself); None without a commit.
        inputs: SHA-256 of every input file, by name.
        split_dates: first target period of each split, where the calendar decides.
        rows_per_rule: rows that each rule of the ledger kept or dropped.
        missing_share: share of training history entries that are missing by nature, in [0, 1].
        parameters: trainable ones.
        fitted: results of fitting: best epoch and its validation metrics, number of trees, ...
        stage_seconds: wall seconds of each stage.
        peak_memory_bytes: the most memory this process held; None where unknown.
        peak_child_memory_bytes: the same for the largest of its child processes.
        metrics: test metrics of the run.
    """

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    flags: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, Any] = Field(default_factory=dict)
    git_commit: str | None = None
    git_clean: bool | None = None
    inputs: dict[str, str] = Field(default_factory=dict)
    split_dates: dict[str, Any] = Field(default_factory=dict)
    rows_per_rule: dict[str, int] = Field(default_factory=dict)
    missing_share: float | None = None
    parameters: int | None = None
    fitted: dict[str, Any] = Field(default_factory=dict)
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    peak_memory_bytes: int | None = None
    peak_child_memory_bytes: int | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of_this_process(cls, **fields: Any) -> Record:
        """A record with versions, machine and commit filled in, and the given fields."""
        commit, clean = git_state()
        found = {"versions": versions(), "machine": machine()}
        return cls(**{**found, "git_commit": commit, "git_clean": clean, **fields})

    def finished(self, stages: Stages, **fields: Any) -> Record:
        """A copy with the stages' seconds, the peak memory so far, and the given fields."""
        own, children = peak_memory()
        found = {"stage_seconds": stages.seconds, "peak_memory_bytes": own}
        found |= {"peak_child_memory_bytes": children}
        return Record.model_validate({**self.model_dump(), **found, **fields})

    def write(self, path: Path) -> Path:
        """Writes the record as JSON, whole or not at all."""
        return write_atomic(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Record:
        """Reads a record back.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except (OSError, ValueError):
            raise InputError(
                f"{path}, the record of the run, is missing or damaged; train the run again"
            ) from None


class Stages:
    """Times the stages of a run.

    >>> stages = Stages()
    >>> with stages.stage("prepare"):
    ...     pass
    >>> list(stages.seconds)
    ['prepare']
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the block's wall seconds to the stage, also when it raises."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start


# ------------------------------------------------------------------------ what was run where


def versions() -> dict[str, str]:
    """Versions by package; one that is not installed is left out."""
    found = {"python": platform.python_version(), "mmnet": mmnet.__version__}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, and the accelerators that TensorFlow sees."""
    accelerators = []
    if tf := sys.modules.get("tensorflow"):  # a run that has no use for it need not load it
        for device in tf.config.list_physical_devices():
            if device.device_type != "CPU":
                details = tf.config.experimental.get_device_details(device)
                accelerators.append(details.get("device_name", device.device_type))
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(usable(0)),
        "accelerators": accelerators,
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that mmnet runs from, and whether the package is unchanged since.

    Returns:
        `(None, None)` without git, without a commit, or when mmnet does not run from its own
        checkout (an installed copy inside another repository does not count).
    """
    root = Path(mmnet.__file__).resolve().parents[1]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() != root:
            return None, None
        commit = _git(root, "rev-parse", "HEAD")
        return commit, not _git(root, "status", "--porcelain", "--", "mmnet")
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    # Variables such as GIT_DIR, set inside hooks, would point at another repository.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(root), *arguments]
    ran = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30, env=outside
    )
    return ran.stdout.strip()


def peak_memory() -> tuple[int | None, int | None]:
    """Peak memory in bytes of this process, and of the largest of its children."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None, None
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    with contextlib.suppress(OSError, StopIteration):
        # On Linux `ru_maxrss` starts at what the parent process held; this does not.
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM"))
        own = int(line.split()[1]) * 1024
    return own, children
