"""Limits of a server: bodies measured as they arrive, and requests and bytes in progress.

A body is counted chunk by chunk, decompressed or not, so that one without a Content-Length, or
with a false one, is refused at the limit instead of after it has filled the memory.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from mmnet.checks import shown
from mmnet.serving.requests import RequestError

MAX_BYTES = 16 << 20
"""Maximum size of one body, decompressed. Parsing holds Python's lock for 20 ms per MiB."""
MAX_BYTES_AT_ONCE = 16 * MAX_BYTES
"""Maximum size of the bodies of all requests in progress."""
MAX_REQUESTS_AT_ONCE = 256
"""Requests in progress: a few are scored, the others wait."""
_GZIP = 16 + zlib.MAX_WBITS


class Admission:
    """Counts requests and bytes in progress, in any thread.

    Args:
        most_requests: in progress.
        most_bytes: of their bodies.
    """

    def __init__(
        self, most_requests: int = MAX_REQUESTS_AT_ONCE, most_bytes: int = MAX_BYTES_AT_ONCE
    ):
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self._requests = self._bytes = 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Holds a place for a request.

        Raises:
            RequestError: all places are taken; status 429.
        """
        with self._lock:
            if self._requests >= self._most_requests:
                raise _busy(f"{self._requests} requests are in progress")
            self._requests += 1
        try:
            yield
        finally:
            with self._lock:
                self._requests -= 1

    def hold(self, size: int) -> None:
        """Counts bytes that arrived, until they are released.

        Raises:
            RequestError: too many bytes are held; status 429. These are not counted.
        """
        with self._lock:
            if self._bytes + size > self._most_bytes:
                raise _busy(f"requests in progress hold {self._bytes >> 20} MiB")
            self._bytes += size

    def release(self, size: int) -> None:
        """Counts bytes no longer."""
        with self._lock:
            self._bytes -= size

    def whole(self, message: Mapping[str, Any], headers: Mapping[str, str]) -> bytes:
        """Returns a body that arrived in one piece; its bytes are held until they are released.

        Args:
            message: of ASGI, the first of a request.
            headers: as in `body`.

        Returns:
            Nothing for a body that `body` has to read.
        """
        found = message.get("body", b"")
        if not 0 < len(found) <= MAX_BYTES or message.get("more_body"):
            return b""
        if "content-encoding" in headers or headers.get("content-length") != str(len(found)):
            return b""
        self.hold(len(found))
        return found

    async def body(self, chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> bytes:
        """Reads a body; its bytes, decompressed, are held until they are released.

        Args:
            chunks: of the body, as they arrive.
            headers: of the request; names in lower case.

        Raises:
            RequestError: the body is empty, too large or not what the headers say.
        """
        _check_length(headers.get("content-length", "0"))
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip"):
            raise RequestError(
                f"Content-Encoding must be gzip or identity. Received: {shown(encoding, 60)}", 415
            )
        packed = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        found = bytearray()
        try:
            async for chunk in chunks:
                if packed is not None:
                    try:
                        chunk = packed.decompress(chunk, MAX_BYTES + 1 - len(found))
                    except zlib.error:
                        raise RequestError("the body is not valid gzip") from None
                if len(found) + len(chunk) > MAX_BYTES:
                    raise _too_large()
                self.hold(len(chunk))
                found += chunk
            if packed is not None and not packed.eof:
                raise RequestError("the body is not valid gzip: it ends too early")
            if not found:
                raise RequestError("the body is empty; it must be a JSON object")
        except BaseException:
            self.release(len(found))
            raise
        return bytes(found)


def _check_length(length: str) -> None:
    if not (length.isascii() and length.isdigit()):
        raise RequestError(f"Content-Length must be a whole number. Received: {shown(length, 60)}")
    if len(length) > 18 or int(length) > MAX_BYTES:
        raise _too_large()


def _too_large() -> RequestError:
    return RequestError(f"a request may have {MAX_BYTES >> 20} MiB; send it in parts", 413)


def _busy(what: str) -> RequestError:
    return RequestError(f"the server is busy: {what}; send the request again later", 429)
