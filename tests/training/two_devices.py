"""Training on two logical CPU devices, which a process must ask for before its first operation.

`python two_devices.py DIRECTORY CASE...` writes what each case found to DIRECTORY/CASE.npz.
"""

import functools
import itertools
import shutil
import sys
from pathlib import Path
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from mmnet import models
from mmnet.checks import InputError
from mmnet.config import TrainingFlags
from mmnet.flags import parse
from mmnet.mma4ctr import config as clicks
from mmnet.mma4ctr.system import System
from mmnet.schema import FeatureSpec, FieldSpec, NumericSpec
from mmnet.training import fitting, mirrored, resume, share_rates
from tests.mma4ctr.logs import log
from tests.models import tiny as networks
from tests.training import tiny

ROWS = 9
"""Of a batch: an odd number, so that the devices have parts of different sizes."""


class Pair(keras.layers.Layer):
    """Sums up a number that it draws in each call, and its square."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.draws = keras.random.SeedGenerator(5)
        self.sums = self.add_weight((2,), "zeros", "int64", trainable=False, name="sums")

    def call(self, inputs, training=False):
        if training:
            drawn = keras.random.randint((), 0, 1000, dtype="int64", seed=self.draws)
            self.sums.assign_add(ops.stack([drawn, drawn * drawn]))
        return inputs


def quiet():
    """Every kind of training state but draws that the outputs depend on."""
    keras.utils.set_random_seed(0)
    values = keras.Input((tiny.FEATURES,), name="values")
    ids = keras.Input((), name="ids", dtype="int32")
    x = keras.layers.Dense(8, use_bias=False, kernel_regularizer="l2")(Pair()(values))
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Concatenate()([x, keras.layers.Embedding(5, 3)(ids)])
    return keras.Model({"values": values, "ids": ids}, keras.layers.Dense(1)(x)[:, 0])


def batches(first_step):
    """Batches with weights, in which ids occur repeatedly."""

    def batch(inputs, target):
        inputs = {"values": inputs["values"][:ROWS], "ids": inputs["ids"][:ROWS] % 5}
        return inputs, target[:ROWS], tf.range(1.0, ROWS + 1) / 5

    return tiny.batches(first_step).map(batch)


def random_batches(spec, rows=8):
    """Random batches of a network's inputs."""
    several = [networks.batch(spec, rows, seed) for seed in range(4)]
    inputs = {name: np.stack([one[name] for one in several]) for name in several[0]}
    target = np.random.default_rng(1).gamma(3, 1, (4, rows)).astype("float32")
    steps = tf.data.Dataset.from_tensor_slices((inputs, target)).repeat()
    return lambda first_step: steps.skip(first_step)


def lower():
    """A validation whose last epoch is the best one."""
    numbers = itertools.count(1)
    return lambda _: dict.fromkeys(share_rates.MSE_NAMES, 1 / next(numbers))


def trainer_of(build, batches, devices, **flags):
    """A trainer whose epochs are single steps."""
    trained = build() if devices == 1 else mirrored.twin_of(build(), build, devices)
    given = {"epochs": 4, "jit": False, "learning_rate": 0.01, **flags}
    return share_rates.trainer(trained, batches, 1, TrainingFlags(**given), rate_scale=2.0)


def arrays(trainer):
    return {name: resume.to_array(one) for name, one in trainer.variables.items()}


def both(build, batches, run_dir=None, **flags):
    """The same training on one device and on two: losses of each step, and all arrays."""
    for devices in (1, 2):
        trainer = trainer_of(build, batches, devices, **flags)
        place = run_dir and run_dir / str(devices)
        result = trainer.fit(batches, lower(), run_dir=place, resume=False)
        yield f"{devices}/losses", [row["loss"] for row in result.history]
        for name, array in arrays(trainer).items():
            yield f"{devices}/{name}", array
    if run_dir:
        yield "trainer", trainer  # of the run on two devices


# ------------------------------------------------------------------------------------ cases


def every_state(directory):
    """`quiet` on one device, on two, and on two from the first checkpoint of that run."""
    flags = {"weight_average": 0.5, "deterministic": True}
    keep_all = functools.partial(resume.Checkpoints, keep=9)
    with mock.patch.object(fitting, "Checkpoints", keep_all):
        found = dict(both(quiet, batches, run_dir=directory / "whole", **flags))
    first = min((directory / "whole" / "2" / "checkpoints").glob("epoch_*"))
    (directory / "again" / "checkpoints").mkdir(parents=True)
    shutil.copy(first, directory / "again" / "checkpoints")
    trainer = found.pop("trainer")
    trainer.start_over(quiet(), 0)
    trainer.fit(batches, lower(), run_dir=directory / "again", resume=True)
    found |= {f"again/{name}": array for name, array in arrays(trainer).items()}
    try:
        alone = trainer_of(quiet, batches, 1, weight_average=0.5)
        alone.fit(batches, lower(), run_dir=directory / "again", resume=True)
    except InputError as error:
        found["refused"] = str(error)
    return found


def mixed_precision(_):
    """`quiet` with products in bfloat16."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = dict(both(quiet, batches))
        layer = next(one for one in quiet().layers if isinstance(one, keras.layers.Dense))
    finally:
        keras.config.set_dtype_policy("float32")
    return found | {"dtypes": [layer.compute_dtype, layer.variable_dtype]}


def of_clicks(*flags):
    """A model of clicks."""
    found = {}
    for devices in (1, 2):
        given = ["--epochs=2", "--min_rows=5", f"--devices={devices}", *flags]
        made = System(log(), parse(clicks.TrainConfig, given))
        fit = made.fit(None)
        found[f"{devices}/losses"] = [epoch["loss"] for epoch in fit.history]
        found[f"{devices}/auc"] = [epoch["auc"] for epoch in fit.history]
        for number, weight in enumerate(made.model.net.get_weights()):
            found[f"{devices}/{number}"] = weight
    return found


def listwise(_):
    """MMa4CTR, a batch per epoch."""
    return of_clicks("--batch_size=999", "--nojit")


def pairs(_):
    """A baseline with XLA: pairs of rows, tables of vectors, and a smaller batch at the end."""
    return of_clicks("--model=bpr", "--batch_size=70", "--jit", "--epochs=1")


def mmnet(_):
    """The published network, but for its size, without draws."""
    given = {"units": 8, "field_width": 4, "mode_weights": (1, 0, 0), "seed": 0}
    spec = FeatureSpec(
        window=6,
        horizon=1,
        taxonomies=("category",),
        fields=(FieldSpec(name="category", size=5),),
        numerics=(NumericSpec(name="duration", mean=60.0, sd=20.0),),
        rate_scale=2.0,
        rate_mean=3.0,
    )
    return dict(both(lambda: models.REGISTRY["mmnet"](spec, **given), random_batches(spec)))


def main():
    """Runs the cases named."""
    directory, *cases = sys.argv[1:]
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    for case in cases:
        np.savez(Path(directory, f"{case}.npz"), **globals()[case](Path(directory)))


if __name__ == "__main__":
    main()
