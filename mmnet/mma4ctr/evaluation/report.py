"""Test metrics of a run: the document `metrics.json`, and its table."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from mmnet.evaluation.report import markdown_table
from mmnet.mma4ctr.evaluation.metrics import RAW, Scores
from mmnet.mma4ctr.models import REGISTRY


class Report(BaseModel):
    """Test metrics of a run and of its references.

    Attributes:
        protocol: p0, c1, c2 or recbole.
        seed: seed of the run.
        model: a key of `models.REGISTRY`.
        in_features: columns of a row of features; 0 for a model of numbers.
        parameters: number of trainable ones.
        epoch: the one that was chosen, counted from 1.
        test: metrics of the chosen epoch.
        references: the same of rates, of the planted probability and, where it was fitted, of
            LightGBM; see `references.probabilities`.
        at_epoch: epoch -> the same, for `--evaluate_at`.
    """

    model_config = ConfigDict(frozen=True)

    protocol: str
    seed: int
    model: str
    in_features: int
    parameters: int
    epoch: int
    test: Scores
    references: dict[str, Scores]
    at_epoch: dict[str, Scores] = {}

    @property
    def title(self) -> str:
        """The model's name in tables, and the protocol."""
        return f"{REGISTRY[self.model].title or self.model}, {self.protocol}"

    def table(self) -> str:
        """Metrics as a Markdown table, the model first.

        AUC is over all rows, and user AUC is the mean over users of their own AUC. Compare PR-AUC
        with the share of positives, which is the score of a constant. Raw LogLoss is RecBole's, of
        outputs that need not be probabilities; only runs of its protocol have it.
        """
        return markdown_table(*self.cells())

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """The header and the rows of the table."""
        header = ["system", "AUC", "user AUC", "PR-AUC", "LogLoss", "calibrated"]
        metrics = ["auc", "user_auc", "pr_auc", "log_loss", "log_loss_calibrated"]
        if RAW in self.test:
            header, metrics = [*header, "raw LogLoss"], [*metrics, RAW]
        rows = [
            [
                name,
                *(f"{row[metric]:.4f}" if metric in row else "" for metric in metrics),
                *(f"{row[size]:,}" for size in ("rows", "positives")),
            ]
            for name, row in {self.title: self.test, **self.references}.items()
        ]
        return [*header, "rows", "positives"], rows
