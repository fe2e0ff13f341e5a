"""Console output that tasks share."""

from __future__ import annotations

from collections.abc import Iterable

from mmnet.console import console, notes
from mmnet.data import targets
from mmnet.data.dataset import Dataset
from mmnet.data.ledger import Rule
from mmnet.serving.known_values import Seen

__all__ = [
    *("console", "print_ledger", "print_remarks", "print_rules", "print_values"),
    "target_remarks",
]


def print_ledger(dataset: Dataset) -> None:
    """Print the rows that each rule of a dataset dropped."""
    print_rules(dataset.ledger)


def target_remarks(dataset: Dataset, *names: str) -> list[str]:
    """Remarks about the targets of some splits; see `targets.remarks`."""
    if dataset.split is None:
        return []
    main, *further = dataset.fitted.spec.outputs()
    lines = _remarks(dataset.alone(main), names)
    for output in further:  # which the rate's numerator alone would not name
        of_output = _remarks(dataset.alone(output), names)
        lines += [line.replace("note:", f"note on {output.words}:", 1) for line in of_output]
    return lines


def _remarks(dataset: Dataset, names: tuple[str, ...]) -> list[str]:
    assert dataset.split is not None
    horizon, numerator = dataset.fitted.spec.horizon, dataset.fitted.tables.numerator
    return targets.remarks(dataset.panel, dataset.split, horizon, numerator, names)


def print_remarks(lines: Iterable[str]) -> None:
    """Print remarks, one per line."""
    for line in lines:
        console.print(line)


def print_rules(ledger: Iterable[Rule]) -> None:
    """Prints lines of a ledger."""
    for rule in ledger:
        console.print(f"  {rule}")


def print_values(values: Iterable[Seen], origin: str) -> None:
    """Print how many values of fields are unknown, and warn on stderr if most are."""
    for seen in values:
        if seen.unknown:
            console.print(f"  {seen.line()}")
        if seen.mostly_unknown:
            notes.print(seen.warning(origin))
