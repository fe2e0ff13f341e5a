"""A body is refused at the limit, however it is sent; what is over the limits is told to wait."""

import asyncio
import gzip
import re

import pytest

from mmnet.serving import admission
from mmnet.serving.admission import Admission
from mmnet.serving.requests import RequestError

MIB = b" " * (1 << 20)


def read(*chunks, gate=None, **headers):
    """The body of chunks, and how many of them were taken."""
    taken = 0

    async def arriving():
        nonlocal taken
        for chunk in chunks:
            taken += 1
            yield chunk

    async def body():
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await (gate or Admission()).body(arriving(), named)

    try:
        return asyncio.run(body()), taken
    except RequestError as error:
        return f"{error.status}: {error}", taken


def test_a_body_in_pieces_is_put_together():
    assert read(b'{"a":', b" 1}") == (b'{"a": 1}', 2)
    assert read(
        gzip.compress(b"{}", mtime=0)[:9], gzip.compress(b"{}")[9:], content_encoding="gzip"
    ) == ((b"{}", 2))


def test_a_body_without_a_length_is_refused_at_the_limit():
    found, taken = read(*[MIB] * 40)
    assert found == "413: a request may have 16 MiB; send it in parts"
    assert taken == 17


def test_a_compressed_body_is_measured_unpacked():
    found, taken = read(gzip.compress(MIB * 17), content_encoding="gzip")
    assert (found[:3], taken) == ("413", 1)


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (b"{}", {"content_length": "x"}, "400: Content-Length must be a whole number"),
        (b"{}", {"content_length": "-1"}, "400: Content-Length must be a whole number"),
        (b"{}", {"content_length": "9" * 30}, "413: a request may have 16 MiB"),
        (b"{}", {"content_length": str(1 << 25)}, "413: a request may have 16 MiB"),
        (b"{}", {"content_encoding": "br"}, "415: Content-Encoding must be gzip or identity"),
        (b"{}", {"content_encoding": "gzip"}, "400: the body is not valid gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content_encoding": "gzip"}, "400: .*ends too early"),
        (b"", {}, "400: the body is empty"),
    ],
)
def test_a_body_that_is_not_what_its_headers_say_is_refused(body, headers, told):
    gate = Admission(most_bytes=2)
    found, _ = read(body, gate=gate, **headers)
    assert re.match(told, found)
    assert read(b"{}", gate=gate) == (b"{}", 1)  # nothing is held of a body that was refused


def test_bytes_and_requests_over_the_limits_are_told_to_wait():
    gate = Admission(most_requests=1, most_bytes=3)
    assert read(b"{}", gate=gate) == (b"{}", 1)
    found, _ = read(b"{}", gate=gate)
    assert found.startswith("429: the server is busy: requests in progress hold 0 MiB")
    gate.release(2)
    assert read(b"{}", gate=gate) == (b"{}", 1)
    with (
        gate.request(),
        pytest.raises(RequestError, match="1 requests are in progress") as caught,
        gate.request(),
    ):
        pass
    assert caught.value.status == 429
    with gate.request():
        pass


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"more_body": True}, {}),
        ({"body": b""}, {"content-length": "0"}),
        ({"body": b"x" * (admission.MAX_BYTES + 1)}, {"content-length": str(2**24 + 1)}),
        ({}, {"content-length": "3"}),
        ({}, {"content-encoding": "gzip"}),
        ({}, {"content-length": ""}),
    ],
)
def test_a_body_in_one_piece_is_held_and_any_other_is_left_to_be_read(change, headers):
    limits = Admission(most_bytes=2)
    message, usual = {"type": "http.request", "body": b"{}"}, {"content-length": "2"}
    assert limits.whole(message | change, usual | headers) == b""
    assert limits.whole(message, usual) == b"{}"
    with pytest.raises(RequestError, match="the server is busy"):
        limits.whole(message, usual)
    limits.release(2)
    assert limits.whole(message, usual) == b"{}"
