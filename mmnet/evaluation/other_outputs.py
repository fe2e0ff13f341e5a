"""Metrics of further horizons and rates: how they are nested in metrics.json, and their table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from mmnet.evaluation import plots
from mmnet.evaluation.html_page import number_text
from mmnet.schema import SCENARIOS, Output

TITLE = "Other horizons and rates"
HORIZONS, RATES = "horizons", "rates"
METRICS = {"mse": "MSE", "precision_at_5": "P@5", "precision_at_10": "P@10"}


def nested(metrics: Mapping[Output, Mapping[str, Any]]) -> dict[str, Any]:
    """Nests the metrics of several outputs as metrics.json has them.

    Args:
        metrics: output -> its metrics, the main output first; the first output of a rate is that of
            the main horizon.

    Returns:
        The metrics of the main output; of its rate at each further horizon, by `horizons`; and of
        each further rate, nested in the same way, by `rates`. One output has neither key.

    >>> outputs = {Output("", 1, "p"): {"n": 1}, Output("", 2, "p_h2"): {"n": 2}}
    >>> nested({**outputs, Output("like", 1, "p_like"): {"n": 3}})
    {'n': 1, 'horizons': {'2': {'n': 2}}, 'rates': {'like': {'n': 3}}}
    """
    of_rates: dict[str, dict[str, Any]] = {}
    for output, found in metrics.items():
        if output.rate not in of_rates:
            of_rates[output.rate] = dict(found)
        else:
            of_rates[output.rate].setdefault(HORIZONS, {})[str(output.horizon)] = found
    main = of_rates.pop("")
    return main | ({RATES: of_rates} if of_rates else {})


def further(metrics: Mapping[str, Any], rate: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each further output in words, and its metrics.

    Args:
        metrics: see `nested`.
        rate: name of the rate that they are of.

    >>> [name for name, _ in further({"horizons": {"2": {}}, "rates": {"like": {}}})]
    ['at horizon 2', 'like']
    """
    for horizon, found in metrics.get(HORIZONS, {}).items():
        yield f"{rate} at horizon {horizon}".strip(), found
    for name, found in metrics.get(RATES, {}).items():
        yield name, found
        yield from further(found, name)


def cells(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of the table; no rows for a single output."""
    columns = [(scenario, key) for scenario in SCENARIOS for key in METRICS]
    header = [f"{plots.TITLES[scenario]} {METRICS[key]}" for scenario, key in columns]
    rows = [
        [
            name,
            *(number_text(found[scenario][key], fixed=key != "mse") for scenario, key in columns),
            f"{found['normal']['n']:,}",
        ]
        for name, found in further(metrics)
    ]
    return ["Output", *header, "n"], rows


def main_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of the main output in a predictions table; of a single output, all.

    >>> main_rows(pd.DataFrame({"horizon": [1, 1, 2], "share_rate": [4.0, None, 5.0]}))
       horizon  share_rate
    0        1         4.0
    """
    if "horizon" not in frame:
        return frame
    main = (frame["horizon"] == frame["horizon"].iloc[0]) & frame["share_rate"].notna()
    return frame[main].reset_index(drop=True)
