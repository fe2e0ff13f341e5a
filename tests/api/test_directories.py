import pytest

import mmnet
from mmnet.api.directories import ExportDirectory, RunDirectory
from mmnet.mma4ctr.tasks import RUNS
from mmnet.training.run_directory import SHARE_RATES


class Clicks(RunDirectory):
    KIND = RUNS


class ShareRates(RunDirectory):
    KIND = SHARE_RATES


@pytest.mark.parametrize("kind", [Clicks, ShareRates])
def test_a_run_has_its_files_and_a_sentence_for_those_it_lacks(tmp_path, kind):
    (tmp_path / "flags.txt").write_text("--seed=3\n")
    run = kind.open(tmp_path)
    assert run.flags.seed == 3
    for read in (lambda: run.record, lambda: run.table, lambda: run.predictions, run.report):
        with pytest.raises(mmnet.InputError, match="does not exist; finish the run, or evaluate"):
            read()
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "report.html").touch()
    assert run.report() == tmp_path / "evaluation" / "report.html"
    (tmp_path / "evaluation" / "metrics.json").write_text("{")
    with pytest.raises(mmnet.InputError, match=r"metrics\.json is damaged; evaluate the run again"):
        run.metrics  # noqa: B018
    with pytest.raises(mmnet.InputError, match="contains no run"):
        kind.open(tmp_path / "evaluation")


def test_an_export_is_verified_by_the_task_of_its_system(tmp_path):
    asked = []

    class Export(ExportDirectory):
        VERIFY = mmnet.Export.VERIFY

        @staticmethod
        def _predict():
            return asked.append

    export = Export(tmp_path)
    export.verify()
    (flags,) = asked
    assert (flags.saved_model, flags.verify) == (str(tmp_path), True)
    assert repr(export) == f"Export({str(tmp_path)!r})"
