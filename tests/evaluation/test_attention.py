import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from mmnet.evaluation.attention import Attention
from mmnet.evaluation.scenarios import disturb
from mmnet.models.dftc import dftc
from mmnet.models.mmnet import attention_probe, mmnet
from mmnet.models.mmved import mmved
from mmnet.models.options import DftcOptions, MMNetOptions, MmvedOptions
from mmnet.schema import TextSpec, VectorSpec
from tests.models.tiny import SPEC, batch

SMALL = {"units": 4, "field_width": 2}


class Examples:
    """Stands for a `ScenarioSet` of two scenarios and four examples."""

    hidden = {"normal": np.zeros((4, 6), bool), "cold_start": np.ones((4, 6), bool)}

    def __init__(self, spec=SPEC):
        self.inputs = {name: tf.constant(array) for name, array in batch(spec).items()}

    def outputs(self, scenario, predict):
        return predict(disturb(self.inputs, self.hidden[scenario]))

    def keys(self):
        return pd.DataFrame({"item_id": list("abcd"), "period": [7, 7, 8, 8]})


def test_names_the_mean_weight_of_each_modality():
    attention = Attention(dftc(SPEC, DftcOptions(**SMALL)), SPEC, jit=False)
    found = attention.named(attention.look(Examples())[1])
    modalities = ("history_long", "history_short", "meta", "text_title", "vector_cover")
    assert list(found) == [
        f"fusion/{scenario}/{name}" for scenario in Examples.hidden for name in modalities
    ]
    # Five float32 means, each of four weights.
    assert abs(sum(found.values()) - 2) < 1e-5


def test_a_head_of_several_parts_shows_what_each_of_them_counts_for():
    model, examples = mmnet(SPEC, MMNetOptions(head="mixed", **SMALL)), Examples()
    attention = Attention(model, SPEC, jit=False)
    assert {"head", "fusion", "prior_fusion"} <= set(attention.kinds)
    _, looks = attention.look(examples)
    means = attention.means(looks)
    assert list(means["normal"]["head"]) == ["own_clicks", "prior", "direct"]
    assert next(iter(means["normal"]["prior_fusion"])) == "taxonomies"
    # Without a history there are no clicks of its own; the direct part has 0.5 at the start.
    assert means["cold_start"]["head"] == {"own_clicks": 0, "prior": 0.5, "direct": 0.5}
    assert means["normal"]["head"]["own_clicks"] > 0.1
    frame = attention.frame(examples, looks)
    assert frame["head_own_clicks"].tolist()[4:] == [0] * 4
    assert "prior_fusion_taxonomies" in frame


def test_a_model_that_attends_to_nothing_has_nothing_to_show():
    attention = Attention(mmved(SPEC, MmvedOptions(**SMALL)), SPEC, jit=False)
    assert attention.kinds == ()
    assert attention.named(attention.look(Examples())[1]) == {}


def test_predicts_what_the_model_does():
    model, examples = mmnet(SPEC, MMNetOptions(**SMALL)), Examples()
    attention = Attention(model, SPEC, jit=False)
    predicted, _ = attention.look(examples)
    for scenario, hidden in Examples.hidden.items():
        inputs = disturb(examples.inputs, hidden)
        # The same operations, compiled apart: a few units in the last place.
        np.testing.assert_allclose(predicted[scenario], model(inputs), rtol=1e-5)
        np.testing.assert_array_equal(predicted[scenario], attention.predict(inputs))


@pytest.fixture(scope="module")
def looked():
    """A network of every kind of attention, with a taxonomy of an awkward name."""
    spec = SPEC.model_copy(
        update={
            "taxonomies": ("item", "tags"),
            "texts": (TextSpec(name="title", size=20, max_tokens=4),),
            "vectors": (VectorSpec(name="body", dim=3, of="text"), *SPEC.vectors),
        }
    )
    model, examples = mmnet(spec, MMNetOptions(**SMALL)), Examples(spec)
    attention = Attention(model, spec, jit=False)
    _, looks = attention.look(examples)
    return model, examples, attention.means(looks), attention.frame(examples, looks)


def test_a_row_per_example_holds_every_weight(looked):
    model, examples, _, frame = looked
    steps = [f"t-{back}" for back in (5, 4, 3, 2, 1, 0)]
    fusion = [f"fusion_{name}" for name in ("history", "meta", "context", "vector_cover")]
    granularities = ("item", "taxonomy_item", "tags")
    assert list(frame) == [
        *("scenario", "item_id", "period"),
        *fusion,
        *(f"temporal_{step}" for step in steps),
        *("context_title", "context_body"),
        *(f"granularity_{name}_{step}" for name in granularities for step in steps),
    ]
    assert frame["scenario"].tolist() == ["normal"] * 4 + ["cold_start"] * 4
    assert frame["item_id"].tolist() == list("abcd") * 2
    cold = attention_probe(model)(disturb(examples.inputs, np.ones((4, 6), bool)))
    rows = frame[frame["scenario"] == "cold_start"]
    # The same weights; a batch filled up sums in another order.
    np.testing.assert_allclose(rows[fusion], cold["fusion"], rtol=1e-5)
    third = np.asarray(cold["granularity"])[:, 3, 2]  # the second taxonomy, two steps back
    np.testing.assert_allclose(rows["granularity_tags_t-2"], third, rtol=1e-5)


def test_means_are_those_of_the_rows(looked):
    _, _, means, frame = looked
    assert list(means) == ["normal", "cold_start"]
    for scenario, rows in frame.groupby("scenario"):
        for kind in ("fusion", "temporal", "context"):
            for name, mean in means[scenario][kind].items():
                assert rows[f"{kind}_{name}"].mean() == pytest.approx(mean, rel=1e-5)
        over_steps = rows.filter(like="granularity_tags_").to_numpy().mean()
        assert means[scenario]["granularity"]["tags"] == pytest.approx(over_steps, rel=1e-5)
