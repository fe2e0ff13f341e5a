"""What a model reads when it scores is what it read in training, whatever it is read from."""

import numpy as np
import pytest

from mmnet.data import dataset as datasets
from mmnet.data import input_tables
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.serving.inputs import DatasetSource, TableSource

AS_OF = 3  # the window begins before the first period


@pytest.fixture(scope="module")
def data(run_dir):
    """The dataset of the small run."""
    return datasets.load(run_dir / "dataset")


@pytest.mark.parametrize("of", ["tables", "dataset"])
def test_items_are_read_as_training_reads_them(data, tmp_path, of):
    found = input_tables.open_tables(data.fitted.tables)
    source = DatasetSource(data, data.fitted)
    if of == "tables":
        source = TableSource(found, data.fitted)
    source.survey(str(AS_OF), tmp_path)
    inputs = source.inputs(tmp_path)
    assert inputs.first_period == AS_OF + 1 - data.fitted.spec.window < 0
    (piece,) = inputs.pieces(len(source.items))
    read = inputs.history(piece) | inputs.static(piece)
    everyone = np.arange(len(source.items), dtype=np.int32)
    ((_, wanted),) = Windows(data).batches(Examples(everyone, np.full_like(everyone, AS_OF)))
    assert set(read) == set(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(read[name], tensor, err_msg=name)
        assert read[name].dtype == tensor.dtype.as_numpy_dtype


def test_the_key_of_static_parts_follows_their_contents(data, tmp_path):
    source = DatasetSource(data, data.fitted)
    source.survey("", tmp_path)
    inputs = source.inputs(tmp_path)
    first, second, *_ = inputs.pieces(100)
    keys = {inputs.key(first), inputs.key(first), inputs.key(second)}
    assert len(keys) == 2
