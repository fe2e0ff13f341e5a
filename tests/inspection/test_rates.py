import numpy as np
import pytest

from mmnet.inspection import rates


def test_the_share_of_noise_is_right_on_average():
    draw = np.random.default_rng(0)
    true = draw.beta(4, 12, 20_000)  # variance 4 * 12 / (16 ** 2 * 17) = 0.01103
    above = draw.binomial(10, true)
    noise = (true * (1 - true)).mean() / 10
    expected = noise / (noise + 4 * 12 / (16**2 * 17))
    # Three standard errors of a variance of 20,000 values are 3 %.
    assert rates.noise_share(above, np.full(20_000, 10)) == pytest.approx(expected, rel=0.03)
    assert rates.noise_share(draw.binomial(10, 0.3, 20_000), np.full(20_000, 10)) > 0.95
    assert np.isnan(rates.noise_share(np.array([1]), np.array([1])))


def series(values):
    values = np.asarray(values)
    items, periods = np.indices(values.shape)
    return items.ravel(), periods.ravel(), values.ravel().astype(float)


def test_running_totals_hardly_fall_and_counts_do():
    counts = np.random.default_rng(0).poisson(3, (60, 20))
    totals = counts.cumsum(axis=1)
    totals[::7, 10:] -= 2  # taken back
    assert rates.steps(*series(totals)).of_totals
    assert not rates.steps(*series(counts)).of_totals
    growing = np.random.default_rng(0).poisson(np.linspace(3, 30, 20), (60, 20))
    assert not rates.steps(*series(growing)).of_totals
    assert not rates.steps(*series(totals[:, :1])).of_totals


def test_what_totals_gain():
    (grown,) = rates.differences(np.array([1, 0, 1]), np.array([0, 0, 1]), [np.array([5, 9, 8])])
    np.testing.assert_array_equal(grown, [np.nan, np.nan, 3])


def test_the_denominator_is_what_the_others_are_parts_of():
    draw = np.random.default_rng(1)
    shown = draw.integers(50, 500, 300)
    clicked = draw.binomial(shown, draw.beta(2, 8, 300))
    sent = draw.binomial(clicked, 0.1)  # all the same but for chance
    found = rates.rates_of_counts(
        {"sent": sent * 1.0, "shown": shown * 1.0, "clicked": clicked * 1.0}
    )
    assert (found[0].numerator, found[0].denominator) == ("clicked", "shown")


def test_the_default_names_come_first():
    draw = np.random.default_rng(1)
    shown = draw.integers(50, 500, 300) * 1.0
    found = rates.rates_of_counts({"shown": shown, "clicks": shown // 3, "shares": shown // 20})
    assert (found[0].numerator, found[0].denominator) == ("shares", "clicks")


def test_rates_of_events_begin_with_what_tells_most():
    draw = np.random.default_rng(2)
    items = np.repeat(np.arange(40), 50)
    liked = draw.random(2000) < (items % 2) * 0.4 + 0.05
    found = rates.rates_of_events(
        items, 0 * items, {"chance": (draw.random(2000) < 0.3) * 1.0, "liked": liked * 1.0}
    )
    assert [one.numerator for one in found] == ["liked", "chance"]
    assert found[0].denominator == "events"
