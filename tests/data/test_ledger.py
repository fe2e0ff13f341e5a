import pytest

from mmnet.data.ledger import Rule, check_chain, joined_rules


def test_a_ledger_line_must_balance():
    assert Rule("counts", "known", 5, 3).dropped == 2
    with pytest.raises(ValueError, match="does not balance"):
        Rule("counts", "known", 3, 5)


def test_what_leaves_a_rule_must_reach_the_next():
    check_chain([Rule("counts", "known", 5, 3), Rule("counts", "in time", 3, 3)])
    with pytest.raises(ValueError, match="is followed by"):
        check_chain([Rule("counts", "known", 5, 3), Rule("counts", "in time", 4, 3)])


def test_parts_of_a_table_add_up_to_one_line():
    parts = [Rule("items", "has a text", 4, 3, f"note {number}") for number in range(7)]
    joined = joined_rules(parts)
    assert (joined.rows_in, joined.rows_out) == (28, 21)
    assert joined.note == "note 0; note 1; note 2; note 3; note 4; ..."
