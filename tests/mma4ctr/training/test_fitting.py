import functools
import os
import shutil
import signal

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import NetworkFlags, ProtocolFlags
from mmnet.mma4ctr.data import features, protocols
from mmnet.mma4ctr.models import network
from mmnet.mma4ctr.training import fitting
from mmnet.training.resume import Checkpoints
from mmnet.training.sessions import Interrupted
from tests.mma4ctr.logs import log, reduction

SETTINGS = {
    "epochs": 3,
    "batch_size": 100,
    "learning_rate": 0.01,
    "schedule": "step",
    "interrupt": "off",
    "select": "last",
    "loss": "listwise",
    "seed": 0,
    "jit": False,
    "steps_per_execution": 2,
}


@pytest.fixture(scope="module")
def protocol():
    data = log()
    return protocols.build(data, ProtocolFlags(protocol="p0"), np.ones(30, bool), 0)


@pytest.fixture(scope="module")
def tables(protocol):
    data = log()
    return features.build(data, protocol, ProtocolFlags(user_length=4), reduction())


def model_of(tables, seed=0):
    return network.Clicks(tables, network.network(tables.in_features, arch="readme", seed=seed))


def fit(model, protocol, validate=lambda _: 0.6, run_dir=None, resume=False, fresh=None, **changes):
    flags = NetworkFlags(**(SETTINGS | changes), resume=resume)
    return fitting.fit(model, protocol, validate, flags, flags.loss, run_dir=run_dir, fresh=fresh)


def test_the_rate_halves_every_five_epochs():
    rates = [fitting.learning_rate(0.001, epoch, "step") for epoch in (0, 4, 5, 9, 10, 29)]
    assert rates == [0.001, 0.001, 0.0005, 0.0005, 0.00025, 0.001 / 32]
    assert fitting.learning_rate(0.001, 29, "constant") == 0.001


def test_the_optimiser_follows_the_schedule(protocol, tables):
    found = fit(model_of(tables), protocol, epochs=6)
    assert [row["learning_rate"] for row in found.history] == pytest.approx([0.01] * 5 + [0.005])


def test_an_epoch_has_every_row_once_in_an_order_of_its_own(protocol):
    batches = fitting.Batches(protocol, 100, 0)
    part = protocol.parts["train"]
    expected = sorted(
        zip(protocol.state[part], protocol.item[part], protocol.label[part], strict=True)
    )
    orders = []
    for epoch in (0, 1, 1):
        rows = [
            row
            for inputs, label in batches(epoch * batches.steps_per_epoch)
            for row in zip(
                inputs["state"].numpy(), inputs["item"].numpy(), label.numpy(), strict=True
            )
        ]
        assert sorted(rows) == expected  # the small last batch too
        orders.append(rows)
    assert orders[0] != orders[1]
    assert orders[1] == orders[2]


def test_training_changes_the_network_and_no_table(protocol, tables):
    model = model_of(tables)
    before = model.net.get_weights()
    fit(model, protocol)
    assert all((a != b).any() for a, b in zip(before, model.net.get_weights(), strict=True))
    np.testing.assert_array_equal(model.rows.state_table, tables.states)
    np.testing.assert_array_equal(model.rows.item_table, tables.items)


def test_one_step_of_adam_by_hand(protocol, tables):
    model = model_of(tables)
    before = model.net.get_weights()
    fit(model, protocol, epochs=1, batch_size=10**6)
    # Adam's first step is the rate times the sign of the gradient, epsilon aside.
    for old, new in zip(before, model.net.get_weights(), strict=True):
        assert np.abs(new - old).max() == pytest.approx(0.01, rel=1e-3)


def test_the_best_epoch_of_validation_stays_where_it_is_asked_for(protocol, tables):
    values = iter([0.6, 0.9, 0.7])
    model = model_of(tables)
    found = fit(model, protocol, lambda _: next(values), select="validation", evaluate_at=(1, 2, 3))
    assert found.best_epoch == 2
    for mine, other in zip(model.net.get_weights(), found.reached[2], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_a_longer_run_passes_through_a_shorter_one(protocol, tables):
    short, long = model_of(tables), model_of(tables)
    fit(short, protocol, epochs=2)
    found = fit(long, protocol, epochs=4, evaluate_at=(2,))
    for mine, other in zip(short.net.get_weights(), found.reached[2], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_intent_undoes_an_epoch_and_repeats_it_at_half_the_rate(protocol, tables):
    values, seen = iter([0.4, 0.6, 0.5, 0.7, 0.8]), []
    model, other = (
        model_of(tables),
        network.network(tables.in_features, arch="readme", seed=9).get_weights(),
    )

    def validate(model):
        seen.append(model.net.get_weights())
        return next(values)

    found = fit(model, protocol, validate, interrupt="intent", fresh=lambda _: other)
    assert [(r["epoch"], r["learning_rate"]) for r in found.retries] == [(1, 0.005), (2, 0.0025)]
    assert [row["epoch"] for row in found.history] == [1, 2, 3]
    assert len(seen) == 5
    # A run that begins with the fresh weights, at half the rate, goes the same way at once.
    values, again = iter([0.6, 0.5, 0.7, 0.8]), []
    begun = model_of(tables)
    begun.net.set_weights(other)

    def validate_again(model):
        again.append(model.net.get_weights())
        return next(values)

    fit(begun, protocol, validate_again, interrupt="intent", learning_rate=0.005)
    for epoch, (mine, expected) in enumerate(zip(seen[1:], again, strict=True)):
        for one, wanted in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(one, wanted, err_msg=str(epoch))


def test_intent_gives_in_after_five_retries(protocol, tables):
    found = fit(model_of(tables), protocol, lambda _: 0.5, epochs=1, interrupt="intent")
    assert len(found.retries) == 5
    assert len(found.history) == 1


def test_an_undone_epoch_leaves_no_trace_but_the_rate(protocol, tables):
    # The schedule by steps halves the rate for the sixth epoch. So does undoing it once.
    values = iter([0.6, 0.6, 0.6, 0.6, 0.6, 0.4, 0.7])
    undone, stepped = model_of(tables), model_of(tables)
    how = {"epochs": 6, "interrupt": "intent", "schedule": "constant"}
    found = fit(undone, protocol, lambda _: next(values), **how)
    assert [retry["epoch"] for retry in found.retries] == [6]
    reached = fit(stepped, protocol, epochs=6, schedule="step")
    assert [row["learning_rate"] for row in reached.history] == [
        row["learning_rate"] for row in found.history
    ]
    for mine, other in zip(undone.net.get_weights(), stepped.net.get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-6, atol=1e-7)


def test_as_coded_the_interrupt_only_skips_the_log(protocol, tables):
    values = iter([0.4, 0.6, 0.3])
    plain, coded = model_of(tables), model_of(tables)
    fit(plain, protocol)
    found = fit(coded, protocol, lambda _: next(values), interrupt="head")
    assert [row["epoch"] for row in found.history] == [2]
    for mine, other in zip(plain.net.get_weights(), coded.net.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_stopped_and_gone_on_with_it_ends_with_the_same_weights(protocol, tables, tmp_path):
    whole = model_of(tables)
    expected = fit(whole, protocol, epochs=4, evaluate_at=(1, 4))
    calls = []

    def validate(_):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return 0.6

    with pytest.raises(Interrupted, match="--resume"):
        fit(model_of(tables), protocol, validate, epochs=4, evaluate_at=(1, 4), run_dir=tmp_path)
    model = model_of(tables, seed=5)
    found = fit(model, protocol, epochs=4, evaluate_at=(1, 4), run_dir=tmp_path, resume=True)
    for mine, other in zip(whole.net.get_weights(), model.net.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert set(found.reached) == set(expected.reached)
    assert len(found.history) == 4
    # The tables, as large as the data, are in no checkpoint.
    stored = Checkpoints(tmp_path / "checkpoints").newest()
    assert not [name for name in stored.arrays if "table" in name]


def test_resumed_within_an_epoch_it_ends_with_the_same_bits(
    protocol, tables, tmp_path, monkeypatch
):
    """Also where an epoch was undone, and in the smaller last batch."""

    def validate(values):
        return lambda _: next(values)

    monkeypatch.setattr(
        "mmnet.training.fitting.Checkpoints", functools.partial(Checkpoints, keep=100)
    )
    how = {"epochs": 2, "interrupt": "intent", "checkpoint_seconds": 0, "evaluate_at": (1,)}
    whole, values = model_of(tables), [0.6, 0.4, 0.7]
    expected = fit(whole, protocol, validate(iter(values)), run_dir=tmp_path / "whole", **how)
    assert len(expected.retries) == 1
    paths = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    # Four batches, the last one smaller, two per execution; what was undone is gone.
    found = [tuple(int(part) for part in path.stem.split("_")[1::2]) for path in paths]
    assert found == [(0, 2), (0, 4), (1, 4), (1, 6), (1, 8), (2, 8)]
    for path, seen in zip(paths, (0, 0, 2, 2, 2, 3), strict=True):
        place = tmp_path / path.stem
        (place / "checkpoints").mkdir(parents=True)
        shutil.copy(path, place / "checkpoints")
        model = model_of(tables, seed=5)
        again = fit(model, protocol, validate(iter(values[seen:])), place, resume=True, **how)
        for mine, other in zip(whole.net.get_weights(), model.net.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=path.stem)
        for mine, other in zip(expected.reached[1], again.reached[1], strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=path.stem)
        assert again.retries == expected.retries
        assert [row["loss"] for row in again.history] == [row["loss"] for row in expected.history]


def test_patience_ends_a_run_whose_validation_does_not_improve(protocol, tables):
    how = {"epochs": 5, "select": "validation"}
    values = iter([0.7, 0.8, 0.75, 0.8, 0.9])
    found = fit(model_of(tables), protocol, lambda _: next(values), patience=2, **how)
    assert (found.best_epoch, len(found.history)) == (2, 4)
    assert len(fit(model_of(tables), protocol, lambda _: 0.6, **how).history) == 5


def test_a_run_is_neither_overwritten_nor_gone_on_with_by_other_settings(
    protocol, tables, tmp_path
):
    fit(model_of(tables), protocol, epochs=1, run_dir=tmp_path)
    with pytest.raises(InputError, match="--resume"):
        fit(model_of(tables), protocol, epochs=2, run_dir=tmp_path)
    with pytest.raises(InputError, match="batch_size=100"):
        fit(model_of(tables), protocol, run_dir=tmp_path, resume=True, batch_size=50)


def test_a_loss_that_is_no_number_is_told(protocol, tables):
    model = model_of(tables)
    model.net.set_weights([np.full_like(w, np.nan) for w in model.net.get_weights()])
    with pytest.raises(InputError, match="lower --learning_rate"):
        fit(model, protocol)


def test_scores_are_scaled_as_their_split_is(protocol, tables):
    model = model_of(tables)
    for split in protocols.SPLITS:
        part = protocol.parts[split]
        rows = tables.rows(protocol.state[part], protocol.item[part], split)
        expected = model.net(rows)
        np.testing.assert_allclose(fitting.scores(model, protocol, split), expected[0], rtol=1e-5)
        hidden = fitting.scores(model, protocol, split, "hidden")
        np.testing.assert_allclose(hidden, expected[1], rtol=1e-4, atol=1e-5)
