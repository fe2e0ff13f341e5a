"""`Versions`: the versions of a model, night after night."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmnet.api.exports import Export
from mmnet.api.given import GivenTable, flags_of, silent
from mmnet.config import NightlyConfig
from mmnet.promotion.history import History
from mmnet.promotion.versions import Versions as Directory
from mmnet.promotion_flags import PREVIOUS

if TYPE_CHECKING:
    import pandas as pd


class Versions:
    """A directory of numbered versions, and which one is the champion.

    Args:
        directory: the directory, `--models` of `python -m mmnet.nightly`; the first night makes it.

    Attributes:
        directory: the directory.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)

    @property
    def champion(self) -> Export | None:
        """The version to serve; None before the first night.

        Raises:
            InputError: the pointer is damaged, or names a version that does not exist.
        """
        found = Directory(self.directory)
        number = found.champion()
        return Export.load(found.path(number)) if number else None

    @property
    def history(self) -> pd.DataFrame:
        """A row per night and rollback, oldest first.

        Its columns are those of `mmnet.promotion.history.Event`, such as `outcome`, `champion` and
        `ratio`.

        Raises:
            InputError: a file of the history is damaged.
        """
        import pandas as pd

        from mmnet.promotion.history import Event

        events = History(self.directory).events()
        return pd.DataFrame([one.model_dump() for one in events], columns=[*Event.model_fields])

    def night(
        self,
        *,
        counts: GivenTable | None = None,
        items: GivenTable | None = None,
        events: GivenTable | None = None,
        vectors: Mapping[str, GivenTable] | None = None,
        verbose: bool = True,
        **options: Any,
    ) -> dict[str, Any]:
        """Trains a challenger, compares it with the champion and promotes it if it is better.

        The same night again returns the same answer, and one that was killed is resumed.

        Args:
            counts: see `Dataset.from_tables`.
            items: likewise.
            events: see `Dataset.from_events`.
            vectors: see `Dataset.from_tables`.
            verbose: prints what `mmnet.nightly` prints.
            **options: flags of `mmnet.nightly`: `promote="not_worse=0.02"`, `model="gru"`.

        Returns:
            The content of nightly.json: `outcome` ("promoted", "kept" or "drift"), `champion`,
            `reasons`, `comparison` and more.

        Raises:
            InputError: a table or an option is invalid.
        """
        from mmnet.promotion.nights import Night
        from mmnet.promotion.versions import NIGHTS
        from mmnet.tasks.night import run_night

        tables = {"counts": counts, "items": items, "events": events, "vectors": vectors}
        given = {name: table for name, table in tables.items() if table is not None}
        asked = {**options, **given, "models": str(self.directory)}
        with flags_of(NightlyConfig, asked) as flags, silent(verbose):
            name = run_night(flags)
        return Night(self.directory / NIGHTS / name).document()

    def roll_back(self, version: int | None = None, *, verbose: bool = True) -> int:
        """Makes an earlier version the champion.

        Args:
            version: its number; default: the champion before the current one.
            verbose: prints what the command prints.

        Returns:
            The number of the new champion.

        Raises:
            InputError: there is no such version, or it does not pass its checks.
        """
        from mmnet.tasks.night import nightly

        asked = {"models": str(self.directory), "rollback": str(version or PREVIOUS)}
        with flags_of(NightlyConfig, asked) as flags, silent(verbose):
            nightly(flags)
        return Directory(self.directory).champion()

    def __repr__(self) -> str:
        """Names the directory."""
        return f"Versions({str(self.directory)!r})"
