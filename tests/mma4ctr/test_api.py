import inspect
import json
import shutil

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import mmnet
from mmnet import mma4ctr
from mmnet.mma4ctr.data import dataset as datasets
from mmnet.mma4ctr.models import RowSpec
from tests.mma4ctr.conftest import LOG

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def run(place):
    return mma4ctr.Run.open(place / "run")


@pytest.fixture(scope="module")
def dataset(place):
    return mma4ctr.Dataset.load(place / "dataset", protocol="c1")


def test_dir_shows_the_api_and_nothing_private():
    assert dir(mma4ctr) == sorted(mma4ctr.__all__)
    for name in mma4ctr.__all__:
        assert inspect.getdoc(getattr(mma4ctr, name)), name
    assert not hasattr(mma4ctr, "Nothing")
    assert mmnet.mma4ctr is mma4ctr


def test_frames_make_the_dataset_of_their_files(place, dataset, tmp_path):
    raw = place / "dataset" / "raw"
    actions = pd.read_csv(raw / "user_action.csv")
    feeds = pa.Table.from_pandas(pd.read_csv(raw / "feed_info.csv", dtype=str))
    made = mma4ctr.Dataset.from_tables(actions, feeds, min_rows=20, protocol="c1")
    for name in datasets.ROWS:
        assert np.array_equal(getattr(made._prepared, name), getattr(dataset._prepared, name))
    assert made.describe() == dataset.describe()
    copy = mma4ctr.Dataset.load(made.save(tmp_path / "copy"), protocol="c1")
    assert copy.describe() == made.describe()
    with pytest.raises(mmnet.InputError, match="is not empty"):
        made.save(tmp_path)


def test_a_source_makes_the_dataset_of_the_driver(place, tmp_path):
    options = dict(one.removeprefix("--generate=").split("=") for one in LOG[:-1])
    made = mma4ctr.Dataset.from_source(
        "wechat", generate=options, min_rows=20, directory=tmp_path / "kept"
    )
    driver = datasets.load(place / "dataset")
    assert made._prepared.spec.content == driver.spec.content
    assert repr(made) == f"Dataset(users={driver.spec.users}, items=400, rows={driver.spec.rows})"
    # The flags that decide it are those of `prepare`: the driver takes it as it is.
    about = [
        json.loads((d / "dataset.json").read_text()) for d in (place / "dataset", tmp_path / "kept")
    ]
    assert about[0]["fingerprint"] == about[1]["fingerprint"]


def test_describes_itself(dataset):
    told = dataset.describe()
    assert (told["users"], told["items"]) == (len(dataset.user_ids), len(dataset.item_ids))
    assert sum(told["examples"].values()) <= told["rows"]
    assert told["inputs"] == dataset.spec.in_features
    json.dumps(told)
    assert dataset.ledger["log: the item is in the item files"] == told["rows"]


def test_batches_are_the_rows_that_training_gathers(dataset):
    features, protocol = dataset._system.features, dataset._system.protocol
    part = protocol.parts["test"]
    wanted = features.rows(protocol.state[part], protocol.item[part], "test")
    batches = list(dataset.batches("test", 500).as_numpy_iterator())
    assert [len(label) for _, label in batches[:-1]] == [500] * (len(batches) - 1)
    # NumPy and TensorFlow round one float32 product apiece.
    np.testing.assert_allclose(np.concatenate([x for x, _ in batches]), wanted, atol=1e-6)
    assert np.array_equal(np.concatenate([y for _, y in batches]), protocol.label[part])
    shuffled = dataset.batches("test", 5000, shuffle_seed=0)
    (first, _), (second, _) = (next(shuffled.as_numpy_iterator()) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_a_run_shows_what_it_left(place, run):
    assert (run.flags.model, run.flags.protocol) == ("mma4ctr", "c1")
    assert run.metrics == json.loads((place / "run/evaluation/metrics.json").read_text())
    assert run.record["metrics"]["test"] == run.metrics["test"]
    assert len(run.predictions) == run.metrics["test"]["rows"]
    assert "| MMa4CTR, c1 |" in run.table
    assert repr(run) == f"Run({str(place / 'run')!r}, model='mma4ctr')"
    assert run.dataset.num_examples("test") == run.metrics["test"]["rows"]


def test_its_model_predicts_what_was_evaluated(run):
    found = run.model().predict(run.dataset.batches("test"), verbose=0)
    # Another batch size and no compilation: float32 rounding over four layers.
    np.testing.assert_allclose(found, run.predictions["probability"], atol=1e-5)


def test_evaluating_again_returns_the_metrics(place, tmp_path):
    own = mma4ctr.Run.open(shutil.copytree(place / "run", tmp_path / "run"))
    (own.directory / "evaluation" / "metrics.json").unlink()
    with pytest.raises(mmnet.InputError, match=r"metrics\.json does not exist"):
        own.metrics  # noqa: B018
    assert own.evaluate()["test"]["auc"] == pytest.approx(own.record["metrics"]["test"]["auc"])


def test_a_dataset_and_frames_of_scores_become_a_run(dataset, tmp_path, capsys):
    ids = dataset.item_ids
    scores = pd.DataFrame({"item_id": ids.astype(str), "predicted_share_rate": ids % 7 / 7})
    fast = {"model": "lr", "epochs": 1, "jit": False, "verbose": False}
    run = mma4ctr.Run.train(tmp_path / "run", dataset, item_scores=scores, **fast)
    assert capsys.readouterr().out == ""
    assert run.flags.protocol == "c1"
    assert run.metrics["in_features"] == dataset.spec.in_features + 2
    assert run.evaluate()["test"] == run.metrics["test"]  # the scores are kept with the run
    with pytest.raises(mmnet.InputError, match="already holds a run"):
        mma4ctr.Run.train(tmp_path / "run", dataset, **fast)
    with pytest.raises(mmnet.InputError, match="no SavedModel"):
        run.export  # noqa: B018
    again = mma4ctr.Run.train(tmp_path / "run", dataset, item_scores=scores, resume=True, **fast)
    assert again.metrics == run.metrics
    for wrong in ({"epochs": 0}, {"matrix": "none", "user_features": "none"}):
        with pytest.raises(mmnet.InputError):
            mma4ctr.Run.train(tmp_path / "refused", dataset, **fast | wrong)
        assert not (tmp_path / "refused").exists()


def test_an_export_scores_frames_and_verifies_itself(place, run, tmp_path, capsys):
    data = run.dataset
    pairs = pd.DataFrame({"user_id": [*data.user_ids[:3], 10**9], "item_id": data.item_ids[:4]})
    scores = run.export.score(pairs)
    assert capsys.readouterr().out == ""
    assert scores[["user_id", "item_id"]].equals(pairs)
    assert scores["known_user"].tolist() == [True, True, True, False]
    assert scores["calibrated_probability"].between(0, 1, inclusive="neither").all()
    run.export.verify()
    copy = shutil.copytree(place / "run" / "export", tmp_path / "export")
    with (copy / "1" / "saved_model.pb").open("ab") as file:
        file.write(b"x")
    with pytest.raises(mmnet.InputError, match=r"saved_model\.pb"):
        mma4ctr.Export.load(copy).verify()


def test_the_network_is_an_ordinary_keras_model(tmp_path):
    model = mma4ctr.MMa4CTR(RowSpec(in_features=3, arch="readme", seed=0), seed=1)
    assert model.count_params() == 128 * 3 + 4393
    assert mma4ctr.LogisticRegression(RowSpec(3, "readme", 0)).count_params() == 4
    model.compile("adam", mma4ctr.ListwiseCrossEntropy(), jit_compile=False)
    rows = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    before = model.evaluate(rows, rows[:, 0] > 0, batch_size=64, verbose=0)
    model.fit(rows, rows[:, 0] > 0, batch_size=64, epochs=5, verbose=0)
    assert model.evaluate(rows, rows[:, 0] > 0, batch_size=64, verbose=0) < before
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded(rows), model(rows))


def test_refuses_in_a_sentence(place, run, tmp_path):
    with pytest.raises(mmnet.InputError, match="there is no option 'protocl'"):
        mma4ctr.Dataset.load(place / "dataset", protocl="c1")
    with pytest.raises(mmnet.InputError, match=r"'epochs' is an option of Run\.train"):
        mma4ctr.Dataset.load(place / "dataset", epochs=3)
    with pytest.raises(mmnet.InputError, match="user_action must be a pandas DataFrame or"):
        mma4ctr.Dataset.from_tables("user_action.csv", "feed_info.csv")
    with pytest.raises(mmnet.InputError, match="'output' is an option of"):
        run.export.score(pd.DataFrame(), output="x.parquet")
    with pytest.raises(mmnet.InputError, match="contains no run"):
        mma4ctr.Run.open(tmp_path)
