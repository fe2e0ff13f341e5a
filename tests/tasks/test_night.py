"""Nights: what a verdict does, at any moment of which a night may be killed; and real ones."""

import contextlib
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from mmnet import driver
from mmnet.checks import InputError
from mmnet.config import NightlyConfig
from mmnet.flags import parse
from mmnet.promotion import nights
from mmnet.promotion.history import Event, History
from mmnet.promotion.nights import Begun, Night, Verdict
from mmnet.promotion.versions import Origin, Versions
from mmnet.serving import bundle, exported
from mmnet.tasks import night as nights_task
from tests.faults import Dead, Moments
from tests.promotion import fake_exports


@pytest.fixture
def unloaded(monkeypatch):
    """Exports without a model pass the check of their golden rows."""
    monkeypatch.setattr(bundle, "check", lambda path: path)


def decided(models, number, outcome="promoted", **more):
    """A night that has decided, and was killed then."""
    champion = Versions(models).champion()
    night = nights.begin(models, f"2024-03-{number:02}", Begun(identity="", champion=champion))
    promoted = outcome == "promoted"
    if promoted:
        fake_exports.write(night.directory / "run/export/1", f"model {number}")
        more["origin"] = Origin(night=night.name, trained_until="2024-02-27", champion=champion)
        more["export"] = "run/export/1"
    event = Event(
        number=History(models).next_number(),
        at=f"2024-03-{number:02}T01:00:00",
        outcome=outcome,
        identity=f"night {number}",
        night=night.name,
        period=night.name,
        champion_before=champion,
        champion=number if promoted else champion,
        ratio=0.9,
        reasons=("why",),
    )
    night.decide(Verdict(event=event, **more))
    return night


def finished(models, *arguments):
    """Finishes what has been decided, as the next night would."""
    versions = Versions(models)
    versions.clear()
    nights_task._finish_all(versions, parse(NightlyConfig, arguments))


@pytest.fixture
def unsynced(monkeypatch):
    """The moments of syncing files count, but nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def models(tmp_path, unloaded, unsynced):
    """Three versions, of which the last was promoted last."""
    directory = tmp_path / "models"
    directory.mkdir()
    for number in (1, 2, 3):
        decided(directory, number)
        finished(directory)
    return directory


def test_a_verdict_becomes_a_version_then_the_champion_then_history_and_a_report(models):
    night = decided(models, 4)
    finished(models)
    versions = Versions(models)
    assert (versions.champion(), versions.numbers()) == (4, [1, 2, 3, 4])
    assert fake_exports.text(versions.path(4)) == "model 4"
    assert [event.champion for event in History(models).events()] == [1, 2, 3, 4]
    assert night.document()["outcome"] == "promoted"
    assert (night.directory / "nightly.html").exists()


def test_a_night_that_keeps_the_champion_adds_no_version(models, capsys):
    night = decided(models, 4, "kept")
    finished(models)
    versions = Versions(models)
    assert (versions.champion(), versions.numbers()) == (3, [1, 2, 3])
    nights_task._answer(versions, night, NightlyConfig())
    assert "kept: version 3 stays the champion" in capsys.readouterr().out


@pytest.mark.parametrize(("outcome", "step"), [("promoted", 2), ("kept", 5)])
def test_a_night_may_be_killed_at_any_moment_after_its_verdict(
    models, tmp_path, monkeypatch, outcome, step
):
    decided(models, 4, outcome)
    victim, at, dead = tmp_path / "victim", 0, True
    while dead:
        shutil.rmtree(victim, ignore_errors=True)
        shutil.copytree(models, victim)
        moments = Moments(victim, at)
        with moments.watching(monkeypatch), contextlib.suppress(Dead):
            finished(victim, "--keep=2")
        dead, at = moments.dead, at + step
        assert fake_exports.problems(victim) == []
        assert Versions(victim).champion() in (3, 4)
        finished(victim, "--keep=2")
        champion = 4 if outcome == "promoted" else 3
        assert Versions(victim).champion() == champion
        assert Versions(victim).numbers() == [champion - 1, champion]
        assert fake_exports.problems(victim) == []
        assert [one.number for one in History(victim).events()] == [1, 2, 3, 4]
        assert all(night.is_finished() for night in nights.all_nights(victim))
    assert at > 40  # the moments there are


def test_a_version_that_fails_its_checks_is_removed_and_not_promoted(models, monkeypatch):
    def check(path):
        raise InputError(f"{path} scores otherwise")

    decided(models, 4)
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "check", check)
        with pytest.raises(InputError, match="scores otherwise"):
            finished(models)
    assert (Versions(models).champion(), Versions(models).numbers()) == (3, [1, 2, 3])
    finished(models)  # copied again, it passes
    assert Versions(models).champion() == 4


def test_old_versions_and_the_runs_of_old_nights_are_removed(models):
    for number in (4, 5):
        decided(models, number)
        finished(models, "--keep=2")
    assert Versions(models).numbers() == [4, 5]
    kept = {night.name[-2:]: (night.directory / "run").exists() for night in all_nights(models)}
    assert kept == {"01": False, "02": False, "03": False, "04": True, "05": True}
    assert all(night.document() for night in all_nights(models))  # reports stay


def all_nights(models):
    return list(nights.all_nights(models))


def test_the_anchor_of_not_worse_is_kept(models):
    decided(models, 4)
    finished(models, "--keep=2", "--promote=not_worse=0.1", "--anchor=3")
    assert Versions(models).numbers() == [1, 2, 3, 4]  # 1 was the champion three nights ago


def test_flags_that_are_added_later_change_no_night_that_does_not_give_them():
    before = nights_task.deciding_flags(NightlyConfig())
    assert not {"ensemble", "warm_epochs", "models", "counts"} & set(before)
    changed = nights_task.deciding_flags(parse(NightlyConfig, ["--ensemble=3", "--alpha=0.1"]))
    assert {name for name in changed if changed[name] != before.get(name)} == {"ensemble", "alpha"}


# ------------------------------------------------------------------------------------ rollback


def run(*arguments):
    return driver.run(NightlyConfig, None, "nightly", arguments)


def test_a_rollback_goes_to_the_champion_before_and_the_next_one_further(models, capsys):
    assert run(f"--models={models}", "--rollback") == 0
    assert Versions(models).champion() == 2
    assert run(f"--models={models}", "--rollback") == 0
    assert run(f"--models={models}", "--rollback=3") == 0
    assert Versions(models).champion() == 3
    assert [event.outcome for event in History(models).events()[3:]] == ["rollback"] * 3
    assert run(f"--models={models}", "--history") == 0
    assert re.search("rolled back +2 → 1", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("=9", "has no version 9; it has 1, 2, 3"),
        ("=3", "--rollback=3: version 3 is the champion already"),
        ("=x", "--rollback: must be the number of a version, or be given without a value"),
    ],
)
def test_a_rollback_that_cannot_be_is_one_sentence(models, capsys, version, said):
    assert run(f"--models={models}", f"--rollback{version}") == 1
    assert said in capsys.readouterr().err
    assert Versions(models).champion() == 3


def test_a_rollback_before_the_first_champion_is_refused(models, capsys):
    for _ in range(2):
        run(f"--models={models}", "--rollback")
    assert run(f"--models={models}", "--rollback") == 1
    assert "version 1 is the first champion; name a version of 1, 2, 3" in capsys.readouterr().err


def test_a_rollback_may_be_killed_at_any_moment(models, tmp_path, monkeypatch):
    victim, at, dead = tmp_path / "victim", 0, True
    while dead:
        shutil.rmtree(victim, ignore_errors=True)
        shutil.copytree(models, victim)
        moments = Moments(victim, at)
        with moments.watching(monkeypatch), contextlib.suppress(Dead):
            nights_task._roll_back(Versions(victim), "true")
        dead, at = moments.dead, at + 1
        finished(victim)
        # Either it has not begun, or it is finished.
        rolled_back = len(History(victim).events()) == 4
        assert Versions(victim).champion() == (2 if rolled_back else 3)
    assert rolled_back
    assert at > 5


def test_a_second_night_at_once_is_refused(models, capsys):
    with nights_task._only_night(Versions(models)):
        assert run(f"--models={models}", "--rollback") == 1
    assert "is in use by another night; wait for it" in capsys.readouterr().err


def test_no_nights_have_no_history(tmp_path, capsys):
    assert run(f"--models={tmp_path}", "--history") == 1
    assert "no night has ended there yet" in capsys.readouterr().err


# -------------------------------------------------------------------------------- real nights

SMALL = (
    *("--model=smoothed_history", "--taxonomies=category", "--window=3", "--min_target_clicks=5"),
    *("--min_test_rows=10", "--compare_periods=2"),
)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Counts of 120 items up to periods 17, 18 and 19, the last of which has six times the clicks.

    Every cell has clicks; rates differ by category.
    """
    directory = tmp_path_factory.mktemp("log")
    rng = np.random.default_rng(0)
    who, when = np.divmod(np.arange(120 * 20), 20)
    counts = pd.DataFrame({"item_id": who, "period": when})
    counts["clicks"] = (rng.poisson(40, len(counts)) + 1) * np.where(when == 19, 6, 1)
    counts["shares"] = rng.binomial(counts["clicks"], 0.05 + 0.05 * (who % 3))
    items = pd.DataFrame({"item_id": np.arange(120), "category": np.arange(120) % 3})
    items.to_csv(directory / "items.csv", index=False)
    for last in (17, 18, 19):
        part = counts[counts["period"] <= last]
        part.to_csv(directory / f"counts-{last}.csv", index=False)
    return directory


def arguments(log, models, last):
    tables = [f"--counts={log / f'counts-{last}.csv'}", f"--items={log / 'items.csv'}"]
    return [f"--models={models}", *tables, *SMALL]


@pytest.mark.usefixtures("undrawn")
def test_nights_train_compare_decide_score_and_stop_at_drift(log, tmp_path, capsys):
    models = tmp_path / "models"
    assert run(*arguments(log, models, 17), "--accept_field=categry") == 1
    told = capsys.readouterr().err
    assert (
        "--accept_field=categry: the challenger does not read such a field, only category" in told
    )
    assert not (models / "nights").exists()  # it is said before anything is trained
    assert run(*arguments(log, models, 17)) == 0
    assert "there is no champion yet" in capsys.readouterr().out
    versions = Versions(models)
    assert versions.champion() == 1
    assert versions.origin(1) == Origin(night="17", trained_until="15")

    # The same night again: the same answer, and nothing is trained.
    assert run(*arguments(log, models, 17)) == 0
    said = capsys.readouterr().out
    assert "has been decided already" in said
    assert "prior_mean" not in said
    assert len(History(models).events()) == 1

    # A challenger of equal quality is not promoted; the catalogue is scored by the champion.
    output = tmp_path / "scores.parquet"
    night = [*arguments(log, models, 18), "--exit_code_kept=4", f"--output={output}"]
    assert run(*night) == 4
    document = Night(models / "nights/18").document()
    assert document["comparison"]["periods"] == [17, 18]
    assert 0.9 < document["ratio"] < 1.1
    assert set(pd.read_parquet(output)["period"]) == {19}
    assert document["scores"]["champion"] == 1

    # Drift stops a night before training, as often as it is run.
    for _ in range(2):
        assert run(*arguments(log, models, 19)) == 3
    document = Night(models / "nights/19").document()
    assert document["drift"]["drifted"] is True
    assert not (models / "nights/19/run").exists()
    assert [event.outcome for event in History(models).events()] == ["promoted", "kept", "drift"]


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_refit_is_served_and_the_next_night_compares_without_it(log, tmp_path):
    models = tmp_path / "models"
    assert run(*arguments(log, models, 17), "--refit") == 0
    versions = Versions(models)
    origin = versions.origin(1)
    assert (origin.trained_until, origin.refitted_until) == ("15", "17")
    assert versions.compared_path(1) != versions.path(1)
    decisions = [
        exported.asset(path, "decision.json")
        for path in (versions.path(1), versions.compared_path(1))
    ]
    assert decisions[0] == decisions[1]
    assert run(*arguments(log, models, 18), "--psi=9") == 0
    assert Night(models / "nights/18").document()["outcome"] == "kept"
    # What drift stopped goes on when it is allowed.
    assert run(*arguments(log, models, 19)) == 3
    assert run(*arguments(log, models, 19), "--allow_drift") == 0
    assert Night(models / "nights/19-2").document()["outcome"] == "kept"
    # A smaller distance than that of the two fits: the compared model is served.
    other = tmp_path / "other"
    assert run(*arguments(log, other, 17), "--refit", "--refit_distance=1e-9") == 0
    assert Versions(other).origin(1).refitted_until is None
    (remark,) = Night(other / "nights/17").document()["remarks"]
    assert "the refit on all periods is not served" in remark


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_network_starts_from_the_champion_and_a_new_field_is_refused_by_name(
    log, tmp_path, capsys
):
    models = tmp_path / "models"
    network = ["--model=gru", "--set=units=4", "--epochs=2", "--warm_epochs=1", "--nojit"]
    flags = [*arguments(log, models, 17), *network]
    assert run(*flags) == 0
    items = pd.read_csv(log / "items.csv")
    items["label"] = items["item_id"] % 5
    items.to_csv(tmp_path / "items.csv", index=False)
    more = [f"--items={tmp_path / 'items.csv'}", "--categoricals=label"]
    later = [
        "--psi=9",
        *(flag for flag in arguments(log, models, 18) if not flag.startswith("--items")),
    ]
    assert run(*later, *network, f"--items={log / 'items.csv'}", "--promote=not_worse=0.5") == 0
    assert Versions(models).origin(2).warm
    capsys.readouterr()
    assert run(*later, *network, *more, "--promote=not_worse=0.5") == 0
    said = capsys.readouterr().out
    # All items were there before the column was.
    assert "field label: 100.0% of the items have another value" in said
    assert "the challenger does not start warm" in said
    assert Versions(models).champion() == 2
    accepted = ["--promote=not_worse=0.5", "--accept_field=label"]
    assert run(*later, *network, *more, *accepted) == 0
    assert "field label" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_filled_in_column_is_refused_by_name_and_promoted_once_it_is_accepted(tmp_path, capsys):
    # Rates are those of the label, which is filled in after the first night; the category says
    # nothing.
    who, when = np.divmod(np.arange(120 * 19), 19)
    draws = np.random.default_rng(0)
    counts = pd.DataFrame({"item_id": who, "period": when})
    counts["clicks"] = draws.poisson(40, len(counts)) + 1
    counts["shares"] = draws.binomial(counts["clicks"], 0.02 + 0.08 * (who % 5))
    counts.to_csv(tmp_path / "counts-18.csv", index=False)
    counts[counts["period"] < 18].to_csv(tmp_path / "counts-17.csv", index=False)
    number = np.arange(120)
    items = pd.DataFrame({"item_id": number, "category": number % 3, "label": number % 5})
    models = tmp_path / "models"

    def night(last, label, *more):
        items.assign(label=label).to_csv(tmp_path / "items.csv", index=False)
        flags = [*arguments(tmp_path, models, last), "--taxonomies=label", "--psi=99"]
        assert run(*flags, "--promote=better@cold_start", *more) == 0
        return capsys.readouterr().out

    full = items["label"].astype(str)
    night(17, np.where(number < 10, "soon", ""))
    said = night(18, full)
    assert "field label: 100.0% of the items have another value than when they were first" in said
    # Compared without the values that were filled in, the challenger is no better.
    assert "which does not exclude 1" in said
    assert Versions(models).champion() == 1
    # An accepted field has its current values; what leans on it is still refused if it is gone.
    said = night(18, full, "--accept_field=label")
    assert "field label" not in said
    assert "without column label, the challenger's MSE is" in said
    said = night(18, full, "--accept_field=label", "--outage_budget=9")
    assert Versions(models).champion() == 2
    document = Night(models / "nights/18-3").document()
    assert document["changed_fields"] == {"label": 1.0}
    assert document["comparison"]["scenarios"]["cold_start"]["unweighted"]["ratio"]["high"] < 0.5
