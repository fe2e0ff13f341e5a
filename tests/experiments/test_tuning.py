import dataclasses
import math

import pytest

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig, TrainConfig
from mmnet.experiments import plan, tuning
from mmnet.experiments.share_rates import SYSTEM
from mmnet.flags import parse
from mmnet.models import REGISTRY
from mmnet.training.records import Record

optuna = pytest.importorskip("optuna")


@pytest.fixture
def row(tmp_path):
    path = tmp_path / "rows" / "gru.txt"
    path.parent.mkdir()
    path.write_text("# GRU: as it is\n--model=gru\n")
    flags = parse(ExperimentConfig, [f"--rows={path.parent}", "--trials=6"])
    return plan.rows(["gru"], flags, SYSTEM)[0], flags


def validation(mse):
    return Record(
        fitted={"validation": {f"{name}_mse": mse for name in ("normal", "cold_start", "noisy")}}
    )


def test_every_tuned_setting_is_a_flag_or_an_option_of_its_model():
    for model, space in tuning.SPACES.items():
        for name in space:
            if name.startswith("set."):
                assert name.removeprefix("set.") in REGISTRY[model].options.model_fields, name
            else:
                assert name in TrainConfig.model_fields


def test_the_best_trial_becomes_a_flagfile_that_is_read_back(row, tmp_path):
    asked = []

    def trial(arguments, _):
        asked.append(arguments)
        return validation(10.0 - len(asked) if len(asked) < 4 else 20.0)  # the third is best

    text = tuning.tune(*row[:1], trial, row[1], tmp_path / "journal")
    path = tmp_path / "best.txt"
    path.write_text(text)
    assert len(asked) == 6
    parsed = parse(TrainConfig, [f"--flagfile={path}"])
    assert parsed == parse(TrainConfig, ["--model=gru", *asked[2]])
    assert text.startswith("# GRU, tuned: best of 6 trials on validation (mean_log_mse 1.9459)")


def test_an_objective_is_searched_only_where_rates_are_within_one(tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.txt").write_text("# A: trees\n--model=lightgbm\n")
    (rows / "b.txt").write_text("# B: trees\n--model=lightgbm\n--rate_may_exceed_one\n")
    flags = parse(ExperimentConfig, [f"--rows={rows}", "--trials=2"])
    for row, expected in zip(plan.rows(["a", "b"], flags, SYSTEM), (True, False), strict=True):
        asked = []

        def trial(arguments, _, asked=asked):
            asked.extend(arguments)
            return validation(1.0)

        tuning.tune(row, trial, flags, tmp_path / row.name)
        assert any("--set=offset=" in argument for argument in asked)
        assert any("--set=objective=" in argument for argument in asked) == expected


def test_a_killed_study_goes_on_with_the_trials_that_are_left(row, tmp_path):
    asked = []

    def trial(arguments, _):
        asked.append(tuple(arguments))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return validation(1.0 + len(asked))

    with pytest.raises(KeyboardInterrupt):
        tuning.tune(row[0], trial, row[1], tmp_path / "journal")
    tuning.tune(row[0], trial, row[1], tmp_path / "journal")
    assert len(asked) == 3 + 1 + 3  # three done, one lost, three left
    again = len(asked)
    tuning.tune(row[0], trial, row[1], tmp_path / "journal")
    assert len(asked) == again
    assert len(set(asked)) > 5  # and not the first ones over again


def test_a_failed_trial_is_counted_and_not_asked_again(row, tmp_path):
    asked = []

    def trial(arguments, _):
        asked.append(tuple(arguments))
        if len(asked) == 2:
            raise InputError("the loss is nan")
        return validation(1.0 + len(asked))

    tuning.tune(row[0], trial, row[1], tmp_path / "journal")
    assert len(asked) == 6


def test_a_study_in_which_every_trial_fails_says_why(row, tmp_path):
    def trial(*_):
        raise InputError("the loss is nan")

    with pytest.raises(InputError, match="the loss is nan"):
        tuning.tune(row[0], trial, row[1], tmp_path / "journal")


def test_what_no_mode_uses_is_not_tuned(row, tmp_path):
    asked = []
    tuning.tune(
        row[0],
        lambda arguments, _: asked.append(arguments) or validation(1.0),
        row[1],
        tmp_path / "j",
    )
    assert not [one for one in asked if any("noisy_rate" in argument for argument in one)]


def test_a_model_without_a_search_space_is_refused(row, tmp_path):
    (tmp_path / "rows" / "ha.txt").write_text("--model=ha\n")
    (ha,) = plan.rows(["ha"], row[1], SYSTEM)
    known = "mmnet, gru, transformer, lightgbm, catboost"
    with pytest.raises(InputError, match=f"--tune=ha: only {known} have"):
        tuning.tune(ha, validation, row[1], tmp_path / "journal")


def test_a_space_of_the_users_own_takes_the_place_of_the_models(row, tmp_path):
    asked, told = [], []

    def trial(arguments, _):
        asked.append(arguments)
        return validation(float(len(asked)))

    space = {"batch_size": (8, 16, "integer"), "set.link": ["identity", "logit"]}
    for _ in range(2):
        text = tuning.tune(row[0], trial, row[1], tmp_path / "journal", space, told.append)
    assert told == [0, 6]
    assert len(asked) == 6
    for batch, link in asked:
        assert 8 <= int(batch.removeprefix("--batch_size=")) <= 16
        assert link in ("--set=link=identity", "--set=link=logit")
    path = tmp_path / "best.txt"
    path.write_text(text)
    assert parse(TrainConfig, [f"--flagfile={path}"]) == parse(
        TrainConfig, ["--model=gru", *asked[0]]
    )


def epochs_of(value):
    """What the trials of the next test are worth after each of six epochs."""
    return [value + 1 / epoch for epoch in range(1, 7)]


@pytest.mark.parametrize("prune", [True, False])
def test_a_trial_worse_than_the_median_of_the_earlier_ones_ends_early(row, tmp_path, prune):
    flags = row[1].model_copy(update={"trials": 8, "prune": prune})
    given = dataclasses.replace(row[0], flags=row[0].flags.model_copy(update={"epochs": 6}))
    worth = [10.0, 12.0, 14.0, 16.0, 13.5, 12.5, 12.7, 9.0]
    medians = {4: 13.0, 5: 13.0, 6: 12.5, 7: 12.5}  # of the earlier ones that were not ended
    ended = {}

    def trial(_, hopeless):
        number = len(ended)
        for epoch, value in enumerate(epochs_of(worth[number]), 1):
            if hopeless(epoch, value):
                ended[number] = epoch
                return None
        ended[number] = 6
        return validation(math.exp(worth[number]))

    text = tuning.tune(given, trial, flags, tmp_path / "journal")
    pruned = {number for number, median in medians.items() if worth[number] > median}
    assert pruned == {4, 6}
    # Not before the third epoch: the first third of six is not judged.
    assert ended == {number: 3 if prune and number in pruned else 6 for number in range(8)}
    early = "8 trials, 2 of which ended early, on" if prune else "8 trials on"
    assert f"best of {early} validation (mean_log_mse 9.0000)" in text
