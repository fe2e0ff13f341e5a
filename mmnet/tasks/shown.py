"""What tasks print."""

from __future__ import annotations

from collections.abc import Iterable

from mmnet.console import console
from mmnet.data.dataset import Dataset
from mmnet.data.ledger import Rule

__all__ = ["console", "print_ledger", "print_rules"]


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
