"""A runtime for MLServer (extra `[serving]`): a SavedModel over REST and gRPC.

`model-settings.json` names it: `{"name": "mmnet", "implementation":
"mmnet.serving.mlserver_runtime.ShareRates", "parameters": {"uri": "runs/first/export"}}`. It
answers the V2 protocol at `/v2/models/mmnet/infer` and by gRPC, with the signature in the request's
parameter `signature`, and TensorFlow Serving's REST at `/v1/models/mmnet:predict`. An export that
does not pass its own checks is not served.

Requests are held to limits and rules: bodies are measured as they arrive (`admission`), parsed and
checked (`requests`, `request_rules`; in threads unless they are small), and refused by one sentence
with a status of 4xx. Those that wait while the model is busy share its next call (`shared_calls`).
With MLServer's own batching (`max_batch_size`), which is not needed, requests are merged before
they are checked, so that one wrong request refuses those that it was merged with.

An answer reports how many values of a field are unknown to the model: parameters
`unknown_values_FIELD` of V2, the header `x-unknown-values` of the other. The log names a field once
most of its values are unknown.

`/ready` answers 200 once an export has passed its checks and is loaded; before and after, the path
does not exist. MLServer's metrics endpoint also has the counters of `server_metrics`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import grpc
import mlserver.rest.app
import numpy as np
import tensorflow as tf
from fastapi import HTTPException, Request, Response
from mlserver import MLModel, types
from mlserver.errors import MLServerError
from mlserver.grpc.utils import STATUS_CODE_MAPPING
from mlserver.handlers import custom_handler, get_custom_handlers
from mlserver.rest.requests import Request as ServerRequest
from mlserver.rest.responses import Response as ServerResponse
from mlserver.rest.server import RESTServer
from mlserver.utils import extract_headers, get_model_uri, insert_headers
from pydantic import ValidationError
from starlette.routing import Route

from mmnet.checks import shown
from mmnet.serving import bundle, exported, golden, request_rules, requests, server_metrics
from mmnet.serving.admission import Admission
from mmnet.serving.exported import AboutShareRates
from mmnet.serving.freed_memory import return_large_blocks
from mmnet.serving.known_values import ValueCounts
from mmnet.serving.requests import RequestError, Specs
from mmnet.serving.shared_calls import FEW, SharedCalls

DEFAULT = "serving_default"
INFER = "/v2/models/{model_name}/infer"
V2, TF_SERVING = "v2", "tf_serving"
"""Names of the protocols in metrics."""
MAX_SECONDS = 60
"""In which a body must arrive."""
THREADS = max(4, os.cpu_count() or 1)
"""Requests that are parsed or scored at a time."""

logger = logging.getLogger("mmnet.serving")
admission = Admission()
"""Limits shared by all models of this process."""
threads = ThreadPoolExecutor(THREADS, "mmnet")
CALLS = max(1, (os.cpu_count() or 1) // 2)
"""Calls of a signature at a time."""
SMALL = 4096
"""Bytes of a body, and values of a request or an answer, that are converted in less time than a
thread takes to be asked."""
WARM = (*(1 << power for power in range(FEW.bit_length())), 2 * FEW)
"""Numbers of rows of calls that a model makes before it is served."""
LARGE_BYTES = 1 << 20
large = ThreadPoolExecutor(1, "mmnet-large")
"""Parses bodies of more than `LARGE_BYTES`, one after another: parsed, one may take 500 MB."""

Answer = tuple[Any, float, dict[str, int]]


class Refusal(MLServerError, HTTPException):
    """A refused request; FastAPI passes it on, and MLServer answers `{"error": sentence}`."""

    def __init__(self, error: RequestError, protocol: str):
        server_metrics.of_this_process().refused(protocol, error.status)
        HTTPException.__init__(self, error.status, str(error))
        self.args = (str(error),)

    def __str__(self) -> str:
        return str(self.detail)


class LimitedRequest(ServerRequest):
    """A REST request whose body is limited as it arrives, and parsed outside the event loop."""

    async def body(self) -> bytes:
        """Reads the body.

        Raises:
            Refusal: it is too large, too slow, or not what its headers say.
        """
        if not hasattr(self, "_body"):
            try:
                _check_content_type(self.headers.get("content-type", "application/json"))
                async with contextlib.aclosing(self.stream()) as chunks:
                    with anyio.fail_after(MAX_SECONDS):
                        self._body = await admission.body(chunks, self.headers)
            except RequestError as error:
                raise Refusal(error, self._protocol) from None
            except TimeoutError:
                slow = RequestError(f"the body must arrive within {MAX_SECONDS} seconds", 408)
                raise Refusal(slow, self._protocol) from None
            self._release = weakref.finalize(self, admission.release, len(self._body))
        return self._body

    async def json(self) -> Any:
        """Parses the body; that of a V2 request is checked against the protocol too.

        Raises:
            Refusal: it is not JSON, or not a request.
        """
        body = await self.body()
        read = _parsed_v2 if self._protocol == V2 else requests.parse
        try:
            if len(body) <= SMALL:
                return read(body)
            pool = large if len(body) > LARGE_BYTES else threads
            return await _in_thread(read, body, pool=pool)
        except RequestError as error:
            raise Refusal(error, self._protocol) from None
        finally:
            # A request may be in a cycle, which waits for the garbage collector: it keeps
            # neither its body nor what was parsed of it, which no one asks for again.
            self._body = b""
            self._release()

    @property
    def _protocol(self) -> str:
        return V2 if _V2.search(self.url.path) else TF_SERVING


_add_custom_handlers = RESTServer.add_custom_handlers


async def _add_routes(server: RESTServer, model: MLModel) -> MLModel:
    """Adds the paths of a model of ours, in front of all others and without FastAPI's steps.

    Routes are tried in order, twice per request, and MLServer has 25; FastAPI resolves the
    arguments of a function, and validates what it returns, for each request.
    """
    if not isinstance(model, ShareRates):
        return await _add_custom_handlers(server, model)
    routes: list[Any] = server._app.router.routes
    routes[:0] = [
        Route(handler.rest_path, method, methods=[handler.rest_method])
        for handler, method in get_custom_handlers(model)
    ]
    if not any(route.path == INFER and type(route) is Route for route in routes):
        routes.insert(0, Route(INFER, functools.partial(_infer, server), methods=["POST"]))
    return model


async def _infer(server: RESTServer, request: Request) -> Response:
    """Answers a V2 request as MLServer's own function for this path does."""
    request = LimitedRequest(request.scope, request.receive)
    payload = await request.json()
    insert_headers(payload, dict(request.headers))
    answer = await server._data_plane.infer(payload, request.path_params["model_name"])
    headers = extract_headers(answer)
    found = answer.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    return ServerResponse(found, headers=headers)


RESTServer.add_custom_handlers = _add_routes  # type: ignore[assignment]
# The class that MLServer's routes make their requests of. Middleware would be the place, but
# MLServer has none for bodies, and has built its application when a model is loaded.
mlserver.rest.app.Request = LimitedRequest  # type: ignore[misc]
STATUS_CODE_MAPPING |= {
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_V2 = re.compile(r"/v2/models/.*/(infer|generate)(_stream)?$")


def _check_content_type(kind: str) -> None:
    kind = kind.partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise RequestError(
            f"Content-Type must be application/json. Received: {shown(kind, 60)}", 415
        )


def _parsed_v2(body: bytes) -> Any:
    document = requests.parse(body)
    try:  # FastAPI validates a model no second time
        return types.InferenceRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(shown(part, 30) for part in first["loc"])
        raise RequestError(
            f"the body is not a V2 inference request: {place or 'all of it'}: {first['msg']}"
        ) from None


def _left(values: Iterable[Any], budget: int) -> int:
    """Returns what values and the lengths of texts leave of a budget; negative if it is spent."""
    for value in values:
        budget -= 1
        if isinstance(value, str | bytes):
            budget -= len(value)
        elif isinstance(value, list):
            budget = _left(value, budget)
        if budget < 0:
            break
    return budget


async def _in_thread(
    function: Callable[..., Any], *arguments: Any, pool: ThreadPoolExecutor = threads
) -> Any:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)


class ShareRates(MLModel):
    """One version of an export."""

    async def load(self) -> bool:
        """Checks the export and loads it.

        Raises:
            InputError: it is not what was exported.
        """
        self._metrics = server_metrics.of_this_process()
        return_large_blocks()
        path = bundle.check(await get_model_uri(self._settings))
        about = exported.about_any(path)
        fitted = about.fitted if isinstance(about, AboutShareRates) else None
        self._values, self._counting = ValueCounts(fitted), threading.Lock()
        self._loaded = tf.saved_model.load(str(path))  # keeps the variables alive
        self._signatures = self._loaded.signatures
        self._calls = {
            name: SharedCalls(functools.partial(_run, function), _in_thread, calls=CALLS)
            for name, function in self._signatures.items()
        }
        raw = self._signatures.get("raw_columns")
        self._rules = request_rules.of(fitted, requests.input_specs(raw) if raw else {})
        self._version = path.name
        await _in_thread(self._warm_up, path)
        # What is loaded stays: a full collection that looks at it stops all requests for 0.1 s.
        gc.collect()
        gc.freeze()
        return True

    def _warm_up(self, path: Path) -> None:
        """Calls signatures with the numbers of rows that shared calls have.

        The first call of each number takes many times as long as the next one.
        """
        if not (path / golden.FILE).is_file():
            return
        warm: set[str] = set()
        for batch in golden.read(path / golden.FILE):
            if batch.signature not in self._signatures or batch.signature in warm:
                continue
            warm.add(batch.signature)
            for rows in WARM:
                arrays = {
                    name: array[np.arange(rows) % len(array)]
                    for name, array in batch.inputs.items()
                }
                _run(self._signatures[batch.signature], arrays)

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answers a V2 request; MLServer turns what it raises into a status and a sentence."""

        def read(specs: Specs) -> requests.Arrays:
            inputs = [
                (
                    *(one.name, str(getattr(one.datatype, "value", one.datatype))),
                    *(one.shape, one.data.root),
                )
                for one in payload.inputs
            ]
            return requests.from_v2(inputs, specs, self._values.separators, self._rules)

        # Asked for by name: a dump of all parameters would follow those that are nested deep.
        signature = getattr(payload.parameters, "signature", None)
        small = _left([one.data.root for one in payload.inputs], SMALL) >= 0
        try:
            outputs, seconds, values = await self._answer(
                signature, read, requests.to_v2, small=small
            )
        except RequestError as error:
            raise Refusal(error, V2) from None
        except Exception:
            self._metrics.failed(V2)
            raise
        self._metrics.answered(V2)
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self._version,
            outputs=[types.ResponseOutput(**one) for one in outputs],
            # A message of gRPC has whole numbers only; the seconds do not get through.
            parameters=types.Parameters(
                model_seconds=seconds,
                model_microseconds=round(seconds * 1e6),
                **{f"unknown_values_{name}": number for name, number in values.items()},
            ),
        )

    @custom_handler(rest_path="/v1/models/mmnet:predict")
    async def tf_serving(self, request: Request) -> Response:
        """Answers TensorFlow Serving's REST JSON."""
        request = LimitedRequest(request.scope, request.receive)
        try:
            small = len(await request.body()) <= SMALL
            document = await request.json()

            def read(specs: Specs) -> requests.Arrays:
                separators, rules = self._values.separators, self._rules
                return requests.from_tf_serving(document, specs, separators, rules)

            def write(outputs: dict[str, np.ndarray]) -> str:
                answer = requests.to_tf_serving(outputs, by_row="instances" in document)
                return json.dumps(answer, allow_nan=False)

            name = document.get("signature_name") if isinstance(document, dict) else None
            answer, seconds, values = await self._answer(name, read, write, small=small)
        except RequestError as error:
            refusal = Refusal(error, TF_SERVING)
            return _response(json.dumps({"error": str(refusal)}), refusal.status_code)
        except Refusal as refusal:  # of the body, and counted
            return _response(json.dumps({"error": str(refusal)}), refusal.status_code)
        except Exception:
            self._metrics.failed(TF_SERVING)
            raise
        self._metrics.answered(TF_SERVING)
        headers = {"x-model-seconds": f"{seconds:.6f}", "x-unknown-values": json.dumps(values)}
        return _response(answer, 200, headers)

    @custom_handler(rest_path="/ready", rest_method="GET")
    async def answer_ready(self, _: Request) -> Response:
        """Answers 200: a route exists only once its export has passed its checks and is loaded.

        MLServer's own `/v2/health/ready` also answers 200 where no model is loaded.
        """
        ready = {"ready": bool(self.ready), "model": self.name, "version": self._version}
        return _response(json.dumps(ready), 200 if self.ready else 503)

    async def _answer(
        self,
        name: Any,
        read: Callable[[Specs], requests.Arrays],
        write: Callable[[dict[str, np.ndarray]], Any],
        *,
        small: bool,
    ) -> Answer:
        """Calls a signature; a request that is not small is read and answered in threads.

        Returns:
            What is written of the outputs, the seconds that the model took, unknown values by
            field.
        """
        name = DEFAULT if name in (None, "") else name
        with admission.request():
            step = _at_once if small else _in_thread
            arrays, unknown = await step(self._read, name, read)
            outputs, seconds = await self._calls[name](arrays)
            rows = len(next(iter(outputs.values())))
            self._metrics.scored(self.name, name, rows, seconds, unknown)
            few = sum(array.size for array in outputs.values()) <= SMALL
            return await (_at_once if few else _in_thread)(write, outputs), seconds, unknown

    def _read(self, name: Any, read: Any) -> tuple[requests.Arrays, dict[str, int]]:
        """Returns the checked inputs of a request, and unknown values by field."""
        if not isinstance(name, str) or name not in self._signatures:
            raise requests.no_signature(name, self._signatures)
        arrays = read(requests.input_specs(self._signatures[name]))
        with self._counting:
            unknown, warnings = self._values.count(arrays)
        for warning in warnings:
            logger.warning(warning)
        return arrays, unknown


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _run(function: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        found = function(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(requests.reason(error.message)) from None


def _response(body: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
