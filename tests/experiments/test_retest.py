"""Tables of several groups of windows and seeds; the driver is in test_experiment.py."""

import shutil

import numpy as np
import pandas as pd
import pytest

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig
from mmnet.evaluation import significance
from mmnet.experiments import claims, comparison, plan, results, retest, tables
from mmnet.experiments.claims import Evidence
from mmnet.experiments.comparison import Group
from mmnet.experiments.kept import FILE, Kept
from mmnet.experiments.share_rate_tables import COLUMNS, compared_with_reference, latex
from mmnet.experiments.share_rates import SYSTEM
from mmnet.flags import parse
from tests.experiments.test_kept import measured, scenarios

SECONDS = {"Seconds": {"once": "1,234", "three": "5", "five": "0"}, "GiB": {"five": "1.50"}}


def of_rows(measures, rows):
    return {key: one.of(rows) for key, one in measures.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Flags and a results directory of two groups of windows, one with a single row."""
    tmp_path = tmp_path_factory.mktemp("experiment")
    (tmp_path / "rows").mkdir()
    for name in ("once", "three", "five"):
        (tmp_path / "rows" / f"{name}.txt").write_text(f"# The {name}|row: note\n--model=gru\n")
    arguments = [f"--experiment={tmp_path}", "--table=One (a|b): once, three, five", "--seeds=0,1"]
    flags = parse(ExperimentConfig, [*arguments, "--reference=three", f"--cells={tmp_path / 'c'}"])
    planned = plan.plan(flags, SYSTEM)
    first, second = measured(0), measured(1)
    groups = [
        Group("split a", of_rows(first, ["once", "three"])),
        Group("split b", of_rows(second, ["five"])),
    ]
    evidence = Evidence.of(scenarios())
    ledger = claims.ledger(evidence, confidence=0.99)
    (table,) = planned.tables
    parts = comparison.compare(table, groups, flags)
    page = [
        "# Title\n",
        f"## Claims of the paper\n\n{claims.markdown(ledger)}",
        f"## {table.title}\n",
    ]
    for part in parts:
        rows = [name for name in table.rows if name in part.group.rows]
        page += [f"### {part.group.about}\n", tables.scores(rows, planned, part, COLUMNS, SECONDS)]
        if len(rows) > 1:
            page.append(compared_with_reference(rows, planned, part, 0.01))
        page.append("| System | Noise |\n| --- | ---: |\n| any | 3 % |\n")
    page.append("![a figure](one_a_b_bars.png)\n")
    made = {
        "results.md": "\n".join(page),
        "one_a_b.csv": tables.csv(parts),
        "one_a_b.tex": latex(table, planned, parts),
        "claims.json": "[]\n",
        FILE: Kept.of(groups, evidence).text(),
    }
    (tmp_path / "results").mkdir()
    for name, content in made.items():
        (tmp_path / "results" / name).write_bytes(results.as_bytes(content))
    return flags


@pytest.fixture
def experiment(made, tmp_path):
    """The flags with a copy of the results of its own."""
    shutil.copytree(f"{made.experiment}/results", tmp_path / "results")
    return made.model_copy(update={"results": str(tmp_path / "results")})


def test_a_page_of_several_groups_gets_new_letters_and_keeps_its_seconds(experiment, tmp_path):
    path = tmp_path / "results" / "results.md"
    before = path.read_text()
    path.write_text(before.replace(" a |", " x |").replace(" b |", " y |").replace("[", "[9"))
    _, changed = retest.run(experiment, SYSTEM)
    assert path.read_text() == before.replace("![", "![9")
    assert changed == ["claims.json", "results.md"]  # all others were right
    assert "| 1,234 |" in before
    assert "| 0 | 1.50 |" in before


def test_a_later_rule_applies_to_numbers_that_were_kept(experiment, tmp_path, monkeypatch):
    # As if a later version made every interval twice as wide.
    before = pd.read_csv(tmp_path / "results" / "one_a_b.csv")
    usual = significance.combine

    def wider(value, variances, freedoms, **more):
        return usual(value, [4 * one for one in variances], freedoms, **more)

    monkeypatch.setattr(significance, "combine", wider)
    folder, changed = retest.run(experiment, SYSTEM)
    after = pd.read_csv(folder / "one_a_b.csv")
    assert {"one_a_b.csv", "results.md"} <= set(changed)
    half = [(one["difference_high"] - one["difference_low"]).dropna() for one in (before, after)]
    assert half[0].size
    np.testing.assert_allclose(half[1], 2 * half[0], rtol=1e-4)  # six digits in the file
    assert after["value"].equals(before["value"])


def test_claims_of_a_later_version_that_were_not_kept_are_refused(experiment, tmp_path):
    path = tmp_path / "results" / FILE
    kept = Kept.read(path)
    names = {"three": "mmnet_m", "five": "norm_noisy", "once": "norm_cold"}  # C7 can be asked
    mse = [(names.get(system, system), *more) for system, *more in kept.mse]
    path.write_text(kept.model_copy(update={"mse": mse}).text())
    with pytest.raises(InputError, match="lacks numbers of some systems or claims"):
        retest.run(experiment, SYSTEM)


def test_another_page_and_another_table_are_refused(experiment, tmp_path):
    flags = experiment.model_copy(update={"table": ("Two: three, five",)})
    with pytest.raises(InputError, match=r"two.csv cannot be read"):
        retest.run(flags, SYSTEM)
    flags = experiment.model_copy(update={"table": ("One (a|b): three, five",)})
    with pytest.raises(InputError, match=r"18 lines expected|27 lines, 18 expected"):
        retest.run(flags, SYSTEM)
