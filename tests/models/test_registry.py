import importlib
import inspect
import json
import re
from pathlib import Path

import keras
import pytest

import mmnet
from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.mma4ctr import models as clicks
from mmnet.mma4ctr.config import TrainConfig as ClicksTrainConfig
from mmnet.mma4ctr.config import check as check_clicks
from mmnet.models import REGISTRY, resolve_options
from mmnet.models.options import MMNetOptions, Options
from mmnet.tasks.building import model_options
from tests.conformance import GOLDEN

PACKAGE = Path(mmnet.__file__).parent


def layers():
    """Every Keras layer that the package defines, by its name; not what they have in common."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text("utf-8")
        if "keras.layers.Layer)" in text or "register_keras_serializable" in text:
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            module = importlib.import_module(".".join(parts))
            for name, one in vars(module).items():
                own = isinstance(one, type) and one.__module__ == module.__name__
                layer = own and issubclass(one, keras.layers.Layer)
                if layer and not issubclass(one, keras.Model) and not name.startswith("_"):
                    found[name] = one
    return found


LAYERS = layers()
NETWORKS = [name for name, builder in REGISTRY.items() if builder.kind == "network"]


def test_both_systems_layers_are_found():
    assert {"NoisyDisturbance", "HANAttention", "GatheredRows", "Factors"} <= LAYERS.keys()
    assert len(LAYERS) >= 34


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_saved_by_a_name_of_its_own(name):
    assert keras.saving.get_registered_object(f"mmnet>{name}") is LAYERS[name]


@pytest.mark.parametrize("name", sorted({*LAYERS, *NETWORKS}))
def test_every_layer_and_trained_model_is_compared_with_a_golden_file(name):
    golden = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    assert golden["outputs"]
    if name in NETWORKS:
        assert golden["weights"]
    assert any(re.search(rf"\b{name}\(", text) for text in CONFORMANCE_TESTS)


CONFORMANCE_TESTS = [
    text
    for path in Path(__file__).parents[1].rglob("test_*.py")
    if "from tests.conformance import" in (text := path.read_text("utf-8"))
    and path != Path(__file__)
]


def test_every_golden_file_is_of_a_layer_or_a_model():
    known = {*LAYERS, *REGISTRY, "mma4ctr"}
    left = {path.stem for path in GOLDEN.glob("*.json")}
    assert not {stem for stem in left if not any(_is_of(stem, name) for name in known)}


def _is_of(stem, name):
    """A golden file of a variant has the variant after the name."""
    return stem == name or stem.startswith(f"{name}_")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_model_is_built_from_the_options_that_it_is_registered_with(name):
    builder = REGISTRY[name]
    module, function = builder.function.rsplit(".", 1)
    built_by = getattr(importlib.import_module(f"mmnet.models.{module}"), function)
    parameters = inspect.signature(built_by, eval_str=True).parameters
    assert [*parameters] == ["spec", "options"]
    assert parameters["options"].annotation is builder.options


@pytest.mark.parametrize("name", clicks.REGISTRY)
def test_a_model_of_clicks_is_built_from_one_spec_and_trained_by_a_known_objective(name):
    from mmnet.mma4ctr.training.fitting import OBJECTIVES

    builder = clicks.REGISTRY[name]
    module, function = builder.function.rsplit(".", 1)
    built_by = getattr(importlib.import_module(f"mmnet.mma4ctr.models.{module}"), function)
    assert name == built_by.__name__
    spec, *others = inspect.signature(built_by, follow_wrapped=False).parameters.values()
    assert not others
    kind = {"rows": clicks.RowSpec, "numbers": clicks.NumberSpec}[builder.reads]
    assert spec.annotation in (kind, kind.__name__)
    assert builder.loss is None or builder.loss in OBJECTIVES
    assert ClicksTrainConfig(model=name).model == name
    if builder.reads == "numbers":
        with pytest.raises(InputError, match="use --protocol=c1"):
            check_clicks(ClicksTrainConfig(model=name, protocol="p0"))
    else:
        check_clicks(ClicksTrainConfig(model=name, protocol="p0"))


def test_every_option_is_explained_where_it_is_declared():
    for one in all_options():
        for name in one.__annotations__:
            assert re.search(rf"\b{name}\b", one.__doc__), (one, name)


def all_options(of=Options):
    """Every class of options, groups included."""
    return {of}.union(*(all_options(one) for one in of.__subclasses__()))


@pytest.mark.parametrize(
    ("name", "own"), [("mmnet", (1, 1, 1)), ("gru", (1, 0, 0)), ("lightgbm", (1, 0, 0))]
)
def test_a_model_trains_in_the_modes_that_it_was_published_with_unless_told(name, own):
    def weights(**given):
        builder, options = model_options(TrainConfig(model=name, **given))
        return builder.accepted(options)["mode_weights"]

    assert weights() == own
    assert weights(mode_weights=(0.5, 0.25, 0.25)) == (0.5, 0.25, 0.25)


def test_options_take_the_type_of_their_keyword():
    settings = ["units=32", "coarse_granularity=false", "noisy_rate=.3", "mode_weights=1,0,0"]
    assert resolve_options("mmnet", settings) == {
        "units": 32,
        "coarse_granularity": False,
        "noisy_rate": 0.3,
        "mode_weights": (1.0, 0.0, 0.0),
    }
    assert resolve_options("mmnet", ["tcn_filters=none"]) == {"tcn_filters": None}
    assert resolve_options("ha", ["ha_fallback=taxonomy"]) == {"ha_fallback": "taxonomy"}


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("mmnett", "units=32", r"Did you mean mmnet\?"),
        ("mmnet", "unitts=32", r"no option 'unitts'. Did you mean units\?"),
        ("mmnet", "units", "must be NAME=VALUE"),
        ("mmnet", "units=many", "--set=units=many: .*valid integer"),
        ("mmnet", "softmax_axis=tme", "'granularity' or 'time'"),
        ("last_rate", "units=32", r"available: none"),
        ("mmnet", "head=both", "'direct', 'smoothed' or 'mixed'"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(name, setting, message):
    with pytest.raises(InputError, match=message):
        resolve_options(name, [setting])


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        (
            ["head=mixed", "smoothed_history=true"],
            "`smoothed_history` must be false with head=mixed",
        ),
        (
            ["head=direct", "smoothed_history=true"],
            "`smoothed_history` must be false with head=direct",
        ),
        (
            ["head=smoothed", "smoothed_history=false"],
            "`smoothed_history` must be true with head=smoothed",
        ),
        (["head=mixed", "evidence=false"], "`evidence` must be true with head=mixed"),
    ],
)
def test_options_that_contradict_each_other_are_one_clear_sentence(settings, rule):
    with pytest.raises(InputError) as caught:
        resolve_options("gru", settings)
    assert str(caught.value) == f"--model=gru, --set: {rule}"


def test_a_smoothed_history_is_the_smoothed_head():
    found = MMNetOptions(smoothed_history=True)
    assert found == MMNetOptions(head="smoothed")
    assert (found.head, MMNetOptions(smoothed_history=False).head) == ("smoothed", "direct")
    assert MMNetOptions(head="mixed").evidence
