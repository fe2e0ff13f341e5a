"""Trees are printed as they are read, and measured."""

import pytest

from mmnet.data.expressions import tree
from mmnet.data.expressions.tree import Arithmetic, Column, Comparison, Constant, Junction, Negation

A, B, C = Column("a"), Column("b"), Column("c d")


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (Arithmetic("-", A, Arithmetic("-", B, C)), 'a - (b - "c d")'),
        (Arithmetic("-", Arithmetic("-", A, B), C), 'a - b - "c d"'),
        (Arithmetic("*", Arithmetic("+", A, B), tree.Negative(A)), "(a + b) * -a"),
        (tree.Negative(Arithmetic("*", A, B)), "-(a * b)"),
        (Comparison("==", Comparison("<", A, B), Constant(True)), "(a < b) == true"),
        (Negation(Comparison("<", A, B)), "not a < b"),
        (Comparison("<", Negation(A), B), "(not a) < b"),
        (Junction("or", (A, Junction("and", (B, A)))), "a or b and a"),
        (Junction("and", (A, Junction("or", (B, A)))), "a and (b or a)"),
        (Junction("and", (A, Junction("and", (B, A)))), "a and (b and a)"),
        (tree.Interval(A, Constant(-1.5), B), "a between -1.5 and b"),
        (tree.Membership(A, (Constant("it's"), Constant(2.0))), "a in ('it''s', 2)"),
        (tree.Emptiness(Column('say "in"')), '"say ""in""" is null'),
        (Column("not"), '"not"'),
        (Column("events"), '"events"'),
        (Constant(float("-inf")), "-1e999"),
        (Constant(1e300), "1e+300"),
    ],
)
def test_a_tree_is_printed_with_the_parentheses_that_it_needs(node, text):
    assert tree.written(node) == text


def test_what_a_query_repeats_counts_as_often():
    total = Arithmetic("+", A, B)  # 2 operands
    assert tree.depth_and_size(total) == (2, 2)
    assert tree.depth_and_size(Arithmetic("/", A, total)) == (3, 1 + 2 * 2)
    assert tree.depth_and_size(Comparison("<", A, total)) == (3, 1 + 2 * 2)
    assert tree.depth_and_size(tree.Interval(total, A, B)) == (3, 2 * (2 * 2) + 2)
    assert tree.depth_and_size(tree.Membership(A, (Constant(1.0),) * 100)) == (2, 1)


def test_a_tree_deeper_than_python_can_recurse_is_measured():
    node = A
    for _ in range(100_000):
        node = tree.Negative(node)
    assert tree.depth_and_size(node) == (100_001, 1)
    assert tree.columns_of(node) == ["a"]
    while node is not A:  # and taken apart without recursion
        node = node.of
