import sys

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import ProtocolFlags
from mmnet.mma4ctr.data import protocols
from mmnet.mma4ctr.data.features import Features, Scaler
from mmnet.mma4ctr.evaluation import metrics, trees
from tests.mma4ctr.logs import log


@pytest.fixture
def planted():
    """Rows with probability .9 where a column of the user and one of the item agree, else .1."""
    data, draw = log(rows=4000), np.random.default_rng(1)
    found = protocols.build(data, ProtocolFlags(protocol="c1"), np.ones(30, bool), 0)
    states = draw.normal(size=(found.num_states, 1)).astype(np.float32)
    items = draw.normal(size=(30, 2)).astype(np.float32)
    scale = Scaler(np.zeros(3, np.float32), np.ones(3, np.float32))
    agree = (states[found.state, 0] > 0) == (items[found.item, 1] > 0)
    found.label[:] = draw.random(len(found)) < np.where(agree, 0.9, 0.1)
    return Features(states, items, dict.fromkeys(protocols.SPLITS, scale), {}), found


def test_finds_what_only_two_columns_together_say(planted):
    pytest.importorskip("lightgbm")
    features, protocol = planted
    found, part = trees.probabilities(features, protocol, seed=0), protocol.parts["test"]
    # Where they agree as often as not, the planted AUC is .9 · .9 + (.9 · .1 + .1 · .9) / 2 = .9;
    # three standard errors of it among 290 rows are .06.
    assert metrics.auc(protocol.label[part], found[part]) == pytest.approx(0.9, abs=0.06)
    protocol.label[part] = 1 - protocol.label[part]  # which are not for it to read
    np.testing.assert_array_equal(trees.probabilities(features, protocol, seed=0), found)


def test_without_the_library_it_says_what_to_install(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(InputError, match=r"--lightgbm needs the extra: pip install"):
        trees.probabilities(*planted, seed=0)
