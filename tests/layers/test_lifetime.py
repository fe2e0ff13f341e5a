"""Counts before the window as numbers for a network."""

import numpy as np

from mmnet.layers import LifetimeFeatures
from tests.conformance import check_layer


def test_unknown_none_and_some_clicks_are_told_apart(tmp_path):
    layer = LifetimeFeatures()
    rate, clicks = np.float32([2.0, 2.0, 2.0]), np.float32([-1, 0, 9])
    found = np.asarray(layer(rate, clicks))
    np.testing.assert_allclose(
        found,
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, np.log(10), 1, 2]],
        rtol=1e-6,  # a rounding of float32
    )
    check_layer(layer, rate, clicks, tmp_path=tmp_path)
