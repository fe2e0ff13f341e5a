"""What bfloat16 does to the scores of a trained model: error, ranking, and what could be allowed.

    python -m mmnet.train --flagfile=experiments/quickstart/one_network.txt --run_dir=runs/one
    python experiments/performance/precision.py --run_dir=runs/one [--output=FILE]

On the validation examples in all three scenarios. The last row is not bfloat16: it is float32 with
random noise as large as `choosing.MOST_DEVIATION` allows, the worst that would still pass.
"""

from pathlib import Path

import bench
import numpy as np

from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation import metrics
from mmnet.evaluation.precision import precision_at
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.serving import choosing, runtimes
from mmnet.serving.exported import OUTPUT
from mmnet.tasks import evaluating
from mmnet.training.run_directory import SHARE_RATES


def scores(directory: Path, inputs, scale: float) -> dict[str, np.ndarray]:
    """Scores of the same rows in several ways; the first is float32 on TensorFlow."""

    def run(signature, given, **options):
        return runtimes.opened(directory, signature, **options)(given)

    low = {"runtime": "openvino", "precision": "bfloat16"}
    kept, kept_low = run("static", inputs), run("static", inputs, **low)
    exact = run("serving_default", inputs)[OUTPUT]
    noise = np.random.default_rng(0).normal(0, choosing.MOST_DEVIATION * scale, len(exact))
    return {
        "float32": exact,
        "float32 on OpenVINO": run("serving_default", inputs, runtime="openvino")[OUTPUT],
        "bfloat16": run("serving_default", inputs, **low)[OUTPUT],
        "bfloat16 from a float32 static part": run("from_static", inputs | kept, **low)[OUTPUT],
        "bfloat16 from a bfloat16 static part": run("from_static", inputs | kept_low, **low)[
            OUTPUT
        ],
        f"float32 + noise of {choosing.MOST_DEVIATION:g} sd": exact + noise,
    }


def main():
    """Scores the validation examples and prints the tables."""
    options = bench.options(__doc__, run_dir={"required": True, "type": Path})
    run_dir = options.run_dir
    dataset = datasets.load(run_dir / "dataset")
    validation = evaluating.scenario_set(
        dataset, Windows(dataset), "validation", SHARE_RATES.read(run_dir)
    )
    scale = dataset.fitted.spec.rate_scale
    lines = [
        "# bfloat16 on a trained model",
        "",
        "`python experiments/performance/precision.py --run_dir=runs/one` after training "
        f"experiments/quickstart/one_network.txt: {len(validation.examples):,} validation "
        f"examples, sd of the training rates {scale:.3f} percent. "
        "Deviations are from float32, in units of that sd.",
    ]
    for scenario in SCENARIOS:
        lines += [
            "",
            f"## {scenario}",
            "",
            "| scores | MSE | P@5 % | P@10 % | rms deviation | largest | rank correlation "
            "| overlap of the top 5 % |",
            "| --- |" + " ---: |" * 7,
        ]
        found = scores(run_dir / "export", validation.sample(scenario).inputs, scale)
        for name, predicted in found.items():
            one = choosing.compare(found["float32"], predicted, scale)
            lines.append(
                f"| {name} | {metrics.mse(validation.truth, predicted):.5f} "
                f"| {precision_at(5, validation.truth, predicted):.4f} "
                f"| {precision_at(10, validation.truth, predicted):.4f} "
                f"| {one.deviation:.1e} | {one.largest:.1e} | {one.correlation:.6f} "
                f"| {one.overlap:.3f} |"
            )
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
