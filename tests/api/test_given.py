import contextlib
import datetime
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmnet.api.given import flags_of, in_memory, silent
from mmnet.checks import InputError
from mmnet.config import PredictConfig, PrepareConfig, TrainConfig
from mmnet.console import console

FRAME = pd.DataFrame({"item_id": ["a", "b"], "n": [1, 2]})


def written(table):
    with flags_of(PrepareConfig, {"items": table}) as flags:
        return pq.read_table(flags.items)


def test_tables_in_memory_are_files_while_the_context_lasts_and_paths_stay():
    tables = {"counts": FRAME, "items": pa.table({"item_id": ["a"]}), "vectors": {"cover": FRAME}}
    with flags_of(PrepareConfig, tables | {"dataset_dir": Path("some/where")}) as flags:
        assert pq.read_table(flags.counts).to_pandas().equals(FRAME)
        assert pq.read_table(flags.items).to_pydict() == {"item_id": ["a"]}
        ((name, cover),) = [one.split(":") for one in flags.vectors]
        assert (name, pq.read_table(cover).num_rows) == ("cover", 2)
        assert flags.dataset_dir == "some/where"
    assert not Path(flags.counts).exists()
    with flags_of(PrepareConfig, {"counts": "a/*.csv", "vectors": {"cover": "c.parquet"}}) as flags:
        assert (flags.counts, flags.vectors) == ("a/*.csv", ("cover:c.parquet",))


def test_an_index_with_a_name_is_a_column_and_periods_are_times():
    frame = FRAME.set_index("item_id").assign(day=pd.period_range("2024-01-01", periods=2))
    assert written(frame).to_pydict() == {
        "item_id": ["a", "b"],
        "n": [1, 2],
        "day": [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)],
    }
    assert written(FRAME[::-1]).column_names == ["item_id", "n"]  # the index has no name


def test_options_are_flags():
    given = {"taxonomies": ["a", "b"], "texts": "title", "source_set": {"items": 5, "x": None}}
    given |= {"set": {"evidence": True, "tcn_filters": (8, 4)}, "epochs": 3, "seed": None}
    with flags_of(TrainConfig, given) as flags:
        assert (flags.taxonomies, flags.texts) == (("a", "b"), ("title",))
        assert flags.source_set == ("items=5", "x=none")
        assert flags.set == ("evidence=true", "tcn_filters=8,4")
        assert (flags.epochs, flags.seed) == (3, 0)
        assert flags.model_fields_set == {"taxonomies", "texts", "source_set", "set", "epochs"}


@pytest.mark.parametrize("at", [pd.Timestamp(2024, 5, 1, 13), "2024-05-01T13:00:00"])
def test_periods_are_given_as_tables_have_them(at):
    with flags_of(PredictConfig, {"as_of": at}) as flags:
        assert flags.as_of == "2024-05-01T13:00:00"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"taxonomys": "a"}, "there is no option 'taxonomys'. Did you mean taxonomies?"),
        ({"window": 0}, "--window: input should be greater than or equal to 1. Received: 0"),
        ({"items": 5}, "items must be a path, a pandas DataFrame or an Arrow table. Received: int"),
        (
            {"items": pd.DataFrame({"x": [1, "a"]})},
            "items table, column 'x': its values have no type in common: ",
        ),
        (
            {"counts": pd.DataFrame(np.zeros((1, 2)), columns=["x", "x"])},
            "counts table has two columns called 'x'; rename one",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(options, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)), flags_of(PrepareConfig, options):
        pass


def test_tells_tables_in_memory_from_files():
    assert in_memory({"items": FRAME})
    assert in_memory({"items": "i.csv", "vectors": {"cover": pa.table({"item_id": ["a"]})}})
    assert not in_memory({"items": Path("i.csv"), "counts": None, "vectors": {"cover": "c.csv"}})


def test_silence_ends_also_after_a_failure(capsys):
    with contextlib.suppress(KeyError), silent(False):
        console.print("unheard")
        raise KeyError
    with silent(True):
        console.print("heard")
    assert capsys.readouterr().out == "heard\n"
