"""Tables and progress on terminals, and where the output goes elsewhere."""

import io
import re
import time

import pytest

from mmnet.console import PlainConsole, Progress, tracked

HEADER = ["System", "Normal\nMSE", "Normal\nP@5", "n"]
ROWS = [["mmnet", "**1.000**", "**0.500**†", "1,234"], ["a 类别", "12.500", "–", "1,234"]]


def printed(width=80, terminal=False, **how):
    out = io.StringIO()
    PlainConsole(file=out, width=width, force_terminal=terminal).table(HEADER, ROWS, **how)
    return out.getvalue()


def test_elsewhere_a_table_is_aligned_text_of_any_width():
    assert printed(width=10, optional=[2]) == (
        "        Normal  Normal\n"
        "System     MSE     P@5      n\n"
        "──────  ──────  ──────  ─────\n"
        "mmnet    1.000  0.500†  1,234\n"
        "a 类别  12.500       –  1,234\n"
    )


def test_a_terminal_shows_the_best_in_bold():
    text = printed(terminal=True)
    assert "\x1b[1m1.000\x1b[0m" in text
    assert "**" not in text


def test_a_narrow_terminal_leaves_out_what_is_optional():
    plain = re.sub("\x1b[^m]*m", "", printed(width=24, terminal=True, optional=[2]))
    assert "mmnet    1.000  1,234\n" in plain
    assert "P@5" not in plain


def test_users_text_does_not_control_the_terminal():
    out = io.StringIO()
    PlainConsole(file=out).table(["a\x1b[2J"], [["b\x07"]])
    assert "\x1b" not in out.getvalue()
    assert r"b\x07" in out.getvalue()


def progress(*, every=0.05, silence=0.0, terminal=False, seconds=0.2, total=40):
    out = io.StringIO()
    to = PlainConsole(file=out, force_terminal=terminal, width=100)
    shown = Progress("scoring", total, to=to, silence=silence, every=every)
    shown.advance(1, "reading")
    with shown:
        time.sleep(seconds)
    return out.getvalue()


def test_progress_is_a_line_now_and_then():
    lines = progress().splitlines()
    assert 1 <= len(lines) <= 6  # a busy machine prints fewer
    assert re.fullmatch(r"reading: 0 s, 1 of 40, about \d+ s left", lines[-1])


def test_a_few_steps_may_differ_too_much_to_estimate_the_time_left():
    assert progress(total=4).splitlines()[0] == "reading: 0 s, 1 of 4"


def test_what_is_quick_shows_nothing():
    assert progress(silence=60, seconds=0) == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_the_number_of_steps_need_not_be_known(terminal):
    text = progress(total=None, terminal=terminal, seconds=0.6 if terminal else 0.1)
    assert "reading: 0 s" in text


def test_of_two_the_inner_one_is_shown():
    out = io.StringIO()
    how = {"to": PlainConsole(file=out), "silence": 0.05, "every": 60}
    with Progress("outer", **how), Progress("inner", **how):
        time.sleep(0.2)
    assert out.getvalue().split(":")[0] == "inner"
    assert "outer" not in out.getvalue()


def test_an_error_ends_it():
    with pytest.raises(ValueError, match="wrong"), Progress("scoring", silence=60):
        raise ValueError("wrong")
    assert not Progress._running


def test_what_is_tracked_comes_in_turn_and_ends_its_progress():
    things = tracked(["a", "b", "c"], "reading")
    assert next(things) == "a"
    assert [one.title for one in Progress._running] == ["reading"]
    assert list(things) == ["b", "c"]
    assert not Progress._running
