import re

import pytest

from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.experiments import tuning
from mmnet.experiments.spaces import check, read

TEXT = """
# what we tune
learning_rate = 0.0003 .. 0.005 log
noisy_rate = 0.3 .. 0.7
half_weight_clicks = 0, 20, 100   # clicks
set.gru_units = 16 .. 64 log integer
set.link = identity, logit
"""


def written(tmp_path, text):
    path = tmp_path / "space.txt"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_space_is_read(tmp_path):
    assert read(written(tmp_path, TEXT)) == {
        "learning_rate": (0.0003, 0.005, "log"),
        "noisy_rate": (0.3, 0.7, "linear"),
        "half_weight_clicks": ["0", "20", "100"],
        "set.gru_units": (16, 64, "log integer"),
        "set.link": ["identity", "logit"],
    }
    check(read(written(tmp_path, TEXT)), TrainConfig(model="gru"), "here")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "has no settings"),
        ("learning_rate", "line 1: must be NAME = VALUE"),
        ("learning_rate =", "line 1: must be NAME = VALUE"),
        ("batch_size = 32\nbatch_size = 64", "line 2: duplicate batch_size"),
        ("batch_size = 32,,64", "line 1: values must differ and not be empty"),
        ("batch_size = 32, 32", "line 1: values must differ"),
        ("noisy_rate = 0.3 .. much", "line 1: a range must be LOW .. HIGH, two numbers"),
        ("noisy_rate = 0.3 .. 0.7, 0.9", "line 1: a range must be LOW .. HIGH"),
        ("noisy_rate = 0.7 .. 0.3", "line 1: LOW must be below HIGH"),
        ("noisy_rate = nan .. 1", "line 1: LOW must be below HIGH"),
        ("noisy_rate = 0 .. inf", "line 1: LOW must be below HIGH, both finite"),
        ("noisy_rate = 0 .. 1 log", "line 1: a scale of logarithms needs LOW above 0"),
        ("noisy_rate = 0 .. 1 lg", "Did you mean log?"),
        ("batch_size = 1.5 .. 8 integer", "line 1: ends must be whole numbers"),
    ],
)
def test_a_wrong_line_is_one_sentence(tmp_path, line, said):
    with pytest.raises(InputError, match=re.escape(said)):
        read(written(tmp_path, line))


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read(str(tmp_path / "no.txt"))
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a UTF-8 text file"):
        read(str(tmp_path / "bytes.txt"))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"lerning_rate": ["1"]}, "Did you mean learning_rate?"),
        ({"set.gru_unit": ["8"]}, "Did you mean set.gru_units?"),
        ({"window": ["3"]}, "is not tuned: a row and its data decide it"),
        ({"seed": ["3"]}, "is not tuned"),
        ({"set.noisy_rate": ["0.3"]}, "has its own flag; write noisy_rate"),
        ({"batch_size": (0.0, 8.0, "integer")}, "--batch_size: input should be greater"),
        ({"set.link": ["identity", "logt"]}, "--set=link=logt: "),
    ],
)
def test_a_setting_that_the_row_cannot_have_is_one_sentence(space, said):
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        check(space, TrainConfig(model="gru"), "here")
    assert str(caught.value).startswith("here: ")


@pytest.mark.parametrize("model", tuning.SPACES)
def test_the_spaces_of_the_package_pass_the_same_check(model):
    check(tuning.SPACES[model], TrainConfig(model=model), "here")
