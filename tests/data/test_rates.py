import pytest

from mmnet.checks import InputError
from mmnet.config import TableFlags
from mmnet.data import rates
from mmnet.data.rates import Columns
from mmnet.schema import FeatureSpec, RateSpec


def flags(*settings, names=("like",), **others):
    return TableFlags(also_predict=names, rate=settings, **others)


def test_a_rate_of_counts_names_two_columns():
    found = rates.further(flags("x=a/b", "like=likes / views", "2=c/d", names=("like", "2")))
    assert found == {"like": Columns("views", "likes"), "2": Columns("d", "c")}


def test_a_rate_of_events_has_the_columns_that_it_is_counted_into():
    found = rates.further(flags("like=(ms / 1000)/events", events="log.csv"))
    assert found == {"like": Columns("like_denominator", "like_numerator")}


def test_without_also_predict_no_rate_is_read():
    assert rates.further(flags("like=not a rate", names=())) == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (flags("likes=a/b"), "--also_predict='like': no --rate has this name. Did you mean likes?"),
        (flags(), "--also_predict='like': no --rate has this name; add --rate=like=NUM"),
        (flags("like=a/b", names=("like", "like")), "--also_predict names 'like' twice"),
        (flags("like=a/b", "like=c/d"), "--rate names 'like' twice"),
        (flags("like=a"), "--rate=like=a: without --events it must be NAME=NUMERATOR/DENOM"),
        (flags("like=a/b/c"), "--rate=like=a/b/c: without --events it must be"),
        (flags("l-i=a/b", names=("l-i",)), "--also_predict='l-i': a rate that is predicted needs"),
        (flags("zählt=a/b", names=("zählt",)), "--also_predict='zählt': a rate that is predicted"),
        (
            flags("a=x/y", "A=u/v", names=("a", "A")),
            "--also_predict=a: another rate has the same name in other letters; use another name",
        ),
        (
            flags("share_rate=a/b", names=("share_rate",)),
            "--also_predict=share_rate: the prediction of another output is called predicted_share",
        ),
        (
            flags("low=a/b", names=("low",)),
            "--also_predict=low: share_rate_low is an end of the intervals; use another name in",
        ),
        (
            flags("like=a/b", "like_h2=a/c", names=("like", "like_h2")),
            "--also_predict=like_h2: the prediction of another output is called predicted_like_h2",
        ),
        (flags("like=shares/clicks"), "--also_predict=like: its rate is that of --numerator"),
    ],
)
def test_a_wrong_rate_is_one_sentence(wrong, said):
    with pytest.raises(InputError) as error:
        rates.further(wrong)
    assert str(error.value).startswith(said)


def test_a_rate_alone_is_called_by_its_own_columns():
    both = flags("like=(ms / 1000)/plays")
    alone = rates.alone(both, "like")
    assert (alone.numerator, alone.denominator) == ("(ms / 1000)", "plays")
    assert alone.also_predict == ()
    assert rates.alone(both, "").numerator == both.numerator


def test_a_model_reads_its_own_further_rates():
    like = RateSpec(name="like", rate_scale=1, rate_mean=2, max_rate=100)
    both = FeatureSpec(window=2, horizon=1, rates=(like,))
    rates.check_same(flags("like=a/b"), both)
    with pytest.raises(InputError) as error:
        rates.check_same(flags(names=()), both)
    assert str(error.value) == (
        "--also_predict=none differs from the further rates of the model, like; leave it out"
    )
    with pytest.raises(
        InputError, match=r"^--also_predict=like differs from .*, none; leave it out$"
    ):
        rates.check_same(flags("like=a/b"), FeatureSpec(window=2, horizon=1))
