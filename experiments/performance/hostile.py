"""The load test of `serving.py` with hostile requests mixed in: answers, refusals and memory.

    pip install -e ".[serving]"
    python experiments/performance/hostile.py [--requests=100000] [--first=10000] [--every=5000]

Coroutines of this process keep one connection each and ask again as soon as they are answered; one
request in four is hostile, drawn by seed. A right request must get the score that the SavedModel
gives in this process; a hostile one must be refused by a status of 4xx with one sentence of at most
300 characters. After every `--every` requests the clients wait until all are answered and
`REST_SECONDS` have passed, and the server's resident memory is read: with requests in progress the
reading would be that of their bodies, one of which takes 64 MiB and more once it is parsed.
"""

import asyncio
import gzip
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import bench
import serving
import tensorflow as tf

from mmnet.serving import export, exported, requests
from mmnet.training.records import machine, versions

MOST_GROWTH = 20
"""MiB of resident memory between `--first` requests and the end."""
REST_SECONDS = 3
"""Pause before a reading, in which the server forgets requests and closes what they have left."""
PREDICT, INFER = "/v1/models/mmnet:predict", "/v2/models/mmnet/infer"
JSON = {"content-type": "application/json"}
LARGE = {"20 MiB without a length", "20 MiB with a length", "64 MiB in 64 KiB of gzip", "16 MiB"}
"""Drawn once for twenty of the others, since each takes as long as many of them."""


def hostile(row):
    """Name -> path, body, headers and accepted statuses of a request that must be refused.

    Args:
        row: inputs of `raw_columns` of one item, which are right.
    """

    def changed(**change):
        return json.dumps({"signature_name": "raw_columns", "instances": [row | change]})

    def v2(**change):
        one = {"name": "clicks", "datatype": "INT64", "shape": [1, 6], "data": [1] * 6} | change
        return json.dumps({"parameters": {"signature": "raw_columns"}, "inputs": [one]})

    rate = {name: [0.0] * 6 for name in ("share_rate", "missing_flag", "clicks")}
    example = {"signature_name": "examples", "instances": [{"b64": "AQID"}]}
    named = {
        "negative clicks": (PREDICT, changed(clicks=[-5] * 6)),
        "more shares than clicks": (PREDICT, changed(clicks=[1] * 6, shares=[10**15] * 6)),
        "clicks that are text": (PREDICT, changed(clicks=["1"] * 6)),
        "clicks beyond int64": (PREDICT, changed(clicks=[2**70] * 6)),
        "a window too short": (PREDICT, changed(clicks=[1] * 5)),
        "a list 9 deep": (PREDICT, changed(clicks=[[[[[[[[[1]]]]]]]]])),
        "null for a rate": (
            PREDICT,
            json.dumps({"instances": [rate | {"share_rate": [None] * 6}]}),
        ),
        "NaN for a number": (PREDICT, changed(number_duration=float("nan"))),
        "1e400 for a number": (PREDICT, changed().replace('"clicks"', '"x": 1e400, "clicks"')),
        "a title of 100,000 characters": (PREDICT, changed(item_title="x " * 50_000)),
        "an unknown input": (PREDICT, changed(**{"x" * 5000: 1})),
        "a signature that is a list": (PREDICT, '{"signature_name": [], "instances": [{}]}'),
        "bytes that are no example": (PREDICT, json.dumps(example)),
        "5,000 rows": (PREDICT, json.dumps({"instances": [{"clicks": [1] * 6}] * 5000})),
        "no JSON": (PREDICT, "{"),
        "lists 600 deep": (PREDICT, "[" * 600 + "]" * 600),
        "an empty body": (PREDICT, ""),
        "V2: negative clicks": (INFER, v2(data=[-1] * 6)),
        "V2: a shape that lies": (INFER, v2(shape=[2**40, 6])),
        "V2: another datatype": (INFER, v2(datatype="INT8")),
        "V2: data 9 deep": (INFER, v2(data=[[[[[[[[[1]]]]]]]]])),
        "V2: a signature that is an object": (INFER, '{"parameters": {"signature": {}}}'),
        "V2: no inputs": (INFER, '{"inputs": []}'),
        "V2: no JSON": (INFER, '{"inputs": ['),
        "V2: an id of 5,000 lists": (INFER, json.dumps({"id": [[]] * 5000, "inputs": []})),
        "20 MiB with a length": (PREDICT, b" " * (20 << 20)),
        "16 MiB": (PREDICT, b'{"inputs": [' + b"0," * ((8 << 20) - 64) + b"0]}"),
    }
    found = {name: (path, body, JSON) for name, (path, body) in named.items()}
    packed = JSON | {"content-encoding": "gzip"}
    found["64 MiB in 64 KiB of gzip"] = (INFER, gzip.compress(bytes(64 << 20)), packed)
    found["gzip cut off"] = (INFER, gzip.compress(b"{}")[:-5], packed)
    found["text/plain"] = (INFER, "x" * 1000, {"content-type": "text/plain"})
    found["20 MiB without a length"] = (INFER, None, JSON)
    return found


async def endless():
    """A body of 20 MiB in chunks, which has no length until it ends."""
    for _ in range(20):
        yield b" " * (1 << 20)


class Mixed:
    """Right and hostile requests, their outcomes, and the server's memory meanwhile."""

    def __init__(self, server, asked, wanted, bad, flags):
        self.server, self.asked, self.wanted, self.bad = server, asked, wanted, bad
        self.flags, self.sent, self.right = flags, 0, 0
        self.wrong = []
        self.refused = {name: Counter() for name in bad}
        self.memory, self.goal = {}, 0
        self.draws = random.Random(flags.seed)
        self.weights = [0.05 if name in LARGE else 1.0 for name in bad]

    def resident(self, field="VmRSS"):
        """MiB of the server; `VmHWM` is the highest so far."""
        told = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(rf"{field}:\s+(\d+)", told)[1]) / 1024

    async def client(self, session):
        """Sends one request after another."""
        while self.sent < self.goal:
            self.sent += 1
            if self.draws.random() < 0.25:
                (name,) = self.draws.choices(list(self.bad), self.weights)
                await self.refuse(session, name)
            else:
                await self.score(session, self.draws.randrange(len(self.asked)))

    async def score(self, session, number):
        """Sends a right request, and compares its score."""
        path, body = self.asked[number]
        row = number % len(self.wanted)
        async with session.post(self.server.url + path, data=body, headers=JSON) as answer:
            text = await answer.text()
        if answer.status != 200 or "NaN" in text:
            self.wrong.append(f"{answer.status}: {text[:200]}")
            return
        score, _ = serving.answered(json.loads(text), answer.headers)
        near = abs(score - self.wanted[row]) <= 1e-5 * max(1, abs(self.wanted[row]))
        self.right += near
        if not near:
            self.wrong.append(f"row {row}: {score} instead of {self.wanted[row]}")

    async def refuse(self, session, name):
        """Sends a hostile request, which must be refused in a sentence."""
        path, body, headers = self.bad[name]
        data = endless() if body is None else body
        try:
            async with session.post(self.server.url + path, data=data, headers=headers) as answer:
                text = await answer.text()
        except aiohttp.ClientError:
            # The server has answered, and closed the connection before all was sent.
            self.refused[name]["closed"] += 1
            if name not in LARGE:
                self.wrong.append(f"{name}: the connection was closed")
            return
        self.refused[name][answer.status] += 1
        try:
            sentence = json.loads(text)["error"]
            fine = 400 <= answer.status < 500 and len(sentence) <= 300 and "\n" not in sentence
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            self.wrong.append(f"{name}: {answer.status}: {text[:200]}")

    async def run(self):
        """Sends everything; returns wall seconds, without the pauses."""
        seconds, every = 0.0, self.flags.every
        # The server closes idle connections after five seconds, which a pause may take.
        connector = aiohttp.TCPConnector(limit=self.flags.clients, keepalive_timeout=1)
        async with aiohttp.ClientSession(connector=connector) as session:
            for goal in range(every, self.flags.requests + 1, every):
                self.goal = goal
                began = time.perf_counter()
                await asyncio.gather(*(self.client(session) for _ in range(self.flags.clients)))
                seconds += time.perf_counter() - began
                await asyncio.sleep(REST_SECONDS)
                self.memory[self.sent] = self.resident()
                print(f"{self.sent:,} requests, {self.memory[self.sent]:.0f} MiB", flush=True)
        self.highest = self.resident("VmHWM")
        return seconds


async def measure(flags, directory):
    """Runs everything; returns the requests that were sent, and wall seconds."""
    path, columns = serving.make_export(directory)
    loaded, _ = export.load(path)
    signature = loaded.signatures["raw_columns"]
    specs = requests.input_specs(signature)
    wanted = signature(**{name: tf.constant(array) for name, array in columns.items()})
    wanted = wanted[exported.OUTPUT].numpy()
    asked = serving.bodies(columns, specs, "V2")
    rest = serving.bodies(columns, specs, "REST of TensorFlow Serving")
    bad = hostile(json.loads(rest[0][1])["instances"][0])
    server = await serving.Server(directory / "server", path).ready()
    try:
        mixed = Mixed(server, asked + rest, wanted, bad, flags)
        return mixed, await mixed.run()
    finally:
        server.stop()


def main():
    """Measures, and writes the page."""
    flags = bench.options(
        __doc__,
        requests=100_000,
        first=10_000,
        clients=64,
        every=5_000,
        seed=0,
        output=str(Path(__file__).with_suffix(".md")),
    )
    if flags.first % flags.every or flags.requests % flags.every:
        raise SystemExit("--first and --requests must be multiples of --every, which reads memory")
    busy = os.getloadavg()[0]  # a machine that does other work makes other numbers
    with tempfile.TemporaryDirectory() as directory:
        mixed, seconds = asyncio.run(measure(flags, Path(directory)))
    about = machine()
    growth = mixed.memory[mixed.sent] - mixed.memory[flags.first]
    refusals = sum(sum(found.values()) for found in mixed.refused.values())
    bench.publish(
        [
            "# Serving with hostile requests mixed in\n",
            f"`python experiments/performance/hostile.py --requests={flags.requests} "
            f"--first={flags.first} --every={flags.every} --clients={flags.clients} "
            f"--seed={flags.seed}`, "
            f"{about['processor']}, {about['cores']} cores shared by server, clients and other "
            f"work (load average {busy:.1f} before the start); TensorFlow "
            f"{versions()['tensorflow']}, {bench.versions('MLServer')}.\n",
            f"{mixed.sent:,} requests of {flags.clients} clients in {seconds:.0f} s: "
            f"{mixed.right:,} right answers, {refusals:,} refusals, {len(mixed.wrong)} wrong. "
            "Wrong would be another score than the SavedModel's, a NaN, an answer of 5xx, or a "
            "refusal that is not one sentence of at most 300 characters.\n",
            f"Resident memory of the server grew by {growth:.1f} MiB between {flags.first:,} and "
            f"{mixed.sent:,} requests; at most {MOST_GROWTH} are allowed. Readings are "
            f"{REST_SECONDS} s after the last answer, when no request is in progress; meanwhile "
            f"the highest was {mixed.highest:.0f} MiB.\n",
            "| requests | resident memory (MiB) |",
            "| ---: | ---: |",
            *(f"| {sent:,} | {size:.0f} |" for sent, size in sorted(mixed.memory.items())),
            "",
            "| hostile request | status: how often |",
            "| --- | --- |",
            *(
                f"| {name} | {', '.join(f'{kind}: {n:,}' for kind, n in found.items())} |"
                for name, found in mixed.refused.items()
            ),
            "",
            '"closed": the server refused the body before all of it was sent, and the client was '
            "still writing.",
        ],
        flags.output,
    )
    grown = growth > MOST_GROWTH and mixed.sent >= 5 * flags.first  # else it still warms up
    if mixed.wrong or grown:
        raise SystemExit("\n".join([f"{growth:.1f} MiB of growth", *mixed.wrong[:20]]))


if __name__ == "__main__":
    main()
