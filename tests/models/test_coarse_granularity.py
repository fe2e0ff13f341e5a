"""Eq. 3, 5 and 6 against loops: as they are by default, and to the letter."""

import keras
import numpy as np
import pytest

from mmnet.evaluation import scenarios
from mmnet.models import REGISTRY
from mmnet.models.mmnet import granularity_names, mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import FeatureSpec
from tests.conformance import check_model
from tests.models.tiny import SEVERAL as FULL
from tests.models.tiny import batch

NETWORKS = [
    "gru",  # with the mixed head; the equations of mmnet are below
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("mmnet", "encoder_decoder", "mmved", "dftc", "transformer")
    ),
]
SMALL = {"units": 4, "field_width": 2}
SEVERAL = FULL.model_copy(update={"fields": (), "numerics": (), "texts": (), "vectors": ()})
SPEC = SEVERAL.model_copy(update={"horizons": (), "rates": ()})
EVIDENCE, SEVERAL_EVIDENCE = (
    spec.model_copy(update={"taxonomy_evidence": True}) for spec in (SPEC, SEVERAL)
)
SHARED, TWO = {"shared_embedding": True}, {"two_granularities": True}


def network(spec=SPEC, **options):
    """A network whose biases are not 0, as a trained one's."""
    model = mmnet(spec, MMNetOptions(**SMALL | options))
    attention = model.get_layer("granularity_attention")
    attention.bias.assign(0.1 * np.arange(1, 1 + attention.bias.shape[0]))
    return model


def weights(model, layer):
    return {weight.name: np.asarray(weight) for weight in model.get_layer(layer).weights}


def by_hand(model, inputs, spec, options):
    """h^mg and the weights of the attention, of every example and step."""
    rates = [("", spec.rate_scale, ""), *((r.name, r.rate_scale, "_of_like") for r in spec.rates)]
    attention = weights(model, "granularity_attention")
    pooled, shares = [], []
    for row, step in np.ndindex(inputs["share_rate"].shape):
        item, taxonomies = np.zeros(4), np.zeros((2, 4))
        for rate, sd, suffix in rates:
            names = spec.sequences(rate)
            of_step = {name: inputs[names[name]][row, step] for name in names}
            own = weights(model, f"sequence_embedding{suffix}")
            item += of_step["share_rate"] / sd * own["value_vectors"][step]
            item += own["flag_vectors"][int(of_step["missing_flag"])]
            if options.get("evidence"):
                item += np.log(1 + of_step["clicks"]) * own["evidence_vectors"][step]
            for k in range(2):
                known = of_step.get("taxonomy_evidence", np.ones(2))[k] >= 0
                if options.get("shared_embedding"):
                    value, flags = own["value_vectors"][step], own["flag_vectors"]
                else:
                    its = weights(model, f"taxonomy_embedding{suffix}")
                    value = its["value_vectors"][step, k]
                    flags = its["flag_vectors"][:, k] if "flag_vectors" in its else None
                taxonomies[k] += known * of_step["taxonomy_rate"][k] / sd * value
                if options.get("taxonomy_flags", True):
                    taxonomies[k] += flags[int(of_step["taxonomy_missing_flag"][k]) if known else 1]
                if "taxonomy_evidence" in of_step and known:
                    its = weights(model, f"taxonomy_evidence_embedding{suffix}")
                    evidence = np.log(1 + of_step["taxonomy_evidence"][k])
                    taxonomies[k] += evidence * its["value_vectors"][step, k]
        others = [(taxonomies[0] + taxonomies[1]) / 2]
        granularities = [item, *(others if options.get("two_granularities") else taxonomies)]
        hidden = [np.tanh(x @ attention["kernel"] + attention["bias"]) for x in granularities]
        scores = np.array([np.exp((u @ attention["context"])[0]) for u in hidden])
        shares.append(scores / scores.sum())
        pooled.append(sum(a * x for a, x in zip(shares[-1], granularities, strict=True)))
    return np.array(pooled), np.array(shares)


@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (SPEC, {}),
        (SPEC, SHARED | {"evidence": True}),
        (SPEC, SHARED | {"taxonomy_flags": False}),
        (SPEC, TWO),
        (SEVERAL, SHARED | TWO),
        (SEVERAL_EVIDENCE, SHARED),
    ],
)
def test_a_step_is_what_the_equations_say(spec, options):
    model, inputs = network(spec, **options), batch(spec, examples=3)
    if spec.taxonomy_evidence:
        inputs["taxonomy_evidence"][0, ::2] = -1
    layer = model.get_layer("granularity_attention")
    found = keras.Model(model.input, layer.output)(inputs)
    # Sums of some ten products of about 1 in float32.
    for one, expected in zip(found, by_hand(model, inputs, spec, options), strict=True):
        one = np.asarray(one).reshape(expected.shape)
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)
    own = "taxonomy_embedding" in {one.name for one in model.layers}
    assert own != ("shared_embedding" in options)
    assert granularity_names(model, spec.taxonomies) == (
        ["item", "taxonomies"] if "two_granularities" in options else ["item", "category", "tags"]
    )


def test_a_prior_beside_a_hidden_history_learns_the_shared_vectors_from_taxonomies():
    # With four hidden units a head may read nothing at all.
    model, inputs = network(**SHARED, head="smoothed", units=8), batch(SPEC)
    prior = keras.Model(model.input, model.get_layer("prior_share_rate").output)
    before = np.asarray(prior(inputs))
    inputs["share_rate"] += 1
    np.testing.assert_array_equal(prior(inputs), before)
    inputs["taxonomy_rate"] += 1
    assert (np.asarray(prior(inputs)) != before).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_reads_the_evidence_and_hides_a_mean_without_it(name):
    head = {"head": "mixed"} if name in ("gru", "transformer") else {}
    model = REGISTRY[name](EVIDENCE, units=8, field_width=2, **head)
    inputs = batch(EVIDENCE, examples=4)
    inputs["taxonomy_missing_flag"][:] = 0
    before = np.asarray(model(inputs))
    more = inputs | {"taxonomy_evidence": inputs["taxonomy_evidence"] * 9 + 5}
    assert (np.asarray(model(more)) != before).all()
    unknown = inputs | {"taxonomy_evidence": np.full_like(inputs["taxonomy_evidence"], -1)}
    gone = scenarios.remove(inputs, scenarios.outages(EVIDENCE)["taxonomies"])
    hidden = np.asarray(model(unknown))
    wanted = model({name: np.asarray(tensor) for name, tensor in gone.items()})
    np.testing.assert_array_equal(hidden, wanted)
    none = inputs | {"taxonomy_evidence": np.zeros_like(inputs["taxonomy_evidence"])}
    assert (hidden != before).all()
    assert (hidden != np.asarray(model(none))).all()


def test_the_prior_of_the_mixed_head_reads_the_evidence():
    model, inputs = network(EVIDENCE, head="mixed", units=8), batch(EVIDENCE)
    prior = keras.Model(model.input, model.get_layer("prior_mlp").output)
    more = inputs | {"taxonomy_evidence": inputs["taxonomy_evidence"] * 9 + 5}
    assert (np.asarray(prior(inputs)) != np.asarray(prior(more))).any(axis=1).all()


def test_a_network_that_reads_no_taxonomies_reads_no_evidence():
    model, inputs = (
        mmnet(EVIDENCE, MMNetOptions(coarse_granularity=False, **SMALL)),
        batch(EVIDENCE),
    )
    more = inputs | {"taxonomy_evidence": inputs["taxonomy_evidence"] + 7}
    np.testing.assert_array_equal(model(inputs), model(more))


def test_a_single_taxonomy_is_one_granularity_already():
    one = SPEC.model_copy(update={"taxonomies": ("item",)})
    assert granularity_names(network(one, **TWO), one.taxonomies) == ["item", "taxonomy_item"]


@pytest.mark.parametrize("option", ["shared_embedding", "two_granularities"])
def test_what_needs_taxonomies_is_refused_without_them(option):
    sentence = f"`{option}` reads the means of taxonomies; set --coarse_granularity=true"
    bare = FeatureSpec(window=6, horizon=1)
    for spec, options in ((bare, {}), (SPEC, {"coarse_granularity": False})):
        with pytest.raises(ValueError, match=sentence):
            mmnet(spec, MMNetOptions(**{option: True}, **options))


def test_the_module_conforms(tmp_path):
    model = network(seed=0, evidence=True, **SHARED, **TWO)
    module = keras.Model(model.input, model.get_layer("granularity_attention").output)
    check_model(module, batch(SPEC), tmp_path=tmp_path, golden="mmnet_literal_steps")


@pytest.mark.slow
def test_the_network_conforms(tmp_path):
    model = mmnet(FULL, MMNetOptions(seed=0, evidence=True, **SHARED, **TWO, **SMALL))
    check_model(model, batch(FULL), tmp_path=tmp_path, golden="mmnet_literal")
