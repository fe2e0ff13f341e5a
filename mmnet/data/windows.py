"""Windows of examples as `tf.data`, gathered batch by batch from resident arrays."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.data import share_rates
from mmnet.data.splits import Examples

if TYPE_CHECKING:
    from mmnet.data.dataset import Dataset

Inputs = dict[str, tf.Tensor]


class Windows:
    """Cuts a dataset into model inputs.

    The item's history and its taxonomy sequences stand in one array padded with `window - 1`
    missing periods in front, so a window is one gather and reaches before the first period.

    Args:
        dataset: its histories are copied into TensorFlow once; content is read where it lies.
    """

    def __init__(self, dataset: Dataset):
        spec = dataset.fitted.spec
        self.window, self.horizon = spec.window, spec.horizon
        self.has_taxonomies = bool(spec.taxonomies)
        num_items, num_periods = dataset.share_rate.shape
        flags = 3 + len(spec.taxonomies)  # where the taxonomies' flags begin
        channels = flags + len(spec.taxonomies)
        self.width = num_periods + self.window - 1
        padded = np.zeros((num_items, self.width, channels), np.float32)
        before, history = np.split(padded, [self.window - 1], axis=1)
        before[..., 1] = before[..., flags:] = 1
        history[..., 0], history[..., 1] = dataset.share_rate, dataset.missing_flag
        history[..., 2] = np.where(dataset.missing_flag == 0, dataset.panel.clicks, 0)
        history[..., 3:flags] = dataset.taxonomy_rate
        history[..., flags:] = dataset.taxonomy_missing_flag
        self._history = tf.constant(padded.reshape(-1, channels))
        # A target counts from its first click on; --min_clicks is a rule about the history.
        target, _ = share_rates.share_rates(dataset.panel, 1)
        self._target = tf.constant(target.ravel())
        self._clicks, self._num_periods = dataset.panel.clicks, num_periods
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
        """The share rate at t + horizon, float32 [batch], percent."""
        items, times = tf.cast(items, tf.int64), tf.cast(times, tf.int64)
        return tf.gather(self._target, items * self._num_periods + times + self.horizon)

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
        items, times = tf.constant(examples.items), tf.constant(examples.times)
        num_examples = len(examples)
        batch_size = min(batch_size, num_examples)
        steps_per_epoch = num_examples // batch_size
        clicks = self._clicks[examples.items, examples.times + self.horizon]
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
