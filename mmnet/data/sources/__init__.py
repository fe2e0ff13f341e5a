"""Public logs and a simulator, one file each; all return the same input tables.

A source is a function `(directory, flags, *, options...) -> Tables`; its keyword options are what
`--source_set=name=value` may set.
"""

from __future__ import annotations

from collections.abc import Callable

from mmnet.checks import InputError, one_of
from mmnet.config import TableFlags
from mmnet.data.sources import kuairand, kuairec, reading, simulated, snapshots, tiktok, wechat
from mmnet.data.tables import Tables
from mmnet.flags import named_options

SOURCES: dict[str, Callable[..., Tables]] = {
    "simulated": simulated.simulated,
    "snapshots": snapshots.snapshots,
    "kuairand": kuairand.kuairand,
    "kuairec": kuairec.kuairec,
    "wechat": wechat.wechat,
    "tiktok": tiktok.tiktok,
}


def load(flags: TableFlags) -> Tables:
    """Loads the source that `--source` names.

    Raises:
        InputError: a source or an option is unknown, or the files do not have the source's format.
    """
    try:
        one_of(SOURCES, source=flags.source)
    except ValueError as error:
        raise InputError(str(error)) from None
    source = SOURCES[flags.source]
    options = named_options(source, flags.source_set, "source_set")
    return source(reading.given(flags.source_dir), flags, **options)
