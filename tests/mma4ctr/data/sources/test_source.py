import dataclasses
import inspect

import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr import config
from mmnet.mma4ctr.data import dataset, sources
from mmnet.mma4ctr.data.sources import SOURCES
from mmnet.mma4ctr.data.sources.source import Label

SOURCE = pytest.mark.parametrize("name", SOURCES)
SMALL = ("users=20", "feeds=30", "rows=400", "rate=0.3", "text_scale=0.002")


@SOURCE
def test_help_names_every_source_its_labels_and_its_fewest_rows(name):
    fields = config.InteractionFlags.model_fields
    assert name in fields["source"].description
    assert all(label in fields["label"].description for label in SOURCES[name].labels)
    assert f"{SOURCES[name].min_rows} for {name}" in fields["min_rows"].description


@SOURCE
def test_the_columns_of_a_label_are_in_the_log_and_decide_it(name):
    source = SOURCES[name]
    for label in source.labels.values():
        assert set(label.columns) <= set(source.layout.names or label.columns)
        every = dict.fromkeys(label.columns, 1)
        assert label.positive(every)
        assert not label.positive(dict.fromkeys(every, 0))


@pytest.mark.parametrize("name", [name for name, one in SOURCES.items() if one.generator])
def test_a_generator_has_options_with_defaults_and_a_seed(name):
    source = SOURCES[name]
    directory, *options = inspect.signature(source.generator).parameters.values()
    assert directory.name == "directory"
    options = options[len(source.generated) :]
    assert all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in options)
    assert "seed" in {one.name for one in options}


def test_an_option_out_of_range_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"--generate: .*`rate`"):
        SOURCES["tiktok"].generate(tmp_path, {"rate": 2.0})


def test_an_entry_is_all_that_a_source_of_files_that_are_read_already_needs(tmp_path, monkeypatch):
    """A log of WeChat's layout whose positive rows are those with a like, read by its entry."""
    liked = Label(("like",), lambda log: log["like"] == 1)
    other = dataclasses.replace(SOURCES["wechat"], labels={"like": liked}, min_rows=2)
    monkeypatch.setitem(sources.SOURCES, "other", other)
    flags = config.InteractionFlags(source="other", generate=SMALL)
    made = dataset.prepare(flags, tmp_path / "other")
    assert (made.spec.source, made.spec.label, made.spec.min_rows) == ("other", "like", 2)
    assert 0 < made.label.mean() < 1
    assert dataset.load(tmp_path / "other").source is other
