"""How a text file is written, against a reader that takes one character at a time."""

import contextlib
import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import dialects, file_kinds
from mmnet.data.dialects import Dialect, TextOptions, as_doubled, separator_of, text_options
from tests.naive_csv import Wrong, expected, open_at_the_end, read_one_way

EXAMPLES = 250

# ------------------------------------------------------------------------------ the files

pieces = st.sampled_from(["a", "b", ",", ",", '"', '"', "\\", "\n", "\n", "\r\n", "\r"])
noise = st.lists(pieces, max_size=24).map("".join)
cells = st.sampled_from(
    [
        *("a", "", "\\", '"', 'a"b', '"a"b', '"a"', '""'),
        *('"a,b"', '"a\nb"', '"a""b"', r'"a\"b"', r'"a\\"'),
    ]
)
rows = st.lists(cells, min_size=2, max_size=2).map(",".join)
tables = st.tuples(
    st.lists(rows, min_size=1, max_size=6), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans()
).map(lambda parts: parts[1].join(parts[0]) + parts[1] * parts[2])
texts = st.one_of(noise, tables)


@pytest.fixture(scope="module")
def new_file(tmp_path_factory):
    """Writes a file that no cache has seen."""
    place, numbers = tmp_path_factory.mktemp("texts"), itertools.count()

    def write(content):
        path = place / f"{next(numbers)}.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def found(path):
    """The quoting that is found, or the line that is refused."""
    try:
        return dialects.settled(path, Dialect()).quote
    except InputError as error:
        line, _, way_out = str(error).removeprefix(f"{path} line ").partition(":")
        return int(line) if "--text_set=quote=" in way_out else way_out


@contextlib.contextmanager
def small_blocks(size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialects, "BLOCK_BYTES", size)
        patch.setattr(file_kinds, "PIECE_BYTES", size)
        yield


@settings(max_examples=EXAMPLES)
@given(text=texts, size=st.integers(1, 7))
@example(text='a,b\n"x\ny",z\n', size=1)
def test_quotation_marks_are_read_as_a_naive_reader_finds(new_file, text, size):
    assert found(new_file(text)) == expected(text)
    with small_blocks(size):
        assert found(new_file(text)) == expected(text)


@settings(max_examples=200)
@given(text=noise, size=st.integers(1, 7), quote=st.sampled_from(["doubled", "backslash"]))
@example(text='a,"b', size=1, quote="doubled")
@example(text='a,5" b\n"c', size=1, quote="doubled")
def test_a_file_may_not_end_inside_quotes_however_it_is_to_be_read(new_file, text, size, quote):
    wrong = ""
    with small_blocks(size), contextlib.suppress(Wrong):
        try:
            dialects.settled(new_file(text), Dialect(quote=quote))
        except InputError as error:
            wrong = str(error)
        if quote == "doubled":
            assert ("never closed" in wrong) == open_at_the_end(text)
        read_one_way(text, quote)
        assert not wrong


@given(pieces=st.lists(st.text('a"\\,', max_size=6).map(str.encode), max_size=8))
def test_backslashes_before_marks_are_undone_in_pieces_of_any_size(pieces):
    text, inside, wanted = b"".join(pieces).decode(), False, ""
    while text:
        run = len(text) - len(text.lstrip("\\"))
        mark, text = text[run : run + 1], text[run + 1 :]
        if mark == '"' and run % 2 and inside:
            wanted += "\\" * (run // 2) + '""'
        elif mark == '"':
            wanted += "\\" * (run // 2 if inside else run) + mark
            inside ^= run % 2 == 0
        else:
            wanted += "\\" * run + mark
    assert b"".join(as_doubled(pieces)).decode() == wanted


def test_settling_is_done_once(new_file, monkeypatch):
    settled = dialects.settled(new_file('a,b\n1,"x"\n'), Dialect())
    assert settled == Dialect(quote="doubled", line_breaks=False, settled=True)
    monkeypatch.setattr(dialects, "opened", None)
    assert dialects.settled(new_file("no look at it"), settled) is settled


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'id,t\n1,"a"b\n2,c,d\n',
            " line 2: a quotation mark is followed by more of the value; put quotation marks around"
            " the whole value and double those inside, or set --text_set=quote=none if they are "
            "letters like others",
        ),
        (
            'id,t\n1,"two\nlines, one value"\n',
            " line 2: the quotation mark that opens there can be read in two ways; set "
            "--text_set=quote=doubled (quotation marks enclose values) or --text_set=quote=none",
        ),
        (
            '"id","t"\n1,"a"b\n',
            " line 2: a quotation mark is followed by more of the value, but quotation marks "
            "enclose names in the header; put quotation marks around the whole value and double "
            "those inside, or set --text_set=quote=none if they are letters like others, in the "
            "header too",
        ),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_line(new_file, text, sentence):
    path = new_file(text)
    with pytest.raises(InputError) as caught:
        dialects.settled(path, Dialect())
    assert str(caught.value) == f"{path}{sentence}"


# -------------------------------------------------------------------------- what is found out


def found_dialect(path, said=dialects.NOTHING_SAID, wanted=()):
    return dialects.dialect_of(path, file_kinds.kind_of(path), said, wanted)


@pytest.mark.parametrize(
    ("text", "wanted", "separator"),
    [
        ("id,t\n1,a\n", [], ","),
        ("id\tt, or so\n1\ta\n", [], "\t"),
        ("id;t\n1;a,b\n2;c,d\n", [], ";"),
        ("id|t\n1|a\n", [], "|"),
        ("id;x,y\n1;2,3\n", ["id"], ";"),  # both cut alike; one finds the column
        ("id;x,y\n1;2,3\n", ["y"], ","),
        ('"a;b",c\n"1;2",3\n', [], ","),
        ("id\n1\n", ["id"], ","),
        ("a;b;c,d\r1;2;3,4\r", [], ";"),  # the header is cut most
        ("\n\r\nid;t\n\n1;2\n", [], ";"),
    ],
)
def test_the_separator_is_found(new_file, text, wanted, separator):
    assert found_dialect(new_file(text), wanted=wanted).separator == separator
    assert separator_of(text.encode(), wanted) == separator


def test_a_separator_is_found_in_part_of_a_file(monkeypatch):
    monkeypatch.setattr(dialects, "SAMPLE_BYTES", 30)
    # The first 30 bytes end inside the third row: only its commas would all be alike.
    text = b"a;b;c,d\n1;2;3,4\n1;2;3,4\n1;2;3,4\n"[:30]
    assert separator_of(text, ["a", "b"]) == ";"
    assert separator_of(b'a,b\n1,"' + b"x;" * 40, ["a"]) == ","


def test_quotation_marks_that_are_letters_do_not_hide_separators(new_file):
    path = new_file('a;b"\n1;2,3"\n')
    assert found_dialect(path, TextOptions(quote="none")) == Dialect(";", "none")


@pytest.mark.parametrize(
    ("content", "said", "encoding"),
    [
        (b"a,b\n", "", "utf-8"),
        (b"\xef\xbb\xbfa,b\n", "", "utf-8-sig"),
        ("a,b\n".encode("utf-16"), "", "utf-16"),
        ("\ufeffa,b\n".encode("utf-16-be"), "", "utf-16"),
        ("é,b\n".encode("latin-1"), "latin-1", "latin-1"),
        (b"\xef\xbb\xbfa,b\n", "latin-1", "utf-8-sig"),  # what a file says of itself counts
    ],
)
def test_the_first_bytes_or_the_flag_name_the_encoding(new_file, content, said, encoding):
    path = new_file(content)
    dialect = found_dialect(path, TextOptions(encoding=said))
    assert dialect.encoding == encoding
    with dialects.opened(path, dialect) as stream:
        assert stream.read().decode() in ("a,b\n", "é,b\n")


# ------------------------------------------------------------------------------- the flag


def test_settings_of_one_table_do_not_concern_the_others():
    settings_ = ["encoding=gbk", "items.quote=none", "items.separator=tab", "counts.encoding=utf-8"]
    assert text_options(settings_, "items") == TextOptions("\t", "none", "gbk")
    assert text_options(settings_, "counts") == TextOptions(encoding="utf-8")
    assert text_options(settings_, "events") == TextOptions(encoding="gbk")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("encoding", "--text_set takes NAME=VALUE or TABLE.NAME=VALUE"),
        ("item.quote=none", "Received: 'item.quote=none'"),
        ("quotes=none", "Did you mean quote?"),
        ("separator=", "a separator is one ASCII character, \\t for a tab. Received: ''"),
        ("separator=;;", "Received: ';;'"),
        ('separator="', "a separator is one ASCII character"),
        ("separator=\n", "a separator is one ASCII character"),
        ("separator=é", "a separator is one ASCII character"),
        ("quote=single", "quote must be one of doubled, backslash, none. Received: 'single'"),
        ("encoding=utf-9", "'utf-9' is no encoding that Python knows"),
        ("encoding=base64", "'base64' is no encoding that Python knows"),
        ("encoding=\0", "is no encoding that Python knows"),
    ],
)
def test_a_setting_that_is_none_is_refused(setting, sentence):
    with pytest.raises(InputError) as caught:
        text_options([setting], "items")
    assert sentence in str(caught.value)


def test_a_dialect_is_described_where_it_is_unusual():
    assert Dialect().described() == Dialect(encoding="utf-8-sig", quote="doubled").described() == ""
    whole = Dialect(" ", "backslash", "gbk", "zip")
    assert whole.described() == (
        "separated by spaces, quotation marks inside values follow a backslash, in gbk, "
        "packed by zip"
    )
    assert replace(whole, quote="none", separator="~", packed="", encoding="utf-8").described() == (
        "separated by '~', quotation marks are part of the values"
    )
