"""File formats, detected by the first bytes; and file contents as decompressed streams.

File name extensions are ignored: `counts.parquet` may be compressed text, and `part-00000` Parquet.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import functools
import io
import itertools
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa

from mmnet.checks import InputError, shown

Watch = Callable[[int], object]
"""Callback that receives the number of bytes that a stream has produced so far."""

Format = Literal["parquet", "json", "text"]

_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second one is an empty archive
WORKBOOK = "a workbook of Excel or LibreOffice"
_REFUSED = {
    b"ARROW1": "an Arrow (Feather) file; convert it to Parquet",
    b"Obj\x01": "an Avro file; convert it to Parquet",
    b"FEA1": "a Feather file; convert it to Parquet",
    b"ORC": "an ORC file; convert it to Parquet",
    b"\xd0\xcf\x11\xe0": f"{WORKBOOK}; save its sheet as CSV",
    b"SQLite format 3": "an SQLite database; read it with --engine=sqlite://FILE --events=TABLE",
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xfd7zXZ": "compressed with xz; unpack it",
    b"\x89HDF": "an HDF5 file; convert it to Parquet",
}
_BOMS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_FIRST = 1 << 12

DAMAGED = (
    *(pa.ArrowException, OSError, EOFError, csv.Error),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    NotImplementedError,  # a compression method that `zipfile` does not support
)
"""Exceptions that reading a damaged file raises, besides UnicodeError for another encoding."""

PIECE_BYTES = 1 << 20
"""Number of bytes to read of a stream at a time."""


@dataclass(frozen=True)
class Kind:
    """Format of a file.

    Attributes:
        format: parquet, json (one object per line, or an array of objects) or text (CSV and the
            like).
        packed: gzip, bz2, zstd, lz4 or zip; empty if it is not compressed.
        encoding: encoding that the first bytes indicate; empty if they indicate none.
    """

    format: Format
    packed: str = ""
    encoding: str = ""


def kind_of(path: Path) -> Kind:
    """Detects the format of a file by its first bytes.

    Raises:
        InputError: the format is not supported; the sentence names it and the remedy.
        OSError: the file cannot be opened.
    """
    state = os.stat(path)
    return _kind_of(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _kind_of(path: Path, size: int, changed: int) -> Kind:
    with path.open("rb") as file:
        first = file.read(_FIRST)
    if first.startswith(b"PAR1"):
        return Kind("parquet")
    packed = next((name for magic, name in _PACKED.items() if first.startswith(magic)), "")
    if first.startswith(_ZIP):
        packed = "zip"
        if path.suffix.lower() in (".xlsx", ".xlsm", ".ods"):
            raise InputError(f"{path} is {WORKBOOK}; save its sheet as CSV")
    if packed:
        with opened(path, packed) as stream:
            first = stream.read(_FIRST)
        if first.startswith(b"PAR1"):
            raise InputError(f"{path} is a Parquet file compressed with {packed}; unpack it")
    for magic, what in _REFUSED.items():
        if first.startswith(magic):
            raise InputError(f"{path} is {what}")
    if first[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive; unpack it")
    encoding = next((name for bom, name in _BOMS.items() if first.startswith(bom)), "")
    start = first.decode(encoding or "latin-1", "ignore").lstrip()
    is_json = start.startswith("{") or (
        start.startswith("[") and start[1:].lstrip()[:1] in ("{", "]")
    )
    return Kind("json" if is_json else "text", packed, encoding)


@contextlib.contextmanager
def opened(path: Path, packed: str) -> Iterator[BinaryIO]:
    """Opens a file as decompressed bytes.

    Args:
        path: path of the file.
        packed: its compression, see `Kind`.

    Raises:
        InputError: the archive has no file or several.
        OSError, zipfile.BadZipFile, EOFError: the file is damaged; also raised by reading.
    """
    with contextlib.ExitStack() as stack:
        if packed == "zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            stream = stack.enter_context(archive.open(_member(path, archive)))
        else:
            stream = stack.enter_context(path.open("rb"))
            if packed:
                # Its own `input_stream` would choose by the file name's extension.
                stream = stack.enter_context(
                    pa.CompressedInputStream(pa.PythonFile(stream), packed)
                )
        yield cast(BinaryIO, stream)


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    names = archive.namelist()
    if "[Content_Types].xml" in names:
        raise InputError(f"{path} is {WORKBOOK}; save its sheet as CSV")
    inside = [
        one
        for one in archive.infolist()
        if not one.is_dir() and not any(part[0] in "._" for part in Path(one.filename).parts)
    ]
    if len(inside) != 1:
        listed = ", ".join(shown(one.filename, 60) for one in inside[:5]) or "none"
        raise InputError(f"{path} contains {len(inside)} files ({listed}); unpack it")
    if inside[0].flag_bits & 1:
        raise InputError(f"{path} is encrypted; unpack it")
    return inside[0]


@contextlib.contextmanager
def decoded(
    path: Path, packed: str, encoding: str, watch: Watch | None = None
) -> Iterator[BinaryIO]:
    """Opens a text file as decompressed UTF-8 without a byte-order mark.

    A file in UTF-8 is not validated: invalid bytes are passed through.

    Args:
        path: path of the file.
        packed: its compression, see `Kind`.
        encoding: name of the encoding in Python.
        watch: receives, during reading, the number of bytes produced so far.

    Raises:
        InputError, OSError, zipfile.BadZipFile, EOFError: as `opened`.
        UnicodeError: raised by reading if the bytes are invalid in the encoding.
    """
    with opened(path, packed) as stream:
        pieces = _in_utf8(stream, encoding)
        yield stream_of(_watched(pieces, watch) if watch else pieces)


def _watched(pieces: Iterator[bytes], watch: Watch) -> Iterator[bytes]:
    grown = 0
    for piece in pieces:
        grown += len(piece)
        watch(grown)
        yield piece


def _in_utf8(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    if codecs.lookup(encoding.removesuffix("-sig")).name == "utf-8":
        first = stream.read(PIECE_BYTES)
        yield first.removeprefix(codecs.BOM_UTF8)
        yield from iter(lambda: stream.read(PIECE_BYTES), b"")
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    start = True
    for piece in itertools.chain(iter(lambda: stream.read(PIECE_BYTES), b""), [b""]):
        text = decoder.decode(piece, final=not piece)
        yield (text.removeprefix("\ufeff") if start else text).encode()
        start = start and not text


def stream_of(pieces: Iterator[bytes]) -> BinaryIO:
    """Returns a stream of bytes that come in chunks.

    >>> stream_of(iter([b"ab", b"", b"c"])).read()
    b'abc'
    """
    return cast(BinaryIO, io.BufferedReader(_Pieces(pieces), PIECE_BYTES))


class _Pieces(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]):
        self._pieces, self._left = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count
