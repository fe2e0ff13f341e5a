"""Sizes that would decide a comparison, against the interval at those sizes."""

import numpy as np
import pytest

from mmnet.evaluation.significance import combine
from mmnet.experiments.needed import MOST, to_decide


def excludes_0(value, parts, freedoms, rows=1.0, seeds=None, times_seeds=1.0):
    """Whether the interval at other sizes excludes 0, written out."""
    variances, grown = [parts[0] / rows], [freedoms[0] * rows]
    for variance, freedom in zip(parts[1:], freedoms[1:], strict=True):
        number = freedom + 1
        new = max(number, seeds) if seeds else number * times_seeds
        variances.append(variance * number / new)
        grown.append(new - 1)
    found = combine(value, variances, grown, confidence=0.99)
    return found.low > 0 or found.high < 0


@pytest.mark.parametrize("seed", range(40))
def test_the_sizes_are_the_smallest_that_decide(seed):
    draw = np.random.default_rng(seed)
    parts = 10.0 ** draw.uniform(-3, 0, 3)
    freedoms = [draw.integers(50, 2000), *draw.integers(4, 10, 2)]
    value = float(draw.choice([-1, 1]) * draw.uniform(0.02, 1.5) * np.sqrt(parts.sum()))
    case = value, parts, freedoms
    found = to_decide(*case, 0.99)
    most = MOST * (max(freedoms[1:]) + 1)
    for size, below, way in (
        (found.rows, 0.998, lambda size: {"rows": size or MOST}),
        (found.both, 0.998, lambda size: {"rows": size or MOST, "times_seeds": size or MOST}),
        (found.seeds, 1 - 1 / (found.seeds or 2), lambda size: {"seeds": round(size or most)}),
    ):
        assert excludes_0(*case, **way(size)) == (size is not None)
        if size is not None:
            assert size <= 1.001 or not excludes_0(*case, **way(size * below))


def test_rows_alone_do_not_decide_what_the_seeds_hide():
    found = to_decide(1.0, [1.0, 1.0, 1.0], [1000, 4, 4], 0.99)
    assert found.rows is None
    assert found.seeds is None
    assert 1 < found.both < 30


def test_a_system_without_seeds_needs_rows():
    found = to_decide(2.0, [1.0], [1e6], 0.99)
    assert found.rows == pytest.approx((2.5758 / 2) ** 2, rel=2e-3)
    assert found.seeds is None


def test_no_difference_is_never_decided():
    found = to_decide(0.0, [1.0, 0.1], [1000, 4], 0.99)
    assert (found.rows, found.seeds, found.both) == (None, None, None)
    assert str(found) == "not even decided by 1,000 times the test rows and seeds"
