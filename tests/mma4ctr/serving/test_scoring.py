import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.data.outputs import write_tables
from mmnet.mma4ctr.data.features import Features, Scaler
from mmnet.mma4ctr.evaluation.metrics import Platt
from mmnet.mma4ctr.models.network import Clicks, network
from mmnet.mma4ctr.serving import pairs, scoring
from mmnet.mma4ctr.serving.pairs import Pairs
from mmnet.serving import bundle, checksums, golden
from mmnet.serving.exported import AboutPairs, AboutShareRates
from tests.mma4ctr import exported
from tests.mma4ctr.exported import ITEMS, USERS


@pytest.fixture(scope="module")
def model():
    return exported.model()


@pytest.fixture(scope="module")
def folded(model):
    return exported.folded(model)


def test_the_folded_network_is_the_network(model, folded):
    user, item = np.repeat([0, 1], 3), np.tile([0, 2, 3], 2)
    expected = model({"state": np.array([1, 3])[user], "item": item})
    # float32 sums in another order.
    np.testing.assert_allclose(folded.places(user, item), expected, atol=1e-6)


def test_items_are_folded_as_they_are_after_the_logs_end():
    draw = np.random.default_rng(0)
    scale = Scaler(draw.normal(size=9).astype("f"), draw.random(9).astype("f"))
    states, items = draw.normal(size=(6, 3)).astype("f"), draw.normal(size=(4, 4)).astype("f")
    moments = draw.normal(size=(4 * 3, 2)).astype("f")  # three moments of each, users likewise
    features = Features(states, items, {"train": scale}, {}, moments)
    model = Clicks(features, network(9, arch="readme", seed=1))
    known, last = np.ones(4, bool), np.array([2, 5])
    found = scoring.Folded(model, last, USERS[:2], ITEMS, known[:2], known, Platt(1.0, 0.0))
    user, item = np.repeat([0, 1], 4), np.tile(np.arange(4), 2)
    expected = model({"state": last[user].astype("int32"), "item": item.astype("int32")})
    # float32 sums in another order.
    np.testing.assert_allclose(found.places(user, item), expected, atol=1e-6)


def test_ids_are_looked_up_and_calibrated(folded):
    found = folded.pairs(tf.constant([20, 10], tf.int64), tf.constant([8, 5], tf.int64))
    plain = folded.places([1, 0], [3, 0]).numpy()
    np.testing.assert_allclose(found["probability"], plain)
    expected = 1 / (1 + np.exp(-(2 * np.log(plain / (1 - plain)) - 1)))
    np.testing.assert_allclose(found["calibrated_probability"], expected, rtol=1e-5)
    assert found["known_user"].numpy().all()
    assert found["known_item"].numpy().all()


def test_who_is_unknown_counts_as_the_mean_and_says_so(folded):
    user = tf.constant([30, 99, 1, 10], tf.int64)
    item = tf.constant([5, 5, 5, 6], tf.int64)
    found = folded.pairs(user, item)
    assert found["known_user"].numpy().tolist() == [False, False, False, True]
    assert found["known_item"].numpy().tolist() == [True, True, True, False]
    probability = found["probability"].numpy()
    # 30 is in the table but has no features; 99 and 1 are in no table.
    assert probability[0] == probability[1] == probability[2]
    np.testing.assert_allclose(
        folded.user_table.numpy()[-1], folded.user_table.numpy()[:2].mean(axis=0), rtol=1e-6
    )


def test_plain_tensorflow_loads_it(folded, tmp_path):
    wanted = folded.places([0, 1], [0, 2]).numpy()
    check = (USERS[[0, 1]], ITEMS[[0, 2]], wanted)
    place = scoring.export(folded, tmp_path / "export", check, {"flags": {}})
    script = (
        "import sys, json, tensorflow as tf\n"
        f"served = tf.saved_model.load({str(place)!r}).signatures['serving_default']\n"
        "found = served(user_id=tf.constant([10, 20], tf.int64), "
        "item_id=tf.constant([5, 7], tf.int64))\n"
        "assert not [name for name in sys.modules if name.startswith('mmnet')]\n"
        "print(json.dumps([float(p) for p in found['probability']]))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    np.testing.assert_allclose(json.loads(ran.stdout), wanted, rtol=1e-6)


@pytest.mark.parametrize("arch", ["readme", "head_adaptive"])
def test_every_signature_scores_as_the_keras_model_does_on_ten_thousand_pairs(arch, tmp_path):
    draw = np.random.default_rng(0)
    states, items = draw.random((100, 60)).astype("f"), draw.random((120, 140)).astype("f")
    scale = Scaler(draw.random(200).astype("f") / 4, 1 + draw.random(200).astype("f"))
    net = network(200, arch=arch, seed=1, output_bias=-3.0)
    model = Clicks(Features(states, items, {"train": scale}, {}), net)
    for variable in model.net.trainable_variables:  # untrained biases are 0
        variable.assign(variable + draw.normal(0, 0.1, variable.shape))
    user_ids, item_ids = np.arange(100) * 3, np.arange(120) * 7
    known = np.ones(100, bool), np.ones(120, bool)
    made = scoring.Folded(model, np.arange(100), user_ids, item_ids, *known, Platt(1.5, -0.5))
    user, item = np.divmod(np.arange(12_000), 120)
    wanted = model({"state": user, "item": item}).numpy()
    assert wanted.std() > 0.1 * wanted.mean()
    pairs = user_ids[user], item_ids[item]
    place = scoring.export(made, tmp_path, (*pairs, wanted), {})
    served = scoring.load(str(place)).signatures
    assert set(served) == {"serving_default", "places"}
    found = served["serving_default"](user_id=tf.constant(pairs[0]), item_id=tf.constant(pairs[1]))
    logit = np.log(wanted.astype(float)) - np.log1p(-wanted.astype(float))
    calibrated = 1 / (1 + np.exp(-(1.5 * logit - 0.5)))
    places = served["places"](
        user=tf.constant(user.astype("int32")), item=tf.constant(item.astype("int32"))
    )
    # Relative to the probability, as the issue asks of every signature.
    np.testing.assert_allclose(found["probability"], wanted, rtol=1e-5)
    np.testing.assert_allclose(places["probability"], wanted, rtol=1e-5)
    np.testing.assert_allclose(found["calibrated_probability"], calibrated, rtol=1e-5)


def test_what_scores_otherwise_is_not_exported(folded, tmp_path):
    check = (USERS[[0]], ITEMS[[0]], np.array([0.123]))
    with pytest.raises(RuntimeError, match="not exported"):
        scoring.export(folded, tmp_path / "export", check, {})
    assert not list((tmp_path / "export").iterdir())


def test_scores_are_the_same_in_any_batch_size(folded, tmp_path):
    draw = np.random.default_rng(0)
    user, item = draw.choice(USERS, 25), draw.choice(ITEMS, 25)
    whole = scoring.score(folded.pairs, Pairs(user, item), 100)
    parts = scoring.score(folded.pairs, Pairs(user, item), 7)
    np.testing.assert_allclose(parts["probability"], whole["probability"], rtol=1e-6)
    path = write_tables([whole], tmp_path / "scores.parquet", "output")
    assert pyarrow.parquet.read_table(path).equals(whole)


def test_a_path_without_a_saved_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="no SavedModel there"):
        scoring.load(str(tmp_path))


# ---------------------------------------------------------------------------------- verifying


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """The version's directory of an export with golden rows."""
    return exported.write(tmp_path_factory.mktemp("export"), model)


@pytest.fixture
def copied(written, tmp_path):
    """A copy of it, to be broken."""
    return shutil.copytree(written, tmp_path / "1")


def problems(directory):
    return [check.problem for check in bundle.verify(directory) if check.problem]


def test_a_whole_export_passes_every_check(written):
    assert [check.line for check in bundle.verify(written.parent)] == [
        "ok     checksums",
        "ok     loads",
        "ok     golden rows, serving_default",
        "ok     golden rows, places",
    ]


def test_golden_rows_hold_the_models_probabilities_and_unknown_ids(written, model):
    _, whole, *_ = golden.read(written / golden.FILE)
    np.testing.assert_array_equal(whole.inputs["user_id"], [10, 20, 31])
    np.testing.assert_array_equal(whole.outputs["known_user"], [True, True, False])
    wanted = model({"state": np.array([1, 3]), "item": np.array([0, 2])})
    np.testing.assert_array_equal(whole.outputs["probability"][:2], wanted)


def test_a_changed_weight_is_named(copied):
    reader = tf.train.load_checkpoint(str(copied / checksums.VARIABLES))
    value = reader.get_tensor(f"item_table{checksums.VALUE}").tobytes()
    data = copied / f"{checksums.VARIABLES}.data-00000-of-00001"
    content = data.read_bytes()
    assert content.count(value) == 1
    data.write_bytes(content.replace(value, value[:-1] + bytes([value[-1] ^ 1])))
    (found,) = problems(copied)
    assert found.endswith("weight item_table has changed")


def test_a_flag_that_differs_from_its_golden_row_is_found(copied):
    batches = [one for one in golden.read(copied / golden.FILE) if len(one.outputs) > 1]
    flipped = [
        dataclasses.replace(one, outputs=one.outputs | {"known_item": ~one.outputs["known_item"]})
        for one in batches[1:]
    ]
    golden.write(copied / golden.FILE, flipped)
    checksums.write(copied, {})
    assert problems(copied) == [
        "serving_default returns row 0 True, it must be False",
        "no golden rows of this signature",
    ]


def test_an_export_of_an_earlier_version_scores_but_is_not_verified(copied):
    (copied / checksums.FILE).unlink()
    (copied / golden.FILE).unlink()
    about = json.loads((copied / AboutPairs.FILE).read_text())
    del about["relative_tolerance"]
    (copied / AboutPairs.FILE).write_text(json.dumps(about))
    serve = scoring.load(str(copied)).signatures["serving_default"]
    scored = scoring.score(serve, Pairs(USERS, ITEMS[:3]), 9)
    assert scored.num_rows == 3
    sentence = r"checksums.json is missing, as an earlier version .* export it again with the"
    with pytest.raises(InputError, match=sentence):
        bundle.check(copied)


def test_each_system_refuses_the_exports_of_the_other(written, tmp_path):
    (tmp_path / "assets.extra").mkdir()
    for name in ("saved_model.pb", AboutShareRates.FILE):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"is not a SavedModel of mma4ctr .* but of mmnet"):
        pairs.saved_model(str(tmp_path))
    with pytest.raises(InputError, match=r"is not a SavedModel of mmnet .* but of mma4ctr"):
        bundle.load(written, AboutShareRates)
