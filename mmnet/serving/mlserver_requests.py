"""Requests and answers of MLServer's REST server, for `mlserver_runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import re
import weakref
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from fastapi import HTTPException
from mlserver import types
from mlserver.errors import MLServerError
from mlserver.rest.requests import Request as ServerRequest
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from mmnet.checks import shown
from mmnet.serving import requests, server_metrics
from mmnet.serving.admission import Admission
from mmnet.serving.requests import RequestError

V2, TF_SERVING = "v2", "tf_serving"
"""Names of the protocols in metrics."""
_V2_KEYS, _V2_PARAMETERS = {"id", "parameters", "inputs"}, {"signature"}
_V2_FIELDS = ("name", "datatype", "shape", "data")
_V2_INPUT = operator.itemgetter(*_V2_FIELDS)
MAX_SECONDS = 60
"""In which a body must arrive."""
THREADS = max(4, os.cpu_count() or 1)
"""Requests that are parsed or scored at a time."""

admission = Admission()
"""Limits shared by all models of this process."""
threads = ThreadPoolExecutor(THREADS, "mmnet")
SMALL = 4096
"""Bytes of a body, and values of a request or an answer, that are converted in less time than a
thread takes to be asked."""
LARGE_BYTES = 1 << 20
large = ThreadPoolExecutor(1, "mmnet-large")
"""Parses bodies of more than `LARGE_BYTES`, one after another: parsed, one may take 500 MB."""
_V2 = re.compile(r"/v2/models/.*/(infer|generate)(_stream)?$")


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
                headers = self.headers
                _check_content_type(headers.get("content-type", "application/json"))
                async with asyncio.timeout(MAX_SECONDS):
                    first = await self.receive()
                    if whole := admission.whole(first, headers):
                        self._body = whole
                    else:
                        async with contextlib.aclosing(self._chunks(first)) as chunks:
                            self._body = await admission.body(chunks, headers)
            except RequestError as error:
                raise Refusal(error, self._protocol) from None
            except TimeoutError:
                slow = RequestError(f"the body must arrive within {MAX_SECONDS} seconds", 408)
                raise Refusal(slow, self._protocol) from None
            self._release = weakref.finalize(self, admission.release, len(self._body))
        return self._body

    async def _chunks(self, message: Any) -> AsyncGenerator[bytes, None]:
        while message["type"] == "http.request":
            yield message.get("body", b"")
            if not message.get("more_body"):
                return
            message = await self.receive()
        raise ClientDisconnect

    async def json(self) -> Any:
        """Parses the body; that of a V2 request is checked against the protocol too.

        Raises:
            Refusal: it is not JSON, or not a request.
        """
        body = await self.body()
        read = parsed_v2 if self._protocol == V2 else requests.parse
        try:
            if len(body) <= SMALL:
                return read(body)
            pool = large if len(body) > LARGE_BYTES else threads
            return await in_thread(read, body, pool=pool)
        except RequestError as error:
            raise Refusal(error, self._protocol) from None
        finally:
            self.forget()

    def forget(self) -> None:
        """Releases the body, which no one asks for again.

        A request may be in a cycle, which waits for the garbage collector.
        """
        self._body = b""
        self._release()

    @property
    def _protocol(self) -> str:
        return V2 if _V2.search(self.url.path) else TF_SERVING


class JsonAnswer:
    """An answer in JSON; Starlette's own converts headers and charsets for each of them.

    Args:
        body: the document.
        headers: names, in lower case, and values.
    """

    def __init__(self, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()):
        self._body = body
        self._headers = [
            *headers,
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
        ]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Sends the answer, as an ASGI application."""
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._body})


def _check_content_type(kind: str) -> None:
    if kind == "application/json":
        return
    kind = kind.partition(";")[0].strip().lower()
    if kind != "application/json" and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise RequestError(
            f"Content-Type must be application/json. Received: {shown(kind, 60)}", 415
        )


def usual_v2(body: bytes) -> tuple[str | None, str, list[Any]] | None:
    """Returns the id, the signature and the inputs of a V2 request; None of an unusual one.

    The parser reads a whole number beyond 64 bits as a float, which no usual request has.
    """
    try:
        document = orjson.loads(body)
        if not _V2_KEYS.issuperset(document):
            return None
        parameters, given = document.get("parameters", {}), document.get("id")
        if type(parameters) is not dict or not _V2_PARAMETERS.issuperset(parameters):
            return None
        signature = parameters.get("signature", "")
        inputs = [_V2_INPUT(one) for one in document["inputs"] if len(one) == len(_V2_FIELDS)]
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    usual = type(signature) is str and (given is None or type(given) is str)
    return (given, signature, inputs) if usual and len(inputs) == len(document["inputs"]) else None


def parsed_v2(body: bytes) -> types.InferenceRequest:
    """Parses the body of a V2 request.

    Raises:
        RequestError: it is not JSON, or not a request.
    """
    document = requests.parse(body)
    try:  # FastAPI validates a model no second time
        return types.InferenceRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(shown(part, 30) for part in first["loc"])
        raise RequestError(
            f"the body is not a V2 inference request: {place or 'all of it'}: {first['msg']}"
        ) from None


def inputs_v2(payload: types.InferenceRequest) -> list[Any]:
    """Returns the inputs of a V2 request as `requests.from_v2` reads them."""
    return [
        (
            *(one.name, str(getattr(one.datatype, "value", one.datatype))),
            *(one.shape, one.data.root),
        )
        for one in payload.inputs
    ]


async def in_thread(
    function: Callable[..., Any], *arguments: Any, pool: ThreadPoolExecutor = threads
) -> Any:
    """Runs a function outside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
