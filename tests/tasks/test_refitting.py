"""How far a refitted model is from the compared one; tests of whole nights are slow."""

from types import SimpleNamespace

import pytest

from mmnet.config import PredictConfig
from mmnet.serving import exported
from mmnet.tasks import comparing, refitting


@pytest.fixture(scope="module")
def judged(several_outputs):
    tables = {name: f"{several_outputs / name}.parquet" for name in ("counts", "items")}
    flags = PredictConfig(saved_model=str(several_outputs / "export"), **tables)
    (found,), _ = comparing._judged(flags, (flags.saved_model,))
    return found


def test_a_model_is_at_no_distance_from_itself(judged):
    found = refitting.distance(judged, judged, periods=2)
    # Golden rows are scores of the Keras model, with other orders of float32 sums.
    assert found.scores < 1e-5
    assert found.error == 0


def test_the_output_that_has_moved_most_is_the_distance(judged, monkeypatch):
    load = refitting.bundle.load

    def moved(path, kind):
        loaded, about = load(path, kind)

        def signature(**inputs):
            found = dict(loaded.signatures["raw_columns"](**inputs))
            return found | {"predicted_like_h3": found["predicted_like_h3"] + 3.0}

        return SimpleNamespace(signatures={"raw_columns": signature}), about

    monkeypatch.setattr(refitting.bundle, "load", moved)
    scale = exported.scales(judged.about.fitted.spec)["predicted_like_h3"]
    found = refitting.distance(judged, judged, periods=2)
    assert found.scores == pytest.approx(3.0 / scale, rel=1e-4)
