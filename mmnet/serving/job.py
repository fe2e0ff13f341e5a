"""What a scoring job is: all that decides about its scores."""

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
    """How a catalogue is scored; with the directory of its survey, all that a process needs.

    Attributes:
        saved_model: the version's directory.
        model: its fingerprint.
        tables: where the tables are and what their columns mean.
        as_of: the last period read, as users write it; empty = the last there is.
        modalities: names of the fusion's weights to write; none = they are not wanted.
        runtime: what computes; "fastest" is what is fastest on some of the items.
        precision: of the arithmetic.
        static_cache: directory of static parts; empty = none is kept.
        only_items: table of the items to score; empty = all.
        dataset_dir: a prepared dataset whose items are scored; empty = those of `tables`.
        rule: of the export's, to decide by; empty decides nothing.
        explore: see `decision.decide`.
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
    static_cache: str = ""
    only_items: str = ""
    dataset_dir: str = ""
    rule: str = ""
    explore: bool = False
    allow_short_history: bool = False

    def fingerprint(self, files: Sequence[Path], digests: Mapping[str, str]) -> str:
        """A hash of all that scores depend on; of files, size and time stand for contents.

        Args:
            files: that the items come from.
            digests: what else they come from, name -> SHA-256.
        """
        files = [*files, *_files(self.only_items, "only_items")]
        # A dataset is known by its digest. Leaving its place out, and flags that were added later,
        # also keeps the hash of jobs that versions before could begin. Tables that are read by
        # other rules may have other rows.
        left_out: dict[str, Any] = {"static_cache": True, "dataset_dir": True}
        left_out["tables"] = {*as_before(self.tables), "memory", "allow_remote"}
        left_out["allow_short_history"] = not self.allow_short_history
        about: dict[str, Any] = {
            "job": self.model_dump(mode="json", exclude=left_out),
            "files": [(str(path), *_size_and_time(path)) for path in files],
            "digests": dict(digests),
        }
        if not self.dataset_dir:
            about["rules"] = table_reading.RULES
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _files(pattern: str, name: str) -> list[Path]:
    return table_paths.find(pattern, name) if pattern else []


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
