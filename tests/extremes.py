"""Finite numbers at the ends of their types, for tests that nothing finite scores as NaN."""

import numpy as np
from hypothesis import strategies as st

_FLOAT32 = np.finfo("float32")
FLOATS = np.array(
    [
        *(sign * size for sign in (1, -1) for size in (_FLOAT32.max, 1e30, 1e20, 1e10, 7e4, 1.5)),
        *(sign * size for sign in (1, -1) for size in (_FLOAT32.tiny, 1e-30, 1e-45)),
        *(0.0, -0.0),
    ],
    "float32",
)
ROWS = 64
"""Of a batch; always the same, so that a model is traced and compiled once."""


def integers(dtype):
    """The ends of an integer type, and what lies around an id's usual range."""
    limits = np.iinfo(dtype)
    return np.array([limits.min, limits.max, -1, 0, 1, 2, 1000], dtype)


def draws(names):
    """A strategy of (names to make extreme, seed); all of them together is one of its values."""
    names = sorted(names)
    return st.tuples(st.just(names) | st.sets(st.sampled_from(names), min_size=1), st.integers(0))


def made_extreme(batch, drawn):
    """The batch with every entry of the drawn arrays replaced by an extreme one.

    In the first half of the rows a row has one value throughout, as sums overflow by it soonest.
    """
    names, seed = drawn
    draw = np.random.default_rng(seed)
    found = dict(batch)
    for name in sorted(names):
        array = batch[name]
        among = FLOATS if array.dtype.kind == "f" else integers(array.dtype)
        cells = draw.choice(among, array.shape)
        half = len(cells) // 2
        cells[:half] = cells[:half].reshape(half, -1)[:, :1].reshape(half, *[1] * (cells.ndim - 1))
        found[name] = cells.astype(array.dtype)
    return found
