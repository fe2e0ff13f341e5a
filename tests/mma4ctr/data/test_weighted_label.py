import pytest

from mmnet.mma4ctr.data import weighted_label
from mmnet.mma4ctr.data.weighted_label import WEIGHTS


@pytest.mark.parametrize(
    ("behaviours", "positive"),
    [
        ({"read_comment", "like"}, True),
        ({"read_comment", "click_avatar", "follow"}, True),
        ({"like", "click_avatar", "forward"}, False),
        ({"read_comment"}, False),
    ],
)
def test_what_makes_a_positive(behaviours, positive):
    row = dict.fromkeys(WEIGHTS, 0) | dict.fromkeys(behaviours, 1)
    assert weighted_label.positive(row) == positive
