"""An export of a model with two rates and two horizons, with the tables that it scores."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmnet import tasks
from mmnet.config import PrepareConfig
from mmnet.data import dataset as datasets
from mmnet.data.windows import Windows
from mmnet.evaluation.conformal import Group, Intervals
from mmnet.flags import parse
from mmnet.models import REGISTRY
from mmnet.serving import decision, export, golden, profile, rules

ITEMS, PERIODS = 60, 24
RULES = ("keep=0.3 per category of like at 3", "keep=0.5")


def tables(directory, items=ITEMS, seed=0):
    """Writes counts of two rates, and items of two categories; returns the flags that name them."""
    draw = np.random.default_rng(seed)
    ids = [f"i{number}" for number in range(items)]
    item, period = (part.ravel() for part in np.mgrid[:items, :PERIODS])
    clicks, views = draw.poisson(20, item.size), draw.poisson(60, item.size)
    counts = {
        "item_id": np.array(ids)[item],
        "period": period,
        "clicks": clicks,
        "shares": draw.binomial(clicks, draw.beta(2, 20, items)[item]),
        "views": views,
        "likes": draw.binomial(views, draw.beta(2, 8, items)[item]),
    }
    categories = {"item_id": ids, "category": [f"c{number % 2}" for number in range(items)]}
    pq.write_table(pa.table(counts), Path(directory, "counts.parquet"))
    pq.write_table(
        pa.table(categories | {"duration": draw.gamma(3, 20, items)}),
        Path(directory, "items.parquet"),
        row_group_size=16,  # of which the blocks of a scoring job are made
    )
    return [f"--{name}={Path(directory, name)}.parquet" for name in ("counts", "items")]


TASK = (
    *("--also_predict=like", "--rate=like=likes/views", "--horizon=1,3", "--window=4"),
    *("--taxonomies=category", "--numerics=duration", "--min_test_rows=1"),
    *("--inputs=age,taxonomy_evidence", "--min_target_clicks=5"),
)


def decisions(spec, middle):
    """Decisions by hand: intervals of ± one root of a rate, and the thresholds of the two rules.

    Args:
        spec: of the model.
        middle: its median prediction of each output, so that a rule keeps some and drops some.
    """
    outputs, found = spec.outputs(), {}
    for number, output in enumerate(outputs, 1):
        mine = [text for text in RULES if rules.output_of(text, outputs) == output]
        groups = [
            Group(scenario=name, clicks=0, n=500, low=-number / 4, high=number / 4)
            for name in ("normal", "cold_start")
        ]
        solved = {}
        for text in mine:
            rate = float(middle[number - 1])
            rule = decision.Rule(
                **{"kind": "keep", "value": 0.3, "threshold": rate, "kept_share": 0.3},
                **{"recall": 0.9, "n": 900, "explore_probability": 0.5, "band_share": 0.2},
            )
            if "per" in text:
                rule = rule.model_copy(update={"per": "category", "thresholds": {"c1": rate * 1.1}})
            solved[text] = rule
        found[output.name] = decision.Decisions(
            top_percent=5,
            rules=solved,
            intervals=Intervals(level=0.9, floor=0.1, max_rate=100.0, groups=tuple(groups)),
            explore=decision.Explore(salt=f"{number:032x}", share=0.05),
        )
    return decision.joined(found, RULES, outputs)


def write(directory):
    """Writes the tables, a dataset directory and an export of an untrained MMNet."""
    directory.mkdir()
    flags = [*tables(directory), *TASK, f"--dataset_dir={directory / 'dataset'}"]
    tasks.prepare(parse(PrepareConfig, flags))
    dataset = datasets.load(directory / "dataset")
    spec = dataset.fitted.spec
    model = REGISTRY["mmnet"](spec, units=4, field_width=2)
    draw = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign_add(0.1 * draw.normal(size=variable.shape))
    validation = dataset.examples("validation")
    main, windows = dataset.of_output(spec.outputs()[0]), Windows(dataset)
    of_main, seen = main.examples("validation"), Windows(main)
    (_, inputs), *_ = seen.batches(of_main, len(of_main))
    predicted = np.asarray(model(inputs, training=False))
    described = profile.fit(main, seen, main.examples("train"), of_main, predicted[:, 0])
    export.export(
        model,
        dataset.fitted,
        directory / "export",
        check={name: np.asarray(tensor)[:64] for name, tensor in inputs.items()},
        rows=golden.rows(dataset, windows, validation),
        assets={profile.FILE: described.model_dump(mode="json")},
        about={"flags": {}, "first_targets": dataset.first_targets},
        decisions=decisions(spec, np.median(predicted, axis=0)),
    )
    model.save(directory / "model.keras")
