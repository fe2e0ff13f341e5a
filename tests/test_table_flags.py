"""The flags of the clock, in the place where everybody looks for them."""

from mmnet.config import PrepareConfig, TableFlags
from mmnet.flags import as_before, parse, usage
from mmnet.table_flags import TimeFlags


def test_the_flags_added_later_leave_earlier_fingerprints_alone():
    added = {"time_format", "stray_periods", "use_partial"}
    assert as_before(TimeFlags()) == added
    assert added <= as_before(TableFlags())
    assert as_before(TimeFlags(time_format="%Y%m%d")) == added - {"time_format"}


def test_a_format_with_spaces_and_signs_is_one_value():
    given = "%a %b %d %H:%M:%S +0000 %Y"
    assert parse(PrepareConfig, [f"--time_format={given}"]).time_format == given


def test_help_shows_how_times_are_read():
    text = usage(PrepareConfig, "", full=False)
    assert "The length of a period, and the format of times." in text
    assert [
        flag for flag in ("--period=1d", "--time_unit=period", "--time_format=") if flag in text
    ]
