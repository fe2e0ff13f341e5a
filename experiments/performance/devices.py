"""Training steps by number of devices and precision, in one run, on GPUs where there are any.

    python experiments/performance/devices.py [--devices=1,2] [--precision=float32] [--rounds=5] \
        [--batch_size=64] [--steps=64] [--units=64] [--nojit] [--output=FILE]

Each variant trains the published network, without random draws, on the same random batches (window
6, two taxonomies, texts and vectors); they take turns. The loss after the same steps shows that
devices compute the same. Without a GPU the devices are virtual CPU devices, which share the cores:
their speed only says what the exchange between devices costs.
"""

import statistics

import bench
import numpy as np
import tensorflow as tf

PER_EXECUTION = 32


def set_up(number: int) -> str:
    """Makes sure that there are so many devices; returns what they are."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return ", ".join(one.get("device_name", "GPU") for one in details)
    cpu = tf.config.list_physical_devices("CPU")[0]
    virtual = [tf.config.LogicalDeviceConfiguration()] * number
    tf.config.set_logical_device_configuration(cpu, virtual)
    return f"no GPU: {number} virtual CPU devices that share {bench.cores()} cores"


def random_batches(spec, rows: int, draw: np.random.Generator):
    """Random inputs of a network and targets, the same 16 batches again and again."""
    inputs = {}
    for name, (shape, dtype) in spec.tensors().items():
        size = (16, rows, *shape)
        if dtype == "int32":
            inputs[name] = draw.integers(0, 5, size).astype(dtype)
        elif name.endswith("missing_flag"):
            inputs[name] = (draw.random(size) < 0.2).astype(dtype)
        else:
            inputs[name] = draw.gamma(3, 1, size).astype(dtype)
    target = draw.gamma(3, 1, (16, rows)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices((inputs, target)).repeat()
    return lambda first_step: batches.skip(first_step)


class Variant:
    """A network on some devices in some precision, kept warm between rounds.

    Args:
        devices: their number.
        precision: `--precision` of train.
        options: of the script.
    """

    def __init__(self, devices: int, precision: str, options):
        import keras

        from mmnet import models
        from mmnet.config import TrainingFlags
        from mmnet.schema import FeatureSpec, FieldSpec, NumericSpec, TextSpec, VectorSpec
        from mmnet.training import mirrored, share_rates

        spec = FeatureSpec(
            window=6,
            horizon=1,
            taxonomies=("category", "tags"),
            fields=(
                FieldSpec(name="category", size=50),
                FieldSpec(name="tags", size=500, max_values=3),
            ),
            numerics=(NumericSpec(name="duration", mean=60.0, sd=20.0),),
            texts=(TextSpec(name="title", size=5000, max_tokens=16),),
            vectors=(VectorSpec(name="cover", dim=512),),
            rate_scale=2.0,
            rate_mean=3.0,
        )

        def build():
            keras.config.set_dtype_policy(precision)
            settings = {"seed": 0, "mode_weights": (1, 0, 0), "units": options.units}
            return models.REGISTRY["mmnet"](spec, **settings)

        model = build()
        trained = model if devices == 1 else mirrored.twin_of(model, build, devices)
        self.batches = random_batches(spec, options.batch_size, np.random.default_rng(0))
        flags = TrainingFlags(jit=not options.nojit, steps_per_execution=PER_EXECUTION)
        self.trainer = share_rates.trainer(
            trained, self.batches, options.steps, flags, rate_scale=spec.rate_scale
        )
        self.steps = options.steps
        self.loss = self.train()[1]
        self.train()  # the first two rounds may trace and compile

    def train(self) -> tuple[float, float]:
        """Steps per second of one round, and the mean loss of its steps."""
        self.trainer.model.reset_metrics()
        take = self.trainer._take
        executions = list(take.executions(self.batches, 0, self.steps))

        def steps() -> None:
            for execution in executions:
                take(execution)
            float(self.trainer.model.get_metrics_result()["loss"])  # waits for the last step

        wall, _ = bench.timed(steps)
        return self.steps / wall, float(self.trainer.model.get_metrics_result()["loss"])


def main() -> None:
    """Measures and prints the page."""
    options = bench.options(
        __doc__,
        devices="1,2",
        precision="float32",
        rounds=5,
        batch_size=64,
        steps=64,
        units=64,
        nojit=False,
    )
    numbers = [int(one) for one in options.devices.split(",")]
    seen = set_up(max(numbers))
    variants = {
        (number, precision): Variant(number, precision, options)
        for precision in options.precision.split(",")
        for number in numbers
    }
    calls = {str(key): variant.train for key, variant in variants.items()}
    found = bench.turns(calls, options.rounds)
    speeds = {name: [speed for speed, _ in rounds] for name, rounds in found.items()}
    first = speeds[str(next(iter(variants)))]
    lines = [
        "# Training on several devices",
        "",
        f"`python experiments/performance/devices.py --devices={options.devices} "
        f"--precision={options.precision} --batch_size={options.batch_size} "
        f"--steps={options.steps} --units={options.units}{' --nojit' * options.nojit} "
        f"--rounds={options.rounds}`, "
        f"{bench.versions('tensorflow', 'keras')}; {seen}.",
        "",
        "Steps per second: median of the rounds (least to most). The ratio to the first row is "
        "formed within a round. Loss: mean of the first steps, from the same weights.",
        "",
        "| devices | precision | steps/s | ratio | loss |",
        "|---:|---|---:|---:|---:|",
    ]
    for (number, precision), variant in variants.items():
        own = speeds[str((number, precision))]
        ratio = statistics.median(bench.ratios(own, first))
        lines.append(
            f"| {number} | {precision} | {bench.spread(own, '.1f')} | {ratio:.2f} | "
            f"{variant.loss:.6f} |"
        )
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
