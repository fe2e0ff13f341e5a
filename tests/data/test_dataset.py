import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from mmnet import files
from mmnet.checks import InputError
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import dataset as datasets
from mmnet.data import pipeline, store
from mmnet.data.splits import SPLITS
from mmnet.data.tables import InMemory, Table

ARRAYS = ("share_rate", "missing_flag", "taxonomy_rate", "taxonomy_missing_flag")


def prepared(taxonomies=("category",), *, further=False):
    rng = np.random.default_rng(0)
    items = ["007", "café", "猫"]
    counts = {"item_id": np.repeat(items, 12), "period": np.tile(np.arange(5, 17), 3)}
    counts["clicks"] = rng.integers(1, 9, 36)
    counts["shares"] = rng.integers(0, counts["clicks"] + 1)
    if further:
        counts |= {"views": counts["clicks"] + 1, "likes": counts["shares"]}
    truth = {
        "item_id": counts["item_id"],
        "period": counts["period"],
        "true_share_rate": rng.random(36),
    }
    about = {"item_id": items, "category": ["a", "a", "b"], "title": ["one one", "two", ""]}
    found = InMemory(
        Table(pa.table(counts), "counts"), Table(pa.table(about), "items"), truth=pa.table(truth)
    )
    flags = TableFlags(taxonomies=taxonomies, texts=("title",))
    task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)
    if further:
        rate = {"also_predict": ("like",), "rate": ("like=likes/views",)}
        flags, task = (
            flags.model_copy(update=rate),
            task.model_copy(update={"horizon": (1, 2)}),
        )
    made = pipeline.prepare(found, flags, task)
    made.fingerprint, made.inputs = "abc", {"counts.csv": "123"}
    return made


@pytest.fixture(scope="module")
def dataset():
    return prepared()


def same(first, second):
    """Bit for bit, types included."""
    assert first.fitted == second.fitted
    pairs = [(getattr(first, name), getattr(second, name)) for name in ARRAYS]
    pairs += [
        (getattr(first.panel, n), getattr(second.panel, n)) for n in ("clicks", "shares", "release")
    ]
    pairs += [(first.tensors[name], second.tensors[name]) for name in first.tensors]
    pairs += [(first.true_share_rate, second.true_share_rate)]
    for name in SPLITS:
        pairs += [(first.split[name].items, second.split[name].items)]
        pairs += [(first.split[name].times, second.split[name].times)]
    for one, other in pairs:
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    assert list(first.tensors) == list(second.tensors)
    assert first.panel.item_ids.tolist() == second.panel.item_ids.tolist()
    assert first.first_targets == second.first_targets
    assert (first.ledger, first.inputs) == (second.ledger, second.inputs)


@pytest.fixture(scope="module")
def both():
    """A dataset of two rates at two horizons."""
    return prepared(further=True)


def folder_of(directory):
    return directory / store.read(directory)["folder"]


def sentence(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


def test_reads_back_bit_for_bit(dataset, tmp_path):
    datasets.save(dataset, tmp_path / "data/set")
    same(dataset, datasets.load(tmp_path / "data/set"))
    assert store.read(tmp_path / "data/set")["fingerprint"] == "abc"


def test_reads_back_without_taxonomies_truth_and_split(tmp_path):
    made = prepared(taxonomies=())
    made.split = made.true_share_rate = None
    found = datasets.load(datasets.save(made, tmp_path / "set"))
    assert found.taxonomy_rate.shape == (3, 12, 0)
    assert found.split is found.true_share_rate is None
    assert found.first_targets == {}


def test_replaces_an_older_dataset_and_leaves_nothing_beside(dataset, tmp_path):
    datasets.save(prepared(taxonomies=()), tmp_path / "set")
    datasets.save(dataset, tmp_path / "set")
    same(dataset, datasets.load(tmp_path / "set"))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_an_empty_directory_is_taken_and_a_link_stays_a_link(dataset, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    datasets.save(dataset, tmp_path / "link")
    datasets.save(dataset, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    same(dataset, datasets.load(tmp_path / "set"))


def test_others_may_read_it_as_they_may_any_new_directory(dataset, tmp_path):
    (tmp_path / "plain").mkdir()
    datasets.save(dataset, tmp_path / "set")
    assert (tmp_path / "set").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(("module", "name"), [(pa.parquet, "write_table"), (files, "rename")])
def test_an_interrupted_save_leaves_the_old_one(dataset, tmp_path, monkeypatch, module, name):
    datasets.save(dataset, tmp_path / "set")
    before = sorted(path.name for path in (tmp_path / "set").iterdir())
    newer = prepared(taxonomies=())

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, stopped)
    with pytest.raises(KeyboardInterrupt):
        datasets.save(newer, tmp_path / "set")
    monkeypatch.undo()
    same(dataset, datasets.load(tmp_path / "set"))
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_other_files_are_never_replaced(dataset, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/thesis.txt").write_text("dear")
    assert sentence(datasets.save, dataset, tmp_path / "set") == (
        f"{tmp_path}/set contains other files; choose another --dataset_dir"
    )
    assert (tmp_path / "set/thesis.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_a_place_that_cannot_be_written_is_refused(dataset, tmp_path):
    (tmp_path / "file").write_text("dear")
    for place in ("file", "file/set"):
        with pytest.raises(NotADirectoryError) as caught:
            datasets.save(dataset, tmp_path / place)
        told = files.problem_of_place(caught.value)  # as a driver does
        assert told.endswith(f"{place}: Not a directory; choose another path")
    assert (tmp_path / "file").read_text() == "dear"


@pytest.mark.parametrize(
    "name",
    ["clicks.npy", "history.npy", "tensor-text_title.npy", "train-items.npy", "items.parquet"],
)
@pytest.mark.parametrize("left", [None, 0, 0.5])
def test_a_part_that_is_missing_or_cut_off_is_refused(dataset, tmp_path, name, left):
    file = folder_of(datasets.save(dataset, tmp_path / "set")) / name
    content = file.read_bytes()
    file.unlink()
    if left is not None:
        file.write_bytes(content[: int(left * len(content))])
    assert sentence(datasets.load, tmp_path / "set") == (
        f"{file} is missing or truncated; prepare the dataset again"
    )


def test_nothing_in_it_is_a_pickle(dataset, tmp_path):
    folder = folder_of(datasets.save(dataset, tmp_path / "set"))
    for file in folder.iterdir():
        assert file.suffix in (".npy", ".parquet", ".md", ".json")
        if file.suffix == ".npy":
            assert not np.load(file, allow_pickle=False).dtype.hasobject
    class_of_trouble = np.array([{}], object)
    np.save(folder / "clicks.npy", class_of_trouble, allow_pickle=True)
    assert "clicks.npy is missing or truncated" in sentence(datasets.load, tmp_path / "set")


def test_a_dataset_of_an_earlier_version_has_its_files_at_the_top(dataset, tmp_path):
    directory = datasets.save(dataset, tmp_path / "set")
    folder, about = folder_of(directory), store.read(directory)
    for name in ("release_given.npy", "checksums.json"):
        (folder / name).unlink()
    for path in folder.iterdir():
        shutil.move(path, directory / path.name)
    folder.rmdir()
    for name in ("folder", "true_share_rate", "release_given"):
        del about[name]
    (directory / "dataset.json").write_text(json.dumps(about))
    (directory / "counts.parquet").write_text("of events that may be needed again")
    same(dataset, datasets.load(directory))
    assert datasets.STORE.unchanged(directory, "abc") is not None
    datasets.save(dataset, directory)
    same(dataset, datasets.load(directory))
    assert sorted(path.name for path in directory.iterdir()) == sorted(
        [folder_of(directory).name, "counts.parquet", "dataset.json"]
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train-items", lambda array: np.where(np.arange(len(array)) == 1, 3, array)),
        ("test-items", lambda array: array - 3),
        ("train-items", lambda array: array.astype("f8")),
        ("validation-times", lambda array: array + 9),
        ("test-times", lambda array: array[:-1]),
        ("shares", lambda array: array[:, 1:]),
        ("release", lambda array: array[:2]),
        ("history", lambda array: array[..., :2]),
        ("tensor-text_title", lambda array: array[:1]),
        ("true_share_rate", lambda array: array[0]),
    ],
)
def test_arrays_that_do_not_go_together_are_refused(dataset, tmp_path, name, damage):
    datasets.save(dataset, tmp_path)
    path = folder_of(tmp_path) / f"{name}.npy"
    path.with_name("checksums.json").unlink()  # as an earlier version wrote it
    np.save(path, damage(np.load(path)))
    told = sentence(datasets.load, tmp_path)
    assert told.startswith(f"{path} is damaged: it does not match the dataset's other arrays")


def test_further_rates_and_horizons_read_back_bit_for_bit(both, tmp_path):
    found = datasets.load(datasets.save(both, tmp_path / "set"))
    same(both, found)
    pairs = [(both.rate_histories["like"], found.rate_histories["like"])]
    pairs += zip(both.panel.rates["like"], found.panel.rates["like"], strict=True)
    pairs += [(both.split[name].eligible, found.split[name].eligible) for name in SPLITS]
    for one, other in pairs:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_with_one_output_nothing_new_is_written(dataset, both, tmp_path):
    names = []
    for number, made in enumerate((dataset, both)):
        datasets.save(made, tmp_path / str(number))
        names.append({path.name for path in folder_of(tmp_path / str(number)).iterdir()})
    assert names[0] < names[1]
    assert names[1] - names[0] == {
        *("clicks-like.npy", "shares-like.npy", "history-like.npy"),
        *(f"{name}-eligible.npy" for name in SPLITS),
    }
    about = store.read(tmp_path / "0")["fitted"]
    assert about["task"]["horizon"] == 1
    assert not {"horizons", "rates"} & set(about["spec"])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("clicks-like", lambda array: array[:, 1:]),
        ("shares-like", lambda array: array[:2]),
        ("history-like", lambda array: array[..., :2]),
        ("train-eligible", lambda array: array[:-1]),
        ("test-eligible", lambda array: array[:, :1]),
        ("validation-eligible", lambda array: array.astype("i8")),
    ],
)
def test_arrays_of_further_outputs_that_do_not_fit_are_refused(both, tmp_path, name, damage):
    datasets.save(both, tmp_path)
    path = folder_of(tmp_path) / f"{name}.npy"
    path.with_name("checksums.json").unlink()
    np.save(path, damage(np.load(path)))
    told = sentence(datasets.load, tmp_path)
    assert told.startswith(f"{path} is damaged: it does not match the dataset's other arrays")
