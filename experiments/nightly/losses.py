"""What the champion of each night costs, against the anchor and an oracle that never degrades.

Rates are simulated, so the error of a model is that of its scores of the next period to the true
rates of all items, whatever anyone has clicked. After each night four models are measured:

- the champion, which serves;
- the anchor, the best of the last champions by the measured ratios, as the promotion rule sees it;
- an oracle that knows the true rates: it takes the night's challenger if that is truly better on
  the next period than the model that it has, and so never takes a worse one;
- the newest challenger, as a team would serve that promotes without comparing.

The sum of a model's errors over the nights is its total loss.
"""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet

from mmnet import config
from mmnet.evaluation.report import markdown_table
from mmnet.files import read_json, write_atomic
from mmnet.flags import parse
from mmnet.promotion import deciding, history, nights, versions
from mmnet.promotion.history import History
from mmnet.promotion.versions import Versions

WHO = ("champion", "anchor", "oracle", "newest challenger")
ORACLE, FILE = "oracle", "losses.json"


def measure(models: Path, place: Path, tables: list[str], truth: np.ndarray, anchor: int) -> None:
    """Adds the errors of a night that has ended to the file in `place`; the oracle is kept there.

    Args:
        models: the directory of versions.
        place: a directory for the file and the oracle's model.
        tables: flags of the night's tables.
        truth: true rates of the next period, percent, by item id from 0.
        anchor: `--anchor` of the nights.
    """
    events = [one for one in History(models).events() if one.outcome != "rollback"]
    last, found = events[-1], Versions(models)
    steps = history.anchor_steps(History(models).events(), anchor)
    challenger = models / versions.NIGHTS / last.night / nights.RUN / "export" / "1"
    if not challenger.is_dir():  # the night trained none
        challenger = found.path(last.champion)
    oracle = place / ORACLE
    if not oracle.exists():
        shutil.copytree(challenger, oracle)
    paths = {
        "champion": found.path(last.champion),
        "anchor": found.path(deciding.anchor(steps)),
        "oracle": oracle,
        "newest challenger": challenger,
    }
    errors: dict[Path, float] = {}
    for path in paths.values():
        if path not in errors:
            errors[path] = error(path, place / "scores.parquet", tables, truth)
    night = {name: errors[path] for name, path in paths.items()}
    if night["newest challenger"] < night["oracle"]:
        shutil.rmtree(oracle)
        shutil.copytree(challenger, oracle)
        night["oracle"] = night["newest challenger"]
    before = read_json(place / FILE) if (place / FILE).exists() else []
    write_atomic(place / FILE, json.dumps([*before, night]) + "\n")


def error(export: Path, output: Path, tables: list[str], truth: np.ndarray) -> float:
    """MSE of an export's scores to true rates, percent²."""
    from mmnet.tasks.scoring import predict

    flags = [f"--saved_model={export}", f"--output={output}", *tables]
    with contextlib.redirect_stdout(None):
        predict(parse(config.PredictConfig, flags))
    scores = pyarrow.parquet.read_table(output).sort_by("item_id")
    items = scores["item_id"].to_numpy().astype(int)
    predicted = scores["predicted_share_rate"].to_numpy()
    return float(np.mean(np.square(predicted - truth[items])))


def page(chains: list[list[dict[str, float]]]) -> str:
    """The total losses as Markdown.

    Args:
        chains: for each chain of nights the errors of each night by model.
    """
    all_nights = [night for chain in chains for night in chain]
    total = {who: sum(night[who] for night in all_nights) for who in WHO}
    rows = [
        [
            *(who, f"{total[who]:.2f}", f"{total[who] / total['anchor']:.4f}"),
            f"{total[who] / total['oracle']:.4f}",
        ]
        for who in WHO
    ]
    worst = max(night["champion"] / night["oracle"] for night in all_nights)
    lines = [
        "## Total loss\n",
        f"Sums over {len(all_nights)} nights of the MSE to the true rates of the next period, "
        "percent². The anchor is the best of the last champions by measured ratios; the oracle "
        "knows the true rates, and takes a challenger only if it is truly better on the next "
        "period. On the worst night the champion's loss is "
        f"{worst:.3f} times the oracle's.\n",
        markdown_table(["Model", "Total loss", "Against the anchor", "Against the oracle"], rows),
    ]
    return "\n".join(lines)
