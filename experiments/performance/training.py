"""What a training step costs: this project's `fit` compared with a plain Keras `fit`, in one run.

    python experiments/performance/training.py [--rounds=5] [--batch_size=64] \
        [--precision=float32] [--output=FILE]

All variants train the same network (the paper's sizes: window 6, two taxonomies, eight meta
features, a 768-vector of text, a 2048-vector of an image) on the same batches.

- `mmnet fit` is what `python -m mmnet.train` runs.
- `plain fit` is Keras `fit` as one would write it first, with this project's layers: no XLA, one
  step per call.
- `textbook fit` also has the layers as one would write them first, with the same weights: the
  convolutions as keras-tcn calls them, and CIN by its definition.

The variants take turns, round by round, and ratios are formed within a round, so that a machine
whose speed drifts does not decide. CPU seconds count all threads of the process. A product of two
2048 × 2048 matrices on one thread, measured in the same rounds, says what the machine was worth:
the page reports which share of two such threads a step reaches, at 21.0 MFLOP per example (the
textbook network, forward and backward).

A profiler trace of `mmnet fit` yields the operations of a step by kind, and the share of time that
the training loop waited for input.

The roofline of the page is a lower bound of a step's CPU time: every matrix product of the compiled
step, timed on its own on one thread with its operands in the cache (NumPy's BLAS), plus the input.
No arrangement of the same products can be cheaper than that, whatever happens to all other
operations.
"""

import collections
import functools
import glob
import json
import math
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import bench
import keras
import numpy as np
import pyarrow as pa
import tcn
import tensorflow as tf

from mmnet import models
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import input_tables, pipeline
from mmnet.data.tables import Table
from mmnet.data.windows import Windows
from mmnet.layers.interaction import CompressedInteraction
from mmnet.layers.tcn import TemporalConvolution
from mmnet.training.losses import ScaledMeanSquaredError
from mmnet.training.stepping import Steps, affordable, stacked

STEPS, PER_EXECUTION = 128, 32
MFLOP_PER_EXAMPLE = 21.0
"""Of the textbook network: 3.49 M multiply-adds forward, twice that backward."""


def make_dataset():
    """A simulated log with random content vectors of the paper's sizes."""
    flags = TableFlags(
        source="simulated",
        source_set=("items=4000", "periods=40"),
        taxonomies=("category", "tags"),
        categoricals=("author",),
        numerics=("duration",),
        release="release",
    )
    found = input_tables.load_tables(flags)
    draw = np.random.default_rng(0)
    items = found.items.data
    for i in range(4):
        values = pa.array(draw.integers(0, 50, len(found.items)).astype(str))
        items = items.append_column(f"extra_{i}", values)
    found.items = Table(items, "items")
    extra = tuple(f"extra_{i}" for i in range(4))
    flags = flags.model_copy(update={"categoricals": (*flags.categoricals, *extra)})
    for name, width in (("title", 768), ("cover", 2048)):
        vectors = draw.normal(size=(len(found.items), width)).astype(np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width)
        found.vectors[name] = Table(
            pa.table({"item_id": items["item_id"], "vector": column}), "vectors"
        )
    return pipeline.prepare(found, flags, TaskFlags())


class Fit:
    """One way to train, kept warm between rounds."""

    def __init__(self, dataset, batches, *, textbook=False):
        spec = dataset.fitted.spec
        self.batches, self.step = batches, 0
        self.model = models.REGISTRY["mmnet"](spec, seed=0)
        if textbook:
            for layer in self.model._flatten_layers():
                if isinstance(layer, TemporalConvolution):
                    layer.call = functools.partial(tcn.TCN.call, layer)
                if isinstance(layer, CompressedInteraction):
                    layer.activation = lambda maps: maps  # not known to be linear: no shortcut
        self.model.compile(keras.optimizers.Adam(0.001), ScaledMeanSquaredError(spec.rate_scale))

    def __call__(self):
        """Trains for one round."""
        first = self.step % self.batches.steps_per_epoch
        steps = min(STEPS, self.batches.steps_per_epoch - first)
        for done in range(0, STEPS, steps):
            self.train(first if not done else 0, min(steps, STEPS - done))
        self.step = (self.step + STEPS) % self.batches.steps_per_epoch

    def train(self, first, steps):
        """Keras' own loop."""
        data = self.batches(first).take(steps)
        data = data.apply(tf.data.experimental.assert_cardinality(steps))
        self.model.fit(data, shuffle=False, verbose=0)


class OurFit(Fit):
    """The loop of `mmnet.training.fitting`."""

    def __init__(self, dataset, batches):
        super().__init__(dataset, batches)
        self.model.optimizer.build(self.model.trainable_variables)
        size = affordable(batches(0).element_spec, PER_EXECUTION)
        self.take = Steps(self.model, jit=True, size=size)

    def train(self, first, steps):
        """Executions of up to 32 steps, and a look at the loss after each."""
        for batch in stacked(self.batches, first, steps, self.take.size):
            self.take(batch)
            float(self.model.get_metrics_result()["loss"])


def traced(fit: Fit) -> tuple[list[tuple[str, float, float]], float]:
    """Profiles one round.

    Returns:
        Rows of (kind of operation, milliseconds per step, operations per step), and the share of
        the time that the training loop waited for its next batch.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        seconds, _ = bench.timed(fit)
        tf.profiler.experimental.stop()
        (path,) = glob.glob(f"{directory}/**/*.xplane.pb", recursive=True)
        space = xplane_pb2.XSpace.FromString(Path(path).read_bytes())
    spent, number, waited = collections.Counter(), collections.Counter(), 0.0
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name, duration = names[event.metadata_id], event.duration_ps / 1e9
                if name.startswith("IteratorGetNext"):
                    waited += duration / 1e3
                kind = next((kind for kind, of in KINDS.items() if of.match(name)), None)
                if kind:
                    spent[kind] += duration / STEPS
                    number[kind] += 1 / STEPS
    return [(kind, spent[kind], number[kind]) for kind in KINDS], waited / seconds


KINDS = {
    "matrix products": re.compile(r"(MatMul|dot|convolution|Conv2D)\S*\.\d+$"),
    "Adam": re.compile(r"(multiply_add|divide_subtract|subtract_divide)_fusion(\.\d+)?$"),
    "other fused operations": re.compile(r"\w*fusion(\.\d+)?$|wrapped_\w+\.\d+$"),
    "copies": re.compile(r"(copy|concatenate|concat|transpose)(_\d+)?\.\d+$"),
}
"""Kind of operation -> names of XLA's instructions; the first that matches counts."""


def one_thread_rate() -> float:
    """GFLOP/s of one product of two 2048 × 2048 float32 matrices on one thread."""
    script = """
import os, time
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
square = tf.random.stateless_normal((2048, 2048), (0, 0))
product = tf.function(lambda: tf.linalg.matmul(square, square))
product().numpy()
seconds = []
for _ in range(5):
    start = time.process_time()
    product().numpy()
    seconds.append(time.process_time() - start)
print(2 * 2048**3 / sorted(seconds)[2] / 1e9)
"""
    return float(bench.run("-c", script).output.split()[-1])


class Product(NamedTuple):
    """Shape of a matrix product: `batch` products of [rows, inner] by [inner, columns]."""

    batch: int
    rows: int
    columns: int
    inner: int
    left_transposed: bool
    right_transposed: bool

    def gflop(self) -> float:
        """Floating point operations, in units of 1e9."""
        return 2 * self.batch * self.rows * self.columns * self.inner / 1e9


def products_of(fit: OurFit) -> list[tuple[Product, int]]:
    """Every shape of matrix product in the compiled step, with the number of such products."""
    batch = next(iter(stacked(fit.batches, 0, fit.take.size, fit.take.size)))
    compiled = fit.take._program.experimental_get_compiler_ir(batch, tf.constant(fit.take.size))
    return products_in(compiled(stage="optimized_hlo"))


def products_in(hlo: str) -> list[tuple[Product, int]]:
    """Reads the products from XLA's text.

    >>> ((product, number),) = products_in('''
    ...   %a = f32[3,2]{1,0} parameter(0)
    ...   %b = f32[3,4]{1,0} parameter(1)
    ...   %c = f32[2,4]{1,0} dot(%a, %b), lhs_contracting_dims={0}, rhs_contracting_dims={0}
    ... ''')
    >>> tuple(product), number
    ((1, 2, 4, 3, True, False), 1)
    """
    shapes = {
        name: [int(size) for size in sizes.split(",") if size]
        for name, sizes in re.findall(r"(%\S+) = \w+\[([\d,]*)\]", hlo)
    }
    found = collections.Counter()
    for left, right, rest in re.findall(r" dot\((%[^,]+), (%[^)]+)\)(.*)", hlo):
        dims = {
            side: [int(size) for size in sizes.split(",")]
            for side, sizes in re.findall(r"(\w+_dims)=\{([\d,]+)\}", rest)
        }
        taken, given = dims["lhs_contracting_dims"], dims["rhs_contracting_dims"]
        left, right, batch = shapes[left], shapes[right], len(dims.get("lhs_batch_dims", ()))
        inner = math.prod(left[axis] for axis in taken)
        outer = math.prod(left[:batch])  # XLA puts batch dimensions first
        product = Product(
            outer,
            math.prod(left) // (outer * inner),
            math.prod(right) // (outer * inner),
            inner,
            taken[-1] != len(left) - 1,
            given[0] != batch,
        )
        found[product] += 1
    return list(found.items())


def alone(products: list[Product]) -> list[float]:
    """CPU milliseconds of each product alone on one thread: the median of five timings."""
    script = """
import json, statistics, sys, time
import numpy as np
for batch, rows, columns, inner, left_transposed, right_transposed in json.loads(sys.argv[1]):
    left = np.ones((batch, inner, rows) if left_transposed else (batch, rows, inner), "float32")
    left = left.swapaxes(1, 2) if left_transposed else left
    right_shape = (batch, columns, inner) if right_transposed else (batch, inner, columns)
    right = np.ones(right_shape, "float32")
    right = right.swapaxes(1, 2) if right_transposed else right
    if batch == 1:
        left, right = left[0], right[0]
    out = left @ right
    times = max(3, min(2000, int(1e8 / (batch * rows * columns * inner))))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(times):
            np.matmul(left, right, out=out)
        seconds.append((time.process_time() - start) / times)
    print(1000 * statistics.median(seconds))
"""
    threads = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")}
    done = bench.run("-c", script, json.dumps(products), **threads)
    return [float(line) for line in done.output.split()]


def main():
    """Runs the benchmark and prints its table."""
    precision = {"default": "float32", "help": "a Keras dtype policy"}
    options = bench.options(__doc__, rounds=5, batch_size=64, precision=precision)
    rate = [one_thread_rate()]
    keras.config.set_dtype_policy(options.precision)
    dataset = make_dataset()
    train = dataset.split.train
    batches, _ = Windows(dataset).training_batches(train, options.batch_size, 0)
    fits = {
        "mmnet fit": OurFit(dataset, batches),
        "plain fit": Fit(dataset, batches),
        "textbook fit": Fit(dataset, batches, textbook=True),
    }

    def input_alone():
        for _ in stacked(batches, 0, min(STEPS, batches.steps_per_epoch), PER_EXECUTION):
            pass

    compile_seconds = {name: bench.timed(fit)[0] for name, fit in fits.items()}
    input_alone()
    variants = {**fits, "input alone": input_alone}
    machine = {"machine": lambda: rate.append(one_thread_rate())}
    wall, cpu = (
        {name: 1000 * np.array(spent[name]) / STEPS for name in variants}
        for spent in bench.race(variants | machine, options.rounds)
    )
    kinds, waited = traced(fits["mmnet fit"])
    shapes, numbers = zip(*products_of(fits["mmnet fit"]), strict=True)
    product_ms = float(np.dot(alone(shapes), numbers))
    product_gflop = float(np.dot([shape.gflop() for shape in shapes], numbers))

    parameters = sum(int(np.prod(v.shape)) for v in fits["mmnet fit"].model.trainable_variables)
    flags = f"--rounds={options.rounds} --batch_size={options.batch_size}"
    lines = [
        f"# Training step, batch {options.batch_size}, {options.precision}",
        "",
        f"`python experiments/performance/training.py {flags} --precision={options.precision}`: "
        f"{parameters:,} parameters, {STEPS} steps a round, {bench.cores()} cores, "
        f"{bench.versions('TensorFlow', 'Keras')}. Median (least to most).",
        "",
        "| variant | wall ms/step | CPU ms/step | its CPU / mmnet CPU | its wall / mmnet wall |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in variants:
        ratios = (bench.ratios(times[name], times["mmnet fit"]) for times in (cpu, wall))
        cells = map(bench.spread, (wall[name], cpu[name], *ratios))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    gflop = MFLOP_PER_EXAMPLE * options.batch_size / 1e3
    reached = gflop / (np.median(wall["mmnet fit"]) / 1e3) / (2 * np.median(rate))
    warm = ", ".join(f"{name} {spent:.0f} s" for name, spent in compile_seconds.items())
    total = sum(spent for _, spent, _ in kinds)
    bound = product_ms + np.median(cpu["input alone"])
    textbook = np.median(cpu["textbook fit"])
    lines += [
        "",
        f"- One product of two 2048 × 2048 float32 matrices on one thread: {bench.spread(rate)} "
        "GFLOP/s of CPU time.",
        f"- Share of two such threads that `mmnet fit` reaches: {reached:.2f}.",
        f"- First round, compilation included: {warm}.",
        f"- Share of the traced time in which `mmnet fit` waited for input: {100 * waited:.1f} %.",
        "",
        "## Roofline",
        "",
        f"- `mmnet fit` has {sum(numbers)} matrix products a step, "
        f"{1000 * product_gflop / options.batch_size:.1f} MFLOP an example (the textbook network "
        f"{MFLOP_PER_EXAMPLE}).",
        f"- Each of them alone in float32, one thread, operands in the cache: {product_ms:.2f} CPU "
        f"ms together, {1000 * product_gflop / product_ms:.0f} GFLOP/s.",
        f"- With these products and the input, and all other operations free, a step would cost "
        f"{bound:.2f} CPU ms: {textbook / bound:.2f} × less than `textbook fit`.",
        "",
        "## Operations",
        "",
        "| operations of a step of `mmnet fit` | number | ms | share |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {kind} | {number:.0f} | {spent:.2f} | {100 * spent / total:.0f} % |"
            for kind, spent, number in kinds
        ),
    ]
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
