import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.config import TableFlags, TaskFlags
from mmnet.data.calendars import Calendar
from mmnet.data.dataset import Fitted
from mmnet.data.earlier import NotAlike, carried
from mmnet.models import REGISTRY
from mmnet.models.ensemble import ensemble
from mmnet.schema import CycleSpec, FeatureSpec, FieldSpec, TextSpec
from mmnet.training import resume, warm_start

OPTIONS = {"units": 4, "field_width": 3, "tcn_filters": (4,)}
BATCH = 8


def fitted(categories, tags, words, days=(0, 1)):
    """Two fields, one of them a list, a text and a calendar."""
    spec = FeatureSpec(
        window=3,
        horizon=1,
        fields=(
            FieldSpec(name="category", size=len(categories) + 2),
            FieldSpec(name="tags", size=len(tags) + 2, max_values=2),
        ),
        texts=(TextSpec(name="title", size=len(words) + 2, max_tokens=4),),
        cycles=(CycleSpec(name="weekday", seen=days),),
        rate_mean=20.0,
        rate_scale=5.0,
    )
    return Fitted(
        spec=spec,
        calendar=Calendar(kind="time", width=86_400),
        vocabularies={
            "field_category": list(categories),
            "field_tags": list(tags),
            "text_title": list(words),
        },
        tables=TableFlags(categoricals=("category", "tags"), texts=("title",)),
        task=TaskFlags(window=3),
    )


EARLIER = fitted("ab", "pqr", ["cat", "dog"])
NOW = carried(fitted("cab", "zyxq", ["emu", "cat", "fox", "hen"], days=(1, 5)), EARLIER)


def network(of, seed=0, **more):
    builder = REGISTRY["mmnet"]
    return builder(of.spec, seed=seed, **OPTIONS, **more)


def inputs(of, seed=0):
    """A batch with any id that a vocabulary has, and one more, which reads as unknown."""
    draw = np.random.default_rng(seed)
    found = {}
    for name, (shape, dtype) in of.spec.tensors().items():
        if dtype == "int32":
            sizes = {one.tensor: one.size for one in (*of.spec.fields, *of.spec.texts)}
            found[name] = draw.integers(0, sizes.get(name, 4) + 1, (BATCH, *shape)).astype(dtype)
        else:
            found[name] = draw.uniform(0, 1, (BATCH, *shape)).astype(dtype)
    return found


def arrays(model):
    return [resume.to_array(variable) for variable in model.variables]


@pytest.fixture(scope="module")
def before():
    """An earlier network with weights of its own in every place, batch statistics included."""
    model = network(EARLIER, seed=7, content_dropout=0.2)
    draw = np.random.default_rng(1)
    for variable in model.weights:
        if keras.backend.is_float_dtype(variable.dtype):
            variable.assign(variable + draw.uniform(0, 0.1, variable.shape))
    scores = np.array(model(inputs(EARLIER)))
    assert len({*scores.tolist()}) == BATCH
    assert 0 < scores.min() < scores.max() < 100
    return model


@pytest.fixture(scope="module")
def after(before):
    model = network(NOW, seed=0, content_dropout=0.2)
    warm_start.start(model, arrays(before), NOW, EARLIER)
    return model


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_growing_vocabularies_change_no_score_of_old_values(before, after, seed):
    given_ids = inputs(EARLIER, seed)
    # Row 4 of category was beyond the earlier table, and so unknown; now it is a value.
    np.testing.assert_array_equal(after(given_ids), before(given_ids))


@given(st.integers(0, 10**6))
@settings(max_examples=20)
def test_new_values_start_as_the_unknown_values_that_they_were(before, after, seed):
    given_ids = inputs(NOW, seed)
    # The earlier network reads an id beyond its tables as unknown, which is what they start as.
    np.testing.assert_array_equal(after(given_ids), before(given_ids))


def test_a_day_that_was_never_met_starts_as_an_unknown_one(before, after):
    given_ids = inputs(EARLIER)
    friday, unknown, monday = (
        {**given_ids, "target_weekday": np.full(BATCH, day, np.int32)} for day in (2 + 5, 1, 2)
    )
    np.testing.assert_array_equal(after(friday), before(unknown))
    np.testing.assert_array_equal(after(monday), before(monday))
    assert not np.array_equal(after(monday), after(friday))


def test_random_streams_and_counters_are_those_of_the_new_run(before, after):
    fresh = network(NOW, seed=0, content_dropout=0.2)
    pairs = zip(after.variables, fresh.variables, strict=True)
    kept = [(a, b) for a, b in pairs if not keras.backend.is_float_dtype(a.dtype)]
    assert kept
    for variable, wanted in kept:
        np.testing.assert_array_equal(resume.to_array(variable), resume.to_array(wanted))


def test_each_member_of_an_ensemble_starts_with_its_own_weights(before):
    earlier = [network(EARLIER, seed=3), network(EARLIER, seed=4)]
    exported = arrays(ensemble(earlier))
    given_ids = inputs(NOW)
    for member in (0, 1):
        model = network(NOW, seed=9)
        warm_start.start(model, exported, NOW, EARLIER, member=member, members=2)
        np.testing.assert_array_equal(model(given_ids), earlier[member](given_ids))


def test_weights_of_another_architecture_are_refused(before):
    with pytest.raises(NotAlike, match=r"has \d+ weights and this one \d+; another version"):
        warm_start.start(network(NOW), arrays(network(EARLIER))[:-1], NOW, EARLIER)
    wider = [np.pad(array, [(0, 1)] * array.ndim) for array in arrays(network(EARLIER))]
    with pytest.raises(NotAlike, match=r"is \[.*\] in the earlier model and \[.*\] in this one"):
        warm_start.start(network(NOW), wider, NOW, EARLIER)
