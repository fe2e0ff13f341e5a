import pytest

from mmnet.recipes.durations import seconds_of


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("20m", 1200), ("2h", 7200)])
def test_a_duration_is_a_number_and_its_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "20", "m", "0m", "-1m", "1d", "20 m", "nanm", "9" * 400 + "h"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match=r"^must be a number above 0 with its unit"):
        seconds_of(text)
