"""Runs that start from an earlier model, from flags to files."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mmnet import tasks
from mmnet.checks import InputError
from mmnet.config import PrepareConfig, TrainConfig
from mmnet.data import dataset as datasets
from mmnet.data.earlier import NotAlike
from mmnet.flags import parse
from mmnet.serving import parent
from mmnet.tasks import warming
from mmnet.training.records import Record
from tests.conftest import SIMULATED, SMALL


def flags(run_dir, *more):
    return parse(TrainConfig, [*SIMULATED, *SMALL, f"--warm_start={run_dir}", *more])


def test_equal_data_and_no_epoch_score_as_the_earlier_model_to_the_bit(run_dir, tmp_path):
    again = tmp_path / "run"
    more = ["--warm_epochs=0", "--outputs=predictions", f"--run_dir={again}"]
    tasks.train(flags(run_dir, *more))
    wanted, found = (
        pd.read_parquet(one / "evaluation" / "predictions.parquet") for one in (run_dir, again)
    )
    pd.testing.assert_frame_equal(found, wanted, check_exact=True)
    record = Record.read(again / "record.json")
    assert record.inputs["--warm_start"] == parent.read(run_dir).digest
    assert (record.fitted["best_epoch"], record.fitted["epochs"]) == (0, 0)
    assert record.fitted["start"] == record.fitted["validation"]


@pytest.mark.slow
def test_a_killed_warm_run_ends_as_if_it_had_not_been(run_dir, tmp_path):
    own = [f"--dataset_dir={tmp_path / 'dataset'}", "--outputs=validation", "--deterministic"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    tasks.train(flags(run_dir, *own, "--warm_epochs=1", f"--run_dir={whole}"))
    tasks.train(flags(run_dir, *own, "--warm_epochs=0", f"--run_dir={parts}"))
    text = (parts / "flags.txt").read_text().replace("--warm_epochs=0", "--warm_epochs=1")
    (parts / "flags.txt").write_text(text)  # as if it had ended before its first step
    tasks.train(parse(TrainConfig, [f"--run_dir={parts}", "--resume", "--outputs=validation"]))
    with (
        np.load(whole / "checkpoints" / "best.npz") as one,
        np.load(parts / "checkpoints" / "best.npz") as other,
    ):
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name])
    assert Record.read(whole / "record.json").fitted["epochs"] == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--model=gru"], "--warm_start: model=gru differs from mmnet of the earlier model"),
        (["--set=units=16"], "units=16 differs from 8 of the earlier model; remove --warm_start"),
        (["--ensemble=2"], "ensemble=2 differs from 1"),
        (["--precision=mixed_bfloat16"], "precision=mixed_bfloat16 differs from float32"),
        (["--noisy_rate=0.2"], "noisy_rate=0.2 differs from 0.5"),
    ],
)
def test_another_model_is_refused_before_a_directory_is_made(change, sentence, run_dir, tmp_path):
    place = tmp_path / "run"
    with pytest.raises(NotAlike, match=sentence):
        tasks.train(flags(run_dir, f"--run_dir={place}", *change))
    assert not place.exists()


def test_a_search_has_no_one_network_to_start_from(run_dir):
    with pytest.raises(InputError, match="--recipe=auto compares several; give the recipe that"):
        warming.earlier_model(flags(run_dir, "--recipe=auto"))


def test_what_is_fitted_in_one_go_says_that_it_starts_anew(run_dir, capsys):
    own = parse(TrainConfig, [f"--warm_start={run_dir}", "--model=lightgbm"])
    assert warming.earlier_model(own) is None
    said = capsys.readouterr().out.replace("\n", " ")
    assert "--warm_start is not used: --model=lightgbm is fitted on all training rows again" in said


def test_flags_of_training_may_differ(run_dir):
    more = ["--seed=5", "--epochs=9", "--learning_rate=0.1", "--batch_size=8", "--loss=mse"]
    assert warming.earlier_model(flags(run_dir, *more)) is not None


# ------------------------------------------------------------------------- the test span


@pytest.fixture
def dataset(run_dir):
    return datasets.load(run_dir / "dataset")


def test_a_model_that_has_learned_from_the_test_is_refused(dataset, run_dir):
    earlier = parent.read(run_dir)
    first = dataset.first_targets["test"]
    warming.check_start(dataset, earlier)  # it has learned from all periods before the test
    late = dataclasses.replace(earlier, first_targets={"test": first + 1})
    with pytest.raises(NotAlike, match=f"periods up to {first}, and the test begins with {first}"):
        warming.check_start(dataset, late)
    warming.check_start(dataset, dataclasses.replace(earlier, refitted_until=first - 1))
    with pytest.raises(NotAlike, match=f"has learned from periods up to {first}, and"):
        warming.check_start(dataset, dataclasses.replace(earlier, refitted_until=first))


def test_a_model_that_does_not_say_what_it_has_learned_from_is_refused(dataset, run_dir):
    earlier = dataclasses.replace(parent.read(run_dir), first_targets={})
    with pytest.raises(NotAlike, match="exported without the periods of its split, so that it"):
        warming.check_start(dataset, earlier)


def test_without_a_split_by_time_the_splits_must_be_alike(dataset, run_dir):
    earlier = parent.read(run_dir)

    def split_by(**changed):
        task = dataset.fitted.task.model_copy(update={"split": "by_item", **changed})
        return dataset.fitted.model_copy(update={"task": task})

    by_item = dataclasses.replace(dataset, fitted=split_by())
    warming.check_start(by_item, dataclasses.replace(earlier, fitted=split_by()))
    with pytest.raises(NotAlike, match="--split_seed differs from that of the earlier model"):
        warming.check_start(by_item, dataclasses.replace(earlier, fitted=split_by(split_seed=1)))
    with pytest.raises(NotAlike, match="--split differs"):
        warming.check_start(by_item, earlier)


# -------------------------------------------------------------------------- the dataset


def test_a_dataset_is_prepared_for_a_warm_start_and_made_again_without(run_dir, tmp_path):
    """With other items, whose values the earlier model has not seen."""
    own = [*SIMULATED, "--source_set=seed=3", f"--dataset_dir={tmp_path / 'data'}"]
    tasks.prepare(parse(PrepareConfig, [*own, f"--warm_start={run_dir}"]))
    earlier, warm = parent.read(run_dir).fitted, datasets.load(tmp_path / "data")
    more = 0
    for tensor, words in earlier.vocabularies.items():
        assert warm.fitted.vocabularies[tensor][: len(words)] == words
        more += len(warm.fitted.vocabularies[tensor]) - len(words)
    assert more > 0
    assert warm.fitted.spec.rate_scale == earlier.spec.rate_scale
    tasks.prepare(parse(PrepareConfig, own))
    cold = datasets.load(tmp_path / "data")
    assert cold.fingerprint != warm.fingerprint
    with pytest.raises(NotAlike, match=r"was not prepared for it: .*; prepare it again with"):
        warming.check_start(cold, parent.read(run_dir))
