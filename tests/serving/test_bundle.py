"""An export that is not what was written says so, and says what."""

import dataclasses
import json
import os
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf

from mmnet import config, tasks
from mmnet.checks import InputError
from mmnet.serving import bundle, checksums, export, golden
from mmnet.serving.bundle import verify
from mmnet.serving.exported import OUTPUT, AboutShareRates, version_directory


@pytest.fixture
def exported(run_dir, tmp_path):
    """A copy of the small run's export, to be broken."""
    return shutil.copytree(run_dir / "export" / "1", tmp_path / "export" / "1")


def problems(directory):
    return [check.problem for check in verify(directory) if check.problem]


SIGNATURES = (
    *("serving_default", "raw_columns", "examples", "decide", "explained"),
    *("static", "from_static"),
)


def rewrite(path, change):
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def test_a_whole_export_passes_every_check(exported):
    found = list(verify(exported.parent))
    assert [check.name for check in found] == [
        "checksums",
        "loads",
        *(f"golden rows, {name}" for name in SIGNATURES),
    ]
    assert not problems(exported)


def test_an_export_is_loaded_once_and_again_after_its_files_were_replaced(exported, tmp_path):
    first, about = bundle.load(exported, AboutShareRates)
    assert bundle.load(exported.parent, AboutShareRates)[0] is first
    same = shutil.copytree(exported, tmp_path / "same")  # with the times of the original
    shutil.rmtree(exported)
    same.rename(exported)
    again, _ = bundle.load(exported, AboutShareRates)
    assert again is not first
    assert about.fitted.spec.window
    (exported / f"{checksums.VARIABLES}.index").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be loaded"):
        bundle.load(exported, AboutShareRates)


def test_one_bit_of_a_weight_is_found_and_the_weight_named(exported):
    reader = tf.train.load_checkpoint(str(exported / checksums.VARIABLES))
    stored = json.loads((exported / checksums.FILE).read_text())["weights"]
    key = next(key for key, one in stored.items() if "gated_fusion" in one["name"])
    value = reader.get_tensor(key).tobytes()
    data = exported / f"{checksums.VARIABLES}.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    place = content.find(value)
    assert content.count(value) == 1  # the test would break another weight else
    content[place + 2] ^= 1
    data.write_bytes(content)
    (found,) = problems(exported)
    assert f"weight {stored[key]['name']} has changed" in found
    assert "variables.data-00000-of-00001" in found


def test_a_vocabulary_line_is_named(exported):
    rewrite(
        exported / AboutShareRates.FILE,
        lambda about: about["fitted"]["vocabularies"]["field_category"].__setitem__(4, "cars2"),
    )
    assert problems(exported) == [
        "assets.extra/fitted.json: fitted.vocabularies.field_category, line 5 has changed"
    ]


def test_a_scale_is_named(exported):
    rewrite(
        exported / AboutShareRates.FILE,
        lambda about: about["fitted"]["spec"]["numerics"][0].update(mean=0.5),
    )
    assert problems(exported) == [
        "assets.extra/fitted.json: fitted.spec.numerics[0].mean has changed"
    ]


def test_a_line_too_many_a_cut_file_and_a_stranger_are_named(exported):
    path = exported / AboutShareRates.FILE
    text = path.read_text(encoding="utf-8")
    path.write_text(text[:100], encoding="utf-8")
    assert "is no longer valid JSON" in problems(exported)[0]
    path.write_text(text, encoding="utf-8")
    rewrite(path, lambda about: about["fitted"]["vocabularies"]["text_title"].append("new"))
    (found,) = problems(exported)
    assert "text_title, line" in found
    path.write_text(text, encoding="utf-8")
    (exported / "variables" / "notes.txt").write_text("mine")
    (exported / golden.FILE).unlink()
    assert problems(exported) == [
        "variables/notes.txt does not belong to the export",
        f"{golden.FILE} is missing",
    ]


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", golden.FILE])
def test_any_other_file_is_named(exported, name):
    content = bytearray((exported / name).read_bytes())
    content[len(content) // 2] ^= 0xFF
    (exported / name).write_bytes(content)
    assert name in problems(exported)[0]


@pytest.mark.parametrize("kind", ["a linked folder", "a dangling link", "a pipe", "no files"])
def test_what_is_not_a_file_of_the_export_is_named(exported, kind):
    place = exported / "variables" / "more"
    if kind == "a pipe":
        os.mkfifo(place)
    elif kind == "no files":
        place.mkdir()
    else:
        target = exported.parent if kind == "a linked folder" else "nowhere"
        place.symlink_to(target)
    assert list(checksums.problems(exported)) == ["variables/more does not belong to the export"]
    place.rmdir() if kind == "no files" else place.unlink()
    index = exported / "variables" / "variables.index"
    index.unlink()
    index.mkdir()
    (index / "inside").touch()
    assert list(checksums.problems(exported)) == [
        "variables/variables.index/inside does not belong to the export",
        "variables/variables.index is missing",
    ]


def test_a_folder_that_is_no_version_is_passed_over(exported):
    shutil.copytree(exported, exported.with_name("²"))
    assert version_directory(exported.parent) == exported


@pytest.mark.parametrize("damage", ["gone", "cut", "edited", "a list"])
def test_the_checksums_themselves_are_checked(exported, damage):
    path = exported / checksums.FILE
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_text(path.read_text()[:-100])
    elif damage == "edited":
        rewrite(path, lambda stored: stored["files"].update({"saved_model.pb": "0" * 64}))
    else:
        path.write_text("[]")
    (found,) = problems(exported)
    assert found == f"{checksums.FILE} is {'missing' if damage == 'gone' else 'damaged'}"


def test_another_model_under_fresh_checksums_fails_its_golden_rows(exported):
    """What a checksum cannot find: the files are whole, and the scores are others."""
    path = exported / golden.FILE
    batches = [one for one in golden.read(path) if len(next(iter(one.inputs.values()))) > 1]
    moved = [
        dataclasses.replace(
            one,
            outputs={n: a + 1 if n == OUTPUT else a for n, a in one.outputs.items()},
        )
        for one in batches
    ]
    golden.write(path, moved)
    checksums.write(exported, {})
    found = problems(exported)
    assert len(found) == 6  # all but `static`, which gives no scores
    assert found[0].startswith("serving_default returns row 0 ")


def test_weights_that_are_cut_off_are_refused(exported):
    data = exported / f"{checksums.VARIABLES}.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-4])  # of the last entry, which says what the others are
    with pytest.raises(InputError, match=r"cannot be loaded .*; find the damage with --verify"):
        export.load(exported)
    data.write_bytes(b"")
    assert all(": weight " in one for one in problems(exported)[:5])


def test_the_driver_ends_with_one_sentence(exported, capsys):
    tasks.predict(config.PredictConfig(saved_model=str(exported.parent), verify=True))
    assert capsys.readouterr().out.count("ok ") == 2 + len(SIGNATURES)
    rewrite(exported / AboutShareRates.FILE, lambda about: about["flags"].update(seed=7))
    with pytest.raises(InputError, match=r"fitted\.json: flags\.seed has changed; copy it again"):
        tasks.predict(config.PredictConfig(saved_model=str(exported.parent), verify=True))


def test_a_changed_export_scores_nothing(exported):
    """Two words of a vocabulary are swapped: well-formed, and the scores would be others."""

    def swap(about):
        words = about["fitted"]["vocabularies"]["field_category"]
        words[0], words[1] = words[1], words[0]

    rewrite(exported / AboutShareRates.FILE, swap)
    told = r"exported: .*field_category, line 1 has changed, and 1 more; copy it again"
    given = {"saved_model": str(exported.parent), "dataset_dir": "nowhere"}
    for flags in (
        config.PredictConfig(**given),
        config.PredictConfig(**given, ranking_features="features.parquet"),
    ):
        with pytest.raises(InputError, match=told):
            tasks.predict(flags)
    with pytest.raises(InputError, match=told):
        tasks.drift(config.DriftConfig(**given))


def test_golden_rows_come_back_as_they_were_written(tmp_path):
    batch = golden.Golden(
        "raw_columns",
        {
            "clicks": np.array([[1, 2], [3, 4]], np.int64),
            "item_title": np.array(["猫", ""], object),
            "number_duration": np.array([np.nan, 2.5], np.float32),
        },
        {"predicted_share_rate": np.array([1.5, 2.5], np.float32)},
    )
    golden.write(tmp_path / "rows", [batch])
    first, whole = golden.read(tmp_path / "rows")
    assert first.signature == whole.signature == "raw_columns"
    np.testing.assert_array_equal(whole.inputs["clicks"], batch.inputs["clicks"])
    np.testing.assert_array_equal(whole.inputs["item_title"], ["猫".encode(), b""])
    np.testing.assert_array_equal(first.inputs["number_duration"], [np.nan])
    np.testing.assert_array_equal(first.outputs["predicted_share_rate"], [1.5])


def test_a_cut_warm_up_file_is_an_error(tmp_path):
    (tmp_path / "rows").write_bytes(struct.pack("<Q", 1000) + b"short")
    with pytest.raises(ValueError, match="DataLossError"):
        list(golden.read(tmp_path / "rows"))
