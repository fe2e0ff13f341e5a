import numpy as np

from mmnet.mma4ctr.baselines.factors import WIDTH
from mmnet.mma4ctr.baselines.sequences import Cloze, SessionGraph, TransformerLayer
from mmnet.models.seeding import seeded
from tests.conformance import check_layer

ITEM = np.array([3, 1], "int32")
HISTORY = np.array([[0, 4, 1, 4], [0, 0, 0, 2]], "int32")  # counted from 1
STEPS = np.random.default_rng(0).normal(size=(2, 3, WIDTH)).astype("float32")
MASK = np.array([[[1, 1, 1]], [[0, 0, 1]]], bool)


def test_a_transformer_layer_conforms(tmp_path):
    with seeded(0):
        layer = TransformerLayer(heads=2)
    check_layer(layer, STEPS, MASK, tmp_path=tmp_path)


def test_a_cloze_conforms(tmp_path):
    with seeded(0):
        layer = Cloze(items=5, length=4, seed=0)
    check_layer(layer, ITEM, HISTORY, tmp_path=tmp_path)


def test_a_session_graph_conforms(tmp_path):
    with seeded(0):
        layer = SessionGraph(items=5, seed=0)
    check_layer(layer, ITEM, HISTORY, tmp_path=tmp_path)
