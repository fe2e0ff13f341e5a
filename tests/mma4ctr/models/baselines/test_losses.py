import numpy as np
import pytest

from mmnet.mma4ctr.models.baselines.losses import (
    LogLikelihood,
    PairLoss,
    total_norm,
    total_square,
)


def test_the_pair_loss_by_hand():
    score = np.array([0.8, -0.4, -30.0, 60.0], np.float32)  # a sigmoid would be 1 or 0
    expected = np.mean(np.log1p(np.exp([-0.4 - 0.8, 60.0 + 30.0])))
    assert float(PairLoss()(np.array([1.0, 0, 1, 0]), score)) == pytest.approx(expected, rel=1e-5)


def test_squares_and_norms_by_hand():
    tensors = [np.array([[3.0, 4.0]], "float32"), np.zeros((2, 2), "float32")]
    assert float(total_square(tensors)) == 25
    assert float(total_norm(tensors)) == pytest.approx(5)


def test_the_likelihood_counts_what_was_taken():
    found = LogLikelihood()(np.array([1.0, 0.0]), np.array([-2.0, -8.0], np.float32))
    assert float(found) == pytest.approx(1.0)
