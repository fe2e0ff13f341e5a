import pytest

from mmnet.checks import InputError
from mmnet.data.ledger import Rule, check_chain, joined_rules, so_far


def test_a_ledger_line_must_balance():
    assert Rule("counts", "known", 5, 3).dropped == 2
    with pytest.raises(ValueError, match="does not balance"):
        Rule("counts", "known", 3, 5)


def test_what_leaves_a_rule_must_reach_the_next():
    check_chain([Rule("counts", "known", 5, 3), Rule("counts", "in time", 3, 3)])
    with pytest.raises(ValueError, match="is followed by"):
        check_chain([Rule("counts", "known", 5, 3), Rule("counts", "in time", 4, 3)])


def refused(error):
    outer, inner = (
        Rule("events", "has an item", 5, 5),
        Rule("counts", "known", 4, 3, "of two files"),
    )
    with so_far(lambda: [outer]), so_far(lambda: [inner]):
        raise error


def test_a_refusal_within_others_has_their_lines_in_order():
    with pytest.raises(InputError) as caught:
        refused(InputError("wrong"))
    assert caught.value.ledger == [
        "events: has an item: 5 in, 0 dropped",
        "counts: known: 4 in, 1 dropped  (of two files)",
    ]
    with pytest.raises(KeyError) as other:
        refused(KeyError("other"))
    assert not hasattr(other.value, "ledger")


def test_parts_of_a_table_add_up_to_one_line():
    parts = [Rule("items", "has a text", 4, 3, f"note {number}") for number in range(7)]
    joined = joined_rules(parts)
    assert (joined.rows_in, joined.rows_out) == (28, 21)
    assert joined.note == "note 0; note 1; note 2; note 3; note 4; ..."
