"""A small dataset with every kind of tensor, and random batches of it."""

import numpy as np

from mmnet.schema import (
    FeatureSpec,
    FieldSpec,
    NumericSpec,
    RateSpec,
    TextSpec,
    VectorSpec,
)

SPEC = FeatureSpec(
    window=6,
    horizon=1,
    taxonomies=("category", "tags"),
    fields=(
        FieldSpec(name="category", size=5),
        FieldSpec(name="tags", size=7, max_values=3),
    ),
    numerics=(NumericSpec(name="duration", mean=60.0, sd=20.0),),
    texts=(TextSpec(name="title", size=20, max_tokens=4),),
    vectors=(VectorSpec(name="cover", dim=3),),
    rate_scale=2.0,
    rate_mean=3.0,
)

SEVERAL = FeatureSpec(
    **{
        **SPEC.model_dump(),
        "horizons": (3,),
        "rates": (RateSpec(name="like", rate_scale=0.5, rate_mean=1.0, max_rate=100.0),),
    }
)
"""Two rates at two horizons."""


def batch(spec=SPEC, examples=4, seed=0):
    """Random inputs: rates of about 3 percent, a fifth of the steps missing."""
    draw = np.random.default_rng(seed)
    tensors = spec.tensors()
    found = {}
    for name, (shape, dtype) in tensors.items():
        shape = (examples, *shape)
        if dtype == "int32":
            found[name] = draw.integers(0, 5, shape).astype(dtype)
        elif name.endswith("missing_flag"):
            found[name] = (draw.random(shape) < 0.2).astype(dtype)
        elif name.endswith("rate"):
            found[name] = draw.gamma(3, 1, shape).astype(dtype)
        elif name == "age":
            found[name] = draw.integers(-1, 40, shape).astype(dtype)
        elif name == "age_at_least":
            found[name] = draw.integers(0, 2, shape).astype(dtype)
        elif name == "earlier_clicks":
            found[name] = draw.integers(-1, 90, shape).astype(dtype)
        elif name in ("clicks", "taxonomy_evidence"):
            found[name] = draw.poisson(50, shape).astype(dtype)
        else:
            found[name] = draw.normal(size=shape).astype(dtype)
    found["share_rate"] *= 1 - found["missing_flag"]
    found["clicks"] *= 1 - found["missing_flag"]
    if "taxonomy_rate" in found:
        found["taxonomy_rate"] *= 1 - found["taxonomy_missing_flag"]
    if "taxonomy_evidence" in found:
        found["taxonomy_evidence"] *= 1 - found["taxonomy_missing_flag"]
    for rate in spec.rates:
        _fill_rate(found, spec.sequences(rate.name), draw)
    return found


def _fill_rate(found, names, draw):
    """Random sequences of a further rate, a third of the main one, with flags of its own."""
    for flag, *others in (
        ("missing_flag", "share_rate", "clicks"),
        ("taxonomy_missing_flag", "taxonomy_rate", "taxonomy_evidence"),
    ):
        if flag in names:
            shape = found[names[flag]].shape
            found[names[flag]] = (draw.random(shape) < 0.2).astype("float32")
            for name in (one for one in others if one in names):
                values = (
                    draw.gamma(3, 1 / 3, shape)
                    if name.endswith("rate")
                    else draw.poisson(30, shape)
                )
                found[names[name]] = (values * (1 - found[names[flag]])).astype("float32")
