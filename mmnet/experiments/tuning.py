"""Equal tuning: every row gets the same number of trials, scored on validation only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmnet.checks import InputError
from mmnet.config import ExperimentConfig
from mmnet.experiments.plan import Row
from mmnet.experiments.spaces import Choices, Range, Space
from mmnet.flags import portable
from mmnet.models import REGISTRY
from mmnet.training.records import Record
from mmnet.training.share_rates import monitored

_NETWORK: dict[str, Choices | Range] = {
    "learning_rate": (3e-4, 5e-3, "log"),
    "half_weight_clicks": [0, 20, 100],
    "set.units": [32, 64],
    "set.head": ["direct", "smoothed", "mixed"],
    "set.content_dropout": [0.0, 0.2, 0.5],
}
_BOOSTING: dict[str, Choices | Range] = {
    "set.objective": ["regression", "cross_entropy"],
    "set.offset": ["none", "smoothed"],
}
SPACES: dict[str, dict[str, Choices | Range]] = {
    "mmnet": _NETWORK | {"noisy_rate": [0.3, 0.5, 0.7]},
    "gru": _NETWORK | {"noisy_rate": [0.3, 0.5, 0.7]},
    "transformer": _NETWORK
    | {"noisy_rate": [0.3, 0.5, 0.7], "set.num_layers": [1, 2, 3], "set.dropout": [0.0, 0.1]},
    "lightgbm": {
        "half_weight_clicks": [0, 20, 100],
        "noisy_rate": [0.3, 0.5, 0.7],
        "set.num_leaves": [7, 15, 31, 63],
        "set.learning_rate": (0.02, 0.2, "log"),
        "set.min_data_in_leaf": (10, 300, "log integer"),
        "set.feature_fraction": (0.4, 1.0, "linear"),
        "set.lambda_l2": (0.1, 100.0, "log"),
        **_BOOSTING,
    },
    "catboost": {
        "half_weight_clicks": [0, 20, 100],
        "noisy_rate": [0.3, 0.5, 0.7],
        "set.depth": (4, 8, "log integer"),
        "set.learning_rate": (0.02, 0.2, "log"),
        "set.l2_leaf_reg": (0.1, 100.0, "log"),
        "set.subsample": (0.5, 1.0, "linear"),
        **_BOOSTING,
    },
}
"""Settings to tune, by model: a flag, or `set.` and an option of the model."""


def tune(
    row: Row,
    trial: Callable[[Sequence[str], Callable[[int, float], bool]], Record | None],
    flags: ExperimentConfig,
    journal: Path,
    own_space: Space | None = None,
    resumed: Callable[[int], None] | None = None,
) -> str:
    """Runs the trials that are left and returns the flagfile of the best one.

    Trials are proposed by a tree-structured Parzen estimator (Bergstra et al., 2011), as optuna
    has it, after a few random ones. The value is the monitored one of the best epoch. With `prune`,
    a trial ends once its best value so far is worse than the median that the earlier ones, those
    that did not end early, had after as many epochs (optuna's median pruner). The first trials, as
    many as are random, and the first third of the epochs are not judged.

    Args:
        row: what to tune.
        trial: trains with more arguments, calls the function given with each epoch, counted from 1,
            and its monitored value, and ends early where that returns True. It returns the record;
            None where it ended early.
        flags: `trials`, `seeds`, `prune`.
        journal: optuna's file of this study, which resumes from it.
        own_space: the user's search space; None: the space of the row's model in `SPACES`.
        resumed: is called with the number of trials that were run before.

    Raises:
        InputError: the model has no search space, optuna is not installed, or all trials failed.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise InputError("--tune needs the extra: pip install 'mmnet[hpo]'") from None
    space = _space_of(row) if own_space is None else own_space
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
        study_name=row.name,
        load_if_exists=True,
    )
    done = [one for one in study.trials if one.state.is_finished()]
    if resumed:
        resumed(min(len(done), flags.trials))
    at_random = max(4, flags.trials // 3)
    # A killed study would otherwise propose its first trials again.
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=at_random, seed=flags.seeds[0] + len(done)
    )
    study.pruner = optuna.pruners.NopPruner()
    if flags.prune:
        study.pruner = optuna.pruners.MedianPruner(at_random, row.flags.epochs // 3 + 1)
    failure: InputError | None = None
    for _ in range(len(done), flags.trials):
        asked = study.ask()
        settings = {name: _suggest(asked, name, one) for name, one in space.items()}

        def hopeless(epoch: int, value: float, asked: Any = asked) -> bool:
            asked.report(value, epoch)
            return epoch < row.flags.epochs and asked.should_prune()

        try:
            record = trial(_arguments(settings), hopeless)
        except InputError as error:  # such as a loss that is no number
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            failure = error
            continue
        if record is None:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(asked, monitored(row.flags.monitor, record.fitted["validation"]))
    if not study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        raise failure or InputError(f"--tune={row.name}: no trial succeeded; see {journal}")
    best = study.best_trial
    pruned = len(study.get_trials(states=[optuna.trial.TrialState.PRUNED]))
    early = f", {pruned} of which ended early," if pruned else ""
    assert row.path is not None
    lines = [
        f"# {row.title}, tuned: best of {flags.trials} trials{early} on validation "
        f"({row.flags.monitor} {study.best_value:.4f})",
        f"--flagfile={portable(row.path)}",
        *_arguments(best.params),
    ]
    return "\n".join(lines) + "\n"


def _space_of(row: Row) -> Space:
    """The space that comes with the row's model.

    Raises:
        InputError: there is none.
    """
    if row.flags.model not in SPACES:
        raise InputError(
            f"--tune={row.name}: only {', '.join(SPACES)} have a search space; give one by --space"
        )
    space = dict(SPACES[row.flags.model])
    weights = row.flags.mode_weights or REGISTRY[row.flags.model].published_mode_weights
    if not weights[-1]:
        del space["noisy_rate"]  # no mode hides any steps
    if row.flags.rate_may_exceed_one:
        space.pop("set.objective", None)  # only one of them fits
    return space


def _suggest(trial: Any, name: str, space: Choices | Range) -> Any:
    if not isinstance(space, tuple):
        return trial.suggest_categorical(name, list(space))
    low, high, scale = space
    log = scale.startswith("log")
    if scale.endswith("integer"):
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, low, high, log=log)


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as flags.

    >>> _arguments({"learning_rate": 0.00123456, "set.units": 32, "set.evidence": True})
    ['--learning_rate=0.00123456', '--set=units=32', '--set=evidence=true']
    """
    found = []
    for name, value in settings.items():
        if isinstance(value, str):
            text = value
        else:
            text = str(value).lower() if isinstance(value, bool) else f"{value:.6g}"
        option = name.removeprefix("set.")
        found.append(f"--set={option}={text}" if option != name else f"--{name}={text}")
    return found
