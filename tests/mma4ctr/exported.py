"""A small MMa4CTR with drawn weights, as an export, for tests of what reads exports."""

import numpy as np

from mmnet.mma4ctr.data.features import Features, Scaler
from mmnet.mma4ctr.evaluation.metrics import Platt
from mmnet.mma4ctr.models.network import Clicks, network
from mmnet.mma4ctr.serving import scoring

USERS, ITEMS = np.array([10, 20, 30]), np.array([5, 6, 7, 8])
KNOWN_USERS, KNOWN_ITEMS = np.array([True, True, False]), np.array([True, False, True, True])


def model():
    """The network and its tables of 6 states and 4 items."""
    draw = np.random.default_rng(0)
    scale = Scaler(draw.normal(size=7).astype("f"), draw.random(7).astype("f"))
    states, items = draw.normal(size=(6, 3)).astype("f"), draw.normal(size=(4, 4)).astype("f")
    return Clicks(Features(states, items, {"train": scale}, {}), network(7, arch="readme", seed=1))


def folded(model):
    """The same, for the three users; the states of two of them are 1 and 3."""
    states = np.array([1, 3, 5])
    return scoring.Folded(model, states, USERS, ITEMS, KNOWN_USERS, KNOWN_ITEMS, Platt(2.0, -1.0))


def write(directory, model):
    """Exports it with two golden pairs; returns the version's directory."""
    wanted = model({"state": np.array([1, 3]), "item": np.array([0, 2])}).numpy()
    check = (USERS[[0, 1]], ITEMS[[0, 2]], wanted)
    return scoring.export(folded(model), directory, check, {"flags": {}})
