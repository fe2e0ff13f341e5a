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
"""One in so many candidates advances to the next rung, which has so many times the epochs."""
FINALISTS = 2
"""Fewest candidates of the last rung."""
TIMES = 8
"""The default budget, in trainings of the paper's network."""
SHARE = 4
"""Number of trainings that a given budget should allow."""


@dataclass(frozen=True)
class Outcome:
    """Training results of a candidate so far.

    Attributes:
        value: monitored value of its best epoch, on the half of validation that chooses; infinite
            if training failed.
        epochs: number of epochs trained so far; 0 for models without epochs.
        best_epoch: counted from 1; 0 likewise.
        seconds: spent on it so far.
        epoch_seconds: seconds of one epoch with its validation, without compilation where known.
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
"""Function that trains a candidate up to a number of epochs, and returns its `Outcome`."""


@dataclass
class Search:
    """The state of a search.

    Attributes:
        outcomes: outcomes by candidate, in the order in which they were first trained.
        stopped: why the training of a candidate ended.
        budget: seconds.
        rungs: epochs of each rung.
        remarks: lines for the report.
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
    """Train candidates within a budget.

    The first network measures the time. Those that are always trained are trained to the end. Of
    the others, each rung trains as many as there is time for, and the best third advances. The
    remaining time goes to those that were eliminated.

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
        field = [one for one in self.entries if one.name not in found.outcomes]
        # Models without epochs come first: the ones that are always fitted show how long the
        # others will take.
        for one in field:
            if one.candidate.always and not one.network:
                self._try(one, 0)
        for number, rung in enumerate(found.rungs):
            reached = [one for one in field if self._try(one, rung)]
            last = number == len(found.rungs) - 1
            networks = [one for one in reached if one.network]
            field = networks if last else self._kept(networks, rung)
        self._second_chances(top)
        for one in self.entries:
            outcome = found.outcomes.get(one.name)
            if outcome and (one.name not in found.stopped or outcome.finished):
                found.stopped[one.name] = self._why_ended(outcome)
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
        always = sum(one.candidate.always and one.network for one in self.entries)
        for epoch in (1, 3, epochs):  # the time of an epoch is known better after more of them
            wanted = min(epoch, top)
            if wanted <= done:
                break
            outcome = self._train(self.first, wanted)
            done = wanted
            if outcome.finished:
                break
            start = outcome.seconds - outcome.epochs * outcome.epoch_seconds
            # Building and compiling come once per network, whatever the epochs; on a small log that
            # is most of a training, and a share of the budget alone would leave no epochs.
            left = budget - always * max(0.0, start)
            fits = left / SHARE / max(outcome.epoch_seconds, 1e-9)
            top = min(epochs, max(done, math.floor(fits)))
        return top

    def _left(self, entry: Entry, epochs: int) -> float:
        """Estimate the seconds that training up to a number of epochs would still take."""
        own = self.found.outcomes.get(entry.name)
        if not entry.network:
            fitted = [
                (one.flags.model == entry.flags.model, outcome.seconds)
                for one in self.entries
                if not one.network and (outcome := self.found.outcomes.get(one.name))
            ]
            # The times of another model are a poor estimate, but better than none.
            same = [seconds for alike, seconds in fitted if alike]
            return 0.0 if own else max(same or [seconds for _, seconds in fitted], default=0.0)
        clock = self.found.outcomes[self.first.name]
        if own:
            each = own.epoch_seconds
            if own.epochs == 1 < clock.epochs:  # its only epoch includes compilation
                each = min(each, 2 * entry.candidate.cost * clock.epoch_seconds)
            return 0.0 if own.finished else max(0, epochs - own.epochs) * each
        known = (self.found.outcomes.get(one.name) for one in self.entries if one.network)
        # Building and compiling, of the network for which it took longest.
        start = max(one.seconds - one.epochs * one.epoch_seconds for one in known if one)
        return max(0.0, start) + epochs * clock.epoch_seconds * entry.candidate.cost

    def _reserved(self, but: Entry) -> float:
        """Seconds still needed by the candidates that are always trained."""
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
        """Train a candidate if there is time or it is always trained; return whether it was."""
        own = self.found.outcomes.get(entry.name)
        if own and (own.finished or own.epochs >= epochs > 0):
            return not own.failed
        needed = self._left(entry, epochs) + self._reserved(entry)
        if not entry.candidate.always and self.found.spent + needed > self.found.budget:
            self.found.stopped[entry.name] = "no time left"
            return False
        return not self._train(entry, epochs).failed

    def _train(self, entry: Entry, epochs: int) -> Outcome:
        outcome = self._advance(entry, epochs if entry.network else 0)
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
        """Spend the remaining time on candidates that were not begun, and on eliminated ones.

        Time had been reserved for those that are always trained; and an early rung may misjudge a
        candidate that learns slowly.
        """
        outcomes, stopped = self.found.outcomes, self.found.stopped
        for one in self.entries:
            if one.name not in outcomes and self._try(one, self.found.rungs[0]):
                stopped[one.name] = "no time left after that"
        out = [one for one in self.entries if one.network and one.name in outcomes]
        for one in sorted(out, key=lambda one: outcomes[one.name].value):
            if one.name in stopped and not outcomes[one.name].finished:
                why = stopped.pop(one.name)
                if not self._try(one, epochs):
                    stopped[one.name] = why

    def _why_ended(self, outcome: Outcome) -> str:
        if outcome.failed:
            return f"failed: {outcome.failed}"
        if not outcome.epochs:
            return "fitted"
        if outcome.epochs < self.found.rungs[-1]:
            return f"patience: none better after epoch {outcome.best_epoch}"
        return "all epochs"
