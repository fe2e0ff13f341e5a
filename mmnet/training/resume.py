"""Checkpoints from which training resumes as if it had never stopped.

`.keras` files, `save_weights` and `tf.train.Checkpoint` all drop the state of a
`keras.random.SeedGenerator`, so a model restored from them repeats its dropout and disturbances.
A checkpoint here holds every array that training reads or changes.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmnet.checks import InputError
from mmnet.files import UNREADABLE, write_atomic

if TYPE_CHECKING:  # stored arrays are read without it
    import keras

Arrays = dict[str, np.ndarray]

_JSON, _SHA256 = "progress.json", "sha256"
_ARRAY = "array-"
_OTHERS = "others/"

AVERAGED = "weight_average"
"""Name of a setting that exists only in runs with averaged weights."""

DEVICES = "devices"
"""Name of a setting that exists only in runs on several devices."""


@dataclass
class Progress:
    """Progress of training.

    Attributes:
        step: training steps taken.
        epoch: epochs ended, including their validation. If `step` is at the end of the next one,
            only the validation of that epoch is missing.
        best_value: the best monitored value so far; None before the first validation.
        best_epoch: the epoch it came from, counted from 1; 0 before the first validation.
        history: one row per ended epoch; see `fitting.FitResult`.
        seconds: wall time spent so far, over all sessions.
        undone: one row per epoch that was undone: epoch (counted from 1) and metrics.
        epoch_seconds: wall time of the running epoch's steps so far, over all sessions.
        start: metrics before the first step, if the weights that training started with count as
            epoch 0; else None.
    """

    step: int = 0
    epoch: int = 0
    best_value: float | None = None
    best_epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    undone: list[dict[str, Any]] = field(default_factory=list)
    epoch_seconds: float = 0.0
    start: dict[str, float] | None = None


@dataclass(frozen=True)
class Checkpoint:
    """Content of one checkpoint file.

    Attributes:
        progress: see `Progress`.
        settings: settings that a run must share to resume from it.
        arrays: everything that training changes, by the names of `training_variables`.
        best: the model's arrays at the best epoch, by the same names; empty before the first.
        others: arrays at other moments, by the same names, by the name of the moment.
    """

    progress: Progress
    settings: dict[str, Any]
    arrays: Arrays
    best: Arrays
    others: Mapping[str, Arrays] = field(default_factory=dict)


# ------------------------------------------------------------------------------- variables


def training_variables(
    model: keras.Model, averages: Iterable[keras.Variable] = ()
) -> dict[str, keras.Variable]:
    """Collect every variable that a training step reads or changes, by a stable name.

    The model's own (random states, batch statistics and counters included), the optimiser's, and
    the sums behind the running loss. A name is `group/index/path`, such as
    `model/0003/dense/kernel`; the numbers that Keras appends to a repeated automatic name
    (`dense_7`) are left out, as they depend on what else the process has built.

    Args:
        model: built and compiled, its optimiser built.
        averages: average of the weights, see `averaging.WeightAverage`.
    """
    running = [variable for metric in model.metrics for variable in metric.variables]
    groups = {
        "model": model_variables(model),
        "optimizer": model.optimizer.variables,
        "metrics": running,
        "average": averages,
    }
    named = {}
    for group, variables in groups.items():
        for index, variable in enumerate(variables):
            path = re.sub(r"_\d+(?=[/_]|$)", "", variable.path)
            named[f"{group}/{index:04d}/{path}"] = variable
    return named


def model_variables(model: keras.Model) -> list[keras.Variable]:
    """`model.variables`, each once: Keras lists a shared random generator once per owner."""
    return list({id(variable): variable for variable in model.variables}.values())


def values(variables: Mapping[str, keras.Variable], group: str = "") -> Arrays:
    """Copies of the variables' values, of those whose name starts with `group`."""
    return {
        name: to_array(variable) for name, variable in variables.items() if name.startswith(group)
    }


def to_array(variable: keras.Variable) -> np.ndarray:
    """A copy of the variable's value."""
    import keras

    return np.asarray(keras.ops.convert_to_tensor(variable).numpy())


def assign(variables: Mapping[str, keras.Variable], arrays: Arrays) -> None:
    """Assign values to the named variables."""
    for name, value in arrays.items():
        variables[name].assign(value)


def copy_model(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights, random states and statistics of one model to another.

    Args:
        source: the model that is read.
        target: the model that is changed, of the same architecture.
    """
    pairs = zip(model_variables(source), model_variables(target), strict=True)
    for theirs, own in pairs:
        own.assign(theirs)


# ------------------------------------------------------------------------------------ files


class Checkpoints:
    """The checkpoint files of one run: the newest few, each whole or absent.

    A file is an `.npz` without pickled objects, named by how far training had come. It carries a
    SHA-256 of its own contents.

    Args:
        directory: made by the first `write`.
        keep: files kept; older ones are deleted after each write.
    """

    def __init__(self, directory: Path, keep: int = 2):
        self.directory, self.keep = Path(directory), keep
        for half_written in self.directory.glob(".epoch_*.npz"):  # of a killed process
            half_written.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.directory.glob("epoch_*.npz"))

    def write(self, checkpoint: Checkpoint, *, undone: bool = False) -> Path:
        """Writes one checkpoint, then deletes what is older than the newest `keep`.

        Args:
            checkpoint: how far training has come.
            undone: later steps were undone, so their checkpoints are deleted as well.
        """
        progress = checkpoint.progress
        told = asdict(progress)
        if progress.start is None:  # left out otherwise: checkpoints stay as they were before it
            del told["start"]
        described = json.dumps({"progress": told, "settings": checkpoint.settings})
        contents: dict[str, Any] = {
            **checkpoint.arrays,
            **_prefixed("best", checkpoint.best),
            _JSON: np.frombuffer(described.encode(), np.uint8),
        }
        for moment, arrays in checkpoint.others.items():
            contents |= _prefixed(f"{_OTHERS}{moment}", arrays)
        contents[_SHA256] = _digest(contents)
        path = self.directory / f"epoch_{progress.epoch:06d}_step_{progress.step:010d}.npz"
        write_atomic(path, lambda beside: np.savez(beside, **contents))
        later = [one for one in self.paths() if undone and one > path]
        for one in later:
            one.unlink(missing_ok=True)
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def newest(self) -> Checkpoint | None:
        """Read the newest checkpoint that is intact, with a warning for each that is not.

        Returns:
            The checkpoint; None if there is no file at all.

        Raises:
            InputError: there are files, and all of them are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return _read(path)
            except UNREADABLE as error:
                warnings.warn(f"{path} is damaged and was skipped ({error})", stacklevel=2)
        if paths:
            raise InputError(
                f"every checkpoint in {self.directory} is damaged; "
                "start again in an empty run directory, without --resume"
            )
        return None


def progress_in(directory: Path) -> Progress | None:
    """Read how far a run has come by the newest checkpoint in a directory, and nothing else of it.

    Returns:
        The progress; None where no checkpoint can be read, as before the first.
    """
    newest = max(Path(directory).glob("epoch_*.npz"), default=None)
    if newest is None:
        return None
    try:
        with np.load(newest, allow_pickle=False) as file:
            return Progress(**json.loads(file[_JSON].tobytes())["progress"])
    except UNREADABLE:  # a newer one has taken its place, or it is damaged
        return None


def _read(path: Path) -> Checkpoint:
    with np.load(path, allow_pickle=False) as file:
        contents = {name: file[name] for name in file.files}
    expected = contents.pop(_SHA256)
    if not np.array_equal(expected, _digest(contents)):
        raise ValueError("its SHA-256 does not match its contents")
    described = json.loads(contents.pop(_JSON).tobytes())
    plain: Arrays = {}
    best: Arrays = {}
    others: dict[str, Arrays] = {}
    for name, array in contents.items():
        if name.startswith("best/"):
            best[name.removeprefix("best/")] = array
        elif name.startswith(_OTHERS):
            moment, _, own = name.removeprefix(_OTHERS).partition("/")
            others.setdefault(moment, {})[own] = array
        else:
            plain[name] = array
    progress = Progress(**described["progress"])
    return Checkpoint(progress, described["settings"], plain, best, others)


def _prefixed(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _digest(contents: Arrays) -> np.ndarray:
    digest = hashlib.sha256()
    for name in sorted(contents):
        array = contents[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


# ----------------------------------------------------------------------------------- fitting


def check_fits(
    checkpoint: Checkpoint,
    variables: Mapping[str, keras.Variable],
    settings: Mapping[str, Any],
    directory: Path,
) -> None:
    """Raise InputError unless this model with these settings can resume from the checkpoint."""
    import keras

    fix = "resume with the flags of that run, or choose an empty run directory"
    absent = {AVERAGED: None, DEVICES: 1}
    for name in dict.fromkeys([*settings, *absent]):
        then, now = (known.get(name, absent.get(name)) for known in (checkpoint.settings, settings))
        if then != now:
            raise InputError(
                f"the checkpoint in {directory} was trained with {name}={then}, "
                f"this run has {name}={now}; {fix}"
            )
    then = {name: (array.shape, str(array.dtype)) for name, array in checkpoint.arrays.items()}
    now = {
        name: (tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype))
        for name, variable in variables.items()
    }
    if then == now:
        return
    name = min(name for name in {*then, *now} if then.get(name) != now.get(name))
    raise InputError(
        f"the checkpoint in {directory} belongs to another model: {name} is "
        f"{_described(then.get(name))} there and {_described(now.get(name))} here; {fix}"
    )


def _described(what: tuple[tuple[int, ...], str] | None) -> str:
    """How a message names a variable's shape and type.

    >>> _described(((6, 64), "float32")), _described(None)
    ('float32 [6, 64]', 'absent')
    """
    return "absent" if what is None else f"{what[1]} {list(what[0])}"


# -------------------------------------------------------------------------- finished weights


def save_weights(model: keras.Model, path: Path, dataset: str) -> None:
    """Write every array of a trained model, with the fingerprint of its dataset."""
    arrays = {str(i): to_array(variable) for i, variable in enumerate(model_variables(model))}
    save_arrays(arrays, path, dataset)


def load_weights(model: keras.Model, path: Path, dataset: str) -> None:
    """Reads the weights of `save_weights` back into a model of the same architecture.

    Raises:
        InputError: they are missing, of another model, or were trained on another dataset.
    """
    variables = model_variables(model)
    stored = load_arrays(path, dataset)
    if len(stored) != len(variables):
        raise InputError(f"{path} does not fit the run's model: the names of the weights differ")
    for number, variable in enumerate(variables):
        array = stored[str(number)]
        if tuple(variable.shape) != array.shape:
            raise InputError(f"{path} does not fit the run's model at {variable.path}")
        variable.assign(array)


def save_arrays(arrays: Mapping[str, np.ndarray], path: Path, dataset: str) -> None:
    """Write the fitted arrays of a model, with the fingerprint of its dataset."""
    named: dict[str, Any] = {f"{_ARRAY}{k}": v for k, v in arrays.items()}

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            np.savez(file, dataset=np.array(dataset), **named)

    write_atomic(path, write)


def load_arrays(path: Path, dataset: str) -> Arrays:
    """Reads the arrays of `save_arrays`.

    Raises:
        InputError: they are missing, or were fitted on another dataset.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            trained_on = str(stored["dataset"])
            arrays = {
                name.removeprefix(_ARRAY): stored[name]
                for name in stored.files
                if name.startswith(_ARRAY)
            }
    except UNREADABLE:
        raise InputError(f"{path}: no weights of a finished run found; train it first") from None
    if not arrays:
        raise InputError(f"{path} was not written by this version of mmnet; train the run again")
    if trained_on != dataset:
        raise InputError(
            f"{path} was trained on a different dataset, so its scores would be meaningless; name "
            "the run's own dataset with --dataset_dir"
        )
    return arrays
