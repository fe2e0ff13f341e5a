import numpy as np
import pandas as pd
import pytest

import mmnet
from mmnet import config
from mmnet.data import dataset as datasets
from mmnet.data import input_tables, pipeline
from mmnet.data.windows import Windows
from mmnet.evaluation.predicting import ScenarioSet
from mmnet.flags import build

SMALL = {"window": 3, "min_target_clicks": 1, "min_test_rows": 1, "taxonomies": ["category"]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    rng = np.random.default_rng(0)
    who, when = np.divmod(np.arange(30 * 16), 16)
    counts = pd.DataFrame({"item_id": [f"i{i}" for i in who], "period": when})
    counts["clicks"] = rng.integers(0, 30, len(counts))
    counts["shares"] = rng.binomial(counts["clicks"], 0.2)
    ids = [f"i{i}" for i in range(30)]
    items = pd.DataFrame({"item_id": ids, "category": rng.choice(["x", "y"], 30)})
    place = tmp_path_factory.mktemp("tables")
    counts.to_csv(place / "counts.csv", index=False)
    items.to_csv(place / "items.csv", index=False)
    return counts, items, place


@pytest.fixture(scope="module")
def dataset(tables):
    return mmnet.Dataset.from_tables(*tables[:2], **SMALL)


def same(one, other):
    a, b = one._prepared, other._prepared
    assert a.fitted.spec == b.fitted.spec
    assert np.array_equal(a.history, b.history)
    assert np.array_equal(a.panel.clicks, b.panel.clicks)
    for split in ("train", "validation", "test"):
        assert np.array_equal(a.examples(split).items, b.examples(split).items)


def test_frames_files_and_the_drivers_pipeline_make_the_same_dataset(tables, dataset, tmp_path):
    _, _, place = tables
    files = place / "counts.csv", place / "items.csv"
    of_files = mmnet.Dataset.from_tables(*files, directory=tmp_path / "kept", **SMALL)
    same(of_files, dataset)
    flags = {"counts": str(files[0]), "items": str(files[1]), **SMALL, "taxonomies": ("category",)}
    read, task = input_tables.table_flags(build(config.PrepareConfig, flags))
    made = pipeline.prepare(input_tables.load_tables(read), read, task)
    same(mmnet.Dataset(made), dataset)
    same(mmnet.Dataset.load(tmp_path / "kept"), dataset)
    same(mmnet.Dataset.load(dataset.save(tmp_path / "saved")), dataset)
    assert datasets.load(tmp_path / "saved").fingerprint == dataset._prepared.fingerprint != ""


def test_events_make_the_dataset_of_their_counts(tables, dataset):
    counts, items, _ = tables
    events = counts.loc[counts.index.repeat(counts["clicks"]), ["item_id", "period"]]
    events = events.assign(number=events.groupby(["item_id", "period"]).cumcount())
    events = events.merge(counts, on=["item_id", "period"])
    events["shared"] = (events["number"] < events["shares"]).astype(int)
    day = pd.Timestamp("2024-01-01", tz="UTC")
    events["at"] = day + pd.to_timedelta(events["period"], unit="D")
    how = {"numerator": "shared", "denominator": "events", "time_column": "at"}
    found = mmnet.Dataset.from_events(events[["item_id", "at", "shared"]], items, **how, **SMALL)
    assert np.array_equal(found._prepared.panel.clicks, dataset._prepared.panel.clicks)
    assert np.array_equal(found._prepared.panel.shares, dataset._prepared.panel.shares)
    assert found.periods[0] == "2024-01-01"


def test_describes_itself(dataset):
    told = dataset.describe()
    assert (told["items"], told["periods"]) == (30, 16) == (len(dataset.item_ids), told["periods"])
    assert (told["first_period"], told["last_period"]) == (0, 15) == tuple(dataset.periods[::15])
    assert told["inputs"] == list(dataset.spec.tensors())
    assert "targets" not in told  # of several outputs
    assert told["examples"] == {s: dataset.num_examples(s) for s in ("train", "validation", "test")}
    assert f"train={told['examples']['train']}" in repr(dataset)
    assert any("test target has 1 clicks or more" in line for line in dataset.ledger)


@pytest.mark.parametrize("scenario", ["normal", "cold_start", "noisy"])
def test_batches_are_what_evaluation_sees(dataset, scenario):
    prepared = dataset._prepared
    shown = ScenarioSet(
        *(prepared, Windows(prepared), prepared.examples("test")), missing_rate=0.4, scenario_seed=3
    )
    wanted = shown.outputs(scenario, lambda inputs: {k: np.asarray(v) for k, v in inputs.items()})
    how = {"scenario": scenario, "missing_rate": 0.4, "scenario_seed": 3}
    batches = list(dataset.batches("test", 7, **how).as_numpy_iterator())
    assert [len(target) for _, target in batches[:-1]] == [7] * (len(batches) - 1)
    for name, tensor in wanted.items():
        assert np.array_equal(np.concatenate([inputs[name] for inputs, _ in batches]), tensor)
    assert np.array_equal(np.concatenate([target for _, target in batches]), shown.truth)


def test_shuffled_batches_have_every_example_once_in_another_order_each_time(dataset):
    ordered = np.concatenate([t for _, t in dataset.batches("train").as_numpy_iterator()])
    shuffled = dataset.batches("train", shuffle_seed=1)
    first, second = (np.concatenate([t for _, t in shuffled.as_numpy_iterator()]) for _ in range(2))
    assert not np.array_equal(first, second)
    for one in (first, second):
        assert np.array_equal(np.sort(one), np.sort(ordered))


def test_several_outputs_have_weights_that_say_which_targets_belong_to_the_split(tables):
    counts, items, _ = tables
    counts = counts.assign(views=counts["clicks"] + 1, likes=counts["shares"])
    ahead = {"horizon": [1, 3], "also_predict": "like", "rate": {"like": "likes/views"}}
    found = mmnet.Dataset.from_tables(counts, items, **SMALL | ahead)
    names = [output.name for output in found.spec.outputs()]
    assert names[::3] == ["predicted_share_rate", "predicted_like_h3"]
    targets = found.describe()["targets"]
    assert list(targets) == names
    assert 0 < targets["predicted_like_h3"]["test"] < targets["predicted_like"]["test"]
    batches = [*found.batches("test", 7, scenario="cold_start").as_numpy_iterator()]
    prepared = found._prepared
    examples = prepared.examples("test")
    target, weight = (np.concatenate(parts) for parts in [*zip(*batches, strict=True)][1:])
    assert np.array_equal(target, Windows(prepared).targets(examples))
    assert np.array_equal(weight, examples.eligible)
    for inputs, *_ in batches:
        assert inputs["missing_flag_like"].all()
        assert not inputs["clicks_like"].any()


def test_refuses_in_a_sentence(tables, dataset):
    with pytest.raises(mmnet.InputError, match="there is no option 'windw'"):
        mmnet.Dataset.from_tables(*tables[:2], windw=3)
    with pytest.raises(mmnet.InputError, match="no column 'price'"):
        mmnet.Dataset.from_tables(*tables[:2], numerics=["price"])
    with pytest.raises(ValueError, match="`split` must be one of train, validation, test"):
        dataset.num_examples("training")
    with pytest.raises(ValueError, match="`scenario` must be one of"):
        dataset.batches("test", scenario="cold")
