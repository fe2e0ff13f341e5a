"""The history of a directory of versions: an event per night and per rollback, oldest first.

An event is a file of its own, `history/000001.json`. A night knows the number of its event before
it ends, so a night that is killed and finished later writes the same file again, not a second one.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmnet.checks import InputError
from mmnet.files import read_json, write_atomic

FOLDER = "history"
Outcome = Literal["promoted", "kept", "drift", "rollback"]
SAID = {
    "promoted": "promoted",
    "kept": "champion kept",
    "drift": "stopped by drift",
    "rollback": "rolled back",
}


class Event(BaseModel):
    """A night or a rollback.

    Attributes:
        number: counted from 1.
        identity: hash of the data and flags of the night; empty for a rollback.
        at: time in UTC, ISO 8601.
        night: directory name of the night; empty for a rollback.
        period: last period of the night's data.
        outcome: what happened.
        champion_before: the champion before; 0 if there was none.
        champion: the champion after.
        ratio: MSE of the challenger relative to the champion, normal scenario; None if they were
            not compared.
        low: lower end of its 95 % interval.
        high: upper end.
        reasons: why.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    number: int
    at: str
    outcome: Outcome
    identity: str = ""
    night: str = ""
    period: str = ""
    champion_before: int = 0
    champion: int = 0
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reasons: tuple[str, ...] = ()

    @property
    def moved(self) -> bool:
        """Returns whether another version became the champion."""
        return self.champion != self.champion_before


class History:
    """The events in a directory of versions.

    Args:
        directory: `--models`.
    """

    def __init__(self, directory: Path):
        self._folder = directory / FOLDER

    def events(self) -> list[Event]:
        """Returns all events, oldest first.

        Raises:
            InputError: a file is damaged.
        """
        found = []
        for path in sorted(self._folder.glob("[0-9]*.json")):
            try:
                found.append(Event.model_validate(read_json(path)))
            except (OSError, ValueError, ValidationError):
                raise InputError(
                    f"{path} is damaged; restore it from a backup, or remove it"
                ) from (None)
        return found

    def next_number(self) -> int:
        """Returns the number of the next event."""
        names = [path.stem for path in self._folder.glob("[0-9]*.json")]
        return 1 + max((int(name) for name in names if name.isdecimal()), default=0)

    def write(self, event: Event) -> None:
        """Writes an event under its number."""
        text = json.dumps(event.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"
        write_atomic(self._folder / f"{event.number:06}.json", text)


def promoted_before(events: list[Event], champion: int) -> int:
    """Returns the version to roll back to: the champion before the current one was promoted.

    Rollbacks are undone from the list as they go, so that a second one goes further back.

    Args:
        events: oldest first.
        champion: the current champion.

    Returns:
        The version; 0 without one.

    >>> def event(number, before, after, outcome="promoted"):
    ...     moved = {"champion_before": before, "champion": after}
    ...     return Event(number=number, at="", outcome=outcome, **moved)
    >>> events = [event(1, 0, 1), event(2, 1, 2), event(3, 2, 2, "kept"), event(4, 2, 3)]
    >>> promoted_before(events, 3)
    2
    >>> promoted_before([*events, event(5, 3, 2, "rollback")], 2)
    1
    """
    for event in reversed(events):
        if event.outcome == "promoted" and event.champion == champion:
            return event.champion_before
    return 0


def anchor_steps(events: list[Event], nights: int) -> list[tuple[int, float]]:
    """Returns the champions of the last nights, each with its MSE relative to the one before.

    Args:
        events: oldest first.
        nights: number of nights to look back.

    >>> def event(number, before, after, ratio):
    ...     moved = {"champion_before": before, "champion": after, "ratio": ratio}
    ...     return Event(number=number, at="", outcome="promoted", **moved)
    >>> events = [event(1, 0, 1, None), event(2, 1, 2, 0.9), event(3, 2, 3, 1.02)]
    >>> anchor_steps(events, 2)
    [(1, 1.0), (2, 0.9), (3, 1.02)]
    >>> anchor_steps([*events, event(4, 1, 4, 0.8)], 9)[-1]  # 3 was rolled back to 1: 0.8 / 0.918
    (4, 0.871...)
    """
    recent = [one for one in events if one.outcome != "rollback"][-nights:]
    first = next((one.champion_before or one.champion for one in recent), 0)
    error, order = {first: 1.0}, [first]
    for event in recent:
        if event.moved and event.champion_before in error and event.ratio is not None:
            error[event.champion] = error[event.champion_before] * event.ratio
            order.append(event.champion)
    if not first:
        return []
    before = [order[0], *order]
    return [(one, error[one] / error[last]) for last, one in zip(before, order, strict=False)]


def headline(event: Event) -> str:
    """Describes in one sentence what a night did.

    >>> headline(Event(number=4, at="", outcome="kept", champion=3, champion_before=3))
    'kept: version 3 stays the champion'
    """
    if event.outcome == "promoted" and not event.champion_before:
        return f"promoted: version {event.champion} is the first champion"
    if event.outcome == "promoted":
        return f"promoted: version {event.champion} replaces version {event.champion_before}"
    if event.outcome == "rollback":
        return f"rolled back: version {event.champion} replaces version {event.champion_before}"
    if event.outcome == "drift":
        return (
            f"stopped by drift: version {event.champion} stays the champion, and nothing was "
            "trained; give --allow_drift to continue"
        )
    return f"kept: version {event.champion} stays the champion"


def table(events: Sequence[Event]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of `--history`, one row per event, oldest first."""
    header = ["night", "decided at (UTC)", "outcome", "champion", "MSE ratio", "95 % interval"]
    rows = [
        [
            one.night or "–",
            one.at[:16].replace("T", " "),
            SAID[one.outcome],
            f"{one.champion_before or '–'} → {one.champion}" if one.moved else str(one.champion),
            number_text(one.ratio) if one.ratio is not None else "–",
            f"{number_text(one.low)} to {number_text(one.high)}" if one.ratio is not None else "–",
        ]
        for one in events
    ]
    return header, rows


def now() -> str:
    """Returns the time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def number_text(value: float | None) -> str:
    """Formats a ratio; one that nothing bounds is ∞."""
    return "∞" if value is None else f"{value:.4f}"
