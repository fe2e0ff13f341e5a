"""Expressions are read into trees, or refused by one sentence that points at the place."""

import string

import ibis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.data import expressions
from mmnet.data.expressions import grammar, tree
from mmnet.data.expressions.tree import (
    Arithmetic,
    Column,
    Comparison,
    Constant,
    EveryEvent,
    Junction,
    Negation,
)
from tests.data.expressions import trees

COLUMNS = ["play_ms", "length_ms", "is_ad", "kind", "two words", 'say "x"', "a.b", "größe"]
PLAY, LENGTH, AD, KIND = map(Column, COLUMNS[:4])


def parse(text, columns=COLUMNS):
    return grammar.parse(text, "numerator", columns)


@settings(max_examples=200)
@given(st.one_of(trees.conditions, trees.numbers))
def test_what_is_printed_is_read_as_the_same_tree(node):
    again = parse(tree.written(node), list(trees.COLUMNS))
    assert repr(again) == repr(node)  # 1.0 == True, but they are not the same constant


@pytest.mark.parametrize(
    ("text", "node"),
    [
        # What expressions were before they had operators; each means what it meant.
        ("play_ms >= length_ms", Comparison(">=", PLAY, LENGTH)),
        (" play_ms<1e3 ", Comparison("<", PLAY, Constant(1000.0))),
        ("play_ms = +3", Comparison("==", PLAY, Constant(3.0))),
        ("play_ms>-.5", Comparison(">", PLAY, Constant(-0.5))),
        ("kind <> 'it''s'", Comparison("!=", KIND, Constant("it's"))),
        ("kind == ''", Comparison("==", KIND, Constant(""))),
        ("is_ad == FALSE", Comparison("==", AD, Constant(False))),
        ('"two words" != 0', Comparison("!=", Column("two words"), Constant(0.0))),
        ('kind == "kind"', Comparison("==", KIND, KIND)),
        ("a.b > größe", Comparison(">", Column("a.b"), Column("größe"))),
        (' "two words" ', Column("two words")),
        (" events ", EveryEvent()),
        ('"events"', EveryEvent()),
        # Words of the language are columns where no word can be.
        ("not == 1", Comparison("==", Column("not"), Constant(1.0))),
        ("play_ms < not", Comparison("<", PLAY, Column("not"))),
        ("in >= between", Comparison(">=", Column("in"), Column("between"))),
        ("and == or", Comparison("==", Column("and"), Column("or"))),
        ("true == true", Comparison("==", Column("true"), Column("true"))),
        ("null == 1", Comparison("==", Column("null"), Constant(1.0))),
        # And what they are now.
        (
            "play_ms >= 0.9 * length_ms and not is_ad",
            Junction(
                "and",
                (
                    Comparison(">=", PLAY, Arithmetic("*", Constant(0.9), LENGTH)),
                    Negation(AD),
                ),
            ),
        ),
        ("is_ad OR NOT is_ad", Junction("or", (AD, Negation(AD)))),
        ("kind NOT IN ('a')", Negation(tree.Membership(KIND, (Constant("a"),)))),
        (
            "play_ms not between 1 and 2 and is_ad",
            Junction(
                "and", (Negation(tree.Interval(PLAY, Constant(1.0), Constant(2.0))), AD)
            ),
        ),
        ("kind Is Not Null", Negation(tree.Emptiness(KIND))),
        ("in in (1, +2, -3, true)", tree.Membership(
            Column("in"), (Constant(1.0), Constant(2.0), Constant(-3.0), Constant(True))
        )),
        ("- -3 + -play_ms", Arithmetic("+", Constant(3.0), tree.Negative(PLAY))),
        ("play_ms-1", Arithmetic("-", PLAY, Constant(1.0))),
        ("play_ms / 2 / 3 * 4", Arithmetic(
            "*",
            Arithmetic("/", Arithmetic("/", PLAY, Constant(2.0)), Constant(3.0)),
            Constant(4.0),
        )),
        ("not not is_ad", Negation(Negation(AD))),
        ('"say ""x""" > 1', Comparison(">", Column('say "x"'), Constant(1.0))),
        ("((is_ad))", AD),
        ("nothing + nota", Arithmetic("+", Column("nothing"), Column("nota"))),
    ],
)  # fmt: skip
def test_an_expression_is_a_tree(text, node):
    words = ["not", "in", "between", "and", "or", "null", "nothing", "nota"]
    found = parse(text, [*COLUMNS, *words, *(["true"] if "true ==" in text else [])])
    assert repr(found) == repr(node)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "''; write a column, a number, 'text', true, false, `not` or ( at character 1, where "
         "it ends"),
        ("play_ms > ", "write a column, a number, 'text', true, false or ( at character 11, where "
         "it ends"),
        ("play_ms 3", "write an operator (+ - * / == != < <= > >= and or in between is) at characte"
         "r 9, in place of '3'"),
        ("play_ms < 3 < 4", "write +, -, `and`, `or` or nothing more at character 13, in place of '"
         "< 4'"),
        ("lower(kind) == 'x'", "at character 6, in place of \"(kind) == 'x'\""),
        ("is_ad || is_ad", "at character 7, in place of '|| is_ad'. Did you mean or?"),
        ("!is_ad", "at character 1, in place of '!is_ad'. Did you mean not?"),
        ("is_ad an is_ad", "at character 7, in place of 'an is_ad'. Did you mean and?"),
        ("play_ms ≥ 3", "at character 9, in place of '≥ 3'. Did you mean >=?"),
        ("kind == 'x", "at character 9, in place of \"'x\"; ' is not closed"),
        ("(play_ms", "; write ) at character 9, where it ends"),
        ("play_ms)", "; write nothing more at character 8, in place of ')'"),
        ("kind in ()", "; write a number, 'text', true or false at character 10, in place of ')'"),
        ("kind in (play_ms)", "at character 10, in place of 'play_ms': `in` compares with constants"
         ", and == compares columns"),
        ("kind in 3", "; write ( at character 9, in place of '3'"),
        ("kind not == 3", "at character 6, in place of 'not == 3'"),
        ("kind is 3", "; write `null` or `not` at character 9, in place of '3'"),
        ("play_ms between 1 or 2", "; write +, - or `and` at character 19, in place of 'or 2'"),
        ("kind == null", "; write `is null` or `is not null` in place of a comparison with null"),
        ("play_ms > 1.2.3", "at character 11, in place of '1.2.3'"),
        ("play_ms > 3ms", "at character 11, in place of '3ms'"),
        ("kind == '\0'", r"cannot read \"kind == '\\x00'\"; character 10 is not text".replace(
            "\\\"", '"').replace("\\\\", "\\")),
        ("kind == '\udc80'", "; character 10 is not text"),
        ("kind\x1b[2J", "in place of '\\x1b[2J'"),
        ("plays > 3", "no column 'plays' (named by --numerator); it has play_ms, length_ms, is"),
        ("two", "no column 'two' (named by --numerator)"),
        ("two words > 1", "'words > 1'; the name of a column such as \"two words\" needs its qu"),
        ("(1 + 2", "; write ) at character 7, where it ends"),
        (10_001 * "(", "has at most 10,000 characters. Received: 10,001, '((((((("),
        (60 * "not " + "is_ad", "has at most 50 levels; simplify it, or add its result to the"),
        ("+".join(["play_ms"] * 60), "has at most 50 levels; "),
        (12 * "1/(" + "play_ms" + 12 * ")", "has at most 2,000 operands, where a divisor, the val"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(text, said):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_name_that_needs_quotes_is_proposed_with_them():
    with pytest.raises(InputError, match=r'Did you mean "play-ms"\?$'):
        parse("play - ms > 3", ["play-ms"])


def test_long_names_and_texts_are_cut_in_messages():
    columns = [f"column {n}\n" for n in range(5000)]
    for text in (f"{500 * 'x'} > 1", f"kind ? '{500 * 'x'}'", f"'{5000 * 'x'}"):
        with pytest.raises(InputError) as caught:
            parse(text, columns)
        assert len(str(caught.value)) < 700
        assert str(caught.value).isprintable()


TOKENS = [
    *("play_ms", "is_ad", "kind", "when", '"two words"', "events", "plays", "1", "2.5", "1e999"),
    *("'x'", "'it''s'", "true", "False", "and", "or", "not", "in", "between", "is", "null", "NOT"),
    *("(", ")", ",", "+", "-", "*", "/", "==", "=", "!=", "<>", "<", ">=", "'", '"', ".", "!", "&"),
    *("\x1b", "\0", "\n", "\ud800", "é", "\u202e"),
]
soup = st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join)
noise = st.text(st.one_of(st.sampled_from(string.printable), st.characters()), max_size=30)


@settings(max_examples=500)
@given(st.one_of(soup, soup.map(lambda text: text.replace(" ", "")), noise))
def test_any_text_is_an_expression_or_refused_by_one_sentence(text):
    kinds = {"play_ms": "int64", "is_ad": "boolean", "kind": "string", "when": "timestamp"}
    table = ibis.table(kinds | {"two words": "array<string>"})
    said = ""
    try:
        count = expressions.read_count(text, "numerator", table.columns)
        expressions.counted([count], table, "bad")
    except InputError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 700
