"""How inputs ended, and what all checks say of a refusal."""

import re
from typing import NamedTuple

from mmnet.driver import INSPECT

LEDGER_LINE = re.compile(r"  ([\w ,]+): (.+): ([\d,]+) in, ([\d,]+) dropped(  \(.*\))?")
HINT = f"  {INSPECT}"
"""What stands between the ledger of tables and the sentence that refuses them."""
PROGRESS = re.compile(r"[a-z].*: \d+ s(, [\d,]+ of [\d,]+)?(, about \d+ s left)?")
"""What is printed now and then where something takes seconds; see `console.Progress`."""
NOTES = ("note: ", "warning: ")
CHAINS = ("counts", "events", "log")
"""Tables whose rules follow one another: what leaves one is what reaches the next."""
LONGEST = 600
"""Characters of a refusal's sentence."""


class Outcome(NamedTuple):
    """Inputs, or readings of one input, that ended well, and that were refused in a sentence."""

    well: int = 0
    refused: int = 0


WELL, REFUSED = Outcome(well=1), Outcome(refused=1)


def is_expected(line):
    """Whether a line may stand before the sentence of a refusal."""
    if line.startswith((*NOTES, HINT)):
        return True
    return bool(LEDGER_LINE.fullmatch(line) or PROGRESS.fullmatch(line))


def check_sentence(sentence):
    """Asserts that a refusal is one clear sentence on one line."""
    assert sentence.isprintable(), f"does not print: {sentence!r}"
    assert 20 < len(sentence) <= LONGEST, f"{len(sentence)} characters: {sentence}"


def rules_of(printed):
    """The ledger in a driver's output: (table, rule, rows in, rows dropped) each."""
    found = (LEDGER_LINE.fullmatch(line) for line in printed.splitlines())
    return [
        (one[1], one[2], *(int(one[n].replace(",", "")) for n in (3, 4))) for one in found if one
    ]


def check_ledger(printed, rows=None):
    """Asserts that no row is lost unseen: rows in = rows out + rows named.

    Args:
        printed: by a driver.
        rows: table -> how many rows were written into it, where that is known.
    """
    left = {}
    for table, rule, rows_in, dropped in rules_of(printed):
        assert 0 <= dropped <= rows_in, f"{table}: {rule}: {rows_in} in, {dropped} dropped"
        if table not in CHAINS:
            continue
        reached = left.get(table, (rows or {}).get(table, rows_in))
        assert rows_in == reached, f"{table}: {rule}: {rows_in} in, {reached} were there"
        left[table] = rows_in - dropped
