"""How quotation marks are read, against a reader that takes one character at a time."""

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import file_kinds, quotations
from mmnet.data.dialects import Dialect
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


def found(path):
    """The quoting that is found, or the line that is refused."""
    try:
        return quotations.settled(path, Dialect()).quote
    except InputError as error:
        line, _, way_out = str(error).removeprefix(f"{path} line ").partition(":")
        return int(line) if "--text_set=quote=" in way_out else way_out


@contextlib.contextmanager
def small_blocks(size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotations, "BLOCK_BYTES", size)
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
            quotations.settled(new_file(text), Dialect(quote=quote))
        except InputError as error:
            wrong = str(error)
        if quote == "doubled":
            assert ("never closed" in wrong) == open_at_the_end(text)
        read_one_way(text, quote)
        assert not wrong


def test_settling_is_done_once(new_file, monkeypatch):
    settled = quotations.settled(new_file('a,b\n1,"x"\n'), Dialect())
    assert settled == Dialect(quote="doubled", line_breaks=False, settled=True)
    monkeypatch.setattr(quotations, "opened", None)
    assert quotations.settled(new_file("no look at it"), settled) is settled


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            'id,t\n1,"a"b\n2,c,d\n',
            " line 2: a quotation mark is followed by more of the value; put quotation marks around"
            " the whole value and double those inside, or set --text_set=quote=none if they are "
            "ordinary characters",
        ),
        (
            'id,t\n1,"two\nlines, one value"\n',
            " line 2: the quotation mark that opens there is ambiguous; set "
            "--text_set=quote=doubled (quotation marks enclose values) or --text_set=quote=none",
        ),
        (
            '"id","t"\n1,"a"b\n',
            " line 2: a quotation mark is followed by more of the value, but quotation marks "
            "enclose names in the header; put quotation marks around the whole value and double "
            "those inside, or set --text_set=quote=none if they are ordinary characters, in the "
            "header too",
        ),
    ],
)
def test_what_is_ambiguous_is_refused_with_its_line(new_file, text, sentence):
    path = new_file(text)
    with pytest.raises(InputError) as caught:
        quotations.settled(path, Dialect())
    assert str(caught.value) == f"{path}{sentence}"
