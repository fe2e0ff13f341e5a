"""Each claim on records made by hand, where its answer is known."""

import numpy as np
import pytest

from mmnet.experiments.claims import FAILS, HOLDS, OPEN
from mmnet.mma4ctr.experiments import claims, paper
from mmnet.mma4ctr.experiments.ledger import BASELINES, RECBOLE, Repository
from mmnet.mma4ctr.experiments.records import Change
from tests.mma4ctr.experiments.kept import keep

DATASETS = tuple(paper.DATASETS)


def as_published(dataset, row, epoch):
    """An AUC in the order that the claims expect."""
    kind, _, setting = row.rpartition("_")
    effects = {
        "interrupt_as": 0.02,
        "interrupt": 0.0,
        "length": -0.01 * abs(int(setting) - 21) if kind == "length" else 0,
        "batch_size": -0.01 * (13 - np.log2(int(setting))) if kind == "batch_size" else 0,
    }
    return 0.8 + effects.get(kind, 0.03 if setting == "cross" else 0.0)


ROWS = {
    "interrupt": ["interrupt_as_meant", "interrupt_off"],
    "fusion": [f"{m}_{how}" for m in claims.PAIRS for how in ("cross", "concat")],
    "length": [f"length_{length}" for length in (21, *claims.LENGTHS)],
    "batch_size": [f"batch_size_{size}" for size in (8192, *claims.SMALLER)],
}


def verdicts(folder, change=None, *, seeds=5, leave_out=()):
    """Keeps records as published but for `change`, row -> AUC; returns claim -> verdict."""
    draw = np.random.default_rng(0)
    for dataset in DATASETS:
        logs = draw.normal(0, 0.05, seeds)  # what is hard in a log is hard for every row
        for kind, rows in ROWS.items():
            keep(
                folder,
                f"{dataset}_{kind}",
                {
                    (row, epoch): (change or {}).get(row, as_published(dataset, row, epoch))
                    + logs
                    + draw.normal(0, 0.001, seeds)
                    for row in rows
                    for epoch in (10, 30)
                    if row not in leave_out
                },
            )
        scores = {(row, "chosen"): 0.7 + logs + draw.normal(0, 0.001, seeds) for row in BASELINES}
        keep(folder, RECBOLE[dataset], scores | {("mma4ctr", "chosen"): 0.8 + logs}, state=True)
    return {claim.name: claim.verdict for claim in claims.ledger(Repository(folder))}


def test_every_claim_holds_where_the_records_are_as_claimed(tmp_path):
    found = verdicts(tmp_path)
    assert len(found) == 12
    assert set(found.values()) == {HOLDS}


@pytest.mark.parametrize(
    ("claim", "change"),
    [
        ("interrupt", {"interrupt_as_meant": 0.78, "vat_concat": 0.75}),
        ("interrupt alone", {"vat_concat": 0.84, "vat_cross": 0.87}),
        ("cross against concat", {"at_cross": 0.78}),
        ("length 21", {"length_30": 0.82}),
        ("batch size", {"batch_size_64": 0.82}),
    ],
)
def test_a_claim_fails_where_one_part_contradicts_it(tmp_path, claim, change):
    found = verdicts(tmp_path, change)
    assert {name for name, verdict in found.items() if verdict != HOLDS} == {
        f"{dataset}, {claim}" for dataset in paper.DATASETS.values()
    }
    assert found[f"WeChat, {claim}"] == FAILS


def test_a_claim_stays_open_where_seeds_disagree(tmp_path):
    disturbed = 0.8 + np.array([0.1, -0.1, 0.05, -0.05, 0.0])
    rows = {(row, epoch): disturbed for row in ROWS["length"] for epoch in (10, 30)}
    level = {("length_21", epoch): [0.8] * 5 for epoch in (10, 30)}
    keep(tmp_path, "wechat_length", rows | level)
    (claim,) = (one for one in claims.ledger(Repository(tmp_path)) if one.parts)
    assert claim.verdict == OPEN
    assert [part.verdict for part in claim.parts] == [OPEN] * 5


def test_one_seed_decides_nothing(tmp_path):
    assert set(verdicts(tmp_path, seeds=1).values()) == {OPEN}


def test_missing_rows_leave_a_claim_open_and_are_named(tmp_path):
    assert verdicts(tmp_path, leave_out=("length_15",))["WeChat, length 21"] == OPEN
    (claim,) = (
        one for one in claims.ledger(Repository(tmp_path)) if one.name == "WeChat, length 21"
    )
    assert (len(claim.parts), claim.missing) == (4, ("length_15",))


def test_without_records_every_claim_is_open(tmp_path):
    found = claims.ledger(Repository(tmp_path))
    assert {claim.verdict for claim in found} == {OPEN}
    assert all(claim.missing and not claim.parts for claim in found)


def test_equal_values_of_every_seed_decide_nothing(tmp_path):
    aucs = {("interrupt_as_meant", 30): [0.8, 0.9], ("interrupt_off", 30): [0.8, 0.9]}
    keep(tmp_path, "wechat_interrupt", aucs)
    claim = claims.ledger(Repository(tmp_path))[0]
    assert claim.verdict == OPEN
    assert claim.parts[0].text.endswith("= +0.0000 [+0.0000, +0.0000], equal for every seed")


def test_parts_share_the_error_of_a_claim_that_fails():
    # t = -3: p = .04 with four degrees of freedom, too much for one part of seven.
    found = Change(-3.0, 1.0, 4)
    assert (claims.verdict(found, 1), claims.verdict(found, 7)) == (FAILS, OPEN)
    assert claims.verdict(Change(3.0, 1.0, 4), 7) == HOLDS
