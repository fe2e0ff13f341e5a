import numpy as np

from mmnet.mma4ctr.baselines.model import StateRows
from tests.conformance import check_layer


def test_rows_of_states_conform(tmp_path):
    layer = StateRows((3, 2))
    layer.users.assign([7, 8, 9])
    layer.history.assign([[0, 0], [0, 1], [2, 3]])
    check_layer(layer, np.array([2, 1], "int32"), tmp_path=tmp_path)
