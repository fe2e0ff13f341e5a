"""Proposed flags, each with its reason; flags of the user are kept as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmnet import config
from mmnet.config import InspectConfig, TableFlags, TaskFlags


@dataclass(frozen=True)
class Choice:
    """A flag with its value.

    Attributes:
        flag: name of the flag.
        values: one value, or all values of a repeated flag.
        reason: a phrase or a sentence.
    """

    flag: str
    values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Unused:
    """A column that no flag names, and the reason."""

    table: str
    column: str
    reason: str


@dataclass
class Choices:
    """Given and proposed flags.

    Attributes:
        given: flags of the command line.
        proposed: proposed flags by name.
        unused: columns that no flag names.
    """

    given: InspectConfig
    proposed: dict[str, Choice] = field(default_factory=dict)
    unused: list[Unused] = field(default_factory=list)

    def is_given(self, name: str) -> bool:
        """Checks whether the command line has a flag."""
        return name in self.given.model_fields_set

    def propose(self, name: str, value: Any, reason: str) -> None:
        """Proposes a flag, unless the command line has it.

        Args:
            name: name of the flag.
            value: value, with the type of its field.
            reason: the reason.
        """
        if self.is_given(name):
            return
        repeated = "repeatable" in type(self.given).model_fields[name].metadata
        if isinstance(value, tuple):
            values = value if repeated else (",".join(value),)
        else:
            values = (str(value).lower() if isinstance(value, bool) else str(value),)
        self.proposed[name] = Choice(name, values, reason)
        self._values[name] = value

    def withdraw(self, name: str) -> None:
        """Withdraws a proposal."""
        self.proposed.pop(name, None)
        self._values.pop(name, None)

    def leave_out(self, table: str, column: str, reason: str) -> None:
        """Records a column that no flag names; the first reason is kept."""
        if not any((one.table, one.column) == (table, column) for one in self.unused):
            self.unused.append(Unused(table, column, reason))

    _values: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tables(self) -> TableFlags:
        """The table flags, given or proposed."""
        return TableFlags(**self._of(config.TABLES))

    @property
    def task(self) -> TaskFlags:
        """The task flags, given or proposed."""
        return TaskFlags(**self._of(config.TASK))

    def _of(self, names: tuple[str, ...]) -> Mapping[str, Any]:
        given = {name: getattr(self.given, name) for name in self.given.model_fields_set}
        return {name: value for name, value in (self._values | given).items() if name in names}
