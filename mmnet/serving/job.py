"""Scoring jobs: everything that determines the scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mmnet.config import TableFlags
from mmnet.data import table_paths, table_reading
from mmnet.flags import as_before
from mmnet.serving.runtimes import Precision, Runtime


class Job(BaseModel):
    """A scoring job; with the directory of its survey, everything that a process needs.

    Attributes:
        saved_model: directory of the version.
        model: fingerprint of the model.
        tables: flags of the tables.
        as_of: the last as-of period, as users write it; empty = the last period.
        modalities: names of the fusion's weights to write; empty = none.
        reasons: whether to write the reasons of the scores, see `reasons`.
        runtime: inference runtime; "fastest" is the one that is fastest on some of the items.
        precision: inference dtype.
        static_cache: directory of static parts; empty = no cache.
        only_items: table of the items to score; empty = all.
        dataset_dir: prepared dataset whose items are scored; empty = items of `tables`.
        rule: rule of the export for decisions; empty = no decisions.
        explore: whether to explore, see `decision`.
        allow_short_history: see `data.moments.origins`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    saved_model: str
    model: str
    tables: TableFlags
    runtime: Runtime | Literal["fastest"]
    precision: Precision
    as_of: str = ""
    modalities: tuple[str, ...] = ()
    reasons: bool = False
    static_cache: str = ""
    only_items: str = ""
    dataset_dir: str = ""
    rule: str = ""
    explore: bool = False
    allow_short_history: bool = False

    def fingerprint(self, files: Sequence[Path], digests: Mapping[str, str]) -> str:
        """Returns a hash of all that scores depend on; files count by size and time.

        Args:
            files: files of the items.
            digests: other inputs, name -> SHA-256.
        """
        files = [*files, *_files(self.only_items, "only_items")]
        # A dataset is identified by its digest. Leaving out its path, and flags that were added
        # later, keeps the hash of jobs that earlier versions began. The version of the reading
        # rules is included, since tables may then have other rows.
        left_out: dict[str, Any] = {"static_cache": True, "dataset_dir": True}
        left_out["tables"] = {*as_before(self.tables), "memory", "allow_remote"}
        left_out["allow_short_history"] = not self.allow_short_history
        left_out["reasons"] = not self.reasons
        about: dict[str, Any] = {
            "job": self.model_dump(mode="json", exclude=left_out),
            "files": [(str(path), *_size_and_time(path)) for path in files],
            "digests": dict(digests),
        }
        if self.explore:  # earlier versions wrote no propensity
            about["explore"] = "propensity"
        if not self.dataset_dir:
            about["rules"] = table_reading.RULES
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _files(pattern: str, name: str) -> list[Path]:
    return table_paths.find(pattern, name) if pattern else []


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
