"""The real server, asked by many clients at once: every answer right, every mistake a sentence.

Runs where the extra `[serving]` is installed, as in the stage "mlserver" of `.ci/run`.
"""

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.serving import checksums
from tests.mma4ctr import exported
from tests.mma4ctr.exported import ITEMS, USERS

mlserver = pytest.importorskip("mlserver")

SCRIPT = Path(__file__).parents[2] / "experiments" / "performance" / "serving.py"
HOSTILE = SCRIPT.with_name("hostile.py")


@pytest.fixture(scope="module")
def clicks():
    """A small model of the second system."""
    return exported.model()


def runtime(directory, **extra):
    """The runtime of an export, not yet loaded."""
    from mmnet.serving.mlserver_runtime import ShareRates

    parameters = mlserver.settings.ModelParameters(uri=str(directory), extra=extra)
    settings = mlserver.ModelSettings(
        name="clicks", implementation=ShareRates, parameters=parameters
    )
    return ShareRates(settings)


def test_an_export_of_the_second_system_is_served(clicks, tmp_path):
    served = runtime(exported.write(tmp_path, clicks))
    ids = {"user_id": USERS[[0, 1]], "item_id": ITEMS[[0, 2]]}
    inputs = [
        {"name": name, "datatype": "INT64", "shape": [2], "data": array.tolist()}
        for name, array in ids.items()
    ]
    request = mlserver.types.InferenceRequest.model_validate({"inputs": inputs})

    async def answer():
        await served.load()
        return await served.predict(request)

    found = {one.name: one for one in asyncio.run(answer()).outputs}
    wanted = clicks({"state": np.array([1, 3]), "item": np.array([0, 2])}).numpy()
    # float32 sums in another order.
    assert list(found["probability"].data) == pytest.approx(wanted.tolist(), abs=1e-6)
    assert (found["known_user"].datatype, list(found["known_user"].data)) == ("BOOL", [True, True])


def test_an_export_that_fails_its_checks_is_not_served(clicks, tmp_path):
    directory = exported.write(tmp_path, clicks)
    path = directory / checksums.FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(
        InputError, match=r"has changed since it was exported: .*checksums.json is damaged"
    ):
        asyncio.run(runtime(directory).load())


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"runtime": "onxx"}, "model-settings.json: .runtime. must be one of .* Did you mean onnx"),
        ({"runtime": "onnx"}, "model-settings.json: .runtime. is for share rates"),
    ],
)
def test_a_setting_that_does_not_fit_ends_the_start(clicks, tmp_path, extra, told):
    with pytest.raises(InputError, match=told):
        asyncio.run(runtime(exported.write(tmp_path, clicks), **extra).load())


@pytest.mark.slow
def test_another_runtime_answers_as_the_saved_model(small_export, onnx_cache, tmp_path):
    from mmnet.serving import export, golden
    from tests.serving.exported import golden_rows, needs

    needs("onnx")
    directory = shutil.copytree(small_export, tmp_path / "export" / "1")
    goldens = golden_rows(export.load(small_export)[0])
    golden.write(directory / golden.FILE, goldens)
    checksums.write(directory, {})
    served = runtime(directory, runtime="onnx", cache=str(onnx_cache))
    asyncio.run(served.load())
    converted = {path.name.split("-")[1] for path in onnx_cache.iterdir()}
    assert converted == {"serving_default", "explained", "static", "from_static"}
    for one in goldens:
        found = served._calls[one.signature]._call(one.inputs)
        assert list(found) == list(one.outputs)
        for name, wanted in one.outputs.items():  # float32 sums in another order
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-4)


class Application:
    """MLServer's REST application with one model, called without a network."""

    def __init__(self, directory):
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self._start(directory))

    async def _start(self, directory):
        from mlserver.handlers import DataPlane, ModelRepositoryHandlers
        from mlserver.registry import MultiModelRegistry
        from mlserver.repository import SchemalessModelRepository
        from mlserver.rest import RESTServer

        settings = mlserver.Settings(metrics_endpoint=None)
        self.registry = MultiModelRegistry()
        repository = ModelRepositoryHandlers(SchemalessModelRepository(""), self.registry)
        self.server = RESTServer(settings, DataPlane(settings, self.registry), repository)
        self.app, self.directory = self.server._app, directory
        await self._load()

    async def _load(self):
        loaded = await self.registry.load(runtime(self.directory).settings)
        await self.server.add_custom_handlers(loaded)

    def post(self, path, *chunks, **headers):
        """Status and JSON of an answer; a body in chunks, without a Content-Length."""
        return self.loop.run_until_complete(self._asked("POST", path, chunks, headers))

    def get(self, path):
        """Status and JSON of an answer."""
        return self.loop.run_until_complete(self._asked("GET", path, [b""], {}))

    async def _asked(self, method, path, chunks, headers):
        headers = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            **{"type": "http", "method": method, "path": path, "query_string": b""},
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        left = [{"type": "http.request", "body": one, "more_body": True} for one in chunks]
        left[-1]["more_body"] = False
        sent = []

        async def receive():
            return left.pop(0)

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        body = b"".join(one.get("body", b"") for one in sent[1:])
        self.headers = dict(sent[0]["headers"])
        return sent[0]["status"], json.loads(body or "null")

    @contextlib.contextmanager
    def unloaded(self):
        """Removes the model as MLServer does, and loads it again in the end."""
        self.loop.run_until_complete(self._unload())
        try:
            yield
        finally:
            self.loop.run_until_complete(self._load())

    @contextlib.contextmanager
    def serving(self, directory):
        """Serves another export in place of the model; a process has one application."""
        with self.unloaded():
            own, self.directory = self.directory, directory
            self.loop.run_until_complete(self._load())
            try:
                yield
            finally:
                self.loop.run_until_complete(self._unload())
                self.directory = own

    async def _unload(self):
        (model,) = await self.registry.get_models()
        await self.registry.unload(model.name)
        await self.server.delete_custom_handlers(model)


@pytest.fixture(scope="module")
def application(clicks, tmp_path_factory):
    """The second system's model behind MLServer's REST application."""
    return Application(exported.write(tmp_path_factory.mktemp("export"), clicks))


PREDICT, INFER = "/v1/models/mmnet:predict", "/v2/models/clicks/infer"
USER = {"name": "user_id", "datatype": "INT64", "shape": [1], "data": [int(USERS[0])]}
ITEM = USER | {"name": "item_id", "data": [int(ITEMS[0])]}
ROW = {"user_id": int(USERS[0]), "item_id": int(ITEMS[0])}


def test_both_protocols_answer_the_same(application):
    status, rows = application.post(PREDICT, json.dumps({"instances": [ROW]}).encode())
    assert status == 200
    status, v2 = application.post(INFER, json.dumps({"inputs": [USER, ITEM]}).encode())
    assert status == 200
    outputs = {one["name"]: one["data"] for one in v2["outputs"]}
    assert outputs["probability"] == [rows["predictions"][0]["probability"]]


def test_a_request_is_answered_as_by_the_path_that_is_mlservers_own(application):
    """MLServer answers two paths by one function; one of them has a route of ours."""
    both = {"inputs": [USER, ITEM]}
    bodies = [
        both,
        both | {"id": "7", "parameters": {"signature": "serving_default"}},
        both | {"inputs": [USER | {"data": [[USER["data"]]]}, ITEM]},
        both | {"inputs": [USER | {"data": [2**70]}, ITEM]},
        both | {"outputs": [{"name": "probability"}]},
        {"inputs": [USER]},
    ]
    for body in (*(json.dumps(one).encode() for one in bodies), b"{", b"7"):
        found = []
        for path in (INFER, INFER.replace("infer", "generate")):
            before = counted("model_infer_request_")
            status, answer = application.post(path, body)
            for name in ("model_seconds", "model_microseconds"):
                answer.get("parameters", {}).pop(name, None)
            named = "id" in answer and b'"id"' not in body  # of each request anew
            headers = {
                name: b"" if named and value == answer["id"].encode() else value
                for name, value in application.headers.items()
                if name != b"content-length"  # of the seconds too
            }
            answer["id"] = "" if named else answer.get("id")
            after = counted("model_infer_request_")
            counts = {
                name: number - before.get(name, 0)
                for name, number in after.items()
                if "_sum" not in name and "_created" not in name
            }
            found.append((status, list(answer), answer, headers, counts))
        assert found[0] == found[1], body
    first, *_ = application.app.router.routes
    assert type(first).__name__ == "Route"  # not FastAPI's


def test_a_wrong_request_is_refused_alone(application):
    """Small requests that wait for the model are read together."""
    bodies = [{"inputs": [USER, ITEM | {"data": [data]}]} for data in (ITEM["data"][0], "7", 1.5)]

    async def all_at_once():
        asked = [
            application._asked("POST", INFER, [json.dumps(body).encode()], {}) for body in bodies
        ]
        return await asyncio.gather(*asked)

    answers = application.loop.run_until_complete(all_at_once())
    assert [status for status, _ in answers] == [200, 400, 400]
    assert [answer.get("error", "") for _, answer in answers[1:]] == [
        "item_id: must be whole numbers of one shape. Received: ['7']",
        "item_id: must be whole numbers of one shape. Received: [1.5]",
    ]


@pytest.mark.parametrize("path", [PREDICT, INFER])
@pytest.mark.parametrize(
    ("chunks", "headers", "told"),
    [
        ([b" " * (1 << 20)] * 40, {}, "413: a request may have 16 MiB"),
        ([b"{"], {}, "400: the body is not valid JSON"),
        ([b""], {}, "400: the body is empty"),
        ([b"{}"], {"content_length": "x"}, "400: Content-Length must be a whole number"),
        ([b"{}"], {"content_type": "text/plain"}, "415: Content-Type must be application/json"),
        ([b"{}"], {"content_encoding": "gzip"}, "400: the body is not valid gzip"),
        ([b"0," * (1 << 20)], {}, "400: the body is not valid JSON"),
        ([b"[" * 600 + b"]" * 600], {}, "400: the body's lists may be nested 16 deep"),
        ([b"7"], {}, "400: the body "),
        ([b'{"instances": [{}], "inputs": 7}'], {}, "400: the body "),
    ],
)
def test_a_hostile_body_is_refused_in_a_sentence(application, path, chunks, headers, told):
    status, body = application.post(path, *chunks, **headers)
    assert f"{status}: {body['error']}".startswith(told)
    assert list(body) == ["error"]
    assert len(body["error"]) <= 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"signature_name": []}, "there is no signature []; there are places, serving_default"),
        ({"signature_name": {}}, "there is no signature {}"),
        ({"signature_name": "x" * 10**6}, "there is no signature 'xxx"),
        ({"signature_name": "places"}, "there is no input 'user_id'"),
        ({"instances": [ROW] * 5000}, "a request may have 4,096 rows. Received: 5,000"),
        ({"instances": [ROW | {"user_id": None}]}, "user_id: must be whole numbers"),
        ({"instances": [ROW | {"user_id": 1.5}]}, "user_id: must be whole numbers"),
        ({"instances": [ROW | {"user_id": 2**70}]}, "user_id: must be whole numbers"),
        (
            {"signature_name": "places", "instances": [{"user": 10**6, "item": 0}]},
            "the model refuses the inputs: indices[0] = 1000000 is not in [0, ",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(application, change, told):
    body = json.dumps({"instances": [ROW]} | change).encode()
    status, answer = application.post(PREDICT, body)
    assert (status, list(answer)) == (413 if "4,096" in told else 400, ["error"])
    assert answer["error"].startswith(told)
    assert len(answer["error"]) <= 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"inputs": [USER]}, "input 'item_id' is missing"),
        ({"inputs": [USER, ITEM | {"shape": [2**40]}]}, "a request may have 4,096 rows"),
        ({"inputs": [USER, ITEM | {"data": [[[[[1]]]]] * 9}]}, "item_id: the shape [1] has 1"),
        ({"inputs": [USER, ITEM | {"datatype": "X"}]}, "the body is not a V2 inference request: "),
        ({"parameters": {"signature": []}}, "there is no signature []"),
        ({"id": ["x" * 10**6]}, "the body is not a V2 inference request: id: "),
    ],
)
def test_a_wrong_v2_request_is_refused_in_a_sentence(application, change, told):
    body = json.dumps({"inputs": [USER, ITEM]} | change).encode()
    status, answer = application.post(INFER, body)
    assert (status, list(answer)) == (413 if "4,096" in told else 400, ["error"])
    assert answer["error"].startswith(told)
    assert len(answer["error"]) <= 300


def test_both_protocols_decide_as_the_signature(application, several_outputs):
    from mmnet.serving import golden

    batch = next(
        one
        for one in golden.read(several_outputs / "export" / "1" / golden.FILE)
        if one.signature == "decide" and len(one.inputs["id"]) > 1
    )
    columns = {
        name: [one.decode() for one in array] if array.dtype == object else array.tolist()
        for name, array in batch.inputs.items()
    }
    kinds = {"O": "BYTES", "int64": "INT64", "int32": "INT32", "float32": "FP32"}
    inputs = [
        {
            "name": name,
            "datatype": kinds["O" if array.dtype == object else array.dtype.name],
            "shape": list(array.shape),
            "data": np.ravel(columns[name]).tolist(),
        }
        for name, array in batch.inputs.items()
    ]
    v2 = {"parameters": {"signature": "decide"}, "inputs": inputs}
    no_ids = columns | {"id": [""] * len(columns["id"])}
    without_likes = {name: one for name, one in columns.items() if not name.endswith("_like")}
    with application.serving(several_outputs / "export"):
        answers = [
            application.post(
                PREDICT, json.dumps({"signature_name": "decide", "inputs": one}).encode()
            )
            for one in (columns, no_ids, without_likes)
        ]
        status, found = application.post(INFER, json.dumps(v2).encode())
    assert [status, *(one for one, _ in answers)] == [200, 200, 400, 200]
    by_column = answers[0][1]["outputs"]
    outputs = {one["name"]: one["data"] for one in found["outputs"]}
    assert outputs["decision"] == by_column["decision"]
    for name, wanted in batch.outputs.items():
        if wanted.dtype == object:
            assert by_column[name] == [one.decode() for one in wanted]
        else:  # float32 sums in another order
            np.testing.assert_allclose(by_column[name], wanted, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(outputs[name], wanted, rtol=1e-4, atol=1e-4)
    told = "the model refuses the inputs: id and target_period must not be empty"
    assert answers[1][1]["error"].startswith(told)


def test_ready_is_answered_while_the_model_is_loaded(application):
    wanted = {"ready": True, "model": "clicks", "version": "1"}
    assert application.get("/ready") == (200, wanted)
    with application.unloaded():
        assert application.get("/ready")[0] == 404
        assert application.get("/v2/health/ready")[0] == 200  # which is why there is a path of ours
    assert application.get("/ready") == (200, wanted)


def counted(prefix="mmnet_"):
    """All samples of our metrics that the metrics endpoint shows, as in its text."""
    from prometheus_client import REGISTRY, generate_latest

    lines = (line.rpartition(" ") for line in generate_latest(REGISTRY).decode().splitlines())
    return {name: float(value) for name, _, value in lines if name.startswith(prefix)}


def test_requests_are_counted_where_prometheus_reads_them(application):
    two = json.dumps({"instances": [ROW] * 2}).encode()
    application.post(PREDICT, two)  # so that every counter exists
    before = counted()
    assert application.post(PREDICT, two)[0] == 200
    assert application.post(INFER, json.dumps({"inputs": [USER, ITEM]}).encode())[0] == 200
    assert application.post(INFER, b"{")[0] == 400
    assert application.post(PREDICT, b"{}", content_type="text/plain")[0] == 415
    large = json.dumps({"instances": [ROW] * 5000}).encode()
    assert application.post(PREDICT, large)[0] == 413
    after = counted()
    changed = {name: now - before.get(name, 0) for name, now in after.items()}
    model = 'model="clicks",signature="serving_default"'
    wanted = {
        'mmnet_requests_total{outcome="answered",protocol="v2"}': 1,
        'mmnet_requests_total{outcome="answered",protocol="tf_serving"}': 1,
        'mmnet_requests_total{outcome="refused",protocol="v2"}': 1,
        'mmnet_requests_total{outcome="refused",protocol="tf_serving"}': 2,
        'mmnet_refusals_total{protocol="v2",reason="wrong"}': 1,
        'mmnet_refusals_total{protocol="tf_serving",reason="content_type"}': 1,
        'mmnet_refusals_total{protocol="tf_serving",reason="too_large"}': 1,
        f"mmnet_rows_total{{{model}}}": 3,
        f"mmnet_model_seconds_count{{{model}}}": 2,
    }
    assert {name: changed[name] for name in wanted} == wanted
    others = [
        name
        for name, more in changed.items()
        if more and name not in wanted and not name.startswith("mmnet_model_seconds_")
    ]
    assert not [name for name in others if "_created" not in name]


def test_a_request_cannot_name_a_label(application):
    for changed in ({"signature_name": "made up"}, {"instances": [ROW | {"made up": 1}]}):
        body = json.dumps({"instances": [ROW]} | changed).encode()
        assert application.post(PREDICT, body)[0] == 400
    assert counted()
    assert "made up" not in " ".join(counted())


def test_no_bytes_are_held_once_requests_are_answered(application):
    from mmnet.serving.mlserver_runtime import admission

    assert admission._bytes == admission._requests == 0


def test_an_answer_that_is_no_number_is_not_given(clicks, tmp_path):
    served = runtime(exported.write(tmp_path, clicks))
    asyncio.run(served.load())
    served._loaded.user_table.assign(np.full(served._loaded.user_table.shape, np.nan))
    inputs = mlserver.types.InferenceRequest.model_validate({"inputs": [USER, ITEM]})
    with pytest.raises(mlserver.errors.MLServerError, match=r"no finite .*probability") as caught:
        asyncio.run(served.predict(inputs))
    assert caught.value.status_code == 422


@pytest.mark.slow
def test_hostile_requests_among_the_others_change_no_answer(tmp_path):
    few = ["--requests=600", "--first=300", "--every=300", "--clients=16"]
    done = subprocess.run(
        [sys.executable, str(HOSTILE), *few, f"--output={tmp_path / 'page.md'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong. Wrong would be" in (tmp_path / "page.md").read_text()


@pytest.mark.slow
def test_answers_are_right_under_load_and_mistakes_are_refused(tmp_path):
    output = tmp_path / "serving.md"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--seconds=0.5", "--load_seconds=0.5", f"--output={output}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [
        line.strip("| ").split(" | ") for line in output.read_text().splitlines() if "|" in line
    ]
    loads = [
        line for line in lines if line[-1].endswith(tuple("0123456789")) and " of " in line[-1]
    ]
    assert len(loads) == 9 + 12 * bool(shutil.which("wrk"))
    for line in loads:
        wrong, answers = line[-1].replace(",", "").split(" of ")
        assert (int(wrong), int(answers) > 0) == (0, True)
    refused = {line[0]: line[1] for line in lines if line[1] in ("400", "404", "413", "422")}
    assert len(refused) == 9
    assert refused["5,000 rows"] == "413"
    by_grpc = {line[0]: line[1:] for line in lines if line[0].startswith("gRPC: ")}
    assert len(by_grpc) == 12
    assert not [one for one, (status, _) in by_grpc.items() if status == "OK"]
    assert by_grpc["gRPC: another model"][0] == "NOT_FOUND"
    assert by_grpc["gRPC: a shape that lies"][0] == "INVALID_ARGUMENT"
    assert not [one for one, (_, told) in by_grpc.items() if "Traceback" in told]
