import pandas as pd
import pytest

import mmnet
from mmnet.promotion import nights
from mmnet.promotion.history import Event, History
from mmnet.promotion.nights import Begun
from mmnet.promotion.versions import Origin
from mmnet.promotion.versions import Versions as Directory
from mmnet.tasks import night as task


@pytest.fixture(scope="module")
def models(run_dir, tmp_path_factory):
    """Two versions; the second is the champion."""
    found = Directory(tmp_path_factory.mktemp("versions") / "models")
    for number in (1, 2):
        found.publish(number, run_dir / "export/1", Origin(night=str(number), trained_until="3"))
        found.promote(number)
        moved = {"champion_before": number - 1, "champion": number}
        event = Event(number=number, at="2024-03-01T01:00:00", outcome="promoted", **moved)
        History(found.directory).write(event)
    return mmnet.Versions(found.directory)


def test_versions_have_a_champion_and_a_history_and_can_be_rolled_back(models):
    assert models.champion.path == models.directory / "2"
    assert models.roll_back(verbose=False) == 1
    assert models.champion.path == models.directory / "1"
    assert models.history["outcome"].tolist() == ["promoted", "promoted", "rollback"]
    assert models.roll_back(2, verbose=False) == 2
    with pytest.raises(mmnet.InputError, match="has no version 7; it has 1, 2"):
        models.roll_back(7)
    assert repr(models) == f"Versions({str(models.directory)!r})"


def test_before_the_first_night_there_is_no_champion_and_no_history(tmp_path):
    models = mmnet.Versions(tmp_path / "models")
    assert models.champion is None
    assert models.history.empty
    assert not models.directory.exists()


def test_a_night_reads_frames_and_returns_what_it_decided(tmp_path, monkeypatch):
    def run_night(flags):
        assert pd.read_parquet(flags.counts)["clicks"].tolist() == [3]
        assert (flags.model, flags.promote) == ("gru", "not_worse=0.1")
        night = nights.begin(tmp_path, "7", Begun(identity="", champion=0))
        night.finish({"outcome": "kept"})
        return night.name

    monkeypatch.setattr(task, "run_night", run_night)
    counts = pd.DataFrame({"item_id": ["a"], "period": [7], "clicks": [3], "shares": [1]})
    items = pd.DataFrame({"item_id": ["a"]})
    models = mmnet.Versions(tmp_path)
    night = models.night(counts=counts, items=items, model="gru", promote="not_worse=0.1")
    assert night == {"outcome": "kept"}
