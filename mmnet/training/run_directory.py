"""A run directory: claimed before any work is done, and reopened by `--resume`.

`flags.txt` holds the flags that decide the results, so that the run can be repeated anywhere.
`places.txt` next to it holds the paths of the data on this machine, for resuming and evaluating.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mmnet import config
from mmnet.checks import InputError
from mmnet.config import TrainConfig, TrainRunFlags
from mmnet.files import make_directory, only_one, write_atomic
from mmnet.flags import as_text, parse, to_flagfile, without_secrets
from mmnet.recipes import reading

F = TypeVar("F", bound=TrainRunFlags)

SEARCH = "recipe"
"""The folder, in a run directory, of the search that found the run's flags."""
OF_THE_RUN = ("run_dir", "dataset_dir", "outputs", "resume", "profile_steps", "ensemble")
"""Flags of a search that apply to the final run, not to its candidates."""


def _urls(flags: TrainRunFlags) -> list[str]:
    """The flags whose stored value lacks the secrets of its URLs."""
    values = dict(flags)
    return [name for name, value in values.items() if value != without_secrets(value)]


_OF_A_RUN = ("flags.txt", "checkpoints", SEARCH)
"""Entries of which a directory with a run has at least one."""


@dataclass(frozen=True)
class RunKind(Generic[F]):
    """The runs of one system: their flags, and which of these are paths.

    Attributes:
        flags: all flags of a run.
        places: the flags that do not affect results; they are left out of flags.txt.
        kept_places: those of them that places.txt has, as absolute paths.
        stem: the end of the name of a run's default directory.
    """

    flags: type[F]
    places: tuple[str, ...]
    kept_places: tuple[str, ...]
    stem: Callable[[F], str]

    def open(self, flags: F, inside: str = "") -> tuple[F, Path]:
        """The run's directory, made if need be, and the flags to run with.

        Args:
            flags: that were given.
            inside: the folder of the run directory that has the flags to resume with.

        Returns:
            The flags given, or those of the run to resume; and the directory.

        Raises:
            InputError: the directory holds a run already, or cannot be made; there is nothing to
                resume, or it was run with other flags.
        """
        if flags.resume and not flags.run_dir:
            raise InputError("--resume needs --run_dir, the run to resume")
        if not flags.run_dir:
            return flags, _fresh(self.stem(flags))
        run_dir = Path(flags.run_dir)
        if flags.resume and (run_dir / inside / "flags.txt").exists():
            flags = self._resumed(flags, self.read(run_dir, inside))
        elif not flags.resume and any((run_dir / name).exists() for name in _OF_A_RUN):
            raise InputError(
                f"--run_dir={run_dir} already holds a run; add --resume to continue it, or choose "
                "another directory"
            )
        return flags, made(run_dir)

    def _resumed(self, flags: F, own: F) -> F:
        """The run's own flags; those given anew must agree, places aside."""
        # A recipe's flags were not given; where others were, the run has those.
        free = {*self.places, *reading.names_from_recipe(flags)}
        for name in sorted(flags.model_fields_set - free):
            stored = without_secrets(getattr(flags, name))
            if stored != without_secrets(getattr(own, name)):
                before = getattr(own, name)
                raise InputError(
                    f"--{name}={as_text(getattr(flags, name))} differs from the run to resume, "
                    f"which has {repr(before) if isinstance(before, str) else as_text(before)}; "
                    "leave it out, or start a new run"
                )
        given = flags.model_fields_set & {*self.places, *_urls(flags)}
        return own.model_copy(update={name: getattr(flags, name) for name in given})

    def write(self, flags: F, run_dir: Path, *, only_given: bool = False) -> None:
        """Writes `flags.txt` and `places.txt`; from here on the directory holds a run.

        Args:
            flags: flags of the run.
            run_dir: the run directory.
            only_given: whether flags.txt has only the flags that were given.
        """
        unset = set(type(flags).model_fields) - flags.model_fields_set if only_given else ()
        places = [f"--{name}={_absolute(getattr(flags, name))}\n" for name in self.kept_places]
        write_atomic(run_dir / "places.txt", "".join(places))
        write_atomic(run_dir / "flags.txt", to_flagfile(flags, leave_out=[*self.places, *unset]))

    def read(self, run_dir: Path, folder: str = "") -> F:
        """The flags of a run, its places among them.

        A dataset that the run had inside is found there again where the run was moved.

        Args:
            run_dir: the run directory.
            folder: in it, with other flags than the run's own.

        Raises:
            InputError: there is no run.
        """
        home = run_dir / folder
        if not (home / "flags.txt").exists():
            raise InputError(f"--run_dir={run_dir} contains no run (no flags.txt)")
        files = [path for name in ("flags", "places") if (path := home / f"{name}.txt").exists()]
        own = parse(self.flags, [f"--flagfile={path}" for path in files])
        places = {"run_dir": str(run_dir)}
        inside = run_dir / "dataset"
        if own.dataset_dir and not Path(own.dataset_dir).exists() and inside.exists():
            places["dataset_dir"] = str(inside)
        return own.model_copy(update=places)


SHARE_RATES = RunKind(
    TrainConfig,
    config.PLACES,
    ("dataset_dir", "source_dir", "image_root", "encoder_cache"),
    lambda flags: flags.model,
)
"""Runs of the models of share rates."""


def only_run(run_dir: Path) -> contextlib.AbstractContextManager[int]:
    """Locks the run directory so that two processes cannot train in it at once."""
    return only_one(
        run_dir, f"--run_dir={run_dir} is in use by another process; wait for it, or choose another"
    )


def made(run_dir: Path) -> Path:
    """Make the directory if it does not exist; raise `InputError` if that fails."""
    try:
        make_directory(run_dir)
    except OSError as error:
        raise InputError(f"--run_dir={run_dir} cannot be created: {error.strerror}") from None
    return run_dir


def _fresh(stem: str) -> Path:
    """A directory of its own below runs/, also for two runs of the same second."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in itertools.count(1):
        run_dir = Path(f"runs/{stamp}-{stem}" + (f"-{number}" if number > 1 else ""))
        try:
            run_dir.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(f"{run_dir} cannot be created: {error.strerror}") from None
        return run_dir
    raise AssertionError


@contextlib.contextmanager
def removed_if_unused(run_dir: Path, *, was_there: bool) -> Iterator[None]:
    """Remove a run directory that is still empty when the input or a path proves to be invalid.

    Args:
        run_dir: the directory.
        was_there: before the run; then it stays.
    """
    try:
        yield
    except (InputError, OSError):
        with contextlib.suppress(OSError):  # it is not empty: then it stays
            if not was_there:
                run_dir.rmdir()
        raise


def is_there(flags: TrainRunFlags) -> bool:
    """Return whether the run directory named by the flags exists; call before `RunKind.open`."""
    return bool(flags.run_dir) and os.path.isdir(flags.run_dir)


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if place else ""
