"""Run and export directories that a caller has opened, shared by both systems."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from mmnet.api.given import flags_of, silent
from mmnet.checks import InputError
from mmnet.config import ExportFlags, TrainRunFlags
from mmnet.files import read_json
from mmnet.training.run_directory import RunKind

if TYPE_CHECKING:
    import pandas as pd

F = TypeVar("F", bound=TrainRunFlags)
R = TypeVar("R", bound="RunDirectory")


class RunDirectory(Generic[F]):
    """The files of a run that has been trained, of either system.

    Args:
        directory: the run directory.

    Attributes:
        directory: the run directory.
        flags: every flag that it was trained with.

    Raises:
        InputError: the directory holds no run.
    """

    KIND: ClassVar[RunKind]

    def __init__(self, directory: str | os.PathLike[str]):
        self.directory = Path(directory)
        self.flags: F = self.KIND.read(self.directory)

    @classmethod
    def open(cls: type[R], directory: str | os.PathLike[str]) -> R:
        """Opens a run directory.

        Raises:
            InputError: the directory holds no run.
        """
        return cls(directory)

    @property
    def record(self) -> dict[str, Any]:
        """record.json: versions, inputs, split dates, seconds, peak memory and metrics.

        Raises:
            InputError: the run has not been finished.
        """
        return self._json("record.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """evaluation/metrics.json: the errors and rankings on test.

        Raises:
            InputError: the run has not been evaluated.
        """
        return self._json("evaluation/metrics.json")

    @property
    def predictions(self) -> pd.DataFrame:
        """evaluation/predictions.parquet: a row per test example, horizon, and scenario if any.

        Raises:
            InputError: the run has not been evaluated.
        """
        import pandas as pd

        return pd.read_parquet(self._there("evaluation/predictions.parquet"))

    @property
    def table(self) -> str:
        """evaluation/table.md: the run's metrics compared with simple rules, as Markdown.

        Raises:
            InputError: the run has not been evaluated.
        """
        return self._there("evaluation/table.md").read_text(encoding="utf-8")

    def report(self) -> Path:
        """Returns the path of evaluation/report.html, one file to open in a browser.

        Raises:
            InputError: the run has no report; `evaluate()` writes one.
        """
        return self._there("evaluation/report.html")

    @property
    def _dataset_place(self) -> Path:
        return Path(self.flags.dataset_dir or self.directory / "dataset")

    def _json(self, name: str) -> dict[str, Any]:
        path = self._there(name)
        try:
            return read_json(path)
        except ValueError:
            raise InputError(f"{path} is damaged; evaluate the run again") from None

    def _there(self, name: str) -> Path:
        path = self.directory / name
        if not path.exists():
            raise InputError(f"{path} does not exist; finish the run, or evaluate it again")
        return path

    def __repr__(self) -> str:
        """Names the directory and the model."""
        return f"Run({str(self.directory)!r}, model={self.KIND.stem(self.flags)!r})"


class ExportDirectory:
    """An export of either system.

    Args:
        path: directory of the version.

    Attributes:
        path: directory of the version.
    """

    VERIFY: ClassVar[type[ExportFlags]]
    """Flags of the command that verifies an export."""

    def __init__(self, path: Path):
        self.path = path

    @staticmethod
    def _predict() -> Callable[[Any], None]:
        """The task of the system's `predict`."""
        raise NotImplementedError

    def verify(self, *, verbose: bool = False) -> None:
        """Checks every file of the export, and scores its golden rows in every signature.

        Args:
            verbose: prints each check.

        Raises:
            InputError: a file has changed, or a signature returns other scores.
        """
        asked = {"saved_model": str(self.path), "verify": True}
        with flags_of(self.VERIFY, asked) as flags, silent(verbose):
            self._predict()(flags)

    def __repr__(self) -> str:
        """Names the directory."""
        return f"Export({str(self.path)!r})"
