import re

import pytest

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig
from mmnet.experiments import plan
from mmnet.experiments.share_rates import SYSTEM
from mmnet.flags import parse


@pytest.fixture
def rows(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "ha.txt").write_text("# HA: the mean\n--model=ha\n")
    (folder / "gru.txt").write_text("--model=gru\n--set=units=16\n")
    (folder / "lazy.txt").write_text("# Lazy GRU\n--model=gru\n--mode_weights=1,1,1\n")
    return folder


def read(rows, *arguments):
    flags = parse(ExperimentConfig, [f"--rows={rows}", "--reference=gru", *arguments])
    return plan.plan(flags, SYSTEM), flags


def planned_cells(rows, *arguments, fingerprint="data"):
    planned, _ = read(rows, *arguments)

    class Everywhere(dict):
        def __missing__(self, key):
            return fingerprint

    return plan.cells(planned, rows.parent / "cells", Everywhere(), SYSTEM)


def test_a_row_takes_its_title_from_its_first_comment(rows):
    found, _ = read(rows, "--table=All: ha, gru, lazy")
    titles = {name: (row.title, row.note) for name, row in found.rows.items()}
    assert titles == {"ha": ("HA", "the mean"), "gru": ("gru", ""), "lazy": ("Lazy GRU", "")}


def test_flags_of_the_experiment_reach_every_row_and_a_row_has_the_last_word(rows):
    found, _ = read(rows, "--table=All: gru, lazy", "--epochs=3", "--mode_weights=1,0,1")
    assert {row.flags.epochs for row in found.rows.values()} == {3}
    assert found.rows["gru"].flags.mode_weights == (1, 0, 1)
    assert found.rows["lazy"].flags.mode_weights == (1, 1, 1)


def test_a_flag_that_was_added_later_renames_no_earlier_cell(rows):
    def names(*arguments):
        return [cell.directory.name for cell in planned_cells(rows, "--table=A: gru", *arguments)]

    by_item = ["--split=by_item", "--seeds=0"]
    assert names(*by_item) == ["gru-0-0-2a0a34aaca48"]  # as it was without --split_seed
    assert names(*by_item, "--split_seed=1") != names(*by_item)


def test_seeds_of_ensembles_do_not_overlap(rows):
    cells = planned_cells(rows, "--table=A: gru, ha", "--ensemble=3", "--seeds=0,1,-1")
    of = {(cell.row, cell.seed): (cell.flags.seed, cell.flags.ensemble) for cell in cells}
    assert of == {
        ("gru", 0): (0, 3),
        ("gru", 1): (3, 3),
        ("gru", -1): (-3, 3),
        ("ha", 0): (0, 1),  # draws nothing: trained once, as ever
    }


def test_only_an_ensemble_renames_a_cell(rows):
    def names(*arguments):
        table = ["--table=A: gru, ha", "--seeds=0", *arguments]
        return [cell.directory.name for cell in planned_cells(rows, *table)]

    plain, several = names(), names("--ensemble=2")
    assert names("--ensemble=1") == plain
    assert several[0] != plain[0]
    assert several[1] == plain[1]


def test_options_of_the_experiment_come_before_those_of_the_row(rows):
    found, _ = read(rows, "--table=All: gru", "--set=units=64", "--set=evidence=true")
    assert found.rows["gru"].flags.set == ("units=64", "evidence=true", "units=16")


def test_rows_of_the_experiments_own_folder_come_first(rows, tmp_path):
    own = tmp_path / "mine" / "rows"
    own.mkdir(parents=True)
    (own / "ha.txt").write_text("# My HA\n--model=ha\n--set=ha_mean=zeros\n")
    found, _ = read(rows, "--table=All: ha, gru", f"--experiment={tmp_path / 'mine'}")
    assert found.rows["ha"].title == "My HA"


def test_what_draws_is_trained_with_every_seed_and_the_rest_once(rows):
    found = planned_cells(rows, "--table=All: ha, gru", "--table=Few: lazy: 2", "--seeds=4,5,6")
    assert [(cell.row, cell.seed) for cell in found] == [
        *[("ha", 4), ("gru", 4), ("lazy", 4)],
        *[("gru", 5), ("lazy", 5)],
        ("gru", 6),
    ]


def test_a_cell_is_named_after_all_that_decides_it(rows):
    def names(*arguments, **kwargs):
        found = planned_cells(rows, "--table=All: gru", "--seeds=0", *arguments, **kwargs)
        return [cell.directory.name for cell in found]

    first = names()
    assert names() == first
    assert names("--jobs=2", "--title=Other") == first  # it decides nothing
    for arguments in (["--epochs=3"], ["--window=5"], ["--set=dropout=0.1"]):
        assert names(*arguments) != first
    assert names(fingerprint="other data") != first
    assert len(set(names("--origins=3"))) == 3


def test_rows_with_equal_flags_share_their_runs(rows):
    (rows / "again.txt").write_text(f"# Again: the same\n--flagfile={rows / 'gru.txt'}\n")
    found = planned_cells(rows, "--table=All: gru, lazy, again", "--seeds=0,1")
    of = {(cell.row, cell.seed): cell.directory for cell in found}
    assert len(of) == len(found) == 6
    for seed in (0, 1):
        assert of["gru", seed] == of["again", seed] != of["lazy", seed]
    assert len(set(of.values())) == 4
    assert {cell.flags.run_dir for cell in found} == {str(one) for one in of.values()}


def test_rows_that_prepare_alike_share_a_dataset(rows):
    (rows / "paper.txt").write_text("--model=gru\n--taxonomy_mean=paper\n")
    found = planned_cells(rows, "--table=All: ha, gru, paper", "--seeds=0")
    places = {cell.row: cell.flags.dataset_dir for cell in found}
    assert places["ha"] == places["gru"] != places["paper"]


def test_a_cell_leaves_behind_predictions_only(rows):
    (cell,) = planned_cells(rows, "--table=All: gru", "--seeds=3", "--origins=1")
    assert (cell.flags.outputs, cell.flags.seed, cell.flags.run_dir) == (
        "predictions",
        3,
        str(cell.directory),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no --table"),
        (["--table=All"], "must be 'TITLE: row, row"),
        (["--table=All: gru: many"], "a number of seeds from 1 to 5"),
        (["--table=All: gru: 6"], "a number of seeds from 1 to 5"),
        (["--table=All: gruu"], r"no flagfile gruu.txt in .*Did you mean gru\?"),
        (["--table=All: ha"], "--reference=gru is not in any table"),
        (
            ["--table=All: gru", "--seed=1"],
            "--seed is set for each cell",
        ),
        (
            ["--table=All: gru", "--origin=1"],
            "--origin is set for each cell",
        ),
        (["--table=All: gru", "--seeds=1,1"], "--seeds must differ"),
        (["--table=All: wrong"], "wrong.txt: --model must be one of .*Did you mean gru"),
        (["--table=All: own_seed"], "own_seed.txt: --seed is set for each cell"),
        (["--table=All: gru, gru"], "must be 'TITLE: row, row"),
        (["--table=Table 1: gru", "--table=Table 1!: ha"], "titles must differ"),
        (["--table=結果: gru"], "titles must differ in their letters"),
        (["--table=All: gru", "--set=unitts=3"], "gru.txt: --set=unitts=3: gru has no option"),
    ],
)
def test_a_wrong_experiment_is_one_clear_sentence(rows, arguments, message):
    (rows / "wrong.txt").write_text("--model=grru\n")
    (rows / "own_seed.txt").write_text("--model=gru\n--seed=3\n")
    with pytest.raises(InputError, match=message) as error:
        read(rows, *arguments)
    assert not re.search(r"\n", str(error.value))


def test_a_trial_does_not_open_the_test_split(rows):
    _, flags = read(rows, "--table=All: gru")
    (row,) = plan.rows(["gru"], flags, SYSTEM)
    directory = rows.parent / "cells"
    known = {plan.dataset_directory(row.flags, directory, SYSTEM): "data"}
    settings = [["--epochs=2"], ["--epochs=3"]]
    one, other = plan.trials(row, settings, flags, directory, known, SYSTEM)
    assert one.flags.outputs == other.flags.outputs == "validation"
    assert (one.flags.epochs, other.flags.epochs) == (2, 3)
    assert one.directory != other.directory


def test_a_study_of_anything_else_has_another_name(rows):
    def name(*arguments, fingerprint="data"):
        _, flags = read(rows, "--table=All: gru", *arguments)
        (row,) = plan.rows(["gru"], flags, SYSTEM)
        return plan.study(row, flags, fingerprint, SYSTEM)

    assert name() == name("--jobs=2", "--title=Other")
    others = [name("--epochs=2"), name("--seeds=7"), name("--trials=5"), name(fingerprint="other")]
    assert len({name(), *others}) == 5


def test_only_a_split_by_time_has_origins(rows):
    (rows / "by_item.txt").write_text("# By item: all times\n--model=ha\n--split=by_item\n")
    found = planned_cells(rows, "--table=All: ha, gru, by_item", "--seeds=0", "--origins=3")
    assert [cell.origin for cell in found if cell.row == "ha"] == [0, 1, 2]
    assert [cell.origin for cell in found if cell.row == "by_item"] == [0]
