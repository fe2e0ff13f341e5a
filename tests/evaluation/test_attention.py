import tensorflow as tf

from mmnet.evaluation.attention import AttentionMeans
from mmnet.models.dftc import dftc
from mmnet.models.mmved import mmved
from tests.models.tiny import SPEC, batch

SMALL = {"units": 4, "field_width": 2}


class Examples:
    """Stands for a `ScenarioSet` of one scenario."""

    hidden = ("normal",)

    def outputs(self, scenario, predict):
        return predict({name: tf.constant(array) for name, array in batch().items()})


def test_names_the_mean_weight_of_each_modality():
    found = AttentionMeans(dftc(SPEC, **SMALL), SPEC, jit=False)(Examples())
    modalities = ("history_long", "history_short", "meta", "text_title", "vector_cover")
    assert list(found) == [f"fusion/normal/{name}" for name in modalities]
    # Five float32 means, each of four weights.
    assert abs(sum(found.values()) - 1) < 1e-5


def test_a_model_that_attends_to_nothing_has_nothing_to_show():
    assert AttentionMeans(mmved(SPEC, **SMALL), SPEC, jit=False)(Examples()) == {}
