"""The wiring: config -> dataset -> model -> training -> evaluation -> export -> scores.

Each driver makes one call to the task of its name.
"""

from mmnet.tasks.evaluating import evaluate
from mmnet.tasks.experimenting import experiment
from mmnet.tasks.preparing import encode, prepare
from mmnet.tasks.scoring import drift, predict
from mmnet.tasks.training import train

__all__ = ["drift", "encode", "evaluate", "experiment", "predict", "prepare", "train"]
