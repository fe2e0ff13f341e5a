import re

import pytest

from mmnet.checks import InputError
from mmnet.config import PLACES, ExperimentConfig, TrainConfig
from mmnet.experiments import plan
from mmnet.experiments.share_rates import SYSTEM
from mmnet.flags import build, parse, to_flagfile
from mmnet.models import resolve_options
from mmnet.recipes import reading
from mmnet.tasks.building import model_options

NAMED = [name for name in reading.names() if name != reading.AUTO]


def sentence(*arguments):
    with pytest.raises(InputError) as caught:
        parse(TrainConfig, arguments)
    return str(caught.value)


@pytest.mark.parametrize("name", reading.names())
def test_every_recipe_says_what_it_is_and_its_options_exist(name):
    lines = reading.flagfile(name).read_text(encoding="utf-8").splitlines()
    assert re.fullmatch(r"# [^:]+: .+", lines[0])
    flags = parse(TrainConfig, [f"--recipe={name}"])
    resolve_options(flags.model, flags.set)


def test_without_a_recipe_nothing_is_beneath():
    assert parse(TrainConfig, ["--seed=3"]).model_fields_set == {"seed"}


def test_the_papers_recipe_is_every_default():
    flags = parse(TrainConfig, ["--recipe=paper"])
    assert flags.model_copy(update={"recipe": "", "mode_weights": ()}) == TrainConfig()
    assert model_options(flags) == model_options(TrainConfig())


@pytest.mark.parametrize("name", [name for name in NAMED if name != reading.PAPER])
def test_every_other_recipe_has_all_inputs(name):
    assert parse(TrainConfig, [f"--recipe={name}"]).inputs == ("age", "calendar")


def test_a_flag_that_was_given_beats_the_recipe(tmp_path):
    (tmp_path / "flags.txt").write_text("--recipe=smoothed\n--half_weight_clicks=7\n")
    file = f"--flagfile={tmp_path / 'flags.txt'}"
    flags = parse(TrainConfig, [file, "--set=content_dropout=0.5", "--inputs=age"])
    assert flags.half_weight_clicks == 7
    assert flags.inputs == ("age",)
    assert resolve_options("mmnet", flags.set) == {"head": "smoothed", "content_dropout": 0.5}
    # The place of a recipe among the flags does not matter.
    assert parse(TrainConfig, ["--inputs=age", "--recipe=direct"]).inputs == ("age",)


@pytest.mark.parametrize("name", NAMED)
def test_resolved_flags_read_back_to_themselves(name):
    own = [] if name == reading.PAPER else ["--set=seed=3"]
    flags = parse(TrainConfig, [f"--recipe={name}", *own])
    lines = to_flagfile(flags, leave_out=PLACES).splitlines()
    assert parse(TrainConfig, lines) == flags


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--loss=binomial", "--recipe=paper, which fixes --loss=mse"),
        ("--model=gru", "--recipe=paper, which fixes --model=mmnet"),
        ("--inputs=age", "--recipe=paper, which fixes --inputs="),
        ("--half_weight_clicks=50", "--recipe=paper, which fixes --half_weight_clicks=0"),
        ("--schedule=cosine", "--recipe=paper, which fixes --schedule=constant"),
        ("--mode_weights=1,0,0", "--recipe=paper, which fixes --mode_weights=1,1,1"),
        ("--set=evidence=true", "--recipe=paper fixes all options of the network"),
    ],
)
def test_what_breaks_the_paper_is_refused(argument, said):
    wrong = sentence("--recipe=paper", argument)
    assert wrong.startswith(argument)
    assert said in wrong


def test_the_papers_protocol_stays_free():
    arguments = ["--taxonomy_mean=paper", "--split=by_item", "--monitor=normal", "--epochs=3"]
    flags = parse(TrainConfig, ["--recipe=paper", "--mode_weights=1,1,1", *arguments])
    assert (flags.taxonomy_mean, flags.monitor, flags.epochs) == ("paper", "normal", 3)


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    wrong = sentence("--recipe=smoothd")
    assert wrong.startswith("--recipe=smoothd: unknown recipe; choose one of auto, direct, ")
    assert wrong.endswith("Did you mean smoothed?")
    assert sentence("--recipe=../setup").startswith("--recipe=../setup: unknown recipe")


def test_what_a_search_cannot_have_is_refused():
    assert sentence("--budget=20m").startswith("--budget=20m limits the search of --recipe=auto;")
    assert sentence("--recipe=auto", "--budget=20").startswith("--budget: ")
    assert sentence("--recipe=auto", "--schedule=cosine").startswith("--schedule=cosine: ")
    assert parse(TrainConfig, ["--recipe=auto", "--budget=20m"]).validation_halves


def test_a_row_of_an_experiment_may_name_a_recipe(tmp_path):
    (tmp_path / "own.txt").write_text("# Own: a recipe\n--recipe=direct\n")
    given = {"table": ("T: own",), "rows": str(tmp_path), "seeds": (0,), "reference": ("own",)}
    experiment = build(ExperimentConfig, given | {"min_clicks": 2})
    (row,) = plan.plan(experiment, SYSTEM).rows.values()
    assert row.flags.set == ("evidence=true",)
    assert row.flags.min_clicks == 2


def test_a_cell_that_is_looked_for_has_only_what_was_given(tmp_path):
    """`--recipe=auto` may choose what no flag of the row or the experiment says."""
    (tmp_path / "own.txt").write_text("# Own: the program's choice\n--recipe=auto\n--epochs=3\n")
    given = {"table": ("T: own",), "rows": str(tmp_path), "seeds": (0,), "reference": ("own",)}
    (row,) = plan.plan(build(ExperimentConfig, given), SYSTEM).rows.values()
    cell = SYSTEM.of_cell(row.flags, 1, 0)
    assert {"recipe", "epochs", "seed"} <= cell.model_fields_set
    assert not {"loss", "half_weight_clicks", "set"} & cell.model_fields_set
    assert reading.names_from_recipe(cell) == {"inputs", "validation_halves"}
