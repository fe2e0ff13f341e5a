import keras
import numpy as np
import pytest

from mmnet.models import REGISTRY
from mmnet.models.mmnet import explained, fusion_names, mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import OF_PERIODS, FeatureSpec, TextSpec, VectorSpec
from mmnet.serving.halves import STATIC, WIDEST, halves
from tests.models.tiny import SPEC, batch

SMALL = {"units": 8, "field_width": 4}
THREE_TEXTS = SPEC.model_copy(
    update={
        "texts": (*SPEC.texts, TextSpec(name="tags", size=9, max_tokens=3)),
        "vectors": (*SPEC.vectors, VectorSpec(name="body", dim=5, of="text")),
    }
)
BARE = FeatureSpec(window=6, horizon=1, taxonomies=("category",))
ZOO = [
    ("mmnet", {}),
    ("mmnet", {"coarse_granularity": False, "evidence": True}),
    ("mmnet", {"smoothed_history": True, "link": "logit", "shared_embedding": True}),
    (
        "mmnet",
        {
            "dropout": 0.1,
            "content_dropout": 0.3,
            "modality_dropout": 0.2,
            "two_granularities": True,
        },
    ),
    ("mmnet", {"taxonomy_flags": False, "softmax_axis": "time", "adaptive_modes": "evidence"}),
    ("gru", {"gru_mask": True, "gru_units": 12}),
    ("gru", {"smoothed_history": True}),
    ("mmnet", {"head": "mixed", "link": "logit"}),
    ("encoder_decoder", {}),
    ("mmved", {"prior_expert": True}),
    ("dftc", {"evidence": True}),
    ("transformer", {"head": "mixed", "dropout": 0.1}),
]


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def named(inputs, half):
    """The part of a batch that a half reads."""
    return {name: inputs[name] for name in half.input if name != STATIC}


def joined(parts, inputs):
    """What the two halves give, one after the other, as arrays."""
    static, dynamic = parts
    kept = np.asarray(static(named(inputs, static), training=False))
    found = dynamic({**named(inputs, dynamic), STATIC: kept}, training=False)
    return [np.asarray(one) for one in keras.tree.flatten(found)]


def awake(model):
    """Gives every weight a value: zeros (of absent modalities, say) would hide a lost input."""
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.05 * draw.normal(size=variable.shape))
    return model


@pytest.mark.parametrize(
    ("policy", "spec"),
    [("float32", THREE_TEXTS), ("mixed_bfloat16", SPEC)],
    indirect=["policy"],
    ids=["float32, three texts", "mixed_bfloat16, one text"],
)
@pytest.mark.parametrize(("name", "options"), ZOO)
def test_two_halves_are_the_whole_to_the_bit(name, options, spec, policy):
    model = awake(REGISTRY[name](spec, **SMALL, **options))
    whole = explained(model) or model  # the gate's weights too, where there is a gate
    inputs = batch(spec, 7)
    inputs["text_title"][:3] = 0  # some without a title
    parts = halves(whole, spec)
    assert parts[0].output.dtype == "float32"
    assert {variable.path for part in parts for variable in part.variables} == {
        variable.path for variable in model.variables
    }
    wanted = [np.asarray(one) for one in keras.tree.flatten(whole(inputs, training=False))]
    # The same operations on the same numbers; float32 holds every bfloat16.
    for found, one in zip(joined(parts, inputs), wanted, strict=True):
        np.testing.assert_array_equal(found, one)


def test_each_half_reads_its_own_inputs_only():
    static, dynamic = halves(mmnet(SPEC, MMNetOptions(**SMALL)), SPEC)
    assert set(dynamic.input) == {STATIC} | OF_PERIODS & set(SPEC.tensors())
    assert set(static.input) == set(SPEC.tensors()) - OF_PERIODS


def test_mmnet_keeps_a_vector_and_a_flag_for_each_modality():
    static, _ = halves(mmnet(SPEC, MMNetOptions()), SPEC)
    assert static.output.shape == (None, 3 * (64 + 1))  # meta features, title, cover


def test_the_halves_share_the_weights_of_the_model():
    model = mmnet(SPEC, MMNetOptions(**SMALL))
    parts, inputs = halves(model, SPEC), batch()
    before = joined(parts, inputs)
    awake(model)
    (after,) = joined(parts, inputs)
    np.testing.assert_array_equal(after, model(inputs, training=False))
    assert not np.array_equal(before[0], after)


def test_the_model_itself_stays_as_it_was(tmp_path):
    model, inputs = mmnet(SPEC, MMNetOptions(**SMALL)), batch()
    config, wanted = model.get_config(), np.asarray(model(inputs, training=False))
    names = fusion_names(model)
    halves(explained(model), SPEC)
    assert model.get_config() == config
    assert fusion_names(model) == names == ["history", "meta", "text_title", "vector_cover"]
    np.testing.assert_array_equal(model(inputs, training=False), wanted)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(inputs, training=False), wanted)


def test_without_content_there_is_nothing_to_cut():
    assert halves(mmnet(BARE, MMNetOptions(**SMALL)), BARE) is None


def functional(spec, outputs):
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name)
        for name, (shape, dtype) in spec.tensors().items()
    }
    return keras.Model(inputs, outputs(inputs))


def test_content_that_the_network_does_not_read_is_not_kept():
    def outputs(inputs):
        return keras.ops.sum(inputs["share_rate"], axis=-1)

    assert halves(functional(SPEC, outputs), SPEC) is None


def test_a_cut_through_the_inputs_themselves_saves_nothing():
    def outputs(inputs):
        read = keras.layers.Concatenate()([inputs["share_rate"], inputs["vector_cover"]])
        return keras.layers.Dense(1)(read)

    assert halves(functional(SPEC, outputs), SPEC) is None


@pytest.mark.parametrize(("width", "worth"), [(WIDEST, True), (WIDEST + 1, False)])
def test_a_cut_that_is_wider_than_it_is_worth_is_not_made(width, worth):
    def outputs(inputs):
        wide = keras.layers.Dense(width, use_bias=False)(inputs["vector_cover"])
        rate = keras.ops.sum(inputs["share_rate"], axis=-1, keepdims=True)
        return keras.ops.sum(rate * wide, axis=-1)

    model = functional(SPEC, outputs)
    parts = halves(model, SPEC)
    assert (parts is not None) == worth
    if parts:
        np.testing.assert_array_equal(joined(parts, batch())[0], model(batch()))


def test_a_cut_keeps_shapes():
    def outputs(inputs):
        matrix = keras.layers.Reshape((2, 3))(keras.layers.Dense(6)(inputs["vector_cover"]))
        return keras.ops.matmul(matrix, keras.ops.reshape(inputs["share_rate"], (-1, 3, 2)))

    model = functional(SPEC, outputs)
    parts, inputs = halves(model, SPEC), batch()
    assert parts[0].output.shape == (None, 6)
    np.testing.assert_array_equal(joined(parts, inputs)[0], model(inputs))


def test_what_depends_on_the_item_alone_needs_no_cut():
    def outputs(inputs):
        cover = keras.layers.Dense(6)(inputs["vector_cover"])
        return {"cover": cover, "product": cover * inputs["share_rate"]}

    assert halves(functional(SPEC, outputs), SPEC) is None


def test_ids_are_not_kept_as_floats():
    def outputs(inputs):
        ids = keras.ops.maximum(inputs["text_title"], 1)  # int32: float32 ends at 2^24
        cover = keras.layers.Dense(4)(inputs["vector_cover"])
        return ids * cover * inputs["share_rate"][:, :4]

    def read_as_they_are(inputs):
        cover = keras.layers.Dense(4)(inputs["vector_cover"])
        return inputs["text_title"] * inputs["share_rate"][:, :4] * cover

    assert halves(functional(SPEC, outputs), SPEC) is not None  # their product is a float
    assert halves(functional(SPEC, read_as_they_are), SPEC) is None


def test_a_model_of_other_inputs_is_refused():
    with pytest.raises(ValueError, match="tensors of `spec`"):
        halves(mmnet(BARE, MMNetOptions(**SMALL)), SPEC)
