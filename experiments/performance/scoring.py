"""What scoring costs on each runtime, side by side: whole, and from a kept static part.

    python experiments/performance/scoring.py [--rounds=7] [--output=FILE]

The network has the paper's sizes: window 6, two taxonomies, eight meta features of width 16, with
content vectors of 64 floats each, and once more with a text vector of 768 and an image vector of
2048. Weights are random: they decide scores, not speed. `tf.function` is the Keras model as one
would serve it first; the others are `mmnet.serving.runtimes`. All take turns, round by round, and
ratios are formed within a round, so that a machine whose speed drifts does not decide; and of CPU
seconds (of all threads of the process), which do not count the time that others had the processor.
Where two processes score side by side, each starts its part at the same moment.

Beside them a product of two 1024 x 1024 matrices, which says what the machine was worth in that
round: the share of it that a runtime reaches counts matrix products only.
"""

import functools
import multiprocessing
import platform
import tempfile
import time
from pathlib import Path

import bench
import numpy as np
import tcn
import tensorflow as tf

from mmnet.config import TableFlags, TaskFlags
from mmnet.data.counts import Calendar
from mmnet.data.dataset import Fitted
from mmnet.layers.interaction import CompressedInteraction
from mmnet.layers.tcn import TemporalConvolution
from mmnet.models.mmnet import mmnet
from mmnet.models.options import MMNetOptions
from mmnet.schema import FeatureSpec, FieldSpec, NumericSpec, VectorSpec
from mmnet.serving import conversion, export, exported, runtimes

WHOLE, HALF = "serving_default", "from_static"
REFERENCE = "tf.function"
RUNS = (
    ("tensorflow", "float32"),
    ("xla", "float32"),
    ("onnx", "float32"),
    ("openvino", "float32"),
    ("openvino", "bfloat16"),
)
CALLS = {1: 100, 256: 8, 4096: 1}
"""Calls in a round, by batch size."""
SQUARE = 1024


def spec_of(text: int, image: int) -> FeatureSpec:
    """The tensors of the paper's sizes, with content vectors of two widths."""
    sizes = {"category": (50, 1), "tags": (500, 4), "author": (5000, 1)}
    sizes |= {f"extra_{number}": (50, 1) for number in range(4)}
    return FeatureSpec(
        window=6,
        horizon=1,
        taxonomies=("category", "tags"),
        fields=tuple(
            FieldSpec(name=name, size=size, max_values=values)
            for name, (size, values) in sizes.items()
        ),
        numerics=(NumericSpec(name="duration", mean=0.0, sd=1.0),),
        vectors=(
            VectorSpec(name="title", dim=text, of="text"),
            VectorSpec(name="cover", dim=image, of="image"),
        ),
        rate_scale=2.0,
        rate_mean=3.0,
    )


def write_export(directory: Path, spec: FeatureSpec) -> Path:
    """Exports an untrained network."""
    fitted = Fitted(
        spec=spec,
        calendar=Calendar(kind="integer"),
        vocabularies={f.tensor: [str(value) for value in range(f.size - 2)] for f in spec.fields},
        tables=TableFlags(),
        task=TaskFlags(),
    )
    return export.export(mmnet(spec, MMNetOptions()), fitted, directory)


def random_rows(spec: FeatureSpec, rows: int) -> dict[str, np.ndarray]:
    """Random inputs of the right shapes."""
    draw = np.random.default_rng(0)
    return {
        name: draw.integers(0, 40, (rows, *shape)).astype(dtype)
        if dtype == "int32"
        else draw.random((rows, *shape), dtype)
        for name, (shape, dtype) in spec.tensors().items()
    }


def products(directory: Path, signature: str) -> int:
    """Multiplications and additions in matrix products and convolutions, per row."""
    _, function = conversion.signature_of(directory, signature)
    rows = 8
    inputs = {
        name: tf.TensorSpec([rows, *one.shape[1:]], one.dtype)
        for name, one in function.structured_input_signature[1].items()
    }
    fixed = tf.function(lambda **given: function(**given)).get_concrete_function(**inputs)
    graph = conversion.convert_variables_to_constants_v2(fixed).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options)
    kinds = ("MatMul", "BatchMatMulV2", "Conv2D", "Einsum")
    return sum(one.total_float_ops for one in profile.children if one.name in kinds) // rows


def variants(directory: Path, cache: Path, spec: FeatureSpec, threads: int):
    """(signature, runtime, precision) -> what scores a batch."""
    scorers = {
        (signature, *run): runtimes.opened(
            directory, signature, runtime=run[0], precision=run[1], threads=threads, cache=cache
        )
        for signature in (WHOLE, HALF)
        for run in RUNS
    }

    def function(model):
        call = tf.function(lambda inputs: model(inputs, training=False))
        return lambda rows: call({name: tf.constant(rows[name]) for name in model.input}).numpy()

    textbook = mmnet(spec, MMNetOptions())
    for layer in textbook._flatten_layers():
        if isinstance(layer, TemporalConvolution):
            layer.call = functools.partial(tcn.TCN.call, layer)
        if isinstance(layer, CompressedInteraction):
            layer.activation = lambda maps: maps  # not known to be linear: no shortcut
    plain = {
        (WHOLE, REFERENCE, "float32"): function(mmnet(spec, MMNetOptions())),
        (WHOLE, f"textbook {REFERENCE}", "float32"): function(textbook),
    }
    return plain | scorers


def measure(directory, cache, spec, threads, batches, rounds, barrier, queue):
    """In a process of its own: wall and CPU seconds of each variant, batch size and round."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    scorers = variants(directory, cache, spec, threads)
    rows = random_rows(spec, max(batches))
    rows |= runtimes.opened(directory, "static", threads=threads)(rows)
    cuts = {batch: {n: array[:batch] for n, array in rows.items()} for batch in batches}
    square = tf.random.stateless_normal((SQUARE, SQUARE), (0, 0))
    product = tf.function(lambda: tf.linalg.matmul(square, square))
    for scorer in scorers.values():
        for cut in cuts.values():
            scorer(cut), scorer(cut)
    product()
    seconds = {(key, batch): [] for key in scorers for batch in batches}
    single = {key: [] for key in scorers}
    squares = []
    for _ in range(rounds):
        for key, scorer in scorers.items():
            for batch, cut in cuts.items():
                barrier.wait()
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in range(CALLS[batch]):
                    before = time.perf_counter()
                    scorer(cut)
                    if batch == 1:
                        single[key].append(time.perf_counter() - before)
                spent = time.perf_counter() - wall, time.process_time() - cpu
                seconds[key, batch].append(np.array(spent) / CALLS[batch])
        barrier.wait()
        squares.append(bench.timed(lambda: [product().numpy() for _ in range(8)])[1] / 8)
    queue.put((seconds, single, squares))


def measured(directory, cache, spec, *, processes, threads, batches, rounds):
    """Wall and CPU seconds per batch, [rounds, 2], of each variant, in the slower process."""
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(processes), context.Queue()
    arguments = (directory, cache, spec, threads, batches, rounds, barrier, queue)
    workers = [context.Process(target=measure, args=arguments) for _ in range(processes)]
    for worker in workers:
        worker.start()
    found = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
    seconds = {key: np.max([one[0][key] for one in found], axis=0) for key in found[0][0]}
    return seconds, found[0][1], np.max([one[2] for one in found], axis=0)


def table(found, work, *, processes, batches) -> list[str]:
    """Rows per second, ratios to the reference and share of the matrix product's rate."""
    seconds, _, squares = found
    rate = 2 * SQUARE**3 / squares  # per CPU second
    lines = [
        "| signature | runtime | batch | rows/s | rows/CPU s | CPU of tf.function / its CPU "
        "| of the matrix product |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for batch in batches:
        reference = seconds[(WHOLE, REFERENCE, "float32"), batch][:, 1]
        for key in dict.fromkeys(key for key, _ in seconds):
            signature, runtime, precision = key
            wall, cpu = seconds[key, batch].T
            share = work[signature] * batch / cpu / rate
            name = runtime if precision == "float32" else f"{runtime} {precision}"
            lines.append(
                f"| {signature} | {name} | {batch} | {processes * batch / np.median(wall):,.0f} "
                f"| {batch / np.median(cpu):,.0f} | {bench.spread(reference / cpu)} "
                f"| {np.median(share):.2f} |"
            )
    return lines


def kept(found, batches) -> list[str]:
    """What a kept static part saves on each runtime: ratios of CPU seconds within rounds."""
    seconds, _, _ = found
    lines = ["| runtime | " + " | ".join(f"batch {b}" for b in batches) + " |"]
    lines.append("| --- |" + " ---: |" * len(batches))
    for run in RUNS:
        ratios = [
            bench.spread((seconds[(WHOLE, *run), batch] / seconds[(HALF, *run), batch])[:, 1])
            for batch in batches
        ]
        lines.append(f"| {run[0]} {run[1]} | " + " | ".join(ratios) + " |")
    return lines


def latency(found) -> list[str]:
    """Milliseconds of one request of one row."""
    lines = [
        "| signature | runtime | median ms | 99th percentile ms |",
        "| --- | --- | ---: | ---: |",
    ]
    for (signature, runtime, precision), taken in found[1].items():
        name = runtime if precision == "float32" else f"{runtime} {precision}"
        median, late = 1000 * np.percentile(taken, [50, 99])
        lines.append(f"| {signature} | {name} | {median:.3f} | {late:.3f} |")
    return lines


def processor() -> str:
    """Its name and which of the flags that decide precision it has."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    name = next((line.split(":")[1] for line in told.splitlines() if "model name" in line), "")
    flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    has = ", ".join(f"{flag} {'yes' if f' {flag}' in told else 'no'}" for flag in flags)
    return f"{name.strip()} ({has})"


def main():
    """Runs the benchmark and prints its tables."""
    options = bench.options(__doc__, rounds=7)
    versions = bench.versions("tensorflow", "keras", "onnxruntime", "openvino", "tf2onnx")
    lines = [
        "# Scoring",
        "",
        f"`python experiments/performance/scoring.py --rounds={options.rounds}`: "
        f"{bench.cores()} cores, {processor()}; {versions}. Ratios are median (least to most) "
        "over the rounds, each formed within a round. Other work shared the machine: rows/s, of "
        "all processes together, and latencies depend on what it left free; CPU seconds count a "
        "process's own threads only.",
    ]
    cases = (
        (64, 64, 1, 1, (1, 256, 4096)),
        (64, 64, 1, 2, (1, 256, 4096)),
        (64, 64, 2, 1, (256, 4096)),
        (768, 2048, 1, 1, (256,)),
    )
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(scratch, "cache")
        for text, image, processes, threads, batches in cases:
            spec, directory = spec_of(text, image), Path(scratch, f"{text}_{image}")
            if not directory.exists():
                write_export(directory, spec)
            path = exported.version_directory(directory)
            work = {signature: products(path, signature) for signature in (WHOLE, HALF)}
            for signature in (WHOLE, HALF):  # once, not in every process
                conversion.converted(path, signature, cache)
            found = measured(
                directory,
                cache,
                spec,
                processes=processes,
                threads=threads,
                batches=batches,
                rounds=options.rounds,
            )
            width = export.load(directory)[0].signatures["static"].structured_outputs["static"]
            rate = 2 * SQUARE**3 / found[2] / 1e9
            lines += [
                "",
                f"## {processes} process{'es' * (processes > 1)} of {threads} "
                f"thread{'s' * (threads > 1)}, vectors of {text} and {image}",
                "",
                f"Matrix products per row: {work[WHOLE] / 1e6:.2f} MFLOP whole, "
                f"{work[HALF] / 1e6:.2f} from a cached static part of {width.shape[-1]} floats: "
                f"{work[WHOLE] / work[HALF]:.2f} times less. One product of two {SQUARE} × "
                f"{SQUARE} float32 matrices: {bench.spread(rate, '.0f')} GFLOP per CPU second.",
                "",
                *table(found, work, processes=processes, batches=batches),
                "",
                "Savings of the cached part: CPU of the whole / CPU of from_static.",
                "",
                *kept(found, batches),
            ]
            if (processes, threads, 1 in batches) == (1, 1, True):
                lines += ["", "One request of one row.", "", *latency(found)]
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
