"""Records as experiments keep them, made by hand."""

import csv

from mmnet.mma4ctr.experiments.records import NUMBERS, TEXTS


def keep(folder, experiment, metrics, *, state=False, **others):
    """Writes results.csv of an experiment.

    Args:
        folder: of all experiments.
        experiment: name of its folder.
        metrics: (row, epoch) -> AUC of seed 0, 1, ...
        state: whether the runner of today wrote it, which keeps a state.json.
        others: columns, equal in all lines.
    """
    results = folder / experiment / "results"
    results.mkdir(parents=True, exist_ok=True)
    columns = dict.fromkeys([*TEXTS, *NUMBERS, *others])
    with (results / "results.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for (row, at), aucs in metrics.items():
            for seed, auc in enumerate(aucs):
                line = {"row": row, "at": at, "seed": seed, "auc": auc, "protocol": "p0"}
                writer.writerow(line | others)
    if state:
        (results / "state.json").write_text("{}", encoding="utf-8")
    return results / "results.csv"
