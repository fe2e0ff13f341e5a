"""What an ensemble is worth on validation, and what it costs to keep and to score.

    python experiments/performance/ensembles.py --run_dir=RUN [--rounds=9] [--output=FILE]

RUN is a run of `mmnet.train --ensemble=K`; `--outputs=validation` is enough. Its record has the
errors. For the costs the first member alone and the ensemble are exported, and score the same
windows in turn, round by round: whole, and from what `static` keeps of the items.
"""

import platform
import tempfile
from pathlib import Path

import bench
import numpy as np
import tensorflow as tf

from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.schema import OF_PERIODS
from mmnet.serving import export
from mmnet.serving.exported import STATIC
from mmnet.tasks.building import built, model_options, weights_of
from mmnet.tasks.evaluating import restored
from mmnet.training import resume
from mmnet.training.records import Record
from mmnet.training.run_directory import SHARE_RATES
from mmnet.training.share_rates import MSE_NAMES, monitored

ROWS = 512


def errors(fitted: dict) -> list[list[str]]:
    """A line per member, of their mean, and of the ensemble."""
    found = [one["validation"] for one in fitted["members"]]
    mean = {name: float(np.mean([one[name] for one in found])) for name in MSE_NAMES}
    rows = {f"seed {one['seed']}": one["validation"] for one in fitted["members"]}
    rows |= {"mean of the members": mean, "ensemble": fitted["validation"]}
    lines = []
    for name, metrics in rows.items():
        logs = [monitored("mean_log_mse", one) for one in (found if metrics is mean else [metrics])]
        values = [f"{metrics[of]:.3f}" for of in MSE_NAMES]
        lines.append([name, *values, f"{np.mean(logs):.4f}"])
    return lines


class Exported:
    """An export, its size, and two ways to score with it.

    Args:
        model: trained.
        fitted: what it was trained with.
        directory: to export to.
        inputs: what is scored, tensors by name.
    """

    def __init__(self, model, fitted, directory: Path, inputs: dict[str, tf.Tensor]):
        place = export.export(model, fitted, directory)
        self.bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        self.loaded = tf.saved_model.load(str(place))  # keeps the signatures' variables alive
        signatures = self.loaded.signatures
        items = {name: tensor for name, tensor in inputs.items() if name not in OF_PERIODS}
        kept = signatures["static"](**items)
        self.width = kept[STATIC].shape[1]
        read = {name: tensor for name, tensor in inputs.items() if name in OF_PERIODS} | kept
        self.whole = lambda: signatures["serving_default"](**inputs)
        self.from_static = lambda: signatures["from_static"](**read)


def main() -> None:
    """Prints a table of errors and one of costs."""
    options = bench.options(__doc__, run_dir={"required": True}, rounds=9)
    run_dir = Path(options.run_dir)
    flags = SHARE_RATES.read(run_dir)
    dataset = datasets.load(flags.dataset_dir or run_dir / "dataset")
    _, inputs = next(Windows(dataset).batches(dataset.examples("validation"), ROWS))
    rows = len(next(iter(inputs.values())))
    builder, chosen = model_options(flags)
    first = built(builder, chosen, dataset, flags)
    resume.load_weights(first, weights_of(flags, run_dir)[0], dataset.fingerprint)
    models = {
        "one member": first,
        f"ensemble of {flags.ensemble}": restored(dataset, flags, run_dir),
    }
    with tempfile.TemporaryDirectory() as scratch:
        found = {
            name: Exported(model, dataset.fitted, Path(scratch) / str(number), inputs)
            for number, (name, model) in enumerate(models.items())
        }
        ways = {}
        for name, one in found.items():
            ways |= {(name, "whole"): one.whole, (name, "from static"): one.from_static}
        bench.race(ways, 2)  # the first calls optimise the graphs
        wall, cpu = bench.race(ways, options.rounds)
    lines = [
        f"# An ensemble of {flags.ensemble}\n",
        f"`python experiments/performance/ensembles.py --run_dir=RUN --rounds={options.rounds}`: "
        f"{bench.cores()} cores, {platform.machine()}, {bench.versions('TensorFlow', 'Keras')}.\n",
        "MSE on the validation split, of the epoch that each member kept:\n",
        "| | normal | cold-start | noisy | mean log MSE |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    fitted = Record.read(run_dir / "record.json").fitted
    lines += [f"| {' | '.join(line)} |" for line in errors(fitted)]
    lines += [
        f"\nExports of both, which score the same {rows} windows in turn; CPU milliseconds of all "
        "threads, median (least to most). The ratios are formed within a round.\n",
        "| | MB | kept per item, floats | whole | from static |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        spent = [
            bench.spread([1000 * seconds for seconds in cpu[name, way]], ".1f")
            for way in ("whole", "from static")
        ]
        lines.append(f"| {name} | {one.bytes / 1e6:.1f} | {one.width} | {' | '.join(spent)} |")
    one, several = found
    for title, clock in (("ratio", cpu), ("ratio of wall seconds", wall)):
        found_ratios = [
            bench.spread(bench.ratios(clock[several, way], clock[one, way]))
            for way in ("whole", "from static")
        ]
        lines.append(f"| {title} | | | {' | '.join(found_ratios)} |")
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
