import json
import shutil

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.serving import checksums, parent
from mmnet.training import resume


def test_a_run_and_its_export_are_the_same_model(run_dir):
    of_run, of_export = parent.read(run_dir), parent.read(run_dir / "export" / "1")
    assert of_run.digest == of_export.digest == parent.read(run_dir / "export").digest
    assert of_run.flags["model"] == "mmnet"
    dataset = datasets.load(run_dir / "dataset")
    assert of_run.fitted == dataset.fitted
    assert of_run.first_targets == dataset.first_targets
    assert of_run.refitted_until is None


def test_the_weights_are_those_of_the_best_epoch(run_dir):
    dataset = datasets.load(run_dir / "dataset")
    best = resume.load_arrays(run_dir / "checkpoints" / "best.npz", dataset.fingerprint)
    exported = [array for array in parent.read(run_dir).arrays if array.dtype == np.float32]
    wanted = [best[str(number)] for number in range(len(best))]
    wanted = [array for array in wanted if array.dtype == np.float32]
    for array, one in zip(exported, wanted, strict=True):
        np.testing.assert_array_equal(array, one)


@pytest.fixture
def export(run_dir, tmp_path):
    return shutil.copytree(run_dir / "export" / "1", tmp_path / "1")


def test_a_directory_without_an_export_is_refused(run_dir, tmp_path):
    with pytest.raises(InputError, match=r"^--warm_start=.*: no exported model there; name a run"):
        parent.read(tmp_path / "nothing")
    (tmp_path / "flags.txt").write_text("")
    with pytest.raises(InputError, match="trained with --outputs=all, or an export"):
        parent.read(tmp_path)


def test_an_export_that_has_changed_is_refused(export):
    variables = next(export.glob("variables/*.data-*"))
    content = bytearray(variables.read_bytes())
    content[len(content) // 2] ^= 1
    variables.write_bytes(content)
    with pytest.raises(InputError, match=r"has changed since it was exported: .*; copy it again"):
        parent.read(export)


def changed(export, name, change):
    """Rewrites a JSON document of an export, and its checksums."""
    path = export / "assets.extra" / name
    found = json.loads(path.read_text()) if path.exists() else {}
    change(found)
    path.write_text(json.dumps(found))
    weights = json.loads((export / checksums.FILE).read_text())["weights"]
    checksums.seal(export, weights)


def test_an_export_without_the_flags_of_a_run_is_refused(export):
    changed(export, "fitted.json", lambda found: found.pop("flags"))
    with pytest.raises(InputError, match="without the flags of its run; name an export that"):
        parent.read(export)


def test_a_refitted_export_tells_how_far_it_has_learned(export):
    changed(export, parent.NIGHT, lambda found: found.update({parent.REFITTED_UNTIL: 23}))
    assert parent.read(export).refitted_until == 23
