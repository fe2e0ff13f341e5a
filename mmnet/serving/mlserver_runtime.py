"""A runtime for MLServer (extra `[serving]`): a SavedModel over REST and gRPC.

`model-settings.json` names it: `{"name": "mmnet", "implementation":
"mmnet.serving.mlserver_runtime.ShareRates", "parameters": {"uri": "runs/first/export"}}`. It
answers the V2 protocol at `/v2/models/mmnet/infer` and by gRPC, with the signature in the request's
parameter `signature`, and TensorFlow Serving's REST at `/v1/models/mmnet:predict`. An export that
does not pass its own checks is not served.

Requests are held to limits and rules: bodies are measured as they arrive (`admission`), parsed and
checked (`requests`, `request_rules`), and refused by one sentence with a status of 4xx. Those that
wait while the model is busy share its next call (`shared_calls`). Large requests are read in
threads as they come; small ones are read together by the call that they share (`small_requests`),
and the V2 protocol over REST answers them without MLServer's objects, in the same words.
With MLServer's own batching (`max_batch_size`), which is not needed, requests are merged before
they are checked, so that one wrong request refuses those that it was merged with.

The parameter `"extra": {"runtime": "onnx"}` runs signatures on another runtime (`served`).

An answer reports how many values of a field are unknown to the model: parameters
`unknown_values_FIELD` of V2, the header `x-unknown-values` of the other. The log names a field once
most of its values are unknown.

`/ready` answers 200 once an export has passed its checks and is loaded; before and after, the path
does not exist. MLServer's metrics endpoint also has the counters of `server_metrics`.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import mlserver.rest.app
import numpy as np
import orjson
import tensorflow as tf
from fastapi import Request, Response
from mlserver import MLModel, types
from mlserver.codecs.json import encode_to_json_bytes
from mlserver.context import model_context
from mlserver.errors import MLServerError
from mlserver.grpc.utils import STATUS_CODE_MAPPING
from mlserver.handlers import custom_handler, get_custom_handlers
from mlserver.logging import logger as mlserver_logger
from mlserver.rest.responses import Response as ServerResponse
from mlserver.rest.server import RESTServer
from mlserver.utils import extract_headers, generate_uuid, get_model_uri, insert_headers
from starlette.routing import Route

from mmnet.serving import bundle, exported, golden, request_rules, requests, served, server_metrics
from mmnet.serving.exported import AboutShareRates
from mmnet.serving.freed_memory import return_large_blocks
from mmnet.serving.known_values import ValueCounts
from mmnet.serving.mlserver_requests import (
    SMALL,
    TF_SERVING,
    V2,
    JsonAnswer,
    LimitedRequest,
    Refusal,
    admission,
    in_thread,
    inputs_v2,
    parsed_v2,
    usual_v2,
)
from mmnet.serving.requests import RequestError, Specs
from mmnet.serving.shared_calls import FEW, SharedCalls
from mmnet.serving.small_requests import Layout, Unread

DEFAULT = "serving_default"
_ROWS_KEYS = {"signature_name", "instances"}
INFER = "/v2/models/{model_name}/infer"

logger = logging.getLogger("mmnet.serving")
CALLS = max(1, (os.cpu_count() or 1) // 2)
"""Calls of a signature at a time."""
WARM = (*(1 << power for power in range(FEW.bit_length())), 2 * FEW)
"""Numbers of rows of calls that a model makes before it is served."""

Answer = tuple[Any, float, dict[str, int]]
Read = Callable[[Specs], requests.Arrays]


_add_custom_handlers = RESTServer.add_custom_handlers


async def _add_routes(server: RESTServer, model: MLModel) -> MLModel:
    """Adds the paths of a model of ours, in front of all others and without FastAPI's steps.

    Routes are tried in order, twice per request, and MLServer has 25; FastAPI resolves the
    arguments of a function, and validates what it returns, for each request.
    """
    if not isinstance(model, ShareRates):
        return await _add_custom_handlers(server, model)
    routes: list[Any] = server._app.router.routes
    own = []
    for handler, method in get_custom_handlers(model):
        route = Route(handler.rest_path, method, methods=[handler.rest_method])
        route.app = _application(method)  # MLServer removes a route by its endpoint
        own.append(route)
    routes[:0] = own
    if not any(route.path == INFER and type(route) is Route for route in routes):
        infer = _Infer(server).answer
        route = Route(INFER, infer, methods=["POST"])
        route.app = _application(infer)
        routes.insert(0, route)
    return model


def _application(answer: Callable[[LimitedRequest], Awaitable[Any]]) -> Any:
    """Returns an ASGI application; errors are for the application around it."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        response = await answer(LimitedRequest(scope, receive))
        await response(scope, receive, send)

    return application


class _Infer:
    """Answers V2 requests as MLServer's own function for this path does.

    A small request to a model of ours is not made an object of MLServer's; its counters, its
    headers and the id are those that MLServer's data plane gives to every answer.
    """

    def __init__(self, server: RESTServer):
        self._plane = server._data_plane
        self._of = functools.cache(self._counters)

    async def answer(self, request: LimitedRequest) -> Any:
        """Answers a request."""
        body, name = await request.body(), request.path_params["model_name"]
        model = await self._model(name) if len(body) <= SMALL else None
        if model and (small := model.small_v2(body)):
            request.forget()
            return await self._answer_small(model, *small)
        payload = await request.json()
        insert_headers(payload, dict(request.headers))
        answer = await self._plane.infer(payload, name)
        headers = extract_headers(answer)
        found = answer.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        return ServerResponse(found, headers=headers)

    async def _model(self, name: str) -> ShareRates | None:
        """Returns a model that this process asks directly; None for any other."""
        if self._plane._response_cache is not None:
            return None
        try:
            model = await self._plane._model_registry.get_model(name)
        except MLServerError:
            return None
        # With batching by MLServer, a model has a `predict` of its own.
        if isinstance(model, ShareRates) and model.ready and "predict" not in vars(model):
            return model
        return None

    async def _answer_small(
        self, model: ShareRates, given: str | None, signature: str, unread: Unread
    ) -> JsonAnswer:
        seconds, failures, successes, headers = self._of(model.name)
        with seconds.time(), failures.count_exceptions():
            outputs, parameters = await model.answer_v2(signature, unread)
            successes.inc()
        request_id = given or generate_uuid()
        document = {
            "model_name": model.name,
            "model_version": model.version_of_export,
            "id": request_id,
            "parameters": parameters,
            "outputs": outputs,
        }
        return JsonAnswer(encode_to_json_bytes(document), headers(request_id))

    def _counters(self, name: str) -> tuple[Any, Any, Any, Callable[[str], Any]]:
        """Returns MLServer's counters of a model, and what makes the headers of an answer."""
        plane = self._plane
        metrics: list[Any] = [
            plane._ModelInferRequestDuration,
            plane._ModelInferRequestFailure,
            plane._ModelInferRequestSuccess,
        ]
        seconds, failures, successes = (one.labels(model=name, version=None) for one in metrics)

        def headers(request_id: str) -> list[tuple[bytes, bytes]]:
            return [(key, value or request_id.encode("latin-1")) for key, value in fixed]

        settings, example = mlserver.ModelSettings(name=name, implementation=ShareRates), "\0"
        answer = types.InferenceResponse(model_name=name, id=example, outputs=[])
        plane._inference_middleware.response_middleware(answer, settings)
        fixed = [
            (key.lower().encode("latin-1"), b"" if value == example else value.encode("latin-1"))
            for key, value in (extract_headers(answer) or {}).items()
        ]
        return seconds, failures, successes, headers


RESTServer.add_custom_handlers = _add_routes  # type: ignore[assignment]
# The class that MLServer's routes make their requests of. Middleware would be the place, but
# MLServer has none for bodies, and has built its application when a model is loaded.
mlserver.rest.app.Request = LimitedRequest  # type: ignore[misc]
STATUS_CODE_MAPPING |= {
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


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


class ShareRates(MLModel):
    """One version of an export."""

    async def load(self) -> bool:
        """Checks the export and loads it.

        Raises:
            InputError: it is not what was exported, or cannot be run as the settings say.
        """
        parameters = self._settings.parameters
        chosen = served.settings(parameters.extra if parameters else None)
        self._metrics = server_metrics.of_this_process()
        return_large_blocks()
        path = bundle.check(await get_model_uri(self._settings))
        about = exported.about_any(path)
        fitted = about.fitted if isinstance(about, AboutShareRates) else None
        self._values, self._counting = ValueCounts(fitted), threading.Lock()
        self._loaded = tf.saved_model.load(str(path))  # keeps the variables alive
        self._signatures = self._loaded.signatures
        raw = self._signatures.get("raw_columns")
        self._rules = request_rules.of(fitted, requests.input_specs(raw) if raw else {})
        self._layouts = {
            name: Layout(requests.input_specs(function), self._values.separators, self._rules)
            for name, function in self._signatures.items()
        }
        batches = list(golden.read(path / golden.FILE))
        scales = exported.scales(fitted.spec) if fitted else None
        open_all = functools.partial(served.calls_of, scales=scales, calls=CALLS)
        calls, lines = await in_thread(open_all, self._loaded, path, chosen, batches)
        self._calls = {
            name: SharedCalls(
                call,
                in_thread,
                read=functools.partial(self._read_together, self._layouts[name]),
                calls=CALLS,
            )
            for name, call in calls.items()
        }
        self._version = path.name
        for line in lines:
            with model_context(self._settings):
                mlserver_logger.info(line)
        await in_thread(_warm_up, calls, batches)
        # What is loaded stays: a full collection that looks at it stops all requests for 0.1 s.
        gc.collect()
        gc.freeze()
        return True

    @property
    def version_of_export(self) -> str:
        """The number of the version."""
        return self._version

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answers a V2 request; MLServer turns what it raises into a status and a sentence."""
        inputs = inputs_v2(payload)
        # Asked for by name: a dump of all parameters would follow those that are nested deep.
        signature = getattr(payload.parameters, "signature", None)
        small = _left([one.data.root for one in payload.inputs], SMALL) >= 0
        read = functools.partial(self._from_v2, lambda: inputs)
        unread = None
        if small and (layout := self._layout(signature)):
            unread = self._unread(signature, layout.of_v2(inputs), read)
        outputs, parameters = await self.answer_v2(signature, unread or read, small=small)
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self._version,
            outputs=[types.ResponseOutput(**one) for one in outputs],
            parameters=types.Parameters(**parameters),
        )

    def small_v2(self, body: bytes) -> tuple[str | None, str, Unread] | None:
        """Returns the id, the signature and the inputs of a small V2 request.

        Returns:
            None for a request that has to be parsed and read alone.
        """
        usual = usual_v2(body)
        if usual is None or (layout := self._layout(usual[1])) is None:
            return None
        given, signature, inputs = usual
        read = functools.partial(self._from_v2, lambda: inputs_v2(parsed_v2(body)))
        unread = self._unread(signature, layout.of_v2(inputs), read)
        return (given, signature, unread) if unread else None

    async def answer_v2(
        self, signature: Any, inputs: Unread | Read, *, small: bool = True
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Returns the outputs and the parameters of a V2 answer.

        Raises:
            Refusal: the request is wrong, or one too many.
        """
        try:
            outputs, seconds, values = await self._answer(
                signature, inputs, requests.to_v2, small=small
            )
        except RequestError as error:
            raise Refusal(error, V2) from None
        except Exception:
            self._metrics.failed(V2)
            raise
        self._metrics.answered(V2)
        return outputs, {
            # A message of gRPC has whole numbers only; the seconds do not get through.
            "model_seconds": seconds,
            "model_microseconds": round(seconds * 1e6),
            **{f"unknown_values_{name}": number for name, number in values.items()},
        }

    def _from_v2(self, inputs: Callable[[], list[Any]], specs: Specs) -> requests.Arrays:
        return requests.from_v2(inputs(), specs, self._values.separators, self._rules)

    @custom_handler(rest_path="/v1/models/mmnet:predict")
    async def tf_serving(self, request: LimitedRequest) -> Any:
        """Answers TensorFlow Serving's REST JSON."""
        try:
            body = await request.body()
            small = len(body) <= SMALL
            name: Any
            inputs: Unread | Read
            if found := self._small_tf_serving(body) if small else None:
                request.forget()
                name, inputs = found
                by_row = True
            else:
                document = await request.json()
                name = document.get("signature_name") if isinstance(document, dict) else None
                inputs = functools.partial(self._from_tf_serving, lambda: document)
                by_row = isinstance(document, dict) and "instances" in document

            def write(outputs: dict[str, np.ndarray]) -> bytes:
                answer = requests.to_tf_serving(outputs, by_row=by_row)
                return json.dumps(answer, allow_nan=False).encode()

            answer, seconds, values = await self._answer(name, inputs, write, small=small)
        except RequestError as error:
            refusal = Refusal(error, TF_SERVING)
            return _response(json.dumps({"error": str(refusal)}), refusal.status_code)
        except Refusal as refusal:  # of the body, and counted
            return _response(json.dumps({"error": str(refusal)}), refusal.status_code)
        except Exception:
            self._metrics.failed(TF_SERVING)
            raise
        self._metrics.answered(TF_SERVING)
        unknown = json.dumps(values).encode() if values else b"{}"
        headers = [(b"x-model-seconds", b"%.6f" % seconds), (b"x-unknown-values", unknown)]
        return JsonAnswer(answer, headers)

    def _small_tf_serving(self, body: bytes) -> tuple[str, Unread] | None:
        """Returns the signature and the inputs of a small request, row by row.

        Returns:
            None for a request that has to be parsed and read alone.
        """
        try:
            document = orjson.loads(body)
        except ValueError:
            return None
        if type(document) is not dict or not _ROWS_KEYS.issuperset(document):
            return None
        name = document.get("signature_name", "")
        if (layout := self._layout(name)) is None:
            return None
        read = functools.partial(self._from_tf_serving, lambda: requests.parse(body))
        unread = self._unread(name, layout.of_rows(document.get("instances")), read)
        return (name, unread) if unread else None

    def _from_tf_serving(self, document: Callable[[], Any], specs: Specs) -> requests.Arrays:
        separators, rules = self._values.separators, self._rules
        return requests.from_tf_serving(document(), specs, separators, rules)

    def _layout(self, name: Any) -> Layout | None:
        name = DEFAULT if name in (None, "") else name
        return self._layouts.get(name) if isinstance(name, str) else None

    def _unread(
        self, name: Any, found: tuple[list[list[Any]], int] | None, read: Read
    ) -> Unread | None:
        if found is None:
            return None
        return Unread(*found, functools.partial(self._read, name or DEFAULT, read))

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
        inputs: Unread | Read,
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
            if isinstance(inputs, Unread):
                outputs, seconds = await self._calls[name](inputs)
                unknown = inputs.unknown
            else:
                step = _at_once if small else in_thread
                arrays, unknown = await step(self._read, name, inputs)
                outputs, seconds = await self._calls[name](arrays)
            rows = len(next(iter(outputs.values())))
            self._metrics.scored(self.name, name, rows, seconds, unknown)
            if sum(array.size for array in outputs.values()) <= SMALL:
                return write(outputs), seconds, unknown
            return await in_thread(write, outputs), seconds, unknown

    def _read(self, name: Any, read: Read) -> tuple[requests.Arrays, dict[str, int]]:
        """Returns the checked inputs of a request, and unknown values by field."""
        if not isinstance(name, str) or name not in self._signatures:
            raise requests.no_signature(name, self._signatures)
        arrays = read(requests.input_specs(self._signatures[name]))
        with self._counting:
            unknown, warnings = self._values.count(arrays)
        self._warn(warnings)
        return arrays, unknown

    def _read_together(self, layout: Layout, parts: Sequence[Unread]) -> requests.Arrays:
        """Returns the checked inputs of several requests, and counts their unknown values."""
        arrays = layout.together(parts)
        with self._counting:
            counted, warnings = self._values.count_each(arrays, [one.rows for one in parts])
        for one, unknown in zip(parts, counted, strict=True):
            one.unknown = unknown
        self._warn(warnings)
        return arrays

    def _warn(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            with model_context(self._settings):  # which MLServer writes in front of a line
                logger.warning(warning)


async def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _warm_up(calls: Mapping[str, served.Call], batches: Iterable[golden.Golden]) -> None:
    """Calls signatures with the numbers of rows that shared calls have.

    The first call of each number takes many times as long as the next one.
    """
    inputs = {one.signature: one.inputs for one in batches if one.signature in calls}
    for name, arrays in inputs.items():
        for rows in WARM:
            calls[name](served.sample(arrays, rows))


def _response(body: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
