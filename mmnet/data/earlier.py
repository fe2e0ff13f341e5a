"""Fitted values that a dataset takes over from an earlier model, for a warm start.

The weights of a network belong to the ids and scales that it was trained with. So vocabularies only
grow: every value keeps its id, and new ones get the next ids. Scales stay as they are while the
data are near them (`MOST_SDS`, `MOST_TIMES`); beyond that the weights no longer fit the inputs, and
the model has to be trained from scratch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from mmnet.checks import InputError, shown
from mmnet.data import rates, spelling
from mmnet.data.dataset import Fitted
from mmnet.data.items import Vocabularies
from mmnet.schema import FIRST_ID, AgeSpec, CycleSpec, FeatureSpec, FieldSpec, TextSpec

MOST_SDS = 1.0
"""Maximum distance of the mean of a column, or of the rates, from that of the earlier model, in its
standard deviations. Within it, and within `MOST_TIMES`, most standardised values stay between -3
and 3, where a network has seen values before."""

MOST_TIMES = 2.0
"""Maximum factor by which a standard deviation may grow or shrink."""

FIX = "remove --warm_start to train from scratch"

TASK = (
    *("window", "horizon", "min_clicks", "taxonomy_mean", "taxonomy_weighting"),
    *("inputs", "text_tokens", "hash_vocabularies"),
)
TABLES = (
    *("numerator", "denominator", "rate_may_exceed_one", "also_predict"),
    *("taxonomies", "categoricals"),
    *("numerics", "texts", "text_encoder", "images", "image_encoder"),
)
"""Flags that decide what the inputs and the target of a network mean."""

Feature = TypeVar("Feature", FieldSpec, TextSpec)


class NotAlike(InputError):
    """A warm start is refused: the earlier model has other inputs, options or scales."""


def carried(fresh: Fitted, earlier: Fitted) -> Fitted:
    """Replaces values fitted on a training span by those of an earlier model, as far as these hold.

    - Vocabularies: the earlier values with their ids, then the new ones in the order of `fresh`;
      those of texts have at most `text_vocabulary` words, or as many as before.
    - Means and standard deviations of numbers and rates: the earlier ones.
    - Lists have room for the longest of either. Calendar cycles: the earlier ones, with the values
      that either has seen. Ages count from where the log begins now.

    Args:
        fresh: fitted on the training span of now.
        earlier: values that the earlier model was trained with.

    Raises:
        NotAlike: inputs differ in more than their values, or a scale has moved too far.
    """
    for difference in differences(fresh, earlier):
        raise NotAlike(f"--warm_start: {difference}; {FIX}")
    for change in moved(fresh.spec, earlier.spec):
        raise NotAlike(f"--warm_start: {change}; {FIX}")
    before, most = earlier.spec, fresh.task.text_vocabulary
    vocabularies: Vocabularies = {}

    def grown(new: Feature, old: Feature, most: int | None = None) -> Feature:
        words = _grown(fresh.vocabularies[new.tensor], earlier.vocabularies[old.tensor], most)
        vocabularies[new.tensor] = words
        return new.model_copy(update={"size": len(words) + FIRST_ID})

    fields = [
        grown(new, old).model_copy(update={"max_values": max(new.max_values, old.max_values)})
        for new, old in zip(fresh.spec.fields, before.fields, strict=True)
    ]
    texts = [grown(new, old, most) for new, old in zip(fresh.spec.texts, before.texts, strict=True)]
    spec = FeatureSpec(
        **{
            **dict(fresh.spec),
            "fields": tuple(fields),
            "texts": tuple(texts),
            "numerics": before.numerics,
            "age": _age(fresh.spec.age, before.age),
            "cycles": tuple(_cycles(fresh.spec.cycles, before.cycles)),
            "rate_scale": before.rate_scale,
            "rate_mean": before.rate_mean,
            "rates": before.rates,
        }
    )
    return fresh.model_copy(update={"spec": spec, "vocabularies": vocabularies})


def check_carried(now: Fitted, earlier: Fitted) -> None:
    """Makes sure that a dataset was prepared for a warm start from an earlier model.

    Raises:
        NotAlike: it was not, or for that of another model.
    """
    for difference in differences(now, earlier):
        raise NotAlike(f"--warm_start: {difference}; {FIX}")
    wrong = [
        f"the vocabulary of {tensor} does not begin with that of the earlier model"
        for tensor, words in earlier.vocabularies.items()
        if now.vocabularies[tensor][: len(words)] != words
    ]
    for name in ("numerics", "rate_scale", "rate_mean", "rates"):
        if getattr(now.spec, name) != getattr(earlier.spec, name):
            wrong.append(f"its {name} differ from those of the earlier model")
    if [one.name for one in now.spec.cycles] != [one.name for one in earlier.spec.cycles]:
        wrong.append("its calendar cycles differ from those of the earlier model")
    for one in wrong:
        raise NotAlike(
            f"--warm_start: the dataset was not prepared for it: {one}; prepare it again with the "
            "same --warm_start"
        )


def differences(now: Fitted, earlier: Fitted) -> Iterator[str]:
    """Yields what differs between the inputs of two models, other than fitted values."""
    for part, names in (("task", TASK), ("tables", TABLES)):
        for name in names:
            one, other = (getattr(getattr(both, part), name) for both in (now, earlier))
            if one != other:
                yield f"--{name}={_text(one)} differs from {_text(other)} of the earlier model"
    ours, theirs = (rates.definitions(both.tables) for both in (now, earlier))
    for name in ours if ours.keys() == theirs.keys() else ():
        if ours[name] != theirs[name]:
            yield (
                f"--rate={name}={shown(ours[name])} differs from {shown(theirs[name])} of the "
                "earlier model"
            )
    if now.calendar != earlier.calendar:
        yield (
            f"the periods are {now.calendar.describe()}, and {earlier.calendar.describe()} in the "
            "earlier model"
        )
    if now.encoders != earlier.encoders:
        yield "an encoder of texts or images differs from that of the earlier model"
    vectors = [
        {one.name: f"{one.dim} numbers ({one.of})" for one in both.spec.vectors}
        for both in (now, earlier)
    ]
    for name in sorted({*vectors[0], *vectors[1]}):
        one, other = (of.get(name, "absent") for of in vectors)
        if one != other:
            yield f"the vectors {shown(name)} are {one}, and {other} in the earlier model"
    ages = [both.spec.age and both.spec.age.since for both in (now, earlier)]
    if ages[0] != ages[1]:
        one, other = (age or "not an input" for age in ages)
        yield f"the age (since {one}) differs from that of the earlier model ({other})"


def moved(now: FeatureSpec, earlier: FeatureSpec) -> Iterator[str]:
    """Yields scales that have moved too far from those of an earlier model."""
    scales = [
        (f"of column {shown(new.name)}", new.mean, new.sd, old.mean, old.sd)
        for new, old in zip(now.numerics, earlier.numerics, strict=True)
    ]
    scales.append(
        ("of the rates", now.rate_mean, now.rate_scale, earlier.rate_mean, earlier.rate_scale)
    )
    scales += [
        (f"of {new.name}", new.rate_mean, new.rate_scale, old.rate_mean, old.rate_scale)
        for new, old in zip(now.rates, earlier.rates, strict=True)
    ]
    for what, mean, sd, old_mean, old_sd in scales:
        if not abs(mean - old_mean) <= MOST_SDS * old_sd:
            yield (
                f"the mean {what} moved from {old_mean:.4g} to {mean:.4g}, by more than "
                f"{MOST_SDS:g} standard deviation ({old_sd:.4g})"
            )
        if not old_sd / MOST_TIMES <= sd <= old_sd * MOST_TIMES:
            yield (
                f"the standard deviation {what} moved from {old_sd:.4g} to {sd:.4g}, by more than "
                f"a factor of {MOST_TIMES:g}"
            )


def digest(earlier: Fitted) -> str:
    """Returns a hash of everything that `carried` reads of an earlier model."""
    text = json.dumps(earlier.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _grown(fresh: Sequence[str], earlier: Sequence[str], most: int | None = None) -> list[str]:
    """The earlier values, then those that are new; `most` never removes an earlier one."""
    # Vocabularies of earlier versions may have a value in another spelling.
    known = {*earlier, *spelling.texts(pa.array(earlier, pa.string())).to_pylist()}
    found = [*earlier, *(value for value in fresh if value not in known)]
    return found if most is None else found[: max(most, len(earlier))]


def _age(fresh: AgeSpec | None, earlier: AgeSpec | None) -> AgeSpec | None:
    if fresh is None or earlier is None:
        return fresh
    return fresh.model_copy(update={"hidden": earlier.hidden})


def _cycles(fresh: Sequence[CycleSpec], earlier: Sequence[CycleSpec]) -> Iterator[CycleSpec]:
    seen = {cycle.name: cycle.seen for cycle in fresh}
    for cycle in earlier:
        both = np.union1d(cycle.seen, seen.get(cycle.name, ())).astype(int)
        yield cycle.model_copy(update={"seen": tuple(both.tolist())})


def _text(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value)) or "none"
    return shown(value)
