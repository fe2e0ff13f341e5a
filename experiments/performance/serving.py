"""Sustained requests per second of an export behind MLServer, and where the time goes.

    pip install -e ".[serving]"
    python experiments/performance/serving.py [--seconds=5] [--load_seconds=30] [--output=FILE]

The model has the paper's sizes and untrained weights (their values cost nothing), on a simulated
log. A request asks for one item by `raw_columns`, the signature that does the most. Clients are
coroutines of a process beside the server's, each with one connection, which asks again as soon as
it has its answer; both share the machine's cores. Every answer is compared with the score that the
SavedModel gives in this process. Model time is what the server measured around the signature's
call; the rest of an answer's time is the server, the network, and the queue before both.

Where `wrk` is installed, it asks too, for longer: it is compiled, and takes little of the cores
that it shares with the server. The CPU time is that of the server's process, and the share of the
cores that `wrk` took is printed next to it. A server of the same kind that reads each request and
answers `{}` shows what HTTP alone costs, and MLServer with a model that returns a constant what
MLServer alone does.
"""

import asyncio
import json
import math
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import bench
import grpc
import numpy as np
import tensorflow as tf
from mlserver import types
from mlserver.grpc.converters import ModelInferRequestConverter, ModelInferResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

from mmnet import models
from mmnet.config import TableFlags, TaskFlags
from mmnet.data import input_tables, pipeline
from mmnet.data.windows import Windows
from mmnet.serving import export, exported, golden, requests
from mmnet.training.records import machine, versions

CLIENTS = (1, 8, 64)
SHARED = 64
"""Rows of the calls that the least cost of a row is measured with."""
DISTINCT = 256
"""Different items asked for."""


def make_export(directory):
    """Exports a network of the paper's sizes; returns the directory and rows to ask for."""
    flags = TableFlags(
        source="simulated",
        source_set=("items=2000", "periods=40"),
        taxonomies=("category", "tags"),
        categoricals=("author",),
        numerics=("duration",),
        texts=("title",),
        release="release",
    )
    dataset = pipeline.prepare(input_tables.load_tables(flags), flags, TaskFlags())
    model = models.REGISTRY["mmnet"](dataset.fitted.spec, seed=0)
    windows = Windows(dataset)
    rows = golden.rows(dataset, windows, dataset.split.validation, DISTINCT)
    few = golden.rows(dataset, windows, dataset.split.validation, 32)
    return export.export(model, dataset.fitted, directory / "export", rows=few), rows.columns


def bodies(columns, specs, kind):
    """Path and body of one request per row."""
    found = []
    for row in range(len(columns["clicks"])):
        texts = {
            name: array[row] if array.dtype == object else array[row].tolist()
            for name, array in columns.items()
        }
        # JSON has no NaN: a number that nobody knows is null.
        texts = {name: None if value != value else value for name, value in texts.items()}
        if kind == "REST of TensorFlow Serving":
            body = {"signature_name": "raw_columns", "instances": [texts]}
            found.append(("/v1/models/mmnet:predict", json.dumps(body)))
            continue
        inputs = [
            {
                "name": name,
                "datatype": requests.v2_type(specs[name]),
                "shape": [1, *columns[name].shape[1:]],
                "data": np.ravel(value).tolist() if isinstance(value, list) else [value],
            }
            for name, value in texts.items()
        ]
        body = {"parameters": {"signature": "raw_columns"}, "inputs": inputs}
        found.append(("/v2/models/mmnet/infer", json.dumps(body)))
    return found


def answered(body, headers):
    """Score and model seconds of an answer."""
    if "predictions" in body:
        return body["predictions"][0], float(headers["x-model-seconds"])
    return body["outputs"][0]["data"][0], body["parameters"]["model_seconds"]


async def load(url, asked, wanted, clients, seconds):
    """Asks for some seconds; returns latencies and model seconds of every answer."""
    latencies, inside, wrong = [], [], 0
    end = time.perf_counter() + seconds

    async def client(session, number):
        nonlocal wrong
        while time.perf_counter() < end:
            row = number % len(asked)
            number += clients
            path, body = asked[row]
            began = time.perf_counter()
            async with session.post(
                url + path, data=body, headers={"content-type": "application/json"}
            ) as answer:
                found = await answer.json()
                latencies.append(time.perf_counter() - began)
                score, model_seconds = answered(found, answer.headers)
                inside.append(model_seconds)
                wrong += abs(score - wanted[row]) > 1e-5 * max(1, abs(wanted[row]))

    connector = aiohttp.TCPConnector(limit=clients)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        await asyncio.gather(*(client(session, number) for number in range(clients)))
        spent = time.perf_counter() - began
    return np.array(latencies), np.array(inside), wrong, spent


SCRIPT = """
local number = 0
request = function()
  number = number + 1
  local body = bodies[number % #bodies + 1]
  return wrk.format("POST", path, {["content-type"] = "application/json"}, body)
end
done = function(summary, latency, requests)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("%d %d %f %f %f\\n", summary.requests, failed, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""


def wrk(server, asked, clients, seconds, directory):
    """One line of a table: what the compiled generator measured, and the CPU of both processes."""
    script = directory / "requests.lua"
    texts = ",\n".join(f"[==[{body}]==]" for _, body in asked)
    script.write_text(f'path = "{asked[0][0]}"\nbodies = {{{texts}}}\n{SCRIPT}')
    command = ["wrk", "--threads=1", f"--connections={clients}", "--timeout=30s"]
    before, own = cpu_seconds(server.process.pid), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, f"--duration={math.ceil(seconds)}s", f"--script={script}", server.url],
        capture_output=True,
        text=True,
        check=True,
    )
    spent = cpu_seconds(server.process.pid) - before
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    generator = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime
    requests_sent, failed, duration, half, late = map(float, done.stdout.split("\n")[-2].split())
    return (
        f"{requests_sent / duration * 1e6:.0f} | {half / 1e3:.2f} | {late / 1e3:.2f} | "
        f"{late / half:.1f} | {spent / requests_sent * 1e3:.2f} | "
        f"{generator / duration * 1e6 / bench.cores():.0%} | "
        f"{failed:.0f} of {requests_sent:,.0f} |"
    )


def cpu_seconds(process):
    """User and system time of a running process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load_grpc(address, asked, wanted, clients, seconds):
    """`load` by gRPC: the clients' calls share one channel, as its streams."""
    messages = [message_of(body) for _, body in asked]
    latencies, inside, wrong = [], [], 0
    end = time.perf_counter() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def client(number):
            nonlocal wrong
            while time.perf_counter() < end:
                row = number % len(messages)
                number += clients
                began = time.perf_counter()
                answer = await stub.ModelInfer(messages[row], timeout=30)
                latencies.append(time.perf_counter() - began)
                found = ModelInferResponseConverter.to_types(answer)
                inside.append(found.parameters.model_dump()["model_microseconds"] / 1e6)
                score = found.outputs[0].data.root[0]
                wrong += abs(score - wanted[row]) > 1e-5 * max(1, abs(wanted[row]))

        began = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        spent = time.perf_counter() - began
    return np.array(latencies), np.array(inside), wrong, spent


def message_of(body):
    """The body of a V2 request as a message."""
    request = types.InferenceRequest.model_validate_json(body)
    for one in request.inputs:
        if one.datatype == "BYTES":  # text in JSON, bytes in a message
            one.data.root = [text.encode() for text in one.data.root]
    return ModelInferRequestConverter.from_types(request, model_name="mmnet")


async def refused_grpc(address, body):
    """What the server says by gRPC to messages that are wrong: (what, status, sentence) each."""

    def changed(change):
        message = message_of(body)
        change(message)
        return message.SerializeToString()

    def repeat(message):
        for one in message.inputs:
            one.shape[0] = 5000
            for field in ("bytes_contents", "fp32_contents", "int64_contents", "int_contents"):
                values = getattr(one.contents, field)
                values.extend(list(values) * 4999)

    def set_shape(message):
        message.inputs[0].shape[0] = 9

    def set_datatype(message):
        message.inputs[0].datatype = "INT8"

    def set_raw(message):
        for one in message.inputs:
            one.ClearField("contents")
            message.raw_input_contents.append(b"abc")

    tried = {
        "gRPC: no message": b"\xff\xff\xff",
        "gRPC: an empty message": b"",
        "gRPC: no inputs": changed(lambda m: m.ClearField("inputs")),
        "gRPC: an input missing": changed(lambda m: m.inputs.pop()),
        "gRPC: an input twice": changed(lambda m: m.inputs.append(m.inputs[0])),
        "gRPC: a shape that lies": changed(set_shape),
        "gRPC: another datatype": changed(set_datatype),
        "gRPC: raw contents cut off": changed(set_raw),
        "gRPC: another model": changed(lambda m: setattr(m, "model_name", "other")),
        "gRPC: an unknown signature": changed(
            lambda m: setattr(m.parameters["signature"], "string_param", "x")
        ),
        "gRPC: 5,000 rows": changed(repeat),
        "gRPC: 5 MiB": changed(lambda m: setattr(m, "id", "x" * (5 << 20))),
    }
    found = []
    async with grpc.aio.insecure_channel(address) as channel:
        send = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")  # bytes, bytes
        for what, message in tried.items():
            try:
                await send(message, timeout=30)
            except grpc.aio.AioRpcError as error:
                sentence = error.details().replace("|", "\\|").replace("\n", " ")[:150]
                found.append((what, error.code().name, sentence))
            else:
                found.append((what, "OK", ""))
    return found


async def refused(url, specs):
    """What the server says to requests that are wrong: (what, status, sentence) each."""
    empty = {
        name: np.zeros([1, *spec.shape[1:]], spec.dtype.as_numpy_dtype).tolist()
        for name, spec in specs.items()
    }
    predict, infer = "/v1/models/mmnet:predict", "/v2/models/mmnet/infer"
    v2_input = {"name": "share_rate", "datatype": "FP32", "shape": [1, 6], "data": [0.0] * 6}
    tried = {
        "no JSON": (predict, "{"),
        "a row short": (predict, json.dumps({"instances": [{"share_rate": [0.0]}]})),
        "text for a number": (
            predict,
            json.dumps({"inputs": {**empty, "share_rate": [["1"] * 6]}}),
        ),
        "an unknown signature": (predict, json.dumps({"signature_name": "x", "instances": [{}]})),
        "5,000 rows": (predict, json.dumps({"instances": [{"share_rate": [0.0] * 6}] * 5000})),
        "V2: an input missing": (infer, json.dumps({"inputs": [v2_input]})),
        "V2: a shape that lies": (infer, json.dumps({"inputs": [v2_input | {"shape": [9, 9]}]})),
        "V2: no JSON": (infer, "{"),
        "V2: another model": ("/v2/models/other/infer", json.dumps({"inputs": [v2_input]})),
    }
    found = []
    async with aiohttp.ClientSession() as session:
        for what, (path, body) in tried.items():
            async with session.post(
                url + path, data=body, headers={"content-type": "application/json"}
            ) as answer:
                text = await answer.text()
                found.append(
                    (what, answer.status, text.replace("|", "\\|").replace("\n", " ")[:150])
                )
    return found


class Server:
    """MLServer in a process of its own, on free ports; `extra` are settings of the runtime.

    Without an export, its model returns a constant, and nothing of mmnet is loaded.
    """

    def __init__(self, directory, path=None, **extra):
        ports = [free_port() for _ in range(3)]
        self.url, self.grpc = f"http://127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
        directory.mkdir()
        settings = dict(zip(("http_port", "grpc_port", "metrics_port"), ports, strict=True))
        settings |= {"host": "127.0.0.1", "parallel_workers": 0}
        settings |= {"logging_settings": None, "debug": False}
        (directory / "settings.json").write_text(json.dumps(settings))
        model = {
            "name": "mmnet",
            "implementation": "mmnet.serving.mlserver_runtime.ShareRates",
            "parameters": {"uri": str(path.resolve()), "extra": extra} if path else {},
        }
        if path is None:
            (directory / "constants.py").write_text(CONSTANT)
            model["implementation"] = "constants.Constant"
        (directory / "model-settings.json").write_text(json.dumps(model))
        self.log = (directory / "log.txt").open("w+")
        program = Path(sys.executable).with_name("mlserver")
        self.process = subprocess.Popen(
            [str(program), "start", str(directory)], stdout=self.log, stderr=subprocess.STDOUT
        )

    async def ready(self):
        """Waits until the model is loaded."""
        async with aiohttp.ClientSession() as session:
            for _ in range(3000):  # ten minutes, on a machine that does other work
                if self.process.poll() is not None:
                    break
                try:
                    async with session.get(f"{self.url}/v2/models/mmnet/ready") as answer:
                        if answer.status == 200:
                            return self
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
        self.log.seek(0)
        raise SystemExit(f"the server did not start:\n{self.log.read()[-3000:]}")

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()


CONSTANT = """
from mlserver import MLModel, types

class Constant(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        shares = types.ResponseOutput(name="share_rate", shape=[1, 1], datatype="FP32", data=[1.0])
        return types.InferenceResponse(model_name=self.name, outputs=[shares])
"""


EMPTY = """
import sys, uvicorn

async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})

uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", lifespan="off",
    access_log=False, log_level="warning")
"""


class EmptyServer:
    """Uvicorn, which MLServer runs on, with a handler that does nothing."""

    def __init__(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen([sys.executable, "-c", EMPTY, str(port)])
        for _ in range(600):
            with socket.socket() as one:
                if not one.connect_ex(("127.0.0.1", port)):
                    return
            time.sleep(0.1)
        raise SystemExit("the empty server did not start")

    def stop(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def least(signature, tensors, body):
    """CPU of what a request cannot do without, in milliseconds: its JSON, and its row of a call."""
    rows = {name: tf.repeat(tensor[:1], SHARED, axis=0) for name, tensor in tensors.items()}
    found = []
    for run, times in ((lambda: json.loads(body), 1), (lambda: signature(**rows), SHARED)):
        spent = []
        for _ in range(6):  # the first one is not counted
            began = time.process_time()
            for _ in range(100):
                run()
            spent.append((time.process_time() - began) * 1e3 / 100 / times)
        found.append(min(spent[1:]))
    return found


async def measure(flags, directory):
    """Runs everything; returns table lines and refusals."""
    path, columns = make_export(directory)
    loaded, _ = export.load(path)
    signature = loaded.signatures["raw_columns"]
    specs = requests.input_specs(signature)
    tensors = {name: tf.constant(array) for name, array in columns.items()}
    wanted = signature(**tensors)[exported.OUTPUT].numpy()
    one = {name: tensor[:1] for name, tensor in tensors.items()}
    alone = []
    for _ in range(300):
        began = time.perf_counter()
        signature(**one)
        alone.append(time.perf_counter() - began)
    floor = least(signature, tensors, bodies(columns, specs, "V2")[0][1])
    lines, said = [], []
    by_wrk = []
    for name, ask in (
        ("V2", load),
        ("V2 by gRPC", load_grpc),
        ("REST of TensorFlow Serving", load),
    ):
        server = await Server(directory / name.replace(" ", "_"), path).ready()
        try:
            asked = bodies(columns, specs, name)
            address = server.grpc if ask is load_grpc else server.url
            await ask(address, asked, wanted, 8, 1)  # warm
            for clients in CLIENTS:
                latencies, inside, wrong, spent = await ask(
                    address, asked, wanted, clients, flags.seconds
                )
                half, late = np.quantile(latencies, [0.5, 0.99]) * 1e3
                lines.append(
                    f"| {name} | {clients} | {len(latencies) / spent:.0f} | {half:.2f} | "
                    f"{late:.2f} | {np.median(inside) * 1e3:.2f} | "
                    f"{1 - np.sum(inside) / np.sum(latencies):.0%} | "
                    f"{wrong} of {len(latencies):,} |"
                )
                print(lines[-1], flush=True)
            if ask is load and shutil.which("wrk"):
                for clients in CLIENTS:
                    line = wrk(server, asked, clients, flags.load_seconds, directory)
                    by_wrk.append(f"| {name} | {clients} | {line}")
                    print(by_wrk[-1], flush=True)
            if name == "V2 by gRPC":
                said += await refused_grpc(server.grpc, asked[0][1])
                *_, wrong, _ = await ask(address, asked, wanted, 1, 0.2)  # it lives on
                if wrong:
                    raise SystemExit("after wrong messages the right ones are answered wrongly")
            if name == "REST of TensorFlow Serving":
                default = requests.input_specs(loaded.signatures["serving_default"])
                said = await refused(server.url, default) + said
        finally:
            server.stop()
    if shutil.which("wrk"):
        asked = bodies(columns, specs, "V2")
        for name in ("MLServer, a constant", "an empty answer"):
            if name == "an empty answer":
                server = EmptyServer()
            else:
                server = await Server(directory / "constant").ready()
            try:
                for clients in CLIENTS:
                    line = wrk(server, asked, clients, flags.load_seconds, directory)
                    by_wrk.append(f"| {name} | {clients} | {line}")
            finally:
                server.stop()
    return np.median(alone) * 1e3, floor, lines, by_wrk, said


def main():
    """Measures, and writes the page."""
    flags = bench.options(
        __doc__, seconds=5.0, load_seconds=30.0, output=str(Path(__file__).with_suffix(".md"))
    )
    busy = os.getloadavg()[0]  # a machine that does other work makes other numbers
    with tempfile.TemporaryDirectory() as directory:
        alone, (parsed, scored), lines, by_wrk, said = asyncio.run(measure(flags, Path(directory)))
    about = machine()
    bench.publish(
        [
            "# Serving over the network\n",
            f"`python experiments/performance/serving.py --seconds={flags.seconds:g} "
            f"--load_seconds={flags.load_seconds:g}`, "
            f"{about['processor']}, {about['cores']} cores shared by server and clients "
            f"(and by other work: load average {busy:.1f} before the start); "
            f"TensorFlow {versions()['tensorflow']}, {bench.versions('MLServer')}.\n",
            f"One item by `raw_columns`; the signature called in process, without any server, "
            f"takes {alone:.2f} ms.\n",
            "| interface | clients | requests/s | p50 (ms) | p99 (ms) | model p50 (ms) | time "
            "outside the model | wrong answers |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *lines,
            "",
            "Time outside the model: HTTP or gRPC, JSON or messages, checks and the queue. "
            "Requests that arrive while the model is busy share its next call, and each of them "
            "counts all of its time.\n",
            "## Asked by wrk\n",
            "| interface | clients | requests/s | p50 (ms) | p99 (ms) | p99 / p50 | CPU of the "
            "server per request (ms) | share of the cores that wrk took | failed |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            *by_wrk,
            "",
            "## The least that a request costs\n",
            f"CPU in process, least of five runs: {parsed:.3f} ms for `json.loads` of a V2 body, "
            f"and {scored:.2f} ms a row for the signature in calls of {SHARED} rows. HTTP is in "
            "the rows of the empty answer, and MLServer with its parsing and its answer in those "
            "of the constant. The runtime of mmnet answers small requests without that parsing; "
            "what it adds is checks, counters, and handing requests to the call that they share.\n",
            "## Invalid requests\n",
            "| request | status | answer |",
            "| --- | ---: | --- |",
            *(f"| {what} | {status} | `{answer}` |" for what, status, answer in said),
        ],
        flags.output,
    )


if __name__ == "__main__":
    main()
