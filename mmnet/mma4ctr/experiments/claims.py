"""Checks of the second paper's claims: each one holds, does not hold, or cannot be decided.

A part of a claim is a difference of two AUCs that the claim expects to be above 0. It is taken seed
by seed, and its t interval counts the seeds. In our records every seed has a log of its own, so the
sampling error of users and test rows is in the spread over seeds; it is not counted separately.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mmnet.experiments.claims import FAILS, HOLDS, OPEN, Claim, Part
from mmnet.mma4ctr.experiments import paper, records
from mmnet.mma4ctr.experiments.ledger import BASELINES, INTERRUPT_EPOCH, RECBOLE, Repository
from mmnet.mma4ctr.experiments.records import BySeed, Change

CONFIDENCE = 0.95
Term = tuple[str, str, str | int]
"""Folder of the experiment, row, and epoch or `records.CHOSEN`."""
LENGTHS = (0, 5, 11, 15, 30)
SMALLER = (4096, 2048, 1024, 512, 256, 128, 64)
PAIRS = ("va", "vt", "at", "vat")
BEST_LENGTH_EPOCH = {"wechat": 10, "tiktok": 30}
"""Epoch at which 21 is the README's best length; at the other epoch it is not."""


def verdict(change: Change, parts: int) -> str:
    """Decide one part of a claim.

    It holds if its interval is above 0. As one part that fails is enough for the claim to fail, a
    part fails only if an interval with the error divided by the number of parts is below 0.

    Args:
        change: the difference, by seed.
        parts: number of parts of the claim.
    """
    if change.interval(CONFIDENCE)[0] > 0:
        return HOLDS
    return FAILS if change.interval(1 - (1 - CONFIDENCE) / parts)[1] < 0 else OPEN


def ledger(found: Repository) -> list[Claim]:
    """Check all claims on both datasets; results that are missing leave a claim open."""
    return [claim for dataset in paper.DATASETS for claim in _of_dataset(dataset, found)]


def _of_dataset(dataset: str, found: Repository) -> Iterator[Claim]:
    name, best = paper.DATASETS[dataset], BEST_LENGTH_EPOCH[dataset]

    def term(kind: str, row: str, epoch: int) -> Term:
        return f"{dataset}_{kind}", row, epoch

    meant = term("interrupt", "interrupt_as_meant", INTERRUPT_EPOCH)
    recbole = RECBOLE[dataset]
    claims: list[tuple[str, str, list[tuple[Term, Term]]]] = [
        (
            "interrupt",
            "The validation interrupt and the halving rate, together, raise the AUC.",
            [(meant, term("interrupt", "interrupt_off", INTERRUPT_EPOCH))],
        ),
        (
            "interrupt alone",
            "The validation interrupt raises the AUC over that of the halving rate alone.",
            [(meant, term("fusion", "vat_concat", INTERRUPT_EPOCH))],
        ),
        (
            "cross against concat",
            "Modalities that are multiplied score higher than side by side (30 epochs).",
            [(term("fusion", f"{m}_cross", 30), term("fusion", f"{m}_concat", 30)) for m in PAIRS],
        ),
        (
            "length 21",
            f"21 is the best length of the user embedding ({best} epochs).",
            [
                (term("length", "length_21", best), term("length", f"length_{length}", best))
                for length in LENGTHS
            ],
        ),
        (
            "batch size",
            "Batches smaller than 8192 score lower (10 epochs).",
            [
                (
                    term("batch_size", "batch_size_8192", 10),
                    term("batch_size", f"batch_size_{size}", 10),
                )
                for size in SMALLER
            ],
        ),
        (
            "comparison",
            "MMa4CTR scores above every baseline, all by RecBole's definitions.",
            [
                ((recbole, "mma4ctr", records.CHOSEN), (recbole, row, records.CHOSEN))
                for row in BASELINES
            ],
        ),
    ]
    for about, text, pairs in claims:
        parts: list[Part] = []
        missing: list[str] = []
        for pair in pairs:
            one, other = (_by_seed(term, found) for term in pair)
            if change := Change.of(records.difference(one, other)):
                parts.append(_part(pair, one, other, change, len(pairs)))
            else:
                absent = [term[1] for term in pair if not _by_seed(term, found)]
                missing += absent or [pair[1][1]]
        yield Claim(f"{name}, {about}", text, parts, tuple(dict.fromkeys(missing)))


def _by_seed(term: Term, found: Repository) -> BySeed:
    folder, row, at = term
    results = found.of(folder)
    return results.by_seed(row, at) if results else {}


def _part(pair: tuple[Term, Term], one: BySeed, other: BySeed, change: Change, parts: int) -> Part:
    names = [records.title(row) for _, row, _ in pair]
    common = [seed for seed in one if seed in other]
    means = [float(np.mean([values[seed] for seed in common])) for values in (one, other)]
    low, high = change.interval(CONFIDENCE)
    interval = " (one seed)" if change.freedom < 1 else f" [{low:+.4f}, {high:+.4f}]"
    same = ", equal for every seed" if change.value == change.variance == 0 else ""
    text = (
        f"AUC of {names[0]} - {names[1]} = {means[0]:.4f} - {means[1]:.4f} = "
        f"{change.value:+.4f}{interval}{same}"
    )
    return Part(text, verdict(change, parts), low)
