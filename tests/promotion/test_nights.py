import pytest

from mmnet.checks import InputError
from mmnet.promotion import nights
from mmnet.promotion.history import Event
from mmnet.promotion.nights import Begun, Verdict

BEGUN = Begun(identity="data", champion=1)


def test_a_night_that_was_killed_is_found_again(tmp_path):
    night = nights.begin(tmp_path, "2024-03-01T05:00:00", BEGUN)
    (night.directory / "run").mkdir()
    again = nights.begin(tmp_path, "2024-03-01T05:00:00", BEGUN)
    assert again.name == "2024-03-01T05-00-00"
    assert (again.directory / "run").exists()


@pytest.mark.parametrize("other", [{"identity": "later data"}, {"champion": 2}])
def test_what_an_unfinished_night_did_for_other_data_or_another_champion_is_not_used(
    tmp_path, other
):
    night = nights.begin(tmp_path, "7", BEGUN)
    (night.directory / "run").mkdir()
    again = nights.begin(tmp_path, "7", BEGUN.model_copy(update=other))
    assert again.directory == night.directory
    assert not (again.directory / "run").exists()
    assert [one.name for one in nights.all_nights(tmp_path)] == ["7"]


def test_a_directory_that_was_killed_before_it_had_a_night_is_used(tmp_path):
    (tmp_path / "nights/7").mkdir(parents=True)
    night = nights.begin(tmp_path, "7", BEGUN)
    assert night.begun() == BEGUN


def test_a_finished_night_keeps_its_directory(tmp_path):
    first = nights.begin(tmp_path, "7", BEGUN)
    first.finish({"outcome": "kept"})
    second = nights.begin(tmp_path, "7", BEGUN)
    second.finish({})
    assert (second.name, nights.begin(tmp_path, "7", BEGUN).name) == ("7-2", "7-3")
    assert first.document() == {"outcome": "kept"}


def test_a_verdict_is_read_back_and_a_damaged_one_is_named(tmp_path):
    night = nights.begin(tmp_path, "7", BEGUN)
    assert night.verdict() is None
    event = Event(number=1, at="2024-03-01", outcome="kept", reasons=("why",))
    night.decide(Verdict(event=event, facts={"rows": 3}))
    assert night.verdict() == Verdict(event=event, facts={"rows": 3})
    (night.directory / nights.VERDICT).write_text("[]")
    with pytest.raises(InputError, match=r"verdict\.json is damaged; remove the directory"):
        night.verdict()
    with pytest.raises(InputError, match=r"nightly\.json is damaged"):
        night.document()
