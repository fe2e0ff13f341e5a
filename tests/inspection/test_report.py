import pytest

from mmnet.config import PrepareConfig
from mmnet.flags import parse
from mmnet.inspection import report
from tests.inspection.generated import clean, look

COUNTS, ITEMS, CLICKS, _ = clean(7)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("tables")
    items = ITEMS | {"views": CLICKS.sum(axis=1), "note": ["x|y\n"] * len(CLICKS)}
    return look(place, COUNTS, items, window=4)


def test_the_flagfile_is_read_back_as_it_was_proposed(found, tmp_path):
    (tmp_path / "flags.txt").write_text(report.flagfile(found), "utf-8")
    flags = parse(PrepareConfig, [f"--flagfile={tmp_path}/flags.txt"])
    for name, value in {**dict(found.choices.tables), **dict(found.choices.task)}.items():
        assert getattr(flags, name) == value, name
    assert (flags.window, flags.dataset_dir) == (4, "")


def test_every_proposed_flag_has_a_reason_and_every_column_a_place(found):
    lines = report.flagfile(found).splitlines()
    for name in found.choices.proposed:
        place = next(at for at, line in enumerate(lines) if line.startswith(f"--{name}="))
        assert lines[place - 1].startswith("# "), name
    assert max(map(len, lines)) <= report.WIDTH or any("/" in line for line in lines)
    text = "\n".join(lines)
    assert all(column in text for column in (*COUNTS, *ITEMS, "views", "note"))


def test_the_report_has_a_part_for_each_question(found):
    text = report.text(found)
    for part in (
        "Training would accept the tables without errors",
        "views equals the clicks in all periods of 100 % of the items",
        "sampling noise:",
        "| category | 100.0% |",
        "Examples: ",
    ):
        assert part in text, part
