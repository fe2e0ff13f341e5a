"""What a prepared log is: the document `dataset.json`, which names the arrays."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, field_validator

from mmnet import checks
from mmnet.mma4ctr.data.sources import SOURCES


class DatasetSpec(BaseModel):
    """A prepared log in names and numbers; `dataset.json` has these keys in this order.

    Further keys, which later versions may add, are not read.

    Attributes:
        source: a key of `sources.SOURCES`.
        label: one of the source's labels.
        min_rows: users of fewer rows are left out.
        daily: whether times are days, counted from 1, and not seconds.
        rows, users, items, positives: how many there are.
        folder: name of the folder of the arrays, in the dataset directory.
        arrays: names of the arrays.
        inputs: input file by name -> SHA-256.
        ledger: "table: rule" -> rows that the rule kept.
        fingerprint: SHA-256 of the arrays.
        key: SHA-256 of all that decides the dataset, its flags and files.
        truth: path of what a generated log was drawn from, in the dataset directory (absolute in
            datasets of the format before); empty where the log was not generated.

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
    folder: str
    arrays: tuple[str, ...]
    inputs: dict[str, str]
    ledger: dict[str, int]
    fingerprint: str
    key: str
    truth: str

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        return checks.one_of(SOURCES, source=source)

    def to_json(self) -> str:
        """The document as it is written."""
        return json.dumps(self.model_dump(), indent=1) + "\n"
