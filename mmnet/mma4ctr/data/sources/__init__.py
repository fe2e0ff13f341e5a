"""Publishers' logs of clicks by name, one file each, so that no other file depends on one."""

from __future__ import annotations

from mmnet.checks import InputError, one_of
from mmnet.mma4ctr.data.sources import kuairand, tiktok, wechat
from mmnet.mma4ctr.data.sources.source import Source

SOURCES: dict[str, Source] = {
    "wechat": wechat.SOURCE,
    "tiktok": tiktok.SOURCE,
    "tiktok_track2": tiktok.SOURCE_2,
    "kuairand": kuairand.SOURCE,
}
"""`--source` -> how its log is written, read, labelled and generated."""


def named(name: str) -> Source:
    """Return the source that `--source` names.

    Raises:
        InputError: there is no such source.
    """
    try:
        return SOURCES[one_of(SOURCES, source=name)]
    except ValueError as error:
        raise InputError(str(error)) from None
