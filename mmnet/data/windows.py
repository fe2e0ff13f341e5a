"""Windows of examples as `tf.data`, gathered batch by batch from resident arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.data.splits import Examples

if TYPE_CHECKING:
    from mmnet.data.dataset import Dataset

Inputs = dict[str, tf.Tensor]


class Windows:
    """Cuts a dataset into model inputs.

    A window is one gather from the history array, which begins before the first period.

    Args:
        dataset: arrays of a dataset directory are read where they lie, and nothing is copied.
    """

    def __init__(self, dataset: Dataset):
        spec = dataset.fitted.spec
        self.window, self.horizon = spec.window, spec.horizon
        self.has_taxonomies = bool(spec.taxonomies)
        _, self.width, channels = dataset.history.shape
        self._num_periods = dataset.panel.num_periods
        self._history = _tensor(dataset.history.reshape(-1, channels))
        self._clicks = _tensor(dataset.panel.clicks.reshape(-1))
        self._shares = _tensor(dataset.panel.shares.reshape(-1))
        self._static = {name: _tensor(array) for name, array in dataset.tensors.items()}

    def gather(self, items: tf.Tensor, times: tf.Tensor) -> Inputs:
        """Inputs of the examples (item, t).

        Args:
            items: int32 [batch], rows of the items table.
            times: int32 [batch], column t of the last period seen.

        Returns:
            One tensor per name of `FeatureSpec.tensors`.
        """
        items, times = tf.cast(items, tf.int64), tf.cast(times, tf.int64)
        first = items * self.width + times  # t is column window - 1 of its padded window
        steps = first[:, None] + tf.range(self.window, dtype=tf.int64)[None, :]
        history = tf.gather(self._history, steps)
        inputs = {tensor.name: history[..., i] for i, tensor in enumerate(schema.HISTORY)}
        if self.has_taxonomies:
            rate, flag = tf.split(history[..., len(schema.HISTORY) :], 2, axis=-1)
            inputs[schema.TAXONOMY_RATE.name] = rate
            inputs[schema.TAXONOMY_MISSING_FLAG.name] = flag
        for name, array in self._static.items():
            rows = tf.gather(array, items)
            inputs[name] = tf.cast(rows, tf.float32) if rows.dtype == tf.float16 else rows
        return inputs

    def target(self, items: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        """The share rate at t + horizon, float32 [batch], percent; 0 where nobody clicked.

        A target counts from its first click on; --min_clicks is a rule about the history.
        """
        cells = self._target_cells(items, times)
        shares = tf.cast(tf.gather(self._shares, cells), tf.float64)
        clicks = tf.cast(tf.gather(self._clicks, cells), tf.float64)
        return tf.cast(tf.math.divide_no_nan(100 * shares, clicks), tf.float32)

    def target_clicks(self, examples: Examples) -> np.ndarray:
        """Clicks at t + horizon, int64 [examples]."""
        items, times = tf.constant(examples.items), tf.constant(examples.times)
        return tf.gather(self._clicks, self._target_cells(items, times)).numpy()

    def _target_cells(self, items: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        items, times = tf.cast(items, tf.int64), tf.cast(times, tf.int64)
        return items * self._num_periods + times + self.horizon

    def training_batches(
        self,
        examples: Examples,
        batch_size: int,
        seed: int,
        *,
        half_weight_clicks: float = 0,
        weighting: Literal["equal", "clicks"] = "equal",
    ) -> tuple[Callable[[int], tf.data.Dataset], int]:
        """Endless batches of (inputs, target) in an order that is a pure function of the step.

        With `half_weight_clicks` c a batch also has weights, [batch]: an example whose target has
        p clicks weighs p / (p + c), over the mean of that. A rate of 5 clicks is no rate of 5,000:
        weighting by the inverse of (sampling variance + a constant) has this form. Without c the
        weighting "clicks" gives it p over the mean of p, which makes of a loss per click the
        likelihood of all of them.

        Every epoch is a new permutation; the examples that do not fill its last batch sit out.

        Args:
            examples: to train on.
            batch_size: examples per step, at most as many as there are.
            seed: of the permutations.
            half_weight_clicks: c; 0 weighs as `weighting` says.
            weighting: "equal", as the paper does, or "clicks".

        Returns:
            A function from the first step wanted to the dataset, and the steps per epoch.
        """
        items, times = _tensor(examples.items), _tensor(examples.times)
        num_examples = len(examples)
        batch_size = min(batch_size, num_examples)
        steps_per_epoch = num_examples // batch_size
        clicks = self.target_clicks(examples)
        by_clicks = weighting == "clicks" and not half_weight_clicks
        weights = clicks if by_clicks else clicks / (clicks + half_weight_clicks)
        weights = tf.constant(weights / weights.mean(), tf.float32)

        def batch(step: tf.Tensor) -> tuple[tf.Tensor | Inputs, ...]:
            epoch, inside = step // steps_per_epoch, step % steps_per_epoch
            place = inside * batch_size + tf.range(batch_size, dtype=tf.int64)
            key = tf.stack([tf.constant(seed, tf.int64), epoch])
            chosen = tf.random.experimental.index_shuffle(place, key, num_examples - 1)
            chosen_items, chosen_times = tf.gather(items, chosen), tf.gather(times, chosen)
            inputs = self.gather(chosen_items, chosen_times)
            target = self.target(chosen_items, chosen_times)
            if half_weight_clicks or by_clicks:
                return inputs, target, tf.gather(weights, chosen)
            return inputs, target

        def batches(first_step: int) -> tf.data.Dataset:
            steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
            made = steps.map(batch, num_parallel_calls=1, deterministic=True).prefetch(8)
            # To rewrite a pipeline, tf.data first copies all the arrays that it gathers from.
            options = tf.data.Options()
            options.experimental_optimization.apply_default_optimizations = False
            options.autotune.enabled = False
            return made.with_options(options)

        return batches, steps_per_epoch

    def batches(self, examples: Examples, batch_size: int = 1024) -> Iterator[tuple[slice, Inputs]]:
        """Inputs of all examples in order, with the slice of examples that each batch is."""
        for start in range(0, len(examples), batch_size):
            part = slice(start, min(start + batch_size, len(examples)))
            yield part, self._gather_compiled(examples.items[part], examples.times[part])

    def targets(self, examples: Examples) -> np.ndarray:
        """Targets of all examples, float32 [examples], percent."""
        return self.target(tf.constant(examples.items), tf.constant(examples.times)).numpy()

    @functools.cached_property
    def _gather_compiled(self):
        shape = tf.TensorSpec([None], tf.int32)
        return tf.function(self.gather, input_signature=[shape, shape])


def _tensor(array: np.ndarray) -> tf.Tensor:
    """A tensor of an array; of a mapped file it is the file's own pages, and nothing is copied."""
    if isinstance(array, np.memmap) and array.flags.writeable and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)
