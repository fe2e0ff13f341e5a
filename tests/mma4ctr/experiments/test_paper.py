import itertools
from collections import Counter
from pathlib import Path

import pytest

from mmnet.flags import parse
from mmnet.mma4ctr import config
from mmnet.mma4ctr.experiments import paper, records

ROOT = Path(__file__).parents[3]
GRIDS = sorted(ROOT.glob("experiments/mma4ctr/*/experiment.txt"))
SIZES = {"wechat": (20_001, 96_565), "tiktok": (1_679, 3_046_140)}
"""Rows of the README's embedding tables: users, items."""


def test_every_published_row_is_there_once():
    headings = [block.splitlines()[0] for block in paper.PUBLISHED.strip().split("\n\n")]
    assert max(Counter(headings).values()) == 1
    for table in paper.TABLES:
        # A row that was there twice would have too many values.
        assert {len(values) for values in table.rows.values()} == {len(table.epochs) or 1}
        assert [*table.epochs] == sorted(set(table.epochs))


def test_every_number_of_the_readme_is_there():
    found = Counter()
    for table in paper.TABLES:
        values = [value for row in table.rows.values() for value in row if value is not None]
        found[table.section, table.metric] += len(values)
    sweeps = {f"4.{data}.{table}": 20 for data in (1, 2) for table in (1, 2, 3)}
    parts = {"1": 6, "2": 6, "3": 2, "4": 6, "5": 12, "6": 2}
    ablations = {f"5.{data}.{table}": count for data in (1, 2) for table, count in parts.items()}
    assert found == {
        **{(section, "auc"): count for section, count in (sweeps | ablations).items()},
        **{(f"4.{data}", "columns"): 1 for data in (1, 2)},
        **{(f"5.{data}", "columns"): 13 for data in (1, 2)},
        ("6.1", "auc"): 9 * 4 - 1 + 9 * 10,  # GCSAN has no epoch 50
        ("6.1", "log_loss"): 9 * 4 - 1,
        **{("6.1", metric): 9 for metric in ("train_seconds", "test_seconds", "parameters")},
        # BERT4Rec has two epochs; NGCF has none, and GCSAN only in the table by epoch.
        ("6.2", "auc"): 6 * 4 + 2 + 5 * 10 + 4 + 5 + 5,
        ("6.2", "log_loss"): 6 * 4 + 2,
        **{("6.2", metric): 8 for metric in ("train_seconds", "test_seconds")},
        ("6.2", "parameters"): 9,
    }


def test_every_row_has_a_flagfile():
    assert all(records.title(row) for table in paper.TABLES for row in table.rows)


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.parent.name)
def test_the_flags_of_experiments_are_these_numbers_rounded(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    read = parse(config.ExperimentConfig, [f"--flagfile={path}"])
    dataset, _, kind = path.parent.name.partition("_")
    if path.parent.name == "recbole":
        dataset, kind = "wechat", "comparison"
    for row, text in config.published(read).items():
        (values,) = (
            table.rows[row.lower()]
            for table in paper.TABLES
            if (table.dataset, table.kind, table.metric) == (dataset, kind, "auc")
            if row.lower() in table.rows
        )
        # Half a unit of the last digit that is given.
        rounded = [float(one) for one in text.split()]
        assert rounded == pytest.approx([v for v in values if v is not None], abs=0.5001e-4)


@pytest.mark.parametrize("dataset", paper.DATASETS)
def test_parameters_follow_from_the_sizes_of_the_tables(dataset):
    users, items = SIZES[dataset]
    parameters = paper.table(dataset, "cost", "parameters")
    assert parameters.at("bpr") == parameters.at("lightgcn") == 64 * (users + items)
    assert parameters.at("fpmc") == 64 * (users + 3 * items)
    (columns,) = (
        table.at("length_21")
        for table in paper.TABLES
        if table.dataset == dataset
        if table.metric == "columns" and "length_21" in table.rows
    )
    widths = (columns, 128, 32, 4, 1)
    dense = sum((one + 1) * other for one, other in itertools.pairwise(widths))
    assert parameters.at("mma4ctr") == dense


def test_runs_of_one_configuration():
    found = paper.repeats("wechat")
    assert [len(values) for values in found] == [3, 3, 2, 2, 2, 2]
    assert found[0] == [0.9421495409826534, 0.9517885227306362, 0.952164271415028]
    assert found[5] == [0.9468996222529457, 0.9513642267231205]


def test_the_notes_are_true():
    assert paper.table("wechat", "epochs").at("vat_concat", 90) == paper.table(
        "wechat", "epochs"
    ).at("vat_concat", 95)
    one, other = paper.table("wechat", "comparison"), paper.table("wechat", "by_epoch")
    gaps = [
        abs(one.at(row, epoch) - other.at(row, epoch))
        for row in one.rows
        for epoch in one.epochs
        if one.at(row, epoch) is not None
    ]
    assert f"{max(gaps):.2f}" == "0.30"
    tiktok = paper.table("tiktok", "comparison")
    assert {*tiktok.rows["ngcf"], *tiktok.rows["gcsan"]} == {None}
    losses = paper.table("tiktok", "comparison", "log_loss").rows["bert4rec"]
    assert [value is None for value in losses] == [False, False, True, True]
    assert [value is None for value in tiktok.rows["bert4rec"]] == [False, True, False, True]
    places = {(table.dataset, table.kind, table.metric) for table in paper.TABLES}
    assert paper.NOTES.keys() <= places
