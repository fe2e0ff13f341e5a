"""A tiny model with every kind of training state, and its training, also as a process.

`python tiny.py RUN_DIR` trains it, resuming, and writes RUN_DIR/weights.npz at the end.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from mmnet.config import TrainingFlags
from mmnet.models.heads import PredictedRate
from mmnet.training import share_rates
from mmnet.training.resume import to_array

BATCH, FEATURES, STEPS_PER_EPOCH = 16, 4, 5


class Modes(keras.layers.Layer):
    """Hides inputs at random and counts what it did, as a disturbance does."""

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, shape):
        self.mode_counts = self.add_weight(
            name="mode_counts", shape=(3,), dtype="int64", initializer="zeros", trainable=False
        )

    def call(self, inputs, training=False):
        if not training:
            return inputs
        draw = keras.random.uniform(ops.shape(inputs)[:1], seed=self.draws)
        mode = ops.cast(draw * 3, "int32")
        self.mode_counts.assign_add(ops.cast(ops.sum(ops.one_hot(mode, 3), axis=0), "int64"))
        return inputs * ops.cast(mode == 0, "float32")[:, None]


def model(seed=0, width=8):
    """Disturbance, batch statistics, dropout and an embedding that most steps leave alone."""
    keras.utils.set_random_seed(seed)
    values = keras.Input((FEATURES,), name="values")
    ids = keras.Input((), name="ids", dtype="int32")
    x = Modes(seed=seed)(values)
    x = keras.layers.Dense(width, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.3, seed=seed)(x)
    x = keras.layers.Concatenate()([x, keras.layers.Embedding(50, 3)(ids)])
    return keras.Model({"values": values, "ids": ids}, keras.layers.Dense(1)(x)[:, 0])


def headed(**kwargs):
    """The tiny model, its output brought to percent as a network's is."""
    made = model()
    rate = PredictedRate(1.0, 50.0, **{"link": "identity", **kwargs})(
        keras.layers.Reshape((1,))(made.output)
    )
    return keras.Model(made.input, rate)


def batches(first_step):
    """A pure function of the step: `y = 3 · values[0] + noise`."""

    def batch(step):
        seed = tf.stack([step, 7])
        values = tf.random.stateless_normal((BATCH, FEATURES), seed)
        ids = tf.random.stateless_uniform((BATCH,), seed, 0, 50, tf.int32)
        noise = tf.random.stateless_normal((BATCH,), seed + 1)
        return {"values": values, "ids": ids}, 3 * values[:, 0] + noise

    return tf.data.Dataset.range(first_step, 10**6).map(batch)


def validate(trained):
    """MSE on fixed rows."""
    inputs, target = next(iter(batches(10**5)))
    mse = float(np.mean((np.array(trained(inputs)) - target) ** 2))
    return {"normal_mse": mse, "cold_start_mse": 2 * mse, "noisy_mse": 3 * mse, "extra/n": 16.0}


def settings(**changed):
    """Flags for two short epochs, a checkpoint after each execution of two steps."""
    defaults = {"epochs": 2, "learning_rate": 0.01, "patience": 10, "monitor": "mean_log_mse"}
    defaults |= {"seed": 0, "deterministic": False, "jit": False}
    return TrainingFlags(
        **{**defaults, "steps_per_execution": 2, "checkpoint_seconds": 0, **changed}
    )


def train(run_dir, trained=None, resume=False, validate=validate, batches=batches, **kwargs):
    """Fits the tiny model; returns it and the result."""
    trained = trained or model()
    given = {"hparams": kwargs.pop("hparams", None), "callbacks": kwargs.pop("callbacks", ())}
    given |= {
        name: kwargs.pop(name)
        for name in ("fixed", "hooks", "keep_epochs", "from_start")
        if name in kwargs
    }
    given |= {"run_dir": Path(run_dir), "resume": resume, "epochs": kwargs.pop("max_epochs", None)}
    return trained, trainer(trained, batches, **kwargs).fit(batches, validate, **given)


def trainer(trained, batches=batches, **kwargs):
    """A tiny model, compiled."""
    flags = settings(**kwargs)
    return share_rates.trainer(trained, batches, STEPS_PER_EPOCH, flags, rate_scale=2.0)


def arrays(trained):
    """Everything the model holds, random states included."""
    return [to_array(variable) for variable in trained.variables]


class _Slow(keras.callbacks.Callback):
    """Leaves time to be killed in."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


def main():
    """Trains three epochs in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds per execution")
    given = parser.parse_args()

    def slow_validate(trained):
        print("validating", flush=True)
        time.sleep(2 * given.slow)
        return validate(trained)

    trained, _ = train(
        given.run_dir,
        model(seed=3),
        resume=True,
        validate=slow_validate,
        callbacks=[_Slow(given.slow)],
        epochs=3,
        deterministic=True,
        jit=True,
    )
    np.savez(given.run_dir / "weights.npz", *arrays(trained))


if __name__ == "__main__":
    main()
