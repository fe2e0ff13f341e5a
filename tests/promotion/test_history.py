import pytest

from mmnet.checks import InputError
from mmnet.promotion import history
from mmnet.promotion.history import Event, History


def event(number, before, after, outcome="promoted", **more):
    return Event(
        number=number,
        at="2024-03-01T01:00:00",
        outcome=outcome,
        champion_before=before,
        champion=after,
        **more,
    )


def test_events_are_read_back_in_order_and_one_that_is_written_twice_is_one(tmp_path):
    events = History(tmp_path)
    assert (events.events(), events.next_number()) == ([], 1)
    written = [event(number, number - 1, number) for number in range(1, 12)]
    for one in [*reversed(written), written[3]]:
        events.write(one)
    assert events.events() == written
    assert events.next_number() == 12


def test_a_damaged_event_is_named(tmp_path):
    events = History(tmp_path)
    events.write(event(1, 0, 1))
    (tmp_path / "history/000001.json").write_text("{")
    with pytest.raises(InputError, match=r"000001\.json is damaged"):
        events.events()


def test_what_was_rolled_back_is_skipped_by_the_next_rollback():
    events = [event(1, 0, 1), event(2, 1, 2), event(3, 2, 3), event(4, 3, 2, "rollback")]
    assert history.promoted_before(events, 2) == 1
    events.append(event(5, 2, 4))
    assert history.promoted_before(events, 4) == 2
    assert history.promoted_before(events, 1) == 0  # the first champion


def test_nights_that_keep_the_champion_count_for_the_anchor_but_rollbacks_do_not():
    kept = [event(number, 2, 2, "kept", ratio=1.1) for number in range(3, 6)]
    events = [event(1, 0, 1), event(2, 1, 2, ratio=0.5), *kept, event(6, 2, 1, "rollback")]
    assert history.anchor_steps(events, 4) == [(1, 1.0), (2, 0.5)]
    assert history.anchor_steps(events, 3) == [(2, 1.0)]
    assert history.anchor_steps([], 3) == []


def test_the_history_is_a_table():
    events = [
        event(1, 0, 1, night="2024-03-01"),
        event(2, 1, 1, "kept", night="2024-03-02", ratio=1.01234, low=0.9, high=None),
        event(3, 1, 2, "rollback"),
    ]
    header, rows = history.table(events)
    assert {len(row) for row in rows} == {len(header)}
    assert [row[2:] for row in rows] == [
        ["promoted", "– → 1", "–", "–"],
        ["champion kept", "1", "1.0123", "0.9000 to ∞"],
        ["rolled back", "1 → 2", "–", "–"],
    ]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (event(1, 0, 1), "promoted: version 1 is the first champion"),
        (event(2, 1, 2), "promoted: version 2 replaces version 1"),
        (event(3, 2, 1, "rollback"), "rolled back: version 1 replaces version 2"),
        (event(4, 2, 2, "kept"), "kept: version 2 stays the champion"),
        (event(5, 2, 2, "drift"), "stopped by drift: version 2 stays the champion"),
    ],
)
def test_an_outcome_is_one_sentence(one, said):
    assert history.headline(one).startswith(said)
