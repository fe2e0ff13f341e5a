import keras
import numpy as np
import pytest

import mmnet
from mmnet.api import networks
from mmnet.data import dataset as datasets
from mmnet.models import REGISTRY

TINY = {"units": 4, "field_width": 2}


@pytest.fixture(scope="module")
def dataset(run_dir):
    return mmnet.Dataset(datasets.load(run_dir / "dataset"))


def test_every_network_of_the_registry_is_in_the_api():
    built = {name for name, one in REGISTRY.items() if one.kind == "network"}
    assert {name.replace("_", "") for name in built} == {n.lower() for n in networks.__all__}
    assert set(networks.__all__) < set(mmnet.__all__)


@pytest.mark.slow
def test_a_network_is_an_ordinary_keras_model(dataset, tmp_path):
    model = mmnet.GRU(dataset, **TINY, seed=1)
    model.compile("adam", "mse", jit_compile=False)
    train = dataset.batches("train", 256, shuffle_seed=0).take(4)
    before = model.evaluate(train, verbose=0)
    model.fit(train, epochs=2, verbose=0)
    assert model.evaluate(train, verbose=0) < before
    model.save(tmp_path / "model.keras")
    inputs, _ = next(iter(dataset.batches("test", 32)))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(inputs), model(inputs))


def test_a_spec_is_enough_and_options_are_those_of_the_model(dataset):
    model = mmnet.MMNet(dataset.spec, **TINY)
    assert set(model.input) == set(dataset.spec.tensors())
    with pytest.raises(mmnet.InputError, match="mmnet has no option 'unit'"):
        mmnet.MMNet(dataset, unit=4)
    with pytest.raises(mmnet.InputError, match="units: input should be a valid integer"):
        mmnet.MMNet(dataset, units="many")
