import math

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.search.halving import Outcome
from mmnet.search.journal import ERRORS, FILE, Journal

ONE = Outcome(1.25, 3, 2, 7.5, 2.0, False, scores={"normal_mse": 0.1 + 0.2})
FAILED = Outcome(math.inf, 0, 0, 1.0, 0.0, True, failed="the loss is nan")
SQUARED = np.arange(6.0).reshape(3, 2)


def test_what_was_added_reads_back_to_the_bit(tmp_path):
    journal = Journal(tmp_path, "data")
    journal.add("direct", 3, ONE, SQUARED)
    journal.add("trees", 0, FAILED, np.empty((0, 0)))
    again = Journal(tmp_path, "data")
    assert again.outcome("direct", 3) == ONE
    assert again.outcome("trees", 0) == FAILED
    assert again.outcome("direct", 9) is None
    assert again.seconds("direct") == 7.5
    assert again.seconds("paper") == 0
    np.testing.assert_array_equal(again.squared("direct"), SQUARED)


def test_a_journal_of_other_data_or_a_damaged_one_is_refused(tmp_path):
    Journal(tmp_path, "data").add("direct", 3, ONE, SQUARED)
    with pytest.raises(InputError, match="belongs to different data"):
        Journal(tmp_path, "other data")
    (tmp_path / "direct" / ERRORS).write_bytes(b"PK")
    with pytest.raises(InputError, match="is damaged"):
        Journal(tmp_path, "data").squared("direct")
    for content in ("{", '{"dataset": "data"}', '{"dataset": "data", "steps": [{}]}', "[]"):
        (tmp_path / FILE).write_text(content)
        with pytest.raises(InputError, match="is damaged"):
            Journal(tmp_path, "data")
