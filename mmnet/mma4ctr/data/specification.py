"""Specification of a prepared log: the content of `dataset.json`, except the arrays' files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator

from mmnet import checks
from mmnet.mma4ctr.data.sources import SOURCES


class DatasetSpec(BaseModel):
    """A prepared log in names and numbers; `dataset.json` has these keys in this order.

    Further keys, which the store or later versions add, are not read.

    Attributes:
        source: a key of `sources.SOURCES`.
        label: one of the source's labels.
        min_rows: users of fewer rows are left out.
        daily: whether times are days, counted from 1, and not seconds.
        rows, users, items, positives: how many there are.
        arrays: names of the arrays.
        inputs: input file by name -> SHA-256.
        ledger: "table: rule" -> rows that the rule kept.
        content: SHA-256 of the arrays.
        truth: file that a generated log was drawn from, in the folder of the arrays (an absolute
            path in datasets of earlier versions); empty where the log was not generated.

    Raises:
        ValueError: a key is missing, or its value is of another type (pydantic's
            `ValidationError`).
    """

    model_config = ConfigDict(frozen=True)

    source: str
    label: str
    min_rows: int
    daily: bool
    rows: int
    users: int
    items: int
    positives: int
    arrays: tuple[str, ...]
    inputs: dict[str, str]
    ledger: dict[str, int]
    content: str
    truth: str

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        return checks.one_of(SOURCES, source=source)
