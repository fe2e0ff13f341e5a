import dataclasses
import math

import pytest

from mmnet.config import TrainConfig
from mmnet.search.candidates import Candidate, Entry
from mmnet.search.halving import Outcome, search


def entry(name, *, always=False, model="mmnet", cost=1.0):
    candidate = Candidate(name, name, (), 0, always=always, cost=cost)
    return Entry(candidate, TrainConfig(model=model))


class Fake:
    """Trainings of known cost and quality: `start` seconds and `epoch` seconds for each epoch."""

    def __init__(self, best, *, start=5.0, epoch=1.0, cost=None, stops=None, fails=()):
        self.best, self.start, self.epoch = best, start, epoch
        self.cost, self.stops, self.fails = cost or {}, stops or {}, fails
        self.trained, self.outcomes = [], {}

    def __call__(self, entry, epochs):
        name, cost = entry.name, self.cost.get(entry.name, 1.0)
        self.trained.append((name, epochs))
        if name in self.fails:
            outcome = Outcome(math.inf, 0, 0, 1.0, 0.0, True, failed="the loss is nan")
        elif not entry.network:
            outcome = Outcome(self.best[name], 0, 0, cost * self.start, 0.0, True)
        else:
            done = min(epochs, self.stops.get(name, math.inf))
            each = self.epoch * cost
            outcome = Outcome(
                value=self.best[name] + 1 / done,
                epochs=done,
                best_epoch=done,
                seconds=self.start + done * each,
                epoch_seconds=each,
                finished=done < epochs or epochs >= 30,
            )
        self.outcomes[name] = outcome
        return outcome

    @property
    def epochs(self):
        return {name: one.epochs for name, one in self.outcomes.items()}


NAMES = [f"n{number}" for number in range(9)]
BEST = {"paper": 5.0, "mixed": 4.5, "trees": 4.5} | {
    name: 1.0 + number for number, name in enumerate(NAMES)
}
ALWAYS = [
    entry("paper", always=True),
    entry("trees", always=True, model="lightgbm"),
    entry("mixed", always=True),
]
ALL = [*ALWAYS, *map(entry, NAMES)]


def run(fake, entries=ALL, *, epochs=30, budget=None):
    lines = []
    return search(entries, fake, epochs=epochs, budget=budget, say=lines.append), lines


def test_the_best_third_goes_on():
    fake = Fake(BEST)
    # 35 s of the paper, 5 of the trees and 35 of the mixed network; nine others for 9 s each, of
    # which four go on for 6 s, and two of these for 20 s. No time is left for those that went out.
    found, _ = run(fake, budget=225.0)
    assert found.spent == 35 + 5 + 35 + 9 * 9 + 4 * 6 + 2 * 20
    assert found.rungs == (4, 10, 30)
    assert fake.epochs["n0"] == fake.epochs["n1"] == 30
    assert fake.epochs["n2"] == fake.epochs["n3"] == 10
    assert {fake.epochs[name] for name in NAMES[4:]} == {4}
    assert found.stopped["n8"] == "place 10 of 10 after 4 epochs"
    assert found.stopped["n0"] == "all epochs"


def test_by_default_the_budget_is_eight_trainings_of_the_first_network():
    fake = Fake(BEST)
    found, lines = run(fake)
    assert fake.trained[0] == ("paper", 30)
    assert found.budget == 8 * 35
    assert any("rungs of 4, 10, 30 epochs" in line for line in lines)


def test_those_that_are_always_trained_are_trained_to_the_end():
    # The mixed network comes last in every rung.
    fake = Fake(BEST | {"mixed": 99.0})
    found, _ = run(fake, budget=280.0)
    assert fake.epochs["mixed"] == 30
    assert {"paper", "trees", "mixed"} <= set(found.outcomes)


@pytest.mark.parametrize("budget", [150.0, 200.0, 400.0, 1000.0])
def test_a_budget_that_is_enough_for_those_is_kept(budget):
    found, _ = run(Fake(BEST, cost={"n3": 2.0, "mixed": 1.5}), budget=budget)
    # An optional training is begun where its estimate fits; the first one is off by its cost.
    assert found.spent <= budget + 10


def test_compiling_counts_once_per_network_and_not_per_epoch():
    fake = Fake(BEST)
    # Two networks are always trained, for 5 s before their first epoch. Of the other 20 s, a
    # quarter is five epochs of each.
    found, _ = run(fake, ALWAYS, budget=30.0)
    assert fake.epochs == {"paper": 5, "trees": 0, "mixed": 5}
    assert found.spent == 10 + 5 + 10


def test_a_budget_that_is_too_small_is_said():
    fake = Fake(BEST)
    found, _ = run(fake, budget=3.0)
    assert set(fake.outcomes) == {"paper", "trees", "mixed"}
    assert set(fake.epochs.values()) == {0, 1}
    assert found.spent > 3
    assert any("more than the budget of 3 s" in remark for remark in found.remarks)
    assert any("no time was left for n0, n1" in remark for remark in found.remarks)


def test_what_need_not_be_fitted_waits_for_its_turn():
    more = entry("more_trees", model="lightgbm")
    fake = Fake(BEST | {"more_trees": 1.0})
    run(fake, [*ALL[:5], more, *ALL[5:]])
    names = list(dict.fromkeys(name for name, _ in fake.trained))
    assert names == ["paper", "trees", "mixed", "n0", "n1", "more_trees", *NAMES[2:]]


def test_trees_of_another_kind_are_taken_to_need_as_long():
    others = [entry("cat", model="catboost")]
    fake = Fake(BEST | {"cat": 1.0}, cost={"trees": 20.0})
    found, _ = run(fake, [*ALWAYS, *others], budget=200.0)
    assert found.spent == 35 + 100 + 35  # 30 s are left, and the other trees took 100
    assert found.stopped["cat"] == "no time left"


def test_an_epoch_that_compiles_says_little_of_the_next_one():
    fake = Fake(BEST)

    def advance(entry, epochs):
        outcome = fake(entry, epochs)
        slow = 60.0 if outcome.epochs == 1 else outcome.epoch_seconds
        return dataclasses.replace(outcome, epoch_seconds=slow)

    # After one epoch the mixed network seems to need 60 s for each of two more.
    found, _ = run(advance, epochs=3, budget=100.0)
    assert {"n0", "n1", "n2"} <= set(found.outcomes)


def test_time_that_is_left_goes_to_those_that_went_out():
    slow = BEST | {"n8": 1.2}
    fake = Fake(slow)
    assert run(fake, budget=10_000.0)[0].rungs == (4, 10, 30)
    assert set(fake.epochs.values()) == {0, 30}


def test_every_decision_follows_from_the_outcomes():
    """A search that is replayed from what it had recorded asks for the same trainings."""
    first = Fake(BEST, cost={"n3": 2.0})
    found, _ = run(first, budget=300.0)
    recorded, fake = {}, Fake(BEST, cost={"n3": 2.0})
    asked = []

    def journaled(entry, epochs):
        asked.append((entry.name, epochs))
        return recorded.setdefault((entry.name, epochs), fake(entry, epochs))

    killed_after = 5

    def killed(entry, epochs):
        if len(asked) == killed_after:
            raise KeyboardInterrupt
        return journaled(entry, epochs)

    with pytest.raises(KeyboardInterrupt):
        run(killed, budget=300.0)
    asked.clear()
    again, _ = run(journaled, budget=300.0)
    assert asked == first.trained
    assert dataclasses.asdict(again) == dataclasses.asdict(found)


def test_a_training_that_failed_is_left_out():
    fake = Fake(BEST, fails={"n0", "trees"})
    found, _ = run(fake, budget=280.0)
    assert found.stopped["n0"] == "failed: the loss is nan"
    assert ("n0", 10) not in fake.trained
    assert fake.epochs["n1"] == 30


def test_where_the_first_network_fails_the_next_one_measures():
    fake = Fake(BEST, fails={"paper"})
    found, _ = run(fake)
    assert found.budget == 8 * 35
    assert fake.trained[:2] == [("paper", 30), ("mixed", 30)]
    assert fake.epochs["n0"] == 30
    nothing = Fake(BEST, fails=set(BEST))
    assert all(one.failed for one in run(nothing)[0].outcomes.values())


def test_one_that_stopped_early_is_not_asked_again():
    fake = Fake(BEST, stops={"n0": 3, "paper": 12})
    found, _ = run(fake, budget=280.0)
    assert [one for one in fake.trained if one[0] == "n0"] == [("n0", 4)]
    assert found.outcomes["n0"].epochs == 3
    assert found.stopped["n0"] == "patience: none better after epoch 3"
    assert math.isfinite(found.spent)


def test_one_network_alone_is_a_search():
    fake = Fake({"paper": 1.0})
    found, _ = run(fake, ALWAYS[:1], epochs=1)
    assert fake.trained == [("paper", 1)]
    assert found.rungs == (1,)
    assert found.stopped == {"paper": "all epochs"}
