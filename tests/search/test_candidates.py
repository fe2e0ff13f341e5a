import pytest

from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.flags import parse
from mmnet.models import resolve_options
from mmnet.search import candidates as module
from mmnet.search.candidates import CANDIDATES, Candidate, entries
from mmnet.tasks.building import model_options
from mmnet.training.losses import LINKS


def flags(*arguments):
    return parse(TrainConfig, ["--recipe=auto", *arguments])


def found(*arguments, within_one=True):
    kept, out = entries(flags(*arguments), within_one=within_one, candidates=CANDIDATES)
    return {one.name: one.flags for one in kept}, out


def test_names_and_flags_of_candidates_differ():
    names = [one.name for one in CANDIDATES]
    assert len(set(names)) == len(names)
    settings = {(one.arguments, one.within_one) for one in CANDIDATES}
    assert len(settings) == len(CANDIDATES)


@pytest.mark.parametrize("within_one", [True, False])
def test_every_candidate_can_be_built_and_has_the_loss_of_its_link(within_one):
    kept, out = found(within_one=within_one)
    assert {*kept, *out} == {one.name for one in CANDIDATES}
    for name, own in kept.items():
        model_options(own)
        link = resolve_options(own.model, own.set).get("link", "identity")
        assert LINKS.get(own.loss, "identity") == link, name
        assert own.schedule == "constant"  # else it could not go on
        assert own.validation_halves
        assert not own.recipe
    assert ("direct_binomial" in kept) == within_one
    assert ("direct_poisson" in kept) != within_one


def test_the_first_candidate_is_the_paper():
    kept, _ = found()
    assert next(iter(kept)) == "paper"
    assert kept["paper"] == TrainConfig(validation_halves=True)


def test_flags_that_were_given_are_in_every_candidate():
    kept, _ = found("--epochs=3", "--counts=c.csv", "--set=units=8", "--inputs=age")
    assert {(one.epochs, one.counts) for one in kept.values()} == {(3, "c.csv")}
    assert {one.inputs for one in kept.values()} == {(), ("age",)}
    more, _ = found("--inputs=age,lifetime")  # which no candidate names
    assert {one.inputs for one in more.values()} == {(), ("age", "lifetime")}
    networks = [one for one in kept.values() if one.model == "mmnet"]
    assert all("units=8" in one.set for one in networks)
    assert "lightgbm" in kept  # which has no units


def test_candidates_that_contradict_a_flag_or_repeat_another_are_left_out():
    kept, out = found("--half_weight_clicks=50")
    assert out["smoothed_even"] == "--half_weight_clicks was given with another value"
    assert "smoothed" in kept
    _, out = found("--weight_average=0.999")
    assert out["mixed_averaged"] == "with the flags given it is the same as mixed"
    _, out = found("--set=smoothed_history=true")
    assert "must be false with head=mixed" in out["mixed"]
    _, out = found("--set=evidence=false")
    assert out["direct"] == "--set=evidence was given with another value"
    kept, _ = found("--model=gru")
    assert {one.model for one in kept.values()} == {"gru"}


def test_trees_need_their_package(monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    kept, out = found()
    assert "lightgbm" not in kept
    assert out["lightgbm"].startswith("lightgbm is not installed")


def test_flags_that_leave_no_network_are_refused():
    with pytest.raises(InputError, match=r"^--recipe=auto: no network is left to try"):
        found("--model=lightgbm")
    own = [Candidate("own", "own", ("--loss=binomial",), 0)]
    with pytest.raises(InputError, match="own: --loss was given with another value"):
        entries(flags("--loss=mse"), within_one=True, candidates=own)
