import numpy as np
import pytest

from mmnet.inspection import effects

DRAW = np.random.default_rng(0)


def test_what_other_items_tell_is_what_was_planted():
    category = DRAW.integers(0, 5, 3000)
    true = np.array([0.1, 0.2, 0.3, 0.4, 0.5])[category] + DRAW.uniform(-0.1, 0.1, 3000)
    clicks = DRAW.integers(5, 200, 3000)
    shares = DRAW.binomial(clicks, true)
    # Uniform over 0.2: variance 0.2 ** 2 / 12; five steps of 0.1: 0.1 ** 2 * 2.
    planted = 0.02 / (0.02 + 0.04 / 12)
    found = effects.told(np.arange(3000), category, clicks, shares)
    assert found == pytest.approx(planted, abs=0.03)
    assert effects.told(np.arange(3000), DRAW.permutation(category), clicks, shares) < 0.01


def test_an_item_does_not_tell_of_itself():
    clicks = np.full(200, 1000)
    shares = DRAW.integers(0, 1000, 200)
    assert effects.told(np.arange(200), np.arange(200), clicks, shares) <= 0


def test_lists_add_up_their_values():
    rows, values = np.repeat(np.arange(100), 2), np.tile([0, 1], 100)
    values[1::4] = 2
    clicks = np.full(100, 100)
    shares = np.where(np.arange(100) % 2, 20, 60)
    assert effects.told(rows, values, clicks, shares) > 0.5


def test_a_release_before_the_first_clicks_fits_and_one_after_does_not():
    first = DRAW.integers(0, 20, 200)
    early = effects.release("born", first - DRAW.integers(0, 9, 200), first, 20)
    assert (early.fits, early.is_history) == (True, False)
    assert not effects.release("seen", first + 2.0, first, 20).fits
    assert effects.release("first", first * 1.0, first, 20).is_history
    assert not effects.release("none", np.full(200, np.nan), first, 20).fits
