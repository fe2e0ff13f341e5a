"""What the paper compares with, on the same labelled rows and splits.

| model | reads | trained by |
|---|---|---|
| lr | MMa4CTR's own rows of features | cross-entropy |
| bpr, lightgcn, ngcf | user and item numbers | pairs: a positive and a negative row of its user |
| fpmc | the same, and the last item taken | pairs |
| din, dien | the same, and the last items taken | cross-entropy (dien: and the next item taken) |
| bert4rec, gcsan | the last items taken | the item taken next, of all (bert4rec: and hidden ones) |

Sizes are RecBole's, as the authors' README lists them, and so are the numbers of parameters.
Differences: rows are the labelled ones, where RecBole was given exposures without labels and drew
its negatives at random; a history is what the user took strictly before the row (c1) or in the
support half (c2); and of BERT4Rec's holes, see `sequences.Cloze`.
"""

from mmnet.mma4ctr.models.baselines.losses import LogLikelihood, PairLoss
from mmnet.mma4ctr.models.baselines.model import (
    NAMES,
    PAIRWISE,
    SEQUENTIAL,
    Baseline,
    history_length,
)
from mmnet.mma4ctr.models.baselines.rows import graph, histories, paired_rows, taken_rows
from mmnet.mma4ctr.models.baselines.sequences import logits_bytes

__all__ = [
    "NAMES",
    "PAIRWISE",
    "SEQUENTIAL",
    "Baseline",
    "LogLikelihood",
    "PairLoss",
    "graph",
    "histories",
    "history_length",
    "logits_bytes",
    "paired_rows",
    "taken_rows",
]
