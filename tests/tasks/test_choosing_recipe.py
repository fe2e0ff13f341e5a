"""`--recipe=auto` whole, on a small log and with few candidates."""

import json
import sys

import numpy as np
import pytest

from mmnet import driver, tasks
from mmnet.config import PLACES, PrepareConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.dataset import Dataset
from mmnet.data.windows import Windows
from mmnet.evaluation import halves
from mmnet.flags import parse
from mmnet.search import candidates, choosing, halving
from mmnet.search.journal import Journal
from mmnet.tasks import choosing_recipe, starting, training
from mmnet.training.records import Record
from mmnet.training.run_directory import SHARE_RATES
from tests.conftest import SMALL

pytestmark = pytest.mark.usefixtures("undrawn")
TRIED = ("paper", "direct")
LOG = ["--source=simulated", "--source_set=items=300", "--source_set=periods=16"]
LOG += ["--source_set=clicks=300000", "--taxonomies=category", "--release=release"]
LOG += ["--min_test_rows=20"]
OUTPUTS = ["--outputs=predictions"]


def train(*arguments):
    return driver.run(TrainConfig, None, "train", arguments)


@pytest.fixture
def few(monkeypatch):
    """Two candidates, halves of a small log, and a test split that no search may open."""
    kept = tuple(one for one in candidates.CANDIDATES if one.name in TRIED)
    monkeypatch.setattr(candidates, "CANDIDATES", kept)
    monkeypatch.setattr(halves, "FEWEST_ROWS", 20)
    searching, search, examples = [], halving.search, Dataset.examples

    def searched(*arguments, **named):
        searching.append(True)
        try:
            return search(*arguments, **named)
        finally:
            searching.clear()

    def opened(dataset, split):
        assert not (searching and split == "test")
        return examples(dataset, split)

    monkeypatch.setattr(halving, "search", searched)
    monkeypatch.setattr(Dataset, "examples", opened)


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_ends_in_a_run(tmp_path, few, monkeypatch, capsys):
    directory = tmp_path / "run"
    flags = [*LOG, *SMALL, "--model=gru", f"--run_dir={directory}", *OUTPUTS]
    steps, add = [], Journal.add
    # The road of a candidate that reads less than the search's dataset has.
    monkeypatch.setattr(choosing, "chosen", lambda *_: "paper")

    def killed(journal, name, epochs, *rest):
        add(journal, name, epochs, *rest)
        steps.append((name, epochs))
        if len(steps) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", killed)
    assert train(*flags, "--recipe=auto", "--budget=1h") == driver.INTERRUPTED
    assert f"--run_dir={directory} --resume continues" in capsys.readouterr().err
    assert not (directory / "flags.txt").exists()
    # A second run of the directory is refused, and so is a resume with other flags.
    assert train(*flags, "--recipe=auto") == driver.WRONG_INPUT
    assert train(f"--run_dir={directory}", "--resume", "--seed=7") == driver.WRONG_INPUT
    capsys.readouterr()

    real = training.train

    trained = []

    def last(*arguments):
        trained.append(arguments[:2])
        assert (directory / "recipe.md").exists()
        series = arguments[4]
        if len(trained) == 1:
            trainer = series.trainer  # of the search, which is not compiled a second time
            real(*arguments)
            assert series.trainer is trainer is not None
        else:
            assert series is None

    monkeypatch.setattr(training, "train", last)
    assert train(f"--run_dir={directory}", "--resume", *OUTPUTS) == driver.OK
    assert len(steps) == len(set(steps))  # nothing was trained a second time
    assert {name for name, _ in steps} == set(TRIED)

    told = json.loads((directory / "recipe.json").read_text())
    row = next(one for one in told["candidates"] if one["candidate"] == told["chosen"])
    record = Record.read(directory / "record.json")
    for name, mse in row["scores"].items():  # the run is the candidate, not another training
        assert record.fitted["validation"][name] == pytest.approx(mse, rel=1e-6)
    run = SHARE_RATES.read(directory)
    again = parse(TrainConfig, [f"--flagfile={directory / 'recipe.txt'}"])
    assert again.model_dump(exclude=set(PLACES)) == run.model_dump(exclude=set(PLACES))
    assert not run.recipe
    assert run.validation_halves
    # The run that is finished is resumed as it is.
    assert train(f"--run_dir={directory}", "--resume", *OUTPUTS) == driver.OK
    (flags, dataset), (resumed, same) = trained
    assert flags.inputs == resumed.inputs == dataset.fitted.task.inputs == ()
    assert resumed.model_dump(exclude=set(PLACES)) == flags.model_dump(exclude=set(PLACES))
    assert same.fingerprint == dataset.fingerprint


def test_a_dataset_with_other_inputs_than_the_recipes(tmp_path, few, monkeypatch, capsys):
    monkeypatch.setattr(starting, "load_tensorflow", lambda: sys.exit("trains"))
    places = {}
    for inputs in ("", "age,taxonomy_evidence"):
        places[inputs] = tmp_path / f"dataset{inputs}"
        flags = [*LOG, f"--inputs={inputs}", f"--dataset_dir={places[inputs]}"]
        tasks.prepare(parse(PrepareConfig, flags))
    # Leaving an input out changes nothing else.
    whole, bare = map(datasets.load, (places["age,taxonomy_evidence"], places[""]))
    view = choosing_recipe.with_inputs(whole, TrainConfig())
    assert view.fitted == bare.fitted
    assert view.fingerprint not in (whole.fingerprint, bare.fingerprint)
    both = TrainConfig(inputs=("age", "taxonomy_evidence"))
    assert choosing_recipe.with_inputs(whole, both) is whole
    first = bare.examples("train").taken(np.arange(50))
    ((_, found),), ((_, wanted),) = (Windows(one).batches(first) for one in (view, bare))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor)
    capsys.readouterr()
    run = f"--run_dir={tmp_path / 'run'}"
    with pytest.raises(SystemExit, match="trains"):
        train("--recipe=auto", f"--dataset_dir={places['']}", run)
    said = "--recipe=auto reads --inputs=age,calendar; "
    assert capsys.readouterr().out == f"{said}{places['']} was prepared with none of them\n"
    of_both = f"--dataset_dir={places['age,taxonomy_evidence']}"
    assert train("--recipe=paper", of_both, run) == driver.WRONG_INPUT
    assert "--recipe=paper reads --inputs=, and " in capsys.readouterr().err
