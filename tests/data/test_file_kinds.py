"""The first bytes of a file decide what it is, and packed files read like others."""

import bz2
import gzip
import io
import itertools
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import file_kinds
from mmnet.data.file_kinds import Kind

TEXT = b"item_id,clicks\na,3\n"


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def parquet():
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"a": [1]}), file)
    return file.getvalue()


def packed_by(codec):
    return lambda content: pa.compress(content, codec, asbytes=True)


def streamed(codec):
    def pack(content):
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        return sink.getvalue().to_pybytes()

    return pack


PACKERS = {
    "": bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "zstd": streamed("zstd"),
    "lz4": streamed("lz4"),
    "zip": lambda content: zipped({"data": content}),
}


@pytest.fixture(scope="module")
def new_file(tmp_path_factory):
    """Writes a file that no cache has seen; its ending decides nothing."""
    place, numbers = tmp_path_factory.mktemp("kinds"), itertools.count()

    def write(content, ending=".parquet"):
        path = place / f"{next(numbers)}{ending}"
        path.write_bytes(content)
        return path

    return write


def sentence(path):
    with pytest.raises(InputError) as caught:
        file_kinds.kind_of(path)
    return str(caught.value)


@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TEXT, Kind("text")),
        (b"\xef\xbb\xbf" + TEXT, Kind("text", encoding="utf-8-sig")),
        (TEXT.decode().encode("utf-16"), Kind("text", encoding="utf-16")),
        (b"\xfe\xff" + TEXT.decode().encode("utf-16-be"), Kind("text", encoding="utf-16")),
        (b'{"a": 1}\n', Kind("json")),
        (b' \n [ \n {"a": 1}]', Kind("json")),
        (b"[]", Kind("json")),
        ("\ufeff[{}]".encode("utf-16-le"), Kind("json", encoding="utf-16")),
        (b"[a],b\n1,2\n", Kind("text")),
        (b"P", Kind("text")),
    ],
)
def test_a_kind_is_found_whether_packed_or_not(new_file, packed, content, kind):
    found = file_kinds.kind_of(new_file(PACKERS[packed](content)))
    assert found == Kind(kind.format, packed, kind.encoding)


def test_parquet_is_found_by_its_first_bytes(new_file):
    assert file_kinds.kind_of(new_file(parquet(), ".csv")) == Kind("parquet")


@pytest.mark.parametrize(
    ("content", "sentence_"),
    [
        (gzip.compress(parquet(), mtime=0), "is a Parquet file compressed with gzip; unpack it"),
        (
            zipped({"[Content_Types].xml": "", "xl": ""}),
            "is a workbook of Excel or LibreOffice; save its sheet as CSV",
        ),
        (zipped({"a": "1", "b": "2"}), "contains 2 files (a, b); unpack it"),
        (zipped({}), "contains 0 files (none); unpack it"),
        (zipped({"__MACOSX/a": "x"}), "contains 0 files (none); unpack it"),
        (b"ARROW1\0\0", "is an Arrow (Feather) file; convert it to Parquet"),
        (b"ORC\x08", "is an ORC file; convert it to Parquet"),
        (b"Obj\x01", "is an Avro file; convert it to Parquet"),
        (b"SQLite format 3\0", "is an SQLite database; read it with --engine=sqlite://FILE"),
        (b"\xd0\xcf\x11\xe0", "is a workbook of Excel or LibreOffice; save its sheet as CSV"),
        (lzma.compress(TEXT), "is compressed with xz; unpack it"),
        (b"Rar!\x1a", "is a RAR archive; unpack it"),
        (b"a" + bytes(256) + b"ustar\0", "is a tar archive; unpack it"),
        (gzip.compress(b"a" + bytes(256) + b"ustar\0", mtime=0), "is a tar archive; unpack it"),
    ],
)
def test_a_format_that_is_not_read_is_named_with_the_way_out(new_file, content, sentence_):
    path = new_file(content)
    assert sentence(path).startswith(f"{path} {sentence_}")


def test_a_workbook_is_named_by_its_ending_too(new_file):
    path = new_file(zipped({"a": "1"}), ".XLSX")
    assert sentence(path) == f"{path} is a workbook of Excel or LibreOffice; save its sheet as CSV"


def test_what_a_mac_adds_to_an_archive_does_not_count(new_file):
    path = new_file(zipped({"log/a.csv": TEXT, "__MACOSX/a.csv": "", ".DS_Store": ""}))
    with file_kinds.opened(path, "zip") as stream:
        assert stream.read() == TEXT


def test_gzip_files_that_were_joined_are_one(new_file):
    path = new_file(gzip.compress(TEXT) + gzip.compress(b"b,4\n"))
    with file_kinds.opened(path, "gzip") as stream:
        assert stream.read() == TEXT + b"b,4\n"


@pytest.mark.parametrize("packed", [name for name in PACKERS if name])
def test_a_file_that_is_cut_short_is_damaged(new_file, packed):
    content = PACKERS[packed](bytes(range(256)) * 5000)
    path = new_file(content[: len(content) // 2])

    def read():
        with file_kinds.opened(path, packed) as stream:
            return list(iter(lambda: stream.read(1 << 16), b""))

    with pytest.raises(file_kinds.DAMAGED):
        read()


@given(
    content=st.text(max_size=40),
    size=st.integers(1, 7),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "utf-7"]),
)
@example(content="\ufeffa", size=1, encoding="utf-16-le")
@example(content="\r\n猫\ufeff", size=3, encoding="utf-8")
def test_text_is_decoded_alike_in_pieces_of_any_size(new_file, content, size, encoding):
    path = new_file(content.encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_kinds, "PIECE_BYTES", size)
        with file_kinds.decoded(path, "", encoding) as stream:
            assert stream.read().decode() == content.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("content", "encoding"), [(b"a\0b", "utf-16-le"), (b"+2AA-", "utf-7"), (b"\xff", "ascii")]
)
def test_bytes_of_another_encoding_are_an_error_where_they_are_read(new_file, content, encoding):
    with (
        pytest.raises(UnicodeError),
        file_kinds.decoded(new_file(content), "", encoding) as stream,
    ):
        stream.read()


@given(pieces=st.lists(st.binary(max_size=5)), sizes=st.lists(st.integers(1, 9)))
def test_a_stream_of_pieces_reads_like_a_file(pieces, sizes):
    stream, whole = file_kinds.stream_of(iter(pieces)), io.BytesIO(b"".join(pieces))
    for size in sizes:
        assert stream.read(size) == whole.read(size)
    assert stream.read() == whole.read()
