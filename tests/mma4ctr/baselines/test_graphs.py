import numpy as np
import pytest

from mmnet.mma4ctr.baselines.graphs import Graph, num_seeds
from tests.conformance import check_layer

USER, ITEM = np.array([2, 0], "int32"), np.array([3, 1], "int32")
PAIRS = np.array([[0, 0, 1, 2], [1, 2, 2, 3]])


@pytest.mark.parametrize(("weights", "golden"), [(False, "Graph"), (True, "Graph_weights")])
def test_graphs_conform(weights, golden, tmp_path):
    layer = Graph(3, 4, PAIRS, range(num_seeds(weights=weights)), weights=weights)
    check_layer(layer, [USER, ITEM], tmp_path=tmp_path, golden=golden)
