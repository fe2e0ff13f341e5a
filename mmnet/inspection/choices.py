"""Flags that are proposed, each with its reason; what the user gave stays as it was given."""

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
        flag: its name.
        values: one for a flag; of a repeated flag, each of its values.
        reason: in a phrase or a sentence.
    """

    flag: str
    values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Unused:
    """A column that no flag names, and why."""

    table: str
    column: str
    reason: str


@dataclass
class Choices:
    """What is given and what is proposed.

    Attributes:
        given: the flags of the command line.
        proposed: flags by name.
        unused: columns that no flag names.
    """

    given: InspectConfig
    proposed: dict[str, Choice] = field(default_factory=dict)
    unused: list[Unused] = field(default_factory=list)

    def is_given(self, name: str) -> bool:
        """Whether the command line has a flag."""
        return name in self.given.model_fields_set

    def propose(self, name: str, value: Any, reason: str) -> None:
        """Proposes a flag, unless the command line has it.

        Args:
            name: of the flag.
            value: as its field has it.
            reason: why.
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
        """Takes a proposal back."""
        self.proposed.pop(name, None)
        self._values.pop(name, None)

    def leave_out(self, table: str, column: str, reason: str) -> None:
        """Names a column that no flag names; the first reason stays."""
        if not any((one.table, one.column) == (table, column) for one in self.unused):
            self.unused.append(Unused(table, column, reason))

    _values: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tables(self) -> TableFlags:
        """The table flags, given and proposed."""
        return TableFlags(**self._of(config.TABLES))

    @property
    def task(self) -> TaskFlags:
        """The flags of examples, given and proposed."""
        return TaskFlags(**self._of(config.TASK))

    def _of(self, names: tuple[str, ...]) -> Mapping[str, Any]:
        given = {name: getattr(self.given, name) for name in self.given.model_fields_set}
        return {name: value for name, value in (self._values | given).items() if name in names}
