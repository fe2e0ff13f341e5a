import numpy as np

from mmnet.mma4ctr.baselines.factors import Chain, Factors
from tests.conformance import check_layer

USER, ITEM = np.array([2, 0], "int32"), np.array([3, 1], "int32")
HISTORY = np.array([[0, 4, 1], [0, 0, 0]], "int32")  # counted from 1; nothing was taken by user 0


def test_factors_conform(tmp_path):
    check_layer(Factors(3, 4, 0), [USER, ITEM], tmp_path=tmp_path)


def test_a_chain_conforms(tmp_path):
    check_layer(Chain(3, 4, [0, 1, 2, 3]), [USER, ITEM, HISTORY], tmp_path=tmp_path)
