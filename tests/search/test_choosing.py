import numpy as np
import pytest

from mmnet.search.choosing import Compared, chosen, compare

RNG = np.random.default_rng(0)
ITEMS = np.repeat(np.arange(50), 4)


def errors(scale=1.0):
    """Squared errors whose rows of an item rise and fall together, [scenarios, rows]."""
    return scale * np.repeat(RNG.chisquare(1, (3, 50)), 4, axis=1)


def test_the_best_has_the_lowest_mean_log_mse():
    one = errors()
    best, compared = compare({"worse": 1.1 * one, "best": one}, ITEMS)
    assert best == "best"
    # Every MSE is 1.1 times the other's, and so is every row: nothing is left to luck.
    assert compared["worse"].difference == pytest.approx(np.log(1.1))
    assert compared["worse"].difference_error == pytest.approx(0, abs=1e-12)
    assert compared["best"].value == pytest.approx(np.mean(np.log(one.mean(axis=1))))


def test_the_error_is_that_of_a_bootstrap_of_items():
    pair = {"a": errors(), "b": errors()}
    best, compared = compare(pair, ITEMS)
    other = "b" if best == "a" else "a"
    by_item = {name: one.reshape(3, 50, 4).mean(axis=2) for name, one in pair.items()}
    drawn = RNG.integers(0, 50, (4000, 50))

    def values(one):
        return np.mean(np.log(one[:, drawn].mean(axis=2)), axis=0)

    spread = np.std(values(by_item[other]) - values(by_item[best]))
    # Within a fifth: the delta method leaves out what is of second order in 1 / 50 items.
    assert compared[other].difference_error == pytest.approx(spread, rel=0.2)
    assert compared[best].error == pytest.approx(np.std(values(by_item[best])), rel=0.2)


@pytest.mark.parametrize(
    ("difference", "error", "taken"),
    [
        (0.01, 0.015, "near"),
        (0.015, 0.01, "best"),  # further than one standard error
        (0.05, 0.1, "best"),  # a small log cannot tell, but 5 % is too much to give away
    ],
)
def test_the_simplest_within_one_standard_error_and_two_percent_is_taken(difference, error, taken):
    compared = {
        "best": Compared(1.0, 0.1, 0.0, 0.0),
        "near": Compared(1.0 + difference, 0.1, difference, error),
        "far": Compared(2.0, 0.1, 1.0, 0.1),
    }
    assert chosen(compared, {"far": 0, "near": 1, "best": 2}) == taken
    assert chosen(compared, {"far": 0, "near": 3, "best": 2}) == "best"


def test_of_equals_the_better_one_is_taken():
    one = errors()
    _, compared = compare({"worse": one + 1e-9, "best": one}, ITEMS)
    compared["worse"] = compared["best"].__class__(1.0, 1.0, 0.5, 1.0)
    assert chosen(compared, {"worse": 0, "best": 0}) == "best"


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_of_one_item_are_compared_too(rows):
    pair = {"a": np.ones((3, rows)), "b": np.full((3, rows), 2.0)}
    best, compared = compare(pair, np.zeros(rows, int))
    assert best == "a"
    assert np.isfinite([compared["b"].error, compared["b"].difference_error]).all()


def test_an_error_of_exactly_zero_is_finite():
    _, compared = compare({"a": np.zeros((3, 200)), "b": errors()}, ITEMS)
    assert np.isfinite([one.value for one in compared.values()]).all()
