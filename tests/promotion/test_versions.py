import json

import pytest

from mmnet.checks import InputError
from mmnet.promotion.versions import Origin, Versions, copy
from mmnet.serving import checksums, exported, parent
from tests.promotion import fake_exports

ORIGIN = Origin(night="2024-03-01", trained_until="2024-02-27")


@pytest.fixture
def models(tmp_path):
    """Versions 1 and 2; the champion is 1."""
    versions = Versions(tmp_path / "models")
    for number in (1, 2):
        export = fake_exports.write(tmp_path / f"export{number}", f"model {number}")
        versions.publish(number, export, ORIGIN)
    versions.promote(1)
    return versions


def test_a_version_is_a_copy_of_its_export_that_says_what_it_was_made_from(models, tmp_path):
    assert models.numbers() == [1, 2]
    assert fake_exports.text(models.path(2)) == "model 2"
    assert models.origin(2) == ORIGIN
    assert list(checksums.problems(models.path(2))) == []
    assert not (tmp_path / "export2/assets.extra/night.json").exists()  # the run stays as it was


def test_the_champion_is_what_saved_model_opens(models):
    assert models.champion() == 1
    assert exported.version_directory(models.directory) == models.path(1)
    models.promote(2)
    assert exported.version_directory(models.directory) == models.path(2)


def test_without_a_pointer_there_is_no_champion(tmp_path):
    assert Versions(tmp_path).champion() == 0


def test_a_version_that_is_not_there_is_not_promoted(models):
    with pytest.raises(InputError, match="has no version 7; it has 1, 2"):
        models.promote(7)
    assert models.champion() == 1


def test_a_damaged_export_does_not_become_a_version(models, tmp_path):
    export = fake_exports.write(tmp_path / "export3")
    (export / "saved_model.pb").write_text("another")
    with pytest.raises(InputError, match=r"saved_model\.pb has changed"):
        models.publish(3, export, ORIGIN)
    assert models.numbers() == [1, 2]


def test_a_version_that_a_killed_night_had_written_is_not_written_again(models, tmp_path):
    before = (models.path(2) / "saved_model.pb").stat()
    models.publish(2, tmp_path / "export2", ORIGIN)
    assert (models.path(2) / "saved_model.pb").stat().st_ino == before.st_ino


def test_a_refitted_version_is_compared_by_the_export_without_the_refit(models, tmp_path):
    export = fake_exports.write(tmp_path / "refit", "model 3 on all periods")
    compared = fake_exports.write(tmp_path / "compared", "model 3")
    origin = ORIGIN.model_copy(update={"refitted_until": "2024-03-01"})
    models.publish(3, export, origin, compared)
    assert fake_exports.text(models.path(3)) == "model 3 on all periods"
    assert fake_exports.text(models.compared_path(3)) == "model 3"
    assert models.compared_path(2) == models.path(2)
    # Training that starts from it may learn from all periods but those of its own test.
    assert models.origin(3).refitted_until == "2024-03-01"
    assert exported.asset(models.compared_path(3), parent.NIGHT)["refitted_until"] is None
    models.prune([3])
    assert models.numbers() == [1, 3]  # the champion is kept in any case
    models.promote(3)
    models.prune([1])
    assert fake_exports.text(models.compared_path(3)) == "model 3"


def test_a_removal_that_was_killed_is_finished(models):
    left = models.directory / ".removed-2-0123456789ab"
    models.path(2).rename(left)
    models.clear()
    assert models.numbers() == [1]
    assert not left.exists()


def test_a_document_replaces_one_of_the_export(tmp_path):
    export = fake_exports.write(tmp_path / "export")
    copy(export, tmp_path / "copy", {"decision.json": {"of": "another"}})
    assert exported.asset(tmp_path / "copy", "decision.json") == {"of": "another"}
    assert exported.asset(tmp_path / "copy", "fitted.json") == {"of": "a model"}
    exported.check_unchanged(tmp_path / "copy")


def test_a_damaged_origin_is_named(models):
    path = models.path(2)
    (path / "assets.extra/night.json").write_text(json.dumps({"night": 3}))
    with pytest.raises(InputError, match=r"models/2: night.json is damaged"):
        models.origin(2)
