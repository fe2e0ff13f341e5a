"""Successive halving: many candidates for few epochs, the best of them for more.

Karnin, Koren and Somekh (2013); Jamieson and Talwalkar (2016), with epochs as the resource. What is
decided follows from the outcomes alone, their seconds included: a search whose outcomes are read
back from a journal decides as it did before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmnet.recipes.durations import shown
from mmnet.search.candidates import Entry

KEPT = 3
"""Of so many candidates one goes on to the next rung, which has so many times the epochs."""
FINALISTS = 2
"""Fewest candidates of the last rung."""
TIMES = 8
"""The default budget, in trainings of the paper's network."""
SHARE = 4
"""A budget that is given should be enough for so many trainings."""


@dataclass(frozen=True)
class Outcome:
    """What is known of a candidate.

    Attributes:
        value: monitored value of its best epoch, on the half of validation that chooses; infinite
            if training failed.
        epochs: trained so far; 0 of what is not trained by epochs.
        best_epoch: counted from 1; 0 likewise.
        seconds: spent on it so far.
        epoch_seconds: of one epoch with its validation, without compilation where known.
        finished: nothing is left to train.
        failed: why training failed; else empty.
        scores: validation MSE by scenario.
    """

    value: float
    epochs: int
    best_epoch: int
    seconds: float
    epoch_seconds: float
    finished: bool
    failed: str = ""
    scores: dict[str, float] = field(default_factory=dict)


Advance = Callable[[Entry, int], Outcome]
"""Trains a candidate until it has so many epochs, and says what is known of it then."""


@dataclass
class Search:
    """A search, as far as it has come.

    Attributes:
        outcomes: by the candidates' names, in the order in which they were first trained.
        stopped: why the training of a candidate ended.
        budget: seconds.
        rungs: epochs of each rung.
        remarks: what is to be said.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    budget: float = math.inf
    rungs: tuple[int, ...] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def spent(self) -> float:
        """Seconds of all trainings so far."""
        return sum(outcome.seconds for outcome in self.outcomes.values())


def rungs_of(epochs: int) -> tuple[int, ...]:
    """Epochs of the rungs up to the last one.

    >>> rungs_of(30), rungs_of(8), rungs_of(2), rungs_of(1)
    ((4, 10, 30), (1, 3, 8), (1, 2), (1,))
    """
    found = {math.ceil(epochs / KEPT**number) for number in range(3)}
    return tuple(sorted(found))


def search(
    entries: Sequence[Entry],
    advance: Advance,
    *,
    epochs: int,
    budget: float | None,
    say: Callable[[str], None],
) -> Search:
    """Trains candidates within a budget.

    The first network measures the time. Those that are always trained are trained to the end. Of
    the others each rung trains as many as there is time for, and the best third goes on. What time
    is left then goes to those that went out.

    Args:
        entries: the candidates, in the order in which they are tried; one is a network.
        advance: trains one.
        epochs: most of a training.
        budget: seconds; None: `TIMES` those of the first network's training.
        say: prints a line.
    """
    return _Run(entries, advance, say).run(epochs, budget)


class _Run:
    """The state of one search."""

    def __init__(self, entries: Sequence[Entry], advance: Advance, say: Callable[[str], None]):
        self.entries, self._advance, self._say = list(entries), advance, say
        self.first = next(one for one in self.entries if one.network)
        self.found = Search()

    def run(self, epochs: int, budget: float | None) -> Search:
        found = self.found
        top = self._measure(epochs, budget)
        found.rungs = rungs_of(top)
        self._say(
            f"budget {shown(found.budget)}, of which {shown(found.spent)} are spent; rungs of "
            f"{', '.join(map(str, found.rungs))} epochs"
        )
        others = [one for one in self.entries if one.name not in found.outcomes]
        # What has no epochs is fitted in one go, the always ones first: they measure trees.
        whole = [one for one in others if not one.network]
        for one in sorted(whole, key=lambda one: not one.candidate.always):
            self._try(one, 0)
        field = [one for one in others if one.network]
        for number, rung in enumerate(found.rungs):
            reached = [one for one in field if self._try(one, rung)]
            last = number == len(found.rungs) - 1
            field = reached if last else self._kept(reached, rung)
        self._second_chances(top)
        for one in self.entries:
            if one.name not in found.stopped and one.name in found.outcomes:
                found.stopped[one.name] = self._why_ended(found.outcomes[one.name])
        self._remark_on_time()
        return found

    # ------------------------------------------------------------------------ time

    def _measure(self, epochs: int, budget: float | None) -> int:
        """Trains the first network, sets the budget, and returns the epochs of the last rung.

        A network that cannot be trained measures nothing: then the next one does.
        """
        top = epochs
        for one in [one for one in self.entries if one.network]:
            self.first = one
            top = self._measure_by_first(epochs, budget)
            if not self.found.outcomes[one.name].failed:
                break
        return top

    def _measure_by_first(self, epochs: int, budget: float | None) -> int:
        if budget is None:
            self.found.budget = TIMES * self._train(self.first, epochs).seconds
            return epochs
        self.found.budget = budget
        top, done = epochs, 0
        for epoch in (1, 3, epochs):  # what an epoch takes is known better after more of them
            wanted = min(epoch, top)
            if wanted <= done:
                break
            outcome = self._train(self.first, wanted)
            done = wanted
            if outcome.finished:
                break
            start = outcome.seconds - outcome.epochs * outcome.epoch_seconds
            fits = (budget / SHARE - max(0.0, start)) / max(outcome.epoch_seconds, 1e-9)
            top = min(epochs, max(done, math.floor(fits)))
        return top

    def _left(self, entry: Entry, epochs: int) -> float:
        """Seconds that training to so many epochs would still take, as far as one can tell."""
        own = self.found.outcomes.get(entry.name)
        if not entry.network:
            known = [
                outcome.seconds
                for one in self.entries
                if not one.network and one.flags.model == entry.flags.model
                if (outcome := self.found.outcomes.get(one.name))
            ]
            return 0.0 if own else max(known, default=0.0)
        if own:
            return 0.0 if own.finished else max(0, epochs - own.epochs) * own.epoch_seconds
        clock = self.found.outcomes[self.first.name]
        start = max(0.0, clock.seconds - clock.epochs * clock.epoch_seconds)
        return start + epochs * clock.epoch_seconds * entry.candidate.cost

    def _reserved(self, but: Entry) -> float:
        """Seconds that those which are always trained still need."""
        top = self.found.rungs[-1]
        return sum(
            self._left(one, top) for one in self.entries if one.candidate.always and one is not but
        )

    def _remark_on_time(self) -> None:
        found = self.found
        if found.spent > found.budget:
            names = [one.name for one in self.entries if one.candidate.always]
            names = [name for name in names if name in found.outcomes]
            found.remarks.append(
                f"the search took {shown(found.spent)}, more than the budget of "
                f"{shown(found.budget)}: {', '.join(names)} are always trained, and times are "
                "known only after the first epochs"
            )
        untried = [one.name for one in self.entries if one.name not in found.outcomes]
        if untried:
            found.remarks.append(f"no time was left for {', '.join(untried)}")

    # -------------------------------------------------------------------- training

    def _try(self, entry: Entry, epochs: int) -> bool:
        """Trains a candidate if there is time, or it is always trained; says whether it was."""
        own = self.found.outcomes.get(entry.name)
        if own and (own.finished or own.epochs >= epochs > 0):
            return not own.failed
        needed = self._left(entry, epochs) + self._reserved(entry)
        if not entry.candidate.always and self.found.spent + needed > self.found.budget:
            self.found.stopped[entry.name] = "no time left"
            return False
        return not self._train(entry, epochs).failed

    def _train(self, entry: Entry, epochs: int) -> Outcome:
        outcome = self._advance(entry, epochs)
        self.found.outcomes[entry.name] = outcome
        return outcome

    def _kept(self, entries: Sequence[Entry], rung: int) -> list[Entry]:
        """The best third of those that reached a rung, and those that are always trained."""
        outcomes = self.found.outcomes
        ranked = sorted(entries, key=lambda one: outcomes[one.name].value)
        kept = ranked[: max(FINALISTS, math.ceil(len(ranked) / KEPT))]
        for place, one in enumerate(ranked, 1):
            if one in kept or one.candidate.always:
                continue
            self.found.stopped[one.name] = f"place {place} of {len(ranked)} after {rung} epochs"
        return [one for one in ranked if one in kept or one.candidate.always]

    def _second_chances(self, epochs: int) -> None:
        """Spends the time that is left on those that went out, the best first.

        An early rung may be wrong about a candidate that learns slowly.
        """
        outcomes = self.found.outcomes
        out = [one for one in self.entries if one.network and one.name in outcomes]
        for one in sorted(out, key=lambda one: outcomes[one.name].value):
            if one.name in self.found.stopped and not outcomes[one.name].finished:
                why = self.found.stopped.pop(one.name)
                if not self._try(one, epochs):
                    self.found.stopped[one.name] = why

    @staticmethod
    def _why_ended(outcome: Outcome) -> str:
        if outcome.failed:
            return f"failed: {outcome.failed}"
        if not outcome.epochs:
            return "fitted"
        if outcome.finished and outcome.best_epoch < outcome.epochs:
            return f"no better epoch after {outcome.best_epoch}"
        return "all epochs"
