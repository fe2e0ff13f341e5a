"""Whatever the tables, the request or the asset: a result or one clear sentence, never a traceback.

A few seeds of each kind; `python -m tests.fuzz` looks at thousands, and at whole drivers.
"""

import json
import os
import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet.checks import InputError
from mmnet.console import Progress
from mmnet.serving import export
from tests.fuzz import assets, command, disturbances, drivers, preparing, readers, requests, stored
from tests.fuzz.outcomes import Outcome, check_ledger, is_expected


def ended(check, seeds, place, ready=None, **more):
    """How many inputs, or readings of them, ended well, and how many were refused."""
    outcomes = [check(seed, place / str(seed), ready, **more) for seed in seeds]
    return Outcome(*map(sum, zip(*outcomes, strict=True)))


def test_disturbed_tables_end_in_a_dataset_or_a_sentence(tmp_path):
    found = ended(preparing.check, range(60), tmp_path)
    # One whose footer ended the process when it was asked for the size of a column.
    assert ended(preparing.check, [20_241_301], tmp_path) == (0, 1)
    assert min(found) > 8  # the tables are neither all hopeless nor all good


def test_unusual_files_are_read_or_refused_in_a_sentence(tmp_path):
    found = ended(readers.check, range(120), tmp_path, readers=readers.QUICK)
    assert min(found) > 60
    assert min(ended(readers.check, range(400, 412), tmp_path)) > 3


def test_no_request_breaks_a_signature(run_dir, tmp_path):
    found = ended(requests.check, range(150), tmp_path, requests.ready(run_dir.parent))
    assert min(found) > 15


def test_disturbed_assets_are_refused_in_one_sentence(run_dir, tmp_path):
    found = ended(assets.check, range(300), tmp_path, assets.ready(run_dir.parent))
    assert found.refused > 100


def test_a_stored_file_that_is_cut_or_flipped_is_refused(run_dir, tmp_path):
    found = ended(stored.check, range(200), tmp_path, stored.ready(run_dir.parent))
    assert found.refused > 100  # all of an export, and what is cut off of the others


def test_a_broken_model_is_refused_in_one_sentence(run_dir, tmp_path):
    draws = random.Random(0)
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    for name in ("saved_model.pb", "variables/variables.index"):
        content = (copy / name).read_bytes()
        for _ in range(3):
            (copy / name).write_bytes(content[: draws.randrange(1, len(content))])
            with pytest.raises(InputError, match="--verify"):
                export.load(copy)
        (copy / name).write_bytes(content)
    export.load(copy)


# ------------------------------------------------------------------------- what drivers are held to

PREPARE = next(one for one in drivers.COMMANDS if one.name == "mmnet.prepare")
REFUSED = "error: counts.csv is empty; bring rows\n"
BEFORE = {"counts.csv": "a", "items.csv": "b"}


@pytest.mark.parametrize(
    ("code", "said", "after"),
    [
        (0, "", BEFORE | {"new": "directory", "new/dataset.json": "c"}),
        (1, REFUSED, BEFORE),
        (1, f"  counts: has a time: 1,000 in, 1 dropped\n{REFUSED}", BEFORE),
    ],
)
def test_a_driver_that_ends_as_it_should_is_fine(code, said, after):
    drivers.judge(PREPARE, code, "", said, BEFORE, after)


@pytest.mark.parametrize(
    ("code", "said", "after", "fault"),
    [
        (2, "Traceback (most recent call last):\n", BEFORE, "Traceback"),
        (0, "x.py:1: RuntimeWarning: All-NaN slice\n", BEFORE, "RuntimeWarning"),
        (-11, "", BEFORE, "exit code -11"),
        (3, "", BEFORE, "exit code 3"),
        (1, "", BEFORE, "no sentence"),
        (1, f"{REFUSED}and more\n", BEFORE, "lines after the sentence"),
        (1, f"some noise\n{REFUSED}", BEFORE, "stderr: some noise"),
        (1, "error: cell \x1b[2J is wrong; mend it\n", BEFORE, "x1b"),
        (1, f"error: {'x' * 601}\n", BEFORE, "601 characters"),
        (1, REFUSED, BEFORE | {"new": "directory"}, "new: nothing -> directory"),
        (1, REFUSED, {"counts.csv": "a"}, "items.csv: b -> nothing"),
        (0, "", BEFORE | {"items.csv": "c"}, "inputs changed: items.csv: b -> c"),
        (0, "", BEFORE | {"new/.a.0123": "c"}, "left"),
    ],
)
def test_a_driver_that_ends_otherwise_is_a_fault(code, said, after, fault):
    with pytest.raises(AssertionError, match=fault):
        drivers.judge(PREPARE, code, "", said, BEFORE, after)


def test_lines_of_progress_may_stand_before_a_refusal():
    progress = Progress("making the dataset: items, rates", 60_000)
    assert is_expected(progress.line())
    progress.at(20_000)
    assert is_expected(progress.line())
    assert is_expected(Progress("making the dataset").line())
    assert not is_expected("making the dataset: 5 rows were lost")


def test_a_ledger_that_loses_rows_is_a_fault():
    lines = "  counts: has an item: 1,000 in, 1 dropped\n  counts: has a time: 999 in, 0 dropped\n"
    check_ledger(lines, {"counts": 1000})
    with pytest.raises(AssertionError, match="1000 in, 1001 were there"):
        check_ledger(lines, {"counts": 1001})
    with pytest.raises(AssertionError, match="998 in, 999 were there"):
        check_ledger(lines.replace("999", "998"))


def test_a_score_that_is_no_number_is_a_fault(tmp_path):
    for score, wrong in ((1.0, False), (np.nan, True), (None, True)):
        pq.write_table(pa.table({"score": pa.array([score], "f8")}), tmp_path / "scores.parquet")
        if wrong:
            with pytest.raises(AssertionError, match="score has NaN"):
                drivers.check_scores(tmp_path, ["scores.parquet"])
        else:
            drivers.check_scores(tmp_path, ["scores.parquet"])


# ---------------------------------------------------------------------------------- the command


def test_a_seed_disturbs_a_world_in_the_same_way_each_time(tmp_path):
    world = tmp_path / "worlds" / "share_rates"
    world.mkdir(parents=True)
    (world / "counts.csv").write_text("item_id,period,clicks,shares\na,1,2,1\nb,1,2,1\n")
    (world / "items.csv").write_text("item_id,category\na,x\nb,y\n")
    made = []
    for name in ("one", "two"):
        here = tmp_path / name
        flags, done = drivers.disturbed(PREPARE, here, world, random.Random(7))
        made.append((flags, done, drivers.contents(here)))
    assert made[0] == made[1]
    assert made[0][1]


@pytest.mark.parametrize("kind", disturbances.CHANGES)
def test_every_change_of_a_file_changes_most_files(kind):
    contents = {
        "document": json.dumps({"a": [1, 2], "b": {"c": "d"}}).encode(),
        "columns": pa.BufferOutputStream(),
        "lines": b"--a=1\n--b=2\n",
    }
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), contents["columns"])
    contents["columns"] = contents["columns"].getvalue().to_pybytes()
    content = contents.get(kind, b"a,b\n1,2\n3,4\n")
    changed = [disturbances.CHANGES[kind](content, random.Random(n)) != content for n in range(40)]
    assert sum(changed) > (5 if kind == "packed" else 25)


def test_the_command_names_the_seed_of_a_fault_and_a_dead_process(tmp_path, capfd, monkeypatch):
    def check(seed, place, ready):
        if seed == 3:
            os._exit(7)
        assert seed != 5, "five is wrong"
        return Outcome(well=1)

    monkeypatch.setattr(readers, "check", check)
    arguments = ["--kind=readers", "--seed=1", "--count=8", "--processes=2"]
    assert command.main(arguments) == 1
    shown = capfd.readouterr().out
    assert "readers: seed 3 failed\nTraceback: the process died, exit code 7" in shown
    assert "readers: seed 5 failed\nfive is wrong" in shown
    numbers = next(line for line in shown.splitlines() if line.startswith("readers   ")).split()
    assert numbers[1:9] == ["1", "to", "8", "8", "6", "0", "2", "1"]
    for seed in (3, 5):
        assert f"python -m tests.fuzz --kind=readers --seed={seed} --count=1" in shown
    assert command.main([*arguments[:1], "--seed=6", "--count=2", "--processes=1"]) == 0
