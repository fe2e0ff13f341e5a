import math

import numpy as np
import pytest
from scipy import stats

from mmnet.checks import InputError
from mmnet.mma4ctr.experiments import records
from mmnet.mma4ctr.experiments.records import Change
from tests.mma4ctr.experiments.kept import keep


def test_the_interval_is_that_of_a_t_test():
    values = dict(enumerate(np.random.default_rng(0).normal(0.5, 0.1, 5)))
    expected = stats.ttest_1samp([*values.values()], 0).confidence_interval(0.9)
    assert Change.of(values).interval(0.9) == pytest.approx(expected, rel=1e-12)


def test_one_seed_decides_nothing_and_none_is_no_change():
    assert Change.of({3: 0.5}).interval() == (-math.inf, math.inf)
    assert Change.of({}) is None


def test_a_row_is_found_by_its_name_and_by_its_title(tmp_path):
    keep(tmp_path, "before", {("1e-3", 10): [0.5, 0.75], ("1e-3", 30): [0.25]})
    keep(tmp_path, "today", {("learning_rate_1e-3", 10): [0.5, 0.75]}, state=True)
    before, today = (records.read(tmp_path / name) for name in ("before", "today"))
    for found in (before, today):
        assert found.by_seed("learning_rate_1e-3", 10) == {0: 0.5, 1: 0.75}
        assert found.by_seed("learning_rate_1e-2", 10) == {}
        assert found.by_seed("learning_rate_1e-3", 10, "log_loss") == {}  # its cell is empty
    assert (before.earlier, today.earlier) == (True, False)


def test_an_experiment_that_was_not_run_has_no_results(tmp_path):
    assert records.read(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("auc", "area", "has no column 'auc'; run"),
        ("0.75", "high", "line 3: auc must be a finite number. Received: 'high'; run"),
        ("0.75", "inf", "line 3: auc must be a finite number. Received: 'inf'; run"),
        ("1e-3,10,p0,1", "1e-3,10,p0,0", "line 3: row '1e-3' has a second line of seed 0 at '10'"),
        (",0.75", ",0.75,,,1", "line 3: None must be a finite number"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, old, new, sentence):
    path = keep(tmp_path, "one", {("1e-3", 10): [0.5, 0.75]})
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError) as error:
        records.read(tmp_path / "one")
    assert str(path) in str(error.value)
    assert sentence in str(error.value)
