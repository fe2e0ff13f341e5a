"""What a server's runtimes cost per request: TensorFlow, ONNX Runtime and OpenVINO side by side.

    pip install -e ".[serving,fast]"
    python experiments/performance/serving_runtimes.py [--load_seconds=8] [--rounds=2]

The model, the requests (one item by `raw_columns` of the V2 protocol) and the server are those of
`serving.py`, one server per runtime. `wrk` asks them in turn, round by round. The CPU is that of
the server's process; ratios to TensorFlow's are formed within a round, and their median is shown.
Before, every answer is compared with the score of the SavedModel in this process, to the parity
that the server itself requires.
"""

import asyncio
import os
import statistics
import tempfile
from pathlib import Path

import aiohttp
import bench
import numpy as np
import serving
import tensorflow as tf

from mmnet.serving import export, exported, requests
from mmnet.serving.choosing import PARITY
from mmnet.training.records import machine, versions

RUNTIMES = ("tensorflow", "onnx", "openvino")


async def largest_difference(url, asked, wanted):
    """Asks for every row; returns the largest difference of a score, relative or in percent."""
    far = []
    async with aiohttp.ClientSession() as session:
        for (path, body), score in zip(asked, wanted, strict=True):
            headers = {"content-type": "application/json"}
            async with session.post(url + path, data=body, headers=headers) as answer:
                found, _ = serving.answered(await answer.json(), answer.headers)
                far.append(abs(found - score) / max(1.0, abs(score)))
    return max(far)


def measure(flags, directory):
    """Returns differences by runtime, and (requests/s, p50, p99, CPU) by clients and runtime."""
    path, columns = serving.make_export(directory)
    signature = export.load(path)[0].signatures["raw_columns"]
    wanted = signature(**{name: tf.constant(array) for name, array in columns.items()})
    asked = serving.bodies(columns, requests.input_specs(signature), "V2")
    servers, far, found = {}, {}, {}
    try:
        for name in RUNTIMES:
            extra = {"runtime": name, "cache": str(directory / "cache")}
            servers[name] = serving.Server(directory / f"on_{name}", path, **extra)
            asyncio.run(servers[name].ready())
            scores = wanted[exported.OUTPUT].numpy()
            far[name] = asyncio.run(largest_difference(servers[name].url, asked, scores))
            if not far[name] <= PARITY:
                raise SystemExit(f"{name} answers otherwise than the SavedModel: {far[name]:.1e}")
        for clients in serving.CLIENTS:
            variants = {
                name: lambda server=server, clients=clients: numbers(
                    serving.wrk(server, asked, clients, flags.load_seconds, directory)
                )
                for name, server in servers.items()
            }
            found[clients] = bench.turns(variants, flags.rounds)
    finally:
        for server in servers.values():
            server.stop()
    return far, found


def numbers(line):
    """Requests per second, p50, p99 and CPU per request of a line of `serving.wrk`."""
    rate, half, late, _, cpu, *_, failed = line.strip("| ").split(" | ")
    if not failed.startswith("0 of "):
        raise SystemExit(f"requests failed: {failed}")
    return float(rate), float(half), float(late), float(cpu)


def main():
    """Measures, and writes the page."""
    flags = bench.options(
        __doc__, load_seconds=8.0, rounds=2, output=str(Path(__file__).with_suffix(".md"))
    )
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        far, found = measure(flags, Path(directory))
    about, lines = machine(), []
    for clients, of_runtime in found.items():
        for name, rounds in of_runtime.items():
            middle = np.median(rounds, axis=0)
            cpu = [[one[3] for one in of_runtime[which]] for which in (name, "tensorflow")]
            rates = [[one[0] for one in of_runtime[which]] for which in (name, "tensorflow")]
            lines.append(
                f"| {name} | {clients} | {middle[0]:.0f} | {middle[1]:.2f} | {middle[2]:.2f} | "
                f"{middle[3]:.2f} | {statistics.median(bench.ratios(*cpu)):.2f} | "
                f"{statistics.median(bench.ratios(*rates)):.2f} |"
            )
    bench.publish(
        [
            "# Runtimes of the server\n",
            "`python experiments/performance/serving_runtimes.py "
            f"--load_seconds={flags.load_seconds:g} --rounds={flags.rounds}`, "
            f"{about['processor']}, {about['cores']} cores shared by server and wrk (load average "
            f"{busy:.1f} before the start); TensorFlow {versions()['tensorflow']}, "
            f"{bench.versions('MLServer', 'onnxruntime', 'openvino')}.\n",
            "One item by `raw_columns` of the V2 protocol: TensorFlow reads the columns, and the "
            "runtime scores them. Medians of the rounds.\n",
            "| runtime | clients | requests/s | p50 (ms) | p99 (ms) | CPU of the server per "
            "request (ms) | CPU / TensorFlow's | requests/s / TensorFlow's |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            "",
            "Largest difference of an answer from the SavedModel in this process, relative to the "
            "score or to 1 percent: "
            + ", ".join(f"{name} {one:.1e}" for name, one in far.items())
            + f". Allowed: {PARITY:g}.",
        ],
        flags.output,
    )


if __name__ == "__main__":
    main()
