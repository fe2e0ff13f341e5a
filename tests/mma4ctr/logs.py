"""Small logs in memory, without files."""

from pathlib import Path

import numpy as np

from mmnet.mma4ctr.data.dataset import Dataset
from mmnet.mma4ctr.data.modalities import Raw, Reduction
from mmnet.mma4ctr.data.pca import Ragged
from mmnet.mma4ctr.data.sources import SOURCES
from mmnet.mma4ctr.data.specification import DatasetSpec


def log(seed=0, *, users=12, items=30, rows=600, days=14, min_rows=5, rate=0.3, source="wechat"):
    """A random log whose items have a few random tokens and vectors."""
    draw = np.random.default_rng(seed)
    user, item = draw.integers(0, users, rows), draw.integers(0, items, rows)
    time = draw.integers(1, days + 1, rows)
    label = (draw.random(rows) < rate).astype(np.int8)
    device = draw.integers(1, 3, rows)
    order = np.lexsort((device, label, item, time, user))
    user, item, time, device, label = (x[order] for x in (user, item, time, device, label))
    return Dataset(
        user.astype(np.int32),
        item.astype(np.int32),
        time.astype(np.int64),
        device.astype(np.int64),
        label,
        1000 + np.arange(users),
        2000 + np.arange(items),
        {name: tokens(draw, items) for name in ("visual", "acoustic", "textual")},
        DatasetSpec(
            source=source,
            label=next(iter(SOURCES[source].labels)),
            min_rows=min_rows,
            daily=SOURCES[source].daily,
            rows=rows,
            users=users,
            items=items,
            positives=int(label.sum()),
            arrays=(),
            inputs={},
            ledger={},
            content="none",
            truth="",
        ),
        Path("a log in memory has no directory"),
    )


def tokens(draw, items, longest=6):
    lengths = draw.integers(0, longest + 1, items)
    values = draw.integers(1, 500, lengths.sum()).astype(np.int32)
    return Raw(np.ones(items, bool), Ragged(values, np.append(0, np.cumsum(lengths))))


def reduction(**changes):
    """How modalities are reduced by default, but for the changes."""
    return Reduction(**{"variance": 0.9, "music": True, **changes})
