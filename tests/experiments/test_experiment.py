"""The driver from flagfiles to tables, on a small simulated log and models that cost nothing."""

import contextlib
import dataclasses
import importlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
from rich.console import Console

from mmnet import driver, experiment, series
from mmnet.checks import InputError
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.experiments import cells, plan
from mmnet.experiments.share_rates import SYSTEM
from mmnet.flags import parse
from mmnet.tasks import starting, training
from tests.conftest import SIMULATED, SMALL
from tests.pages import Page

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return driver.run(ExperimentConfig, None, "experiment", list(arguments))


def contents(directory):
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


class Here:
    """A worker in this process, which has imported what a process of its own would."""

    ended = stopped = False

    def __init__(self, cell, server, system):
        answers, told = os.pipe()
        self.answers, self.told = os.fdopen(answers), os.fdopen(told, "w")
        self.system, self.trainer = system, importlib.import_module(system.tasks).trainer()
        self.start(cell)

    def start(self, cell):
        self.cell, self.began = cell, time.monotonic()
        series.train(cells.write_flags(cell, self.system), self.trainer, self.told)

    def fileno(self):
        return self.answers.fileno()

    def answer(self):
        return int(self.answers.readline())

    def close(self):
        self.told.close()
        self.answers.close()


@contextlib.contextmanager
def workers_here():
    """Cells are trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "Worker", Here)
        patch.setattr(cells, "ForkServer", Mock())
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small experiment that has been run: two floors and an estimator, at two origins."""
    place = tmp_path_factory.mktemp("experiments") / "small"
    rows = place / "rows"
    rows.mkdir(parents=True)
    (rows / "ha.txt").write_text("# HA: the mean\n--model=ha\n")
    (rows / "smoothed.txt").write_text("# Smoothed: empirical Bayes\n--model=smoothed_history\n")
    (rows / "by_item.txt").write_text("# HA, by item\n--model=ha\n--split=by_item\n")
    lines = [*SIMULATED, "--table=One: ha, smoothed", "--table=Two: smoothed, by_item"]
    lines += ["--reference=smoothed", "--replicates=100", f"--cells={place / 'cells'}"]
    (place / "experiment.txt").write_text("\n".join([*lines, "--title=A small one"]) + "\n")
    with workers_here():
        assert run(*experiment.with_flagfile([f"--experiment={place}"])) == 0
    return place


def test_a_table_prints_what_the_cells_wrote(folder):
    frame = pd.read_csv(folder / "results" / "one.csv")
    for cell in (folder / "cells").glob("*-0-0-*"):
        row = cell.name.partition("-")[0]
        stored = json.loads((cell / "evaluation" / "metrics.json").read_text())
        for scenario in ("normal", "cold_start", "noisy"):
            for metric in ("mse", "precision_at_5"):
                line = frame.query("system == @row and scenario == @scenario and metric == @metric")
                if row != "by_item":
                    assert line["value"].item() == pytest.approx(stored[scenario][metric], rel=1e-5)
    page = (folder / "results" / "results.md").read_text()
    assert "# A small one" in page
    assert "share a letter cannot be told apart at the 5 % level" in page
    assert "| Smoothed |" in page


def test_a_star_marks_differences_from_the_reference_at_the_level_of_the_paper(folder):
    frame = pd.read_csv(folder / "results" / "one.csv").query("system == 'ha'")
    wanted = [(s, m) for s in ("normal", "cold_start", "noisy") for m in ("mse", "precision_at_5")]
    p = frame.set_index(["scenario", "metric"])["p_adjusted"].loc[wanted]
    page = (folder / "results" / "results.md").read_text()
    note = "p is adjusted over the column by step-down max-T, and * marks p up to 0.01."
    assert note in page
    (line,) = re.findall(r"^\| HA \| [+-].*\[.*$", page, re.MULTILINE)
    cells = line.split(" | ")[1:]
    assert [cell.rstrip(" |").endswith("*") for cell in cells] == (p <= 0.01).tolist()


def test_rows_tested_on_other_windows_are_not_compared(folder):
    frame = pd.read_csv(folder / "results" / "two.csv")
    assert set(frame["windows"]) == {"split chronological", "split by_item"}
    assert frame["p"].isna().all()  # one row per group of windows


def test_every_kind_of_file_is_there(folder):
    names = set(contents(folder / "results"))
    assert {"results.md", "cells.csv", "claims.json", "one.csv", "one.tex", "state.json"} <= names
    assert {"tests.json", "item_sums.parquet"} <= names
    assert {"one_bars.png", "one_degradation.png", "one_age.png", "report.html"} <= names


def test_the_page_has_the_numbers_of_results_md(folder):
    text = (folder / "results" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    frame = pd.read_csv(folder / "results" / "one.csv")
    mses = frame.query("metric == 'mse' and scenario == 'normal'").set_index("system")["value"]
    for row, title in {"ha": "HA", "smoothed": "Smoothed"}.items():
        mse = mses[row]
        # Seeds, and the MSE with four digits.
        assert page.values("One")[title][:2] == [1, pytest.approx(mse, rel=5e-4)]
    assert text.count("<svg") == len(list((folder / "results").glob("*.png")))
    assert page.values("Systems of the experiment, and their differences")["ha"][-1] == 1


def test_a_finished_experiment_changes_no_file(folder):
    before = contents(folder)
    assert run(*experiment.with_flagfile([f"--experiment={folder}"])) == 0
    assert contents(folder) == before


def test_a_lost_cell_is_run_again_and_gives_the_same_tables(folder):
    before = contents(folder / "results")
    (cell,) = (folder / "cells").glob("ha-0-0-*")
    predictions = (cell / "evaluation" / "predictions.parquet").read_bytes()
    (cell / "record.json").unlink()
    (cell / "evaluation" / "predictions.parquet").unlink()
    assert run(*experiment.with_flagfile([f"--experiment={folder}"])) == 0
    assert (cell / "evaluation" / "predictions.parquet").read_bytes() == predictions
    after = contents(folder / "results")
    # The record has other seconds, so the tables are made anew; their numbers are the same.
    for name in ("one.csv", "two.csv", "one.tex", "claims.json"):
        assert after[name][0] == before[name][0], name


def retest(folder, tmp_path, *arguments):
    """Results after a --retest of a copy of them, without cells."""
    copy = tmp_path / "results"
    if not copy.exists():
        shutil.copytree(folder / "results", copy)
    places = [f"--results={copy}", f"--cells={tmp_path / 'none'}", "--retest"]
    code = run(*experiment.with_flagfile([f"--experiment={folder}"]), *places, *arguments)
    assert not (tmp_path / "none").exists()
    return code, contents(copy)


def test_a_retest_reproduces_every_file_to_the_bit(folder, tmp_path, capsys):
    code, after = retest(folder, tmp_path)
    assert code == 0
    assert after == contents(folder / "results")
    assert "0 files changed" in capsys.readouterr().out


def test_a_retest_computes_what_was_wrong_anew_and_nothing_else(folder, tmp_path):
    right = contents(folder / "results")
    shutil.copytree(folder / "results", copy := tmp_path / "results")
    for name in ("one.csv", "two.csv"):
        frame = pd.read_csv(copy / name, dtype=str, na_filter=False)
        frame.loc[frame["p"] != "", ["p", "p_adjusted"]] = "0.5"
        frame[["low", "difference_high"]], frame["letters"] = "7", "z"
        frame.to_csv(copy / name, index=False, lineterminator="\n")
    page = (copy / "results.md").read_text()
    page = re.sub(r"p (=|&lt;) [.\d]+", "p = .5", page).replace("holds", "is true")
    page = re.sub(r"(?m)^(\| HA \| 1 \| )\S+", r"\1**9**", page).replace(" minutes of", " h of")
    (copy / "results.md").write_text(page)
    (copy / "one.tex").write_text("")
    (copy / "claims.json").unlink()
    code, after = retest(folder, tmp_path)
    assert code == 0
    # What is not of the tests stays as it was found.
    expected = right["results.md"][0].decode().replace(" minutes of", " h of")
    assert after["results.md"][0].decode() == expected
    changed = {name for name in after if after[name][1] != right[name][1]}
    names = {"one.csv", "two.csv", "results.md", "one.tex", "claims.json", "state.json"}
    assert changed == names
    for name in names - {"results.md", "state.json"}:
        assert after[name][0] == right[name][0], name
    # The tables are no longer those that the cells made; with its cells, the experiment makes all.
    assert json.loads(after["state.json"][0])["made_from"] is None


def test_a_retest_applies_another_level(folder, tmp_path):
    before = (folder / "results" / "results.md").read_text()
    _, after = retest(folder, tmp_path, "--significance=0.999")
    page = after["results.md"][0].decode()
    assert "* marks p up to 0.999" in page
    assert page.count(" *") > before.count(" *")
    assert after["one.csv"] == contents(folder / "results")["one.csv"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tests.json", None, "tests.json does not exist"),
        ("tests.json", lambda text: text[:-9], "tests.json cannot be read (Unterm"),
        (
            "tests.json",
            lambda text: text.replace('"mse":[', '"mse":[["ha"],'),
            "mse.0.1: Field required",
        ),
        ("tests.json", lambda text: text.replace("smoothed", "other"), "18 lines, 9 exp"),
        (
            "tests.json",
            lambda text: text.replace('"ha"', '"a"').replace('"smoothed"', '"b"'),
            "has none of the systems ha, smoothed",
        ),
        ("one.csv", None, "one.csv cannot be read"),
        ("one.csv", lambda _: "", "No columns"),
        ("one.csv", lambda text: text.replace("ha,", "he,"), "line 3: system is 'he', 'ha' exp"),
        ("one.csv", lambda text: text + text[-200:].split("\n")[-2] + "\n", "(19 lines, 18 "),
        ("results.md", lambda text: text.replace("## Claims", "## C"), "no section 'Claims of"),
        ("results.md", lambda text: text.replace("Difference from", ""), "other parts"),
    ],
)
def test_a_retest_refuses_files_that_do_not_go_together(
    folder, tmp_path, capsys, name, change, message
):
    shutil.copytree(folder / "results", copy := tmp_path / "results")
    path = copy / name
    if change:
        path.write_text(change(path.read_text()))
    else:
        path.unlink()
    before = contents(copy)
    code, after = retest(folder, tmp_path)
    error = capsys.readouterr().err
    assert code == 1
    assert message in error
    assert "without --retest" in error
    assert after == before


def test_a_retest_does_not_tune(capsys):
    assert run("--table=One: ha", "--retest", "--tune=ha") == 1
    assert "--retest and --tune cannot be combined" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cell_that_fails_says_why_and_keeps_no_other_from_running(tmp_path, capsys):
    rows = tmp_path / "rows"
    rows.mkdir()
    # Only the cell finds out that the window of 6 is too short for the kernel.
    (rows / "wrong.txt").write_text("# Wrong: no such kernel\n--model=dftc\n--set=kernel=9\n")
    (rows / "ha.txt").write_text("# HA: the mean\n--model=ha\n")
    command = [*SIMULATED, "--table=One: wrong, ha", "--reference=ha", "--seeds=0"]
    code = run(*command, f"--experiment={tmp_path}", f"--cells={tmp_path / 'cells'}")
    error = capsys.readouterr().err
    assert code == 1
    assert "cell wrong seed 0 ended with exit code 1" in error
    assert "error: --model=dftc: `kernel`" in error
    assert list((tmp_path / "cells").glob("ha-0-0-*/record.json"))
    assert not (tmp_path / "results").exists()


def test_a_file_in_the_place_of_the_tables_is_refused_before_cells_are_trained(tmp_path, capsys):
    (tmp_path / "tables").touch()
    places = [f"--results={tmp_path / 'tables'}", f"--cells={tmp_path / 'cells'}"]
    assert run(*SIMULATED, "--table=One: ha", *places) == 1
    assert capsys.readouterr().err.endswith("; choose another place with --results\n")
    assert not (tmp_path / "cells").exists()


def test_deleted_tables_are_made_again(folder):
    before = contents(folder / "results")
    (folder / "results" / "one.tex").unlink()
    assert run(*experiment.with_flagfile([f"--experiment={folder}"])) == 0
    after = contents(folder / "results")
    assert {name: one[0] for name, one in after.items()} == {
        name: one[0] for name, one in before.items()
    }


def test_a_second_experiment_in_the_same_place_is_refused(folder, capsys):
    with cells.only_one(folder / "cells"):
        assert run(*experiment.with_flagfile([f"--experiment={folder}"])) == 1
    assert "in use by another experiment" in capsys.readouterr().err


@pytest.mark.slow
def test_origins_are_different_test_spans_of_one_table(folder, tmp_path):
    code = run(
        *SIMULATED,
        f"--rows={folder / 'rows'}",
        "--table=One: ha",
        "--reference=ha",
        "--origins=2",
        "--replicates=100",
        f"--cells={tmp_path / 'cells'}",
        f"--results={tmp_path / 'results'}",
    )
    assert code == 0
    spans = [
        pd.read_parquet(path)
        for path in sorted((tmp_path / "cells").glob("ha-*/evaluation/predictions.parquet"))
    ]
    last, before = sorted(spans, key=lambda frame: -frame["period"].max())
    assert before["period"].max() < last["period"].min()
    windows = (len(last) + len(before)) // 3  # of three scenarios
    assert f"{windows:,} test windows" in (tmp_path / "results" / "results.md").read_text()


@pytest.mark.slow
def test_rows_under_other_masks_are_another_group(folder, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "few.txt").write_text("# Few hidden: HA\n--model=ha\n--test_missing_rate=0.1\n")
    (rows / "ha.txt").write_text("# HA: the mean\n--model=ha\n--test_missing_rate=0.5\n")
    code = run(
        *SIMULATED,
        f"--rows={rows}",
        "--table=One: ha, few",
        "--reference=ha",
        "--replicates=100",
        f"--cells={tmp_path / 'cells'}",
        f"--results={tmp_path / 'results'}",
    )
    assert code == 0
    frame = pd.read_csv(tmp_path / "results" / "one.csv")
    windows = {"split chronological", "split chronological, test_missing_rate 0.1"}
    assert set(frame["windows"]) == windows


@pytest.mark.slow
def test_a_terminated_experiment_takes_its_cells_with_it(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "gru.txt").write_text("# GRU: long enough to be stopped\n--model=gru\n--epochs=500\n")
    command = [sys.executable, "-m", "mmnet.experiment", *SIMULATED, "--table=One: gru"]
    command += ["--reference=gru", "--seeds=0", f"--rows={rows}", f"--results={tmp_path / 'r'}"]
    process = subprocess.Popen(
        [*command, f"--cells={tmp_path / 'cells'}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 240
    while not list((tmp_path / "cells").glob("gru-*/checkpoints/*")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=60) == 130
    with cells.only_one(tmp_path / "cells"):  # nobody holds it any more
        pass


class Scripted:
    """A fork server whose processes are Python code of ours."""

    def __init__(self, code):
        self.code, self.processes = code, {}

    def start(self, asked, answers, errors):
        one = subprocess.Popen(
            [sys.executable, "-c", self.code], stdin=asked, stdout=answers, stderr=errors
        )
        self.processes[one.pid] = one
        return one.pid

    def exit_code(self, process):
        return self.processes[process].wait()

    def close(self):
        assert all(one.returncode is not None for one in self.processes.values())


def cells_of(place, *rows, seeds=(0,)):
    """Cells that have not been run yet."""
    flags = {row: TrainConfig(model=row, run_dir=f"{place}/{row}") for row in rows}
    return [
        plan.Cell(
            row,
            seed,
            0,
            flags[row].model_copy(update={"seed": seed, "run_dir": f"{place}/{row}-{seed}"}),
            place / f"{row}-{seed}",
        )
        for seed in seeds
        for row in rows
    ]


def run_scripted(cells_, code, monkeypatch, jobs=1):
    """What the console showed, and the error."""
    shown = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(cells, "ForkServer", lambda *_: Scripted(code))
    with open(os.devnull) as lock, pytest.raises(InputError) as error:
        cells.run(cells_, jobs, shown, lock.fileno(), SYSTEM)
    return shown.file.getvalue(), str(error.value)


def test_seeds_of_a_configuration_go_to_one_process_and_others_to_another(tmp_path, monkeypatch):
    # Each process answers with how many cells it has had.
    code = "import sys\nfor n, _ in enumerate(sys.stdin, 1): print(n, flush=True)"
    shown, _ = run_scripted(cells_of(tmp_path, "gru", "ha", seeds=(0, 1, 2)), code, monkeypatch)
    assert shown.splitlines()[1:] == [
        f"{row} seed {seed} ended with exit code {seed + 1}"
        for row in ("gru", "ha")
        for seed in (0, 1, 2)
    ]


def test_cells_that_share_a_directory_are_run_once(tmp_path, monkeypatch):
    code = "import sys\nfor n, _ in enumerate(sys.stdin, 1): print(n, flush=True)"
    gru, ha = cells_of(tmp_path, "gru", "ha")
    again = dataclasses.replace(gru, row="again")
    shown, _ = run_scripted([gru, again, ha], code, monkeypatch)
    assert shown.splitlines() == [
        "2 cells, 0 of them finished before",
        "gru seed 0 ended with exit code 1",
        "ha seed 0 ended with exit code 1",
    ]


def test_a_second_process_helps_with_the_last_configuration(tmp_path, monkeypatch):
    code = "import os, sys\nfor _ in sys.stdin: print(os.getpid(), flush=True)"
    code = code.replace("print", "import time; time.sleep(0.5); print")
    three = cells_of(tmp_path, "gru", seeds=(0, 1, 2))
    shown, _ = run_scripted(three, code, monkeypatch, jobs=2)
    assert len({line.rpartition(" ")[2] for line in shown.splitlines()[1:]}) == 2


def test_a_process_that_dies_costs_one_cell(tmp_path, monkeypatch):
    code = "import os, sys\nsys.stdin.readline()\nos.kill(os.getpid(), 9)"
    shown, error = run_scripted(cells_of(tmp_path, "gru", seeds=(0, 1)), code, monkeypatch)
    assert shown.count("ended with exit code -9") == 2
    assert "cell gru seed 0 ended with exit code -9; so did gru seed 1" in error


def test_a_cell_that_has_had_enough_is_ended_and_is_no_failure(tmp_path, monkeypatch):
    code = "import sys, time\nsys.stdin.readline()\ntime.sleep(60)"
    shown, asked = Console(file=io.StringIO(), width=200), []
    monkeypatch.setattr(cells, "ForkServer", lambda *_: Scripted(code))
    monkeypatch.setattr(cells, "SECONDS_BETWEEN_LOOKS", 0.01)

    def enough(cell):
        asked.append(cell)
        return len(asked) == 3

    one = cells_of(tmp_path, "gru")
    with open(os.devnull) as lock:
        assert cells.run(one, 1, shown, lock.fileno(), SYSTEM, enough) == 0
    assert asked == 3 * one
    assert shown.file.getvalue().splitlines()[1:] == ["gru seed 0 ended early"]


@pytest.mark.slow
def test_a_seed_in_a_series_ends_as_alone(run_dir, tmp_path):
    flags = [f"--dataset_dir={run_dir / 'dataset'}", *SMALL, "--outputs=predictions"]
    shared = training.Series()
    for seed in (3, 0):
        arguments = [*flags, f"--seed={seed}", f"--run_dir={tmp_path / str(seed)}"]
        starting.train(parse(TrainConfig, arguments), shared)
    predictions = Path("evaluation", "predictions.parquet")
    alone, after = (pd.read_parquet(place / predictions) for place in (run_dir, tmp_path / "0"))
    pd.testing.assert_frame_equal(after, alone, check_exact=True)
    assert not alone.equals(pd.read_parquet(tmp_path / "3" / predictions))


@pytest.mark.slow(first=True)
def test_two_runs_of_a_cell_agree_bit_for_bit(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "mmnet.txt").write_text("--model=mmnet\n--set=units=8\n--set=field_width=4\n")
    lines = [*SIMULATED, "--table=One: mmnet", "--seeds=0", "--epochs=2", "--deterministic"]
    found = []
    for number in range(2):
        place = tmp_path / f"cells{number}"
        results = tmp_path / f"results{number}"
        command = [*lines, f"--rows={rows}", f"--cells={place}", f"--results={results}"]
        subprocess.run(
            [sys.executable, "-m", "mmnet.experiment", *command],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        (cell,) = place.glob("mmnet-0-0-*")
        found.append(
            [
                (cell / "evaluation" / "predictions.parquet").read_bytes(),
                (cell / "evaluation" / "metrics.json").read_bytes(),
                (results / "one.csv").read_bytes(),
            ]
        )
    assert found[0] == found[1]


def test_the_flags_of_every_experiment_folder_are_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    folders = sorted(path.parent for path in Path("experiments").glob("*/experiment.txt"))
    assert folders
    for one in folders:
        arguments = list(experiment.with_flagfile([f"--experiment={one}"]))
        assert plan.plan(parse(ExperimentConfig, arguments), SYSTEM).rows
