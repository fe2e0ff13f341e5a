"""The ledger: how many rows reached each rule and how many it dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from mmnet.checks import InputError, in_markdown

NOTES = 5
"""Maximum number of notes of one rule to show."""


@dataclass(frozen=True)
class Rule:
    """A line of the ledger: the rows that reached one rule, and those that it kept.

    Raises:
        ValueError: the numbers do not balance.
    """

    table: str
    rule: str
    rows_in: int
    rows_out: int
    note: str = ""

    def __post_init__(self):
        if not 0 <= self.rows_out <= self.rows_in:
            raise ValueError(f"ledger rule {self.rule!r} does not balance: {self!r}")

    @property
    def dropped(self) -> int:
        """Number of rows that the rule dropped."""
        return self.rows_in - self.rows_out

    def __str__(self) -> str:
        """Returns the line as it is printed."""
        note = f"  ({self.note})" if self.note else ""
        return f"{self.table}: {self.rule}: {self.rows_in:,} in, {self.dropped:,} dropped{note}"


@contextlib.contextmanager
def so_far(rules: Callable[[], Iterable[Rule]]) -> Iterator[None]:
    """Adds the rules that had already run to an `InputError`; drivers print them before its text.

    Args:
        rules: returns the rules that have run when the error is raised.

    >>> try:
    ...     with so_far(lambda: [Rule("events", "has a time", 1000, 999)]):
    ...         raise InputError("events.csv line 7: wrong")
    ... except InputError as error:
    ...     print(error.ledger, error)
    ['events: has a time: 1,000 in, 1 dropped'] events.csv line 7: wrong
    """
    try:
        yield
    except InputError as error:
        error.ledger[:0] = map(str, rules())
        raise


def joined_rules(rules: Sequence[Rule]) -> Rule:
    """Merges the lines of one rule on several parts of a table."""
    notes = [rule.note for rule in rules if rule.note]
    return dataclasses.replace(
        rules[0],
        rows_in=sum(rule.rows_in for rule in rules),
        rows_out=sum(rule.rows_out for rule in rules),
        note="; ".join(notes[:NOTES]) + ("; ..." if len(notes) > NOTES else ""),
    )


def check_chain(ledger: Sequence[Rule]) -> None:
    """Checks that the rows kept by each rule are the rows that reach the next one.

    Raises:
        ValueError: rows appeared or were lost between two rules.
    """
    for before, after in itertools.pairwise(ledger):
        if before.rows_out != after.rows_in:
            raise ValueError(f"the ledger does not balance: {before!r} is followed by {after!r}")


def ledger_table(ledger: Sequence[Rule]) -> str:
    """Formats the ledger as a Markdown table.

    >>> print(ledger_table([Rule("events", "has a time", 1000, 999)]), end="")
    | table | rule | rows in | rows out | dropped | note |
    |---|---|---:|---:|---:|---|
    | events | has a time | 1,000 | 999 | 1 |  |
    """
    lines = [
        "| table | rule | rows in | rows out | dropped | note |",
        "|---|---|---:|---:|---:|---|",
    ]
    for rule in ledger:
        words = [in_markdown(text) for text in (rule.table, rule.rule, rule.note)]
        numbers = f"{rule.rows_in:,} | {rule.rows_out:,} | {rule.dropped:,}"
        lines.append(f"| {words[0]} | {words[1]} | {numbers} | {words[2]} |")
    return "\n".join(lines) + "\n"
