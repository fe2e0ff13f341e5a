"""A runtime for MLServer (extra `[serving]`): a SavedModel over REST and gRPC.

`model-settings.json` names it: `{"name": "mmnet", "implementation":
"mmnet.serving.mlserver_runtime.ShareRates", "parameters": {"uri": "runs/first/export"}}`. It
answers the V2 protocol at `/v2/models/mmnet/infer` and by gRPC, with the signature in the request's
parameter `signature`, and TensorFlow Serving's REST at `/v1/models/mmnet:predict`. An export that
does not pass its own checks is not served.

An answer says how many values of a field the model does not know: parameters `unknown_values_FIELD`
of V2, the header `x-unknown-values` of the other. The log names a field once most are unknown.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import numpy as np
import tensorflow as tf
from fastapi import Request, Response
from mlserver import MLModel, types
from mlserver.errors import InferenceError
from mlserver.handlers import custom_handler
from mlserver.utils import get_model_uri

from mmnet.checks import quoted
from mmnet.serving import bundle, exported, requests
from mmnet.serving.exported import AboutShareRates
from mmnet.serving.known_values import ValueCounts
from mmnet.serving.requests import RequestError

MAX_BYTES = 64 << 20
DEFAULT = "serving_default"

logger = logging.getLogger("mmnet.serving")


class ShareRates(MLModel):
    """One version of an export."""

    async def load(self) -> bool:
        """Checks the export and loads it.

        Raises:
            InputError: it is not what was exported.
        """
        path = bundle.check(await get_model_uri(self._settings))
        about = exported.about_any(path)
        self._values = ValueCounts(about.fitted if isinstance(about, AboutShareRates) else None)
        self._loaded = tf.saved_model.load(str(path))  # keeps the variables alive
        self._signatures = self._loaded.signatures
        self._version = path.name
        return True

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        """Answers a V2 request; MLServer turns what it raises into a status and a sentence."""
        parameters = payload.parameters.model_dump() if payload.parameters else {}
        inputs = [
            (one.name, str(getattr(one.datatype, "value", one.datatype)), one.shape, one.data.root)
            for one in payload.inputs
        ]
        try:
            outputs, seconds, values = await self._scored(
                parameters.get("signature") or DEFAULT,
                lambda specs, separators: requests.from_v2(inputs, specs, separators),
            )
        except RequestError as error:
            raise _refusal(error) from None
        return types.InferenceResponse(
            model_name=self.name,
            model_version=self._version,
            outputs=[types.ResponseOutput(**one) for one in requests.to_v2(outputs)],
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
        try:
            if int(request.headers.get("content-length", 0)) > MAX_BYTES:
                raise RequestError(f"a request may have {MAX_BYTES >> 20} MiB", 413)
            try:
                document = json.loads(await request.body())
            except (ValueError, RecursionError):
                raise RequestError("the body is no JSON") from None
            name = (
                document.get("signature_name", DEFAULT) if isinstance(document, dict) else DEFAULT
            )
            outputs, seconds, values = await self._scored(
                name,
                lambda specs, separators: requests.from_tf_serving(document, specs, separators),
            )
        except RequestError as error:
            return _answer({"error": str(error)}, error.status)
        by_row = "instances" in document
        answer = requests.to_tf_serving(outputs, by_row=by_row)
        headers = {"x-model-seconds": f"{seconds:.6f}", "x-unknown-values": json.dumps(values)}
        return _answer(answer, 200, headers)

    async def _scored(
        self, signature: Any, read: Any
    ) -> tuple[dict[str, np.ndarray], float, dict[str, int]]:
        """Outputs of a signature, the seconds that the model took, unknown values by field."""
        if signature not in self._signatures:
            raise RequestError(
                f"there is no signature {quoted(signature)}; there are "
                f"{', '.join(sorted(self._signatures))}"
            )
        function = self._signatures[signature]
        arrays = read(requests.input_specs(function), self._values.separators)
        unknown, warnings = self._values.count(arrays)
        for warning in warnings:
            logger.warning(warning)
        return *await asyncio.to_thread(_run, function, arrays), unknown


def _run(function: Any, arrays: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
    began = time.perf_counter()
    try:
        found = function(**{name: tf.constant(array) for name, array in arrays.items()})
        outputs = {name: tensor.numpy() for name, tensor in found.items()}
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(str(error).splitlines()[0]) from None
    return outputs, time.perf_counter() - began


def _refusal(error: RequestError) -> InferenceError:
    refusal = InferenceError(str(error))
    refusal.status_code = error.status
    return refusal


def _answer(body: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, media_type="application/json")
