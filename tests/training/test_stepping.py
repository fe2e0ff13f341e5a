import keras
import numpy as np
import tensorflow as tf

from mmnet.training import stepping
from mmnet.training.stepping import KerasSteps, Steps, affordable, stacked, steps_for


def compiled(tiny):
    """The tiny model, ready to train; its loss is the mean squared error."""
    model = tiny.model()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def test_equals_steps_taken_one_by_one(tiny):
    together, alone = compiled(tiny), compiled(tiny)
    take, take_one = (Steps(model, jit=False, size=n) for model, n in ((together, 3), (alone, 1)))
    assert [take(batch) for batch in stacked(tiny.batches, 0, 5, 3)] == [3, 2]
    assert [take_one(batch) for batch in stacked(tiny.batches, 0, 5, 1)] == [1] * 5
    # Weights, random states, moments, counters and the running loss: the same operations in the
    # same order.
    for variables in ("variables", "metrics_variables"):
        for one, other in zip(getattr(together, variables), getattr(alone, variables), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(together.optimizer.variables, alone.optimizer.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_step_is_a_keras_train_step(tiny):
    ours, theirs = compiled(tiny), compiled(tiny)
    take = Steps(ours, jit=False, size=4)
    for batch in stacked(tiny.batches, 0, 4, 4):
        take(batch)
    for inputs, target in tiny.batches(0).take(4):
        theirs.train_on_batch(inputs, target)
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        # The same operations, which TensorFlow may fuse otherwise inside a loop: a few units in
        # the last place of float32 after four steps.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_short_last_call_runs_the_same_program_and_no_step_more(tiny):
    model, traces = compiled(tiny), []
    train_step = model.train_step
    model.train_step = lambda data: traces.append(1) or train_step(data)
    take = Steps(model, jit=True, size=4)
    for batch in stacked(tiny.batches, 0, 4, 4):
        take(batch)
    traced = len(traces)
    for batch in stacked(tiny.batches, 4, 1, 4):
        assert take(batch) == 1
    assert len(traces) == traced
    assert int(model.optimizer.iterations) == 5
    assert np.isfinite(float(model.get_metrics_result()["loss"]))


def test_batches_of_several_sizes_are_steps_of_keras_own_loop(tiny):
    def batches(first_step):  # of 16 and 11 rows by turns
        def cut(step, batch):
            return tf.nest.map_structure(lambda rows: rows[: 16 - 5 * (step % 2)], batch)

        steps = tf.data.Dataset.range(first_step, 10**6)
        return tf.data.Dataset.zip(steps, tiny.batches(first_step)).map(
            lambda step, batch: cut(tf.cast(step, tf.int32), batch)
        )

    ours, theirs = compiled(tiny), compiled(tiny)
    take = steps_for(ours, batches, jit=False, size=2)
    assert isinstance(take, KerasSteps)
    assert not ours.jit_compile
    steps_for(jitted := compiled(tiny), batches, jit=True, size=2)
    assert jitted.jit_compile
    assert isinstance(steps_for(theirs, tiny.batches, jit=False, size=2), Steps)
    assert [take(execution) for execution in take.executions(batches, 3, 3)] == [2, 1]
    theirs.fit(batches(3), steps_per_epoch=3, shuffle=False, verbose=0)
    for one, other in zip(ours.variables, theirs.variables, strict=True):
        # As above: one loop has two steps per call, the other one.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_batches_of_any_kind_are_stacked(tiny):
    stacks = list(stacked(tiny.batches, 3, 5, 2))
    assert [len(target) for _, target in stacks] == [2, 2, 1]
    joined = tf.concat([target for _, target in stacks], 0)
    single = [target for _, target in tiny.batches(3).take(5)]
    np.testing.assert_array_equal(joined, tf.stack(single))


def test_large_batches_are_fewer_per_call(tiny, monkeypatch):
    # Four float32 values, an int32 id and a float32 target: 24 bytes of each of 16 examples.
    monkeypatch.setattr(stepping, "MOST_STACKED_BYTES", 5 * 24 * tiny.BATCH)
    element = tiny.batches(0).element_spec
    assert [affordable(element, steps) for steps in (3, 5, 32)] == [3, 5, 5]
    monkeypatch.setattr(stepping, "MOST_STACKED_BYTES", 1)
    assert affordable(element, 32) == 1
