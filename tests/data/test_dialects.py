"""How a text file is written, against a reader that takes one character at a time."""

import contextlib
import csv
import io
import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import dialects, file_kinds
from mmnet.data.dialects import Dialect, TextOptions, as_doubled, separator_of, text_options

EXAMPLES = 400

# ------------------------------------------------------------------------------ the oracle


class Wrong(Exception):
    """A file is not written so; with the line and whether a record has another width."""

    def __init__(self, line, ragged=False):
        super().__init__(line)
        self.line, self.ragged = line, ragged


def read_one_way(text, quote, *, separator=",", lenient=False):
    """(line, fields) of every record, where quoted values hold line breaks, and whether a
    backslash escapes a mark.

    Lenient: a quotation mark after the first character of an unquoted value is a letter.
    """
    records, fields, field = [], [], ""
    state, line, begun, breaks, escapes, opened = "start", 1, 1, None, None, 0
    enclosed = None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    place = 0
    if text and not text.endswith("\n"):
        text += "\n"
    while place < len(text):
        one = text[place]
        run = len(text[place:]) - len(text[place:].lstrip("\\"))
        if state == "quoted":
            if quote == "backslash" and run:
                escaped = text[place + run : place + run + 1] == '"'
                if escaped and run % 2:
                    field += "\\" * (run // 2) + '"'
                    escapes = escapes or line
                    place += run + 1
                else:
                    field += "\\" * (run // 2 if escaped else run)
                    place += run
                continue
            if one != '"':
                if one == "\n":
                    breaks = breaks or opened
                    line += 1
                field += one
            elif quote == "doubled" and text[place + 1 : place + 2] == '"':
                field += '"'
                place += 1
            else:
                state = "closed"
        elif one in (separator, "\n"):
            fields.append(field)
            field, state = "", "start"
            if one == "\n":
                if fields != [""] or enclosed == "now":
                    if records and len(fields) != len(records[0][1]):
                        raise Wrong(begun, ragged=True)
                    records.append((begun, fields))
                enclosed = None
                line += 1
                fields, begun = [], line
        elif state == "closed":
            raise Wrong(line)
        elif one == '"' and quote != "none" and state == "start":
            state, opened, enclosed = "quoted", line, "now"
        elif one == '"' and quote == "doubled" and not lenient:
            raise Wrong(line)
        elif quote == "backslash" and run:
            # Outside of quotes backslashes are letters, and so is a mark that one escapes.
            escaped = text[place + run : place + run + 1] == '"' and run % 2 == 1
            field += text[place : place + run + escaped]
            place += run + escaped
            state = "plain"
            continue
        elif one == '"' and quote == "backslash":
            raise Wrong(line)
        else:
            field += one
            state = "plain"
        place += 1
    if state == "quoted":
        raise Wrong(opened)
    return records, breaks, escapes


def all_ways(text, separator=","):
    found = {}
    for name, quote, lenient in [
        ("doubled", "doubled", False),
        ("backslash", "backslash", False),
        ("none", "none", False),
        ("lenient", "doubled", True),
    ]:
        try:
            found[name] = read_one_way(text, quote, separator=separator, lenient=lenient)
        except Wrong as wrong:
            found[name] = wrong
    return found


def expected(text, separator=","):
    """The quoting that the rules of `dialects` find, or the line that is refused."""
    ways = all_ways(text, separator)
    doubled, backslash, none, lenient = ways.values()
    fails = {name: isinstance(way, Wrong) for name, way in ways.items()}
    if '"' not in text:
        return "doubled"
    escapes = None if fails["backslash"] else backslash[2]
    if not fails["doubled"]:
        if escapes:
            return escapes
        if doubled[1] and not fails["none"]:
            return doubled[1]
        return "doubled"
    if escapes:
        return "backslash"
    if fails["none"]:
        return "doubled" if doubled.ragged or not fails["lenient"] else doubled.line
    if fails["lenient"]:
        (_, header), *_ = none[0]
        bare = [name for name in header if '"' in name]
        with contextlib.suppress(IndexError):
            if bare and header_of(text, separator) != header:
                return doubled.line
        return "none"
    for (line, fields), (_, letters) in zip(lenient[0], none[0], strict=True):
        if fields != letters:
            return line
    return "none"


def header_of(text, separator):
    """The first record as the lenient reader has it, whatever follows."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    return next(row for row in rows if row)


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


def open_at_the_end(text):
    """Whether one more line would be part of the last value, if no record has another width."""
    with contextlib.suppress(Wrong):
        read_one_way(text, "doubled")
        return False
    try:
        read_one_way(text, "doubled")
    except Wrong as wrong:
        if wrong.ragged:
            return False  # refused where it is read
    rows = list(csv.reader(io.StringIO(text + "\n\0", newline="")))
    return rows[-1] != ["\0"]


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
