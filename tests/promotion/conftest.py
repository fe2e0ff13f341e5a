"""The export of the small run, opened once on its own tables."""

import pytest

from mmnet.data import input_tables
from mmnet.flags import parse
from mmnet.promotion import comparing


@pytest.fixture(scope="session")
def night(simulated_flags):
    """The tables of the small simulated log, and their flags."""
    from mmnet.config import PrepareConfig

    tables, task = input_tables.table_flags(parse(PrepareConfig, simulated_flags))
    return input_tables.load_tables(tables, task), tables, task


@pytest.fixture(scope="session")
def judged(run_dir, night):
    """The run's export on these tables."""
    found, tables, _ = night
    return comparing.judge(run_dir / "export", found, tables)
