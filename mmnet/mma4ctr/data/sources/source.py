"""Definition of a publisher's log of clicks: its layout, labels, catalogue and generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmnet.checks import InputError
from mmnet.mma4ctr.data.generator.truth import Truth
from mmnet.mma4ctr.data.modalities import Catalogue


@dataclass(frozen=True)
class Layout:
    """Layout of a publisher's log.

    Attributes:
        pattern: file name, or glob.
        user, item, time, device: columns.
        names: all columns where there is no header line.
        delimiter: between columns.
    """

    pattern: str
    user: str
    item: str
    time: str
    device: str = "device"
    names: tuple[str, ...] = ()
    delimiter: str = ","


@dataclass(frozen=True)
class Label:
    """Definition of a positive.

    Attributes:
        columns: columns of the log that decide it, each 0 or 1.
        positive: rows (an Ibis table, or anything with columns by name) to whether they are one.
        planted: whether what generates a log plants the probability of this label.
    """

    columns: tuple[str, ...]
    positive: Callable[[Any], Any]
    planted: bool = True


@dataclass(frozen=True)
class Source:
    """A publisher's log of clicks, with everything that depends on the publisher.

    Attributes:
        layout: how the log is written.
        labels: the values of `--label`; the first is the default.
        min_rows: the default of `--min_rows`.
        counts_all_rows: whether `--min_rows` counts a user's rows in the file, repeated ones too,
            and leaves users out as the log is read; else the protocols count the rows that they
            may know.
        daily: whether times are days, counted from 1, and not seconds.
        catalogue: returns the items with their raw modalities, from the directory, the log's item
            ids (int64, sorted) and the user's settings of text files; it may have more items than
            the log.
        generator: from a directory, `generated` and keyword options, which `--generate` sets, to
            the truth of the files that it writes there; None where nothing generates such files.
        generated: arguments of the generator after the directory.
        time: from the layout's column of times (of an Ibis table) to the times of rows; None where
            they are the same.
        narrowed: whether modalities that are joined, and what they are joined to, are reduced to
            `fusion.MOST` columns.
        components_per_file: as published, vectors of each file have principal components of
            their own.
    """

    layout: Layout
    labels: Mapping[str, Label]
    min_rows: int
    counts_all_rows: bool
    daily: bool
    catalogue: Callable[[Path, np.ndarray, Sequence[str]], Catalogue]
    generator: Callable[..., Truth] | None
    narrowed: bool
    components_per_file: bool
    generated: tuple[Any, ...] = ()
    time: Callable[[Any], Any] | None = None

    def generate(self, directory: Path, options: Mapping[str, Any]) -> Truth:
        """Writes the files of a generated log.

        Raises:
            InputError: an option is out of range.
        """
        assert self.generator is not None  # `dataset.prepare` refuses --generate without one
        try:
            return self.generator(directory, *self.generated, **options)
        except ValueError as error:
            raise InputError(f"--generate: {error}") from None
