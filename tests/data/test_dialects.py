"""What is found out of a text file, and what a flag says of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import dialects, file_kinds
from mmnet.data.dialects import Dialect, TextOptions, as_doubled, separator_of, text_options


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
        ("encoding", "--text_set must be NAME=VALUE or TABLE.NAME=VALUE"),
        ("item.quote=none", "Received: 'item.quote=none'"),
        ("quotes=none", "Did you mean quote?"),
        ("separator=", "a separator must be one ASCII character, \\t for a tab. Received: ''"),
        ("separator=;;", "Received: ';;'"),
        ('separator="', "a separator must be one ASCII character"),
        ("separator=\n", "a separator must be one ASCII character"),
        ("separator=é", "a separator must be one ASCII character"),
        ("quote=single", "quote must be one of doubled, backslash, none. Received: 'single'"),
        ("encoding=utf-9", "'utf-9' is not an encoding that Python knows"),
        ("encoding=base64", "'base64' is not an encoding that Python knows"),
        ("encoding=\0", "is not an encoding that Python knows"),
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
