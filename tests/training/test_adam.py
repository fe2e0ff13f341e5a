import keras
import numpy as np
import pytest
import tensorflow as tf

from mmnet.training.adam import Adam

WEIGHTS = [np.array([1.0, -2.0, 0.5], "float32"), np.array([[0.3], [0.7]], "float32")]
COSINE = keras.optimizers.schedules.CosineDecay(0.01, 4)


def steps_of(optimizer, jit):
    """The weights after three steps, the graph's operations, and the names of the state."""
    weights = [keras.Variable(values, name=f"w{n}") for n, values in enumerate(WEIGHTS)]
    optimizer.build(weights)

    @tf.function(jit_compile=jit)
    def step(scale):
        optimizer.apply([scale * tf.sin(w.value) for w in weights], weights)

    for scale in (1.0, -0.5, 30.0):
        step(tf.constant(scale))
    operations = step.get_concrete_function(tf.constant(1.0)).graph.get_operations()
    return [w.numpy() for w in weights], operations, [v.path for v in optimizer.variables]


@pytest.mark.parametrize(("rate", "jit"), [(COSINE, False), (0.01, True)])
def test_weights_and_state_are_those_of_keras(rate, jit):
    own, fewer, names = steps_of(Adam(rate), jit)
    theirs, more, expected = steps_of(keras.optimizers.Adam(rate, name="adam"), jit)
    for one, other in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert names == expected  # checkpoints of either can be resumed by the other
    # Of two weights, one no longer has a correction of its own: two powers, a root and what is
    # around them.
    assert [op.type for op in more].count("Pow") == 4
    assert [op.type for op in fewer].count("Pow") == 2
    assert len(fewer) <= len(more) - 10


def test_works_without_a_graph_and_is_saved():
    again = keras.optimizers.deserialize(keras.optimizers.serialize(Adam(0.1, epsilon=0.5)))
    assert isinstance(again, Adam)
    weight = keras.Variable(np.float32(1.0))
    again.build([weight])
    again.apply([tf.constant(1.0)], [weight])
    # m = 0.1, v = 0.001 and alpha = 0.1 * sqrt(0.001) / 0.1 after the first gradient of 1.
    expected = 1 - np.sqrt(0.001) * 0.1 / (np.sqrt(0.001) + 0.5)
    assert float(weight) == pytest.approx(expected, rel=1e-6)  # float32
    assert again._alpha is None


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="`amsgrad` must be off"):
        Adam(0.1, amsgrad=True)
