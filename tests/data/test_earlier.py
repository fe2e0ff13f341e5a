import pytest

from mmnet.config import TableFlags, TaskFlags
from mmnet.data.calendars import Calendar
from mmnet.data.dataset import Fitted
from mmnet.data.earlier import NotAlike, carried, check_carried, digest
from mmnet.schema import (
    AgeSpec,
    CycleSpec,
    FeatureSpec,
    FieldSpec,
    NumericSpec,
    RateSpec,
    TextSpec,
    VectorSpec,
)


def fitted(
    categories=("a", "b"),
    words=("cat", "dog"),
    mean=10.0,
    sd=2.0,
    rates=(20.0, 5.0),
    days=(0, 1),
    longest=1,
    log_start=3,
    hidden=True,
    dim=4,
    width=86_400,
    like=None,
    rate="likes/views",
    **task,
):
    """Values fitted on a log with one column of each kind."""
    spec = FeatureSpec(
        window=task.get("window", 6),
        horizon=1,
        fields=(FieldSpec(name="category", size=len(categories) + 2, max_values=longest),),
        numerics=(NumericSpec(name="duration", mean=mean, sd=sd),),
        texts=(TextSpec(name="title", size=len(words) + 2, max_tokens=32),),
        vectors=(VectorSpec(name="cover", dim=dim),),
        age=AgeSpec(since="first_click", hidden=hidden, log_start=log_start),
        cycles=(CycleSpec(name="weekday", seen=days),),
        rate_mean=rates[0],
        rate_scale=rates[1],
        rates=() if like is None else (RateSpec(name="like", max_rate=100, **like),),
    )
    further = {} if like is None else {"also_predict": ("like",), "rate": (f"like={rate}",)}
    columns = further | {
        "categoricals": ("category",),
        "numerics": ("duration",),
        "texts": ("title",),
    }
    return Fitted(
        spec=spec,
        calendar=Calendar(kind="time", width=width),
        vocabularies={"field_category": list(categories), "text_title": list(words)},
        tables=TableFlags(**columns, text_encoder="tokens"),
        task=TaskFlags(**task),
    )


def test_old_values_keep_their_ids_and_new_ones_come_after_them():
    found = carried(fitted(("c", "b"), ("bird", "dog")), fitted(("a", "b"), ("cat", "dog")))
    assert found.vocabularies == {
        "field_category": ["a", "b", "c"],
        "text_title": ["cat", "dog", "bird"],
    }
    assert (found.spec.fields[0].size, found.spec.texts[0].size) == (5, 5)


def test_equal_data_carry_equal_values():
    assert carried(fitted(), fitted()) == fitted()


def test_scales_stay_and_lists_cycles_and_the_log_grow():
    now = fitted(mean=11.0, sd=3.0, rates=(23.0, 6.0), days=(1, 2), longest=3, log_start=8)
    spec = carried(now, fitted(longest=2)).spec
    assert (spec.numerics[0].mean, spec.numerics[0].sd) == (10.0, 2.0)
    assert (spec.rate_mean, spec.rate_scale) == (20.0, 5.0)
    assert spec.fields[0].max_values == 3
    assert spec.cycles[0].seen == (0, 1, 2)
    assert spec.age.log_start == 8  # ages count from where the log begins now


def test_whether_the_age_is_hidden_with_the_history_stays():
    assert carried(fitted(hidden=False), fitted(hidden=True)).spec.age.hidden


def test_a_full_vocabulary_of_a_text_takes_no_more_words_and_loses_none():
    now = fitted(words=("dog", "bird", "fish"), text_vocabulary=3)
    assert carried(now, fitted()).vocabularies["text_title"] == ["cat", "dog", "bird"]
    now = fitted(words=("dog", "bird"), text_vocabulary=1)
    assert carried(now, fitted()).vocabularies["text_title"] == ["cat", "dog"]


def test_another_spelling_of_an_earlier_value_is_no_new_value():
    found = carried(fitted(("true", "b")), fitted(("True", "a")))
    assert found.vocabularies["field_category"] == ["True", "a", "b"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mean": 12.1}, "the mean of column duration moved from 10 to 12.1"),
        ({"mean": 7.9}, "the mean of column duration moved from 10 to 7.9"),
        ({"sd": 4.1}, "the standard deviation of column duration moved from 2 to 4.1"),
        ({"sd": 0.9}, "the standard deviation of column duration moved from 2 to 0.9"),
        ({"rates": (25.1, 5.0)}, "the mean of the rates moved from 20 to 25.1"),
        ({"rates": (20.0, 10.1)}, "the standard deviation of the rates moved from 5 to 10.1"),
        ({"window": 4}, "--window=4 differs from 6 of the earlier model"),
        ({"min_clicks": 2}, "--min_clicks=2 differs from 1 of the earlier model"),
        ({"inputs": ("age",)}, "--inputs=age differs from none of the earlier model"),
        ({"hash_vocabularies": True}, "--hash_vocabularies=True differs from False"),
        ({"dim": 5}, r"the vectors cover are 5 numbers \(given\), and 4 numbers \(given\) in"),
        ({"width": 3600}, "the periods are .*, and .* in the earlier model"),
    ],
)
def test_what_differs_too_much_is_refused_with_what_it_is(change, sentence):
    with pytest.raises(NotAlike, match=rf"^--warm_start: {sentence}.*; remove --warm_start to"):
        carried(fitted(**change), fitted())


def test_scales_at_the_bound_are_kept():
    now = fitted(mean=12.0, sd=4.0, rates=(15.0, 2.5))
    assert carried(now, fitted()).spec.numerics == fitted().spec.numerics


def test_a_dataset_that_was_prepared_otherwise_is_refused():
    earlier = fitted(("a", "b"))
    now = fitted(("c", "a", "b"), mean=10.5)
    check_carried(carried(now, earlier), earlier)
    with pytest.raises(NotAlike, match="vocabulary of field_category does not begin with that"):
        check_carried(now, earlier)
    with pytest.raises(NotAlike, match=r"its numerics differ from .*; prepare it again with"):
        check_carried(fitted(mean=10.5), earlier)
    with pytest.raises(NotAlike, match="--window=4 differs"):
        check_carried(fitted(window=4), earlier)


def test_a_digest_is_of_everything_that_is_carried():
    found = {digest(one) for one in (fitted(), fitted(("a",)), fitted(mean=1.0), fitted(days=(1,)))}
    assert len(found) == 4
    assert digest(fitted()) == digest(fitted())


LIKE = {"rate_mean": 10.0, "rate_scale": 2.0}


def test_scales_of_further_rates_stay():
    now = fitted(like={"rate_mean": 11.0, "rate_scale": 3.0})
    found = carried(now, fitted(like=LIKE))
    assert found.spec.rates == fitted(like=LIKE).spec.rates
    check_carried(found, fitted(like=LIKE))
    with pytest.raises(NotAlike, match="its rates differ from those of the earlier model"):
        check_carried(now, fitted(like=LIKE))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"like": None}, "--also_predict=none differs from like"),
        ({"rate": "loves/views"}, "--rate=like=loves/views differs from likes/views"),
        ({"like": LIKE | {"rate_mean": 13.0}}, "the mean of like moved from 10 to 13"),
        ({"like": LIKE | {"rate_scale": 5.0}}, "the standard deviation of like moved from 2 to 5"),
        ({"horizon": (1, 2)}, "--horizon=1,2 differs from 1"),
    ],
)
def test_other_rates_or_horizons_are_refused(change, sentence):
    with pytest.raises(NotAlike, match=rf"^--warm_start: {sentence}.*; remove --warm_start to"):
        carried(fitted(**{"like": LIKE} | change), fitted(like=LIKE))
