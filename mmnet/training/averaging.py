"""Weight averaging: validation and export use the mean weights of the most recent steps."""

from __future__ import annotations

import keras
from keras import ops

from mmnet.training import resume

POLYNOMIAL = 8
"""η of the first steps; the average then covers about the last tenth of all steps so far."""


class WeightAverage:
    """Keeps a moving average of the variables that training changes.

    With w the weights after step n, counted from 1, and m the momentum:

        a_n = d_n a_(n-1) + (1 - d_n) w_n        d_n = min(m, (n - 1) / (n + η))

    At first this is polynomial-decay averaging (Shamir and Zhang, 2013, with η = 8), so that the
    weights before the first step have no part and early ones lose theirs; from about 9 / (1 - m)
    steps on it is the exponential moving average. Averaged are the trainable weights and the
    statistics of batch normalisation, which belong to them; counters and random states are not.

    Args:
        model: built and compiled; from then on each of its training steps updates the average.
        momentum: m, in (0, 1).

    Attributes:
        variables: the averages; a checkpoint needs them to resume exactly.

    Raises:
        ValueError: `momentum` is outside (0, 1).
    """

    def __init__(self, model: keras.Model, momentum: float):
        if not 0 < momentum < 1:
            raise ValueError(f"`momentum` must be in (0, 1). Received: momentum={momentum}")
        self._momentum, self._steps = momentum, model.optimizer.iterations
        self._averaged = [
            variable
            for variable in resume.model_variables(model)
            if keras.backend.is_float_dtype(variable.dtype)
        ]
        self.variables = [
            keras.Variable(variable, trainable=False, dtype=variable.dtype, name="average")
            for variable in self._averaged
        ]
        take = model.train_step

        def train_step(batch):
            logs = take(batch)
            self.update()
            return logs

        model.train_step = train_step

    def update(self) -> None:
        """Update the average with the weights after a training step."""
        n = ops.cast(self._steps, "float32")
        kept = ops.minimum(self._momentum, (n - 1) / (n + POLYNOMIAL))
        for average, variable in zip(self.variables, self._averaged, strict=True):
            # As a sum of products, so that the first step leaves nothing of what was there before.
            average.assign(kept * average + (1 - kept) * variable)

    def show(self) -> None:
        """Load the averages into the model; the caller restores the model's own weights."""
        for average, variable in zip(self.variables, self._averaged, strict=True):
            variable.assign(average)
