import numpy as np
import pytest

from mmnet.mma4ctr.models.baselines.losses import LogLikelihood, PairLoss


def test_the_pair_loss_by_hand():
    p = np.array([0.8, 0.4, 0.3, 0.6], np.float32)
    logit = np.log(p / (1 - p))
    expected = np.mean(np.log1p(np.exp([logit[1] - logit[0], logit[3] - logit[2]])))
    assert float(PairLoss()(np.array([1.0, 0, 1, 0]), p)) == pytest.approx(expected, rel=1e-5)


def test_the_likelihood_counts_what_was_taken():
    found = LogLikelihood()(np.array([1.0, 0.0]), np.array([-2.0, -8.0], np.float32))
    assert float(found) == pytest.approx(1.0)
