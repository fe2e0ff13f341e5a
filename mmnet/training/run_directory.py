"""A run directory: claimed before anything is spent, and taken up again by `--resume`.

`flags.txt` holds what decides the numbers, and runs again anywhere; `places.txt` beside it says
where the data lay on this machine, so that resuming and evaluating find them.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import TrainConfig
from mmnet.files import make_directory, only_one, write_atomic
from mmnet.flags import parse, to_flagfile

KEPT_PLACES = ("dataset_dir", "source_dir", "image_root", "encoder_cache")


def only_run(run_dir: Path) -> contextlib.AbstractContextManager[int]:
    """Two processes in one run would each think that the checkpoints were its own."""
    return only_one(
        run_dir, f"--run_dir={run_dir} is in use by another process; wait for it, or choose another"
    )


def open_run(flags: TrainConfig) -> tuple[TrainConfig, Path]:
    """The run's directory, made if need be, and the flags to run with.

    Returns:
        The flags given, or those of the run to resume; and the directory.

    Raises:
        InputError: the directory holds a run already, or cannot be made; there is nothing to
            resume, or it was run with other flags.
    """
    if flags.resume:
        if not flags.run_dir:
            raise InputError("--resume needs --run_dir, the run to go on with")
        run_dir = Path(flags.run_dir)
        if (run_dir / "flags.txt").exists():
            flags = _resumed(flags, read_flags(run_dir))
        return flags, made(run_dir)
    if not flags.run_dir:
        return flags, _fresh(flags.model)
    run_dir = Path(flags.run_dir)
    if (run_dir / "flags.txt").exists() or (run_dir / "checkpoints").exists():
        raise InputError(
            f"--run_dir={run_dir} already holds a run; go on with it by --resume, or choose another"
        )
    return flags, made(run_dir)


def made(run_dir: Path) -> Path:
    """The directory, made if need be; `InputError` where it cannot be."""
    try:
        make_directory(run_dir)
    except OSError as error:
        raise InputError(f"--run_dir={run_dir} cannot be made: {error.strerror}") from None
    return run_dir


def _fresh(model: str) -> Path:
    """A directory of its own below runs/, also for two runs of the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        run_dir = Path(f"runs/{stamp}-{model}" + (f"-{number}" if number > 1 else ""))
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{run_dir} cannot be made: {error.strerror}") from None
        return run_dir
    raise AssertionError


def _resumed(flags: TrainConfig, own: TrainConfig) -> TrainConfig:
    """The run's own flags; those given anew must agree, places aside."""
    for name in sorted(flags.model_fields_set - set(config.PLACES)):
        if getattr(flags, name) != getattr(own, name):
            raise InputError(
                f"--{name}={getattr(flags, name)} differs from the run to resume, which has "
                f"{getattr(own, name)!r}; leave it out, or start a new run"
            )
    given = flags.model_fields_set & set(config.PLACES)
    return own.model_copy(update={name: getattr(flags, name) for name in given})


@contextlib.contextmanager
def removed_if_unused(run_dir: Path) -> Iterator[None]:
    """Takes an empty run directory away again when the input turns out to be wrong."""
    try:
        yield
    except InputError:
        with contextlib.suppress(OSError):  # it is not empty: then it stays
            run_dir.rmdir()
        raise


def write_flags(flags: TrainConfig, run_dir: Path) -> None:
    """Writes `flags.txt` and `places.txt`; from here on the directory holds a run."""
    places = [f"--{name}={_absolute(getattr(flags, name))}\n" for name in KEPT_PLACES]
    write_atomic(run_dir / "places.txt", "".join(places))
    write_atomic(run_dir / "flags.txt", to_flagfile(flags, leave_out=config.PLACES))


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if place else ""


def read_flags(run_dir: Path) -> TrainConfig:
    """The flags of a run, its places among them.

    Raises:
        InputError: there is no run.
    """
    if not (run_dir / "flags.txt").exists():
        raise InputError(f"--run_dir={run_dir}: no run there (no flags.txt)")
    files = [path for name in ("flags", "places") if (path := run_dir / f"{name}.txt").exists()]
    own = parse(TrainConfig, [f"--flagfile={path}" for path in files])
    return own.model_copy(update={"run_dir": str(run_dir)})
