"""What encoding a picture costs: decoding beside the network and before it, in one run.

    python experiments/performance/encoding_images.py [--rounds=5] [--output=FILE]

The pictures are random cuts of scikit-image's photographs, or noise where it is not installed,
saved as JPEG of `--side` pixels. `parallel` is `ImageEncoder.encode`; `serial` decodes a batch with
the same function in the calling thread, then calls the network. Beside them the network and the
decoder alone. The variants take turns, round by round, and ratios are formed within a round, so
that a machine whose speed drifts does not decide. CPU seconds count all threads of the process.

The share of the network is the wall time within its call, over all of the variant's wall time.
"""

import functools
import tempfile
import time
from pathlib import Path

import bench
import numpy as np
from PIL import Image

from mmnet.encoders.image import ImageEncoder
from mmnet.training.records import peak_memory

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")


def make_pictures(directory: str, count: int, side: int) -> tuple[list[str], str]:
    """Writes JPEG files of side x 3/4 side; returns their names, and what they show."""
    draw = np.random.default_rng(0)
    try:
        import skimage

        found = [Path(skimage.__file__).parent / "data" / name for name in PHOTOGRAPHS]
        sources = [Image.open(path).convert("RGB") for path in found if path.is_file()]
    except ImportError:
        sources = []
    shown = "cuts of photographs" if sources else "noise"
    if not sources:
        noise = draw.integers(0, 256, (60, 80, 3), np.uint8)
        sources = [Image.fromarray(noise).resize((400, 300), Image.Resampling.BICUBIC)]
    names = [f"{i}.jpg" for i in range(count)]
    for i, name in enumerate(names):
        source = sources[i % len(sources)]
        width = int(draw.integers(source.width // 2, min(source.width, source.height * 4 // 3)))
        height = width * 3 // 4
        left = int(draw.integers(source.width - width + 1))
        top = int(draw.integers(source.height - height + 1))
        cut = source.crop((left, top, left + width, top + height))
        cut.resize((side, side * 3 // 4)).save(Path(directory) / name, quality=85)
    return names, shown


class Timed:
    """A network whose calls are timed, to their ends."""

    def __init__(self, network):
        self.network, self.seconds = network, 0.0

    def __call__(self, batch):
        """Vectors of a batch of pictures."""
        start = time.perf_counter()
        vectors = self.network(batch)
        vectors.numpy()
        self.seconds += time.perf_counter() - start
        return vectors


def main():
    """Runs the benchmark and prints its table."""
    options = bench.options(
        __doc__,
        rounds=5,
        pictures={"default": 128, "help": "pictures per round"},
        side={"default": 1024, "help": "width of the pictures, in pixels"},
        kind={"default": "resnet50", "choices": ["resnet50", "hub"]},
        weights={"default": "random", "help": "as --image_weights"},
    )
    with tempfile.TemporaryDirectory() as directory:
        names, shown = make_pictures(directory, options.pictures, options.side)
        encoder = ImageEncoder(options.kind, options.weights, directory)
        network = encoder.network = Timed(encoder.network)
        batch = encoder.batch_size
        pixels = np.stack([encoder.picture(name) for name in names])

        def parallel():
            for _ in encoder.encode(names):
                pass

        def serial():
            for start in range(0, len(names), batch):
                part = [encoder.picture(name) for name in names[start : start + batch]]
                network(np.stack(part)).numpy()

        def network_alone():
            for start in range(0, len(names), batch):
                network(pixels[start : start + batch]).numpy()

        def decoder_alone():
            for name in names:
                encoder.picture(name)

        def measured(variant):
            network.seconds = 0.0
            wall, cpu = bench.timed(variant)
            return wall, cpu, 100 * network.seconds / wall

        variants = {
            "parallel": parallel,
            "serial": serial,
            "network alone": network_alone,
            "decoder alone, one thread": decoder_alone,
        }
        for variant in variants.values():
            variant()
        clocks = {name: functools.partial(measured, one) for name, one in variants.items()}
        found = bench.turns(clocks, options.rounds)
        size = np.mean([Path(directory, name).stat().st_size for name in names])
    lines = [
        f"# Encoding pictures with {options.kind}",
        "",
        f"`python {' '.join(['experiments/performance/encoding_images.py', *_told(options)])}`: "
        f"{len(names)} JPEG files a round, {shown}, {options.side} × {options.side * 3 // 4} "
        f"pixels, {size / 1000:.0f} kB each; batches of {batch}, {encoder.workers} threads that "
        f"decode, {bench.cores()} cores, {bench.versions('TensorFlow', 'Keras')}. Median (least "
        "to most).",
        "",
        "| variant | pictures per second | CPU ms per picture | share of the network, % | "
        "its wall / wall of the network alone |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    spent = {name: np.array(rounds).T for name, rounds in found.items()}
    for name, (wall, cpu, share) in spent.items():
        ratios = wall / spent["network alone"][0]
        columns = (len(names) / wall, 1000 * cpu / len(names), share, ratios)
        lines.append(f"| {name} | {' | '.join(map(bench.spread, columns))} |")
    lines += ["", f"- Peak memory of the process: {peak_memory()[0] / 2**30:.2f} GiB."]
    bench.publish(lines, options.output)


def _told(options) -> list[str]:
    """The options that decide a number, without a machine's paths."""
    told = {"rounds": options.rounds, "pictures": options.pictures, "side": options.side}
    if options.kind != "resnet50":
        told |= {"kind": options.kind, "weights": "DIR"}
    return [f"--{name}={value}" for name, value in told.items()]


if __name__ == "__main__":
    main()
