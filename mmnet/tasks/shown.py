"""What tasks print."""

from __future__ import annotations

from collections.abc import Iterable

from mmnet.console import console, notes
from mmnet.data.dataset import Dataset
from mmnet.data.ledger import Rule
from mmnet.serving.known_values import Seen

__all__ = ["console", "print_ledger", "print_rules", "print_values"]


def print_ledger(dataset: Dataset) -> None:
    """Prints what every rule dropped on the way to a dataset."""
    print_rules(dataset.ledger)


def print_rules(ledger: Iterable[Rule]) -> None:
    """Prints lines of a ledger."""
    for rule in ledger:
        note = f"  ({rule.note})" if rule.note else ""
        console.print(
            f"  {rule.table}: {rule.rule}: {rule.rows_in:,} in, {rule.dropped:,} dropped{note}"
        )


def print_values(values: Iterable[Seen], origin: str) -> None:
    """Prints how many values of fields are unknown, and warns on stderr where most are."""
    for seen in values:
        if seen.unknown:
            console.print(f"  {seen.line()}")
        if seen.mostly_unknown:
            notes.print(seen.warning(origin))
