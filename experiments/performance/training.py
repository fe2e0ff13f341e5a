"""What a training step costs: this project's `fit` beside a plain Keras `fit`, in one run.

    python experiments/performance/training.py [--rounds=5] [--output=FILE]

All train the same network (the paper's sizes: window 6, two taxonomies, eight meta features, a
768-vector of text, a 2048-vector of an image) on the same batches of 64. `plain fit` is Keras
`fit` as one would write it first: no XLA, one step per call, the layers of this project.
`textbook fit` also has the layers as one would write them first, with the same weights: the
convolutions as keras-tcn calls them, and CIN by its definition. Beside them the input pipeline and
one large matrix product, which says what the machine was worth in that minute. The variants take
turns, round by round, and ratios are formed within a round, so that a machine whose speed drifts
does not decide. CPU seconds count all threads of the process.

The share of input wait comes from a profiler trace of `fit`: time in which the training loop
stood in `IteratorGetNext`, over the time of the traced steps.
"""

import argparse
import functools
import glob
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pyarrow as pa
import tcn
import tensorflow as tf

from mmnet import models
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import pipeline
from mmnet.data.tables import Table
from mmnet.data.windows import Windows
from mmnet.files import write_atomic
from mmnet.layers.interaction import CompressedInteraction
from mmnet.layers.tcn import TemporalConvolution
from mmnet.training.fitting import ScaledMeanSquaredError

BATCH, STEPS, PER_EXECUTION = 64, 256, 32


def make_dataset():
    """A simulated log with random content vectors of the paper's sizes."""
    flags = TableFlags(
        source="simulated",
        source_set=("items=4000", "periods=40"),
        taxonomies=("category", "tags"),
        categoricals=("author", *(f"extra_{i}" for i in range(4))),
        numerics=("duration",),
        release="release",
    )
    found = pipeline.load_tables(flags)
    draw = np.random.default_rng(0)
    items = found.items.data
    for i in range(4):
        values = pa.array(draw.integers(0, 50, len(found.items)).astype(str))
        items = items.append_column(f"extra_{i}", values)
    found.items = Table(items, "items")
    for name, width in (("title", 768), ("cover", 2048)):
        vectors = draw.normal(size=(len(found.items), width)).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)
        found.vectors[name] = Table(
            pa.table({"item_id": items["item_id"], "vector": column}), "vectors"
        )
    return pipeline.prepare(found, flags, TaskFlags())


class Fit:
    """One way to train, kept warm between rounds."""

    def __init__(self, dataset, batches, *, jit, steps_per_execution, textbook=False):
        spec = dataset.fitted.spec
        self.batches, self.step = batches, 0
        self.model = models.REGISTRY["mmnet"](spec, seed=0)
        if textbook:
            for layer in self.model._flatten_layers():
                if isinstance(layer, TemporalConvolution):
                    layer.call = functools.partial(tcn.TCN.call, layer)
                if isinstance(layer, CompressedInteraction):
                    layer.activation = lambda maps: maps  # not known to be linear: no shortcut
        self.model.compile(
            keras.optimizers.Adam(0.001),
            ScaledMeanSquaredError(spec.rate_scale),
            jit_compile=jit,
            steps_per_execution=steps_per_execution,
        )

    def __call__(self):
        """Trains for one round."""
        data = self.batches(self.step).take(STEPS)
        data = data.apply(tf.data.experimental.assert_cardinality(STEPS))
        self.model.fit(data, shuffle=False, verbose=0)
        self.step += STEPS


def timed(function) -> tuple[float, float]:
    """Wall and CPU milliseconds per training step."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return 1000 * wall / STEPS, 1000 * cpu / STEPS


def input_wait(fit: Fit) -> float:
    """Share of the traced time that the training loop waited for its next batch."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        start = time.perf_counter()
        fit()
        seconds = time.perf_counter() - start
        tf.profiler.experimental.stop()
        (path,) = glob.glob(f"{directory}/**/*.xplane.pb", recursive=True)
        space = xplane_pb2.XSpace.FromString(Path(path).read_bytes())
    waited = 0.0
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                # The operation itself; the dataset's own "Iterator::..." events run beside it.
                if names[event.metadata_id].startswith("IteratorGetNext"):
                    waited += event.duration_ps / 1e12
    return waited / seconds


def spread(values) -> str:
    """Median (least to most)."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    dataset = make_dataset()
    batches, _ = Windows(dataset).training_batches(dataset.split.train, BATCH, 0)
    fits = {
        "mmnet fit": Fit(dataset, batches, jit=True, steps_per_execution=PER_EXECUTION),
        "plain fit": Fit(dataset, batches, jit=False, steps_per_execution=1),
        "textbook fit": Fit(dataset, batches, jit=False, steps_per_execution=1, textbook=True),
    }
    square = tf.random.stateless_normal((2048, 2048), (0, 0))
    product = tf.function(lambda: tf.linalg.matmul(square, square))

    def input_alone():
        for _ in batches(0).take(STEPS):
            pass

    def matrix_product():
        product().numpy()

    compile_seconds = {}
    for name, fit in fits.items():
        start = time.perf_counter()
        fit()
        compile_seconds[name] = time.perf_counter() - start
    input_alone(), matrix_product()
    variants = {**fits, "input alone": input_alone, "matrix product": matrix_product}
    wall = {name: [] for name in variants}
    cpu = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, variant in variants.items():
            spent = timed(variant)
            wall[name].append(spent[0])
            cpu[name].append(spent[1])

    parameters = sum(int(np.prod(v.shape)) for v in fits["mmnet fit"].model.trainable_variables)
    lines = [
        "# Training step, batch 64",
        "",
        f"`python experiments/performance/training.py --rounds={options.rounds}`: "
        f"{parameters:,} parameters, {STEPS} steps a round, {os.cpu_count()} cores, "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}. Median (least to most).",
        "",
        "| variant | wall ms/step | CPU ms/step | its CPU / mmnet CPU | its wall / mmnet wall |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in (*fits, "input alone"):
        ratios = [spread(np.divide(times[name], times["mmnet fit"])) for times in (cpu, wall)]
        lines.append(
            f"| {name} | {spread(wall[name])} | {spread(cpu[name])} | {ratios[0]} | {ratios[1]} |"
        )
    seconds = np.array(wall["matrix product"]) * STEPS / 1000
    warm = ", ".join(f"{name} {spent:.0f} s" for name, spent in compile_seconds.items())
    lines += [
        "",
        f"- One product of two 2048 × 2048 float32 matrices: {spread(2 * 2048**3 / seconds / 1e9)} "
        "GFLOP/s.",
        f"- First round, compilation included: {warm}.",
        f"- Share of the traced time in which `mmnet fit` waited for input: "
        f"{100 * input_wait(fits['mmnet fit']):.1f} %.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        write_atomic(options.output, text)


if __name__ == "__main__":
    main()
