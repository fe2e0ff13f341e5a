import importlib
import inspect
import pkgutil
import re

import keras
import pytest

import mmnet.layers
import mmnet.models
from mmnet.checks import InputError
from mmnet.models import REGISTRY, resolve_options
from mmnet.models.options import Options
from tests.conformance import GOLDEN


def registered_layers():
    """Names of all Keras layers that layers/ and models/ define."""
    for package in (mmnet.layers, mmnet.models):
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    return [
        one.__name__
        for one in keras.saving.get_custom_objects().values()
        if one.__module__.startswith(("mmnet.layers.", "mmnet.models."))
        and issubclass(one, keras.layers.Layer)
    ]


@pytest.mark.parametrize(
    "name",
    sorted({*registered_layers(), *(n for n, one in REGISTRY.items() if one.kind == "network")}),
)
def test_every_layer_and_trained_model_has_a_golden_file(name):
    assert (GOLDEN / f"{name}.json").exists()


@pytest.mark.parametrize("name", REGISTRY)
def test_a_model_is_built_from_the_options_that_it_is_registered_with(name):
    builder = REGISTRY[name]
    module, function = builder.function.rsplit(".", 1)
    built_by = getattr(importlib.import_module(f"mmnet.models.{module}"), function)
    parameters = inspect.signature(built_by, eval_str=True).parameters
    assert [*parameters] == ["spec", "options"]
    assert parameters["options"].annotation is builder.options


def test_every_option_is_explained_where_it_is_declared():
    for one in all_options():
        for name in one.__annotations__:
            assert re.search(rf"\b{name}\b", one.__doc__), (one, name)


def all_options(of=Options):
    """Every class of options, groups included."""
    return {of}.union(*(all_options(one) for one in of.__subclasses__()))


def test_published_mode_weights():
    assert REGISTRY["mmnet"].published_mode_weights == (1, 1, 1)
    assert REGISTRY["ha"].published_mode_weights == (1, 0, 0)


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
        ("mmnet", "units", "takes name=value"),
        ("mmnet", "units=many", "--set=units=many: .*valid integer"),
        ("mmnet", "softmax_axis=tme", "'granularity' or 'time'"),
        ("last_rate", "units=32", r"it has: none"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(name, setting, message):
    with pytest.raises(InputError, match=message):
        resolve_options(name, [setting])
