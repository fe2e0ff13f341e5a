"""Windows of examples as `tf.data`, gathered batch by batch from arrays in memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import tensorflow as tf

from mmnet import schema
from mmnet.data import histories, lifetimes, moments
from mmnet.data.counts import Counts
from mmnet.data.share_rates import share_rate
from mmnet.data.splits import Examples
from mmnet.schema import Output

if TYPE_CHECKING:
    from mmnet.data.dataset import Dataset

Inputs = dict[str, tf.Tensor]


def places(items: tf.Tensor, times: tf.Tensor, width: int) -> tf.Tensor:
    """Returns positions of (item, time) in a flattened array with `width` times per item.

    int64, since items times periods may be more than int32 can number.

    >>> places(tf.constant([0, 2]), tf.constant([3, 1]), 10).numpy()
    array([ 3, 21])
    """
    return tf.cast(items, tf.int64) * width + tf.cast(times, tf.int64)


class Windows:
    """Cuts windows of a dataset into model inputs.

    A window is one gather from the history array of each rate, which begins before period 0.

    Args:
        dataset: the dataset; mapped arrays of a dataset directory are not copied. Of a view, see
            `Dataset.of_output`, the inputs are those of its whole dataset, and the targets its own.

    Attributes:
        outputs: what is predicted, in the order of the last axis of the targets.
    """

    def __init__(self, dataset: Dataset):
        self.outputs = dataset.fitted.spec.outputs()
        self._num_periods = dataset.panel.num_periods
        counts = {"": Counts(dataset.panel.clicks, dataset.panel.shares), **dataset.panel.rates}
        self._counts = {
            rate: Counts(*(_tensor(array.reshape(-1)) for array in of))
            for rate, of in counts.items()
        }
        dataset = dataset.inputs_of or dataset
        spec = dataset.fitted.spec
        self.window, self.horizon = spec.window, spec.horizon
        _, self.width, channels = dataset.history.shape
        self._histories = {
            rate: _tensor(history.reshape(-1, channels))
            for rate, history in {"": dataset.history, **dataset.rate_histories}.items()
        }
        self._spec, self._calendar = spec, dataset.fitted.calendar
        self._first_period = dataset.panel.first_period
        if spec.age:
            start = dataset.panel.first_period
            self._origins = _tensor(moments.origins(dataset.panel, spec, start=start))
        if spec.lifetime:
            panel, calendar = dataset.panel, dataset.fitted.calendar
            first = lifetimes.first_column(spec.lifetime, panel.first_period, calendar)
            assert first is not None  # only scoring may read shorter counts
            self._lower = _tensor(lifetimes.lower(panel, first))
        self._static = {name: _tensor(array) for name, array in dataset.tensors.items()}

    def gather(self, items: tf.Tensor, times: tf.Tensor) -> Inputs:
        """Gathers the inputs of the examples (item, t).

        Args:
            items: int32 [batch], rows of the items table.
            times: int32 [batch], column t, the last period of the window.

        Returns:
            One tensor per name of `FeatureSpec.tensors`.

        >>> import pyarrow as pa
        >>> from mmnet.config import TableFlags, TaskFlags
        >>> from mmnet.data import pipeline
        >>> from mmnet.data.tables import InMemory, Table
        >>> periods = [*range(12), *range(12)]
        >>> columns = {"item_id": [*"a" * 12, *"b" * 12], "period": periods, "clicks": [4] * 24}
        >>> columns["shares"] = [1] * 12 + [2] * 12
        >>> items = pa.table({"item_id": ["a", "b"]})
        >>> found = InMemory(Table(pa.table(columns), "counts"), Table(items, "items"))
        >>> task = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)
        >>> windows = Windows(pipeline.prepare(found, TableFlags(), task))
        >>> items, times = tf.constant([0, 1]), tf.constant([0, 5])
        >>> windows.gather(items, times)["share_rate"].numpy()  # a: one period before the first
        array([[ 0., 25.],
               [50., 50.]], dtype=float32)
        >>> windows.target(items, times).numpy()
        array([25., 50.], dtype=float32)
        """
        first = places(items, times, self.width)  # t is column window - 1 of its padded window
        steps = first[:, None] + tf.range(self.window, dtype=tf.int64)[None, :]
        inputs = {}
        for rate, array in self._histories.items():
            history, names = tf.gather(array, steps), self._spec.sequences(rate)
            for i, tensor in enumerate(schema.HISTORY):
                inputs[names[tensor.name]] = history[..., i]
            inputs |= histories.of_taxonomies(history, self._spec, rate)
        for name, array in self._static.items():
            rows = tf.gather(array, items)
            inputs[name] = tf.cast(rows, tf.float32) if rows.dtype == tf.float16 else rows
        return inputs | self._moment(items, times) | self._lifetime(items, times)

    def _moment(self, items: tf.Tensor, times: tf.Tensor) -> Inputs:
        if not self._spec.age and not self._spec.cycles:
            return {}
        target = tf.cast(times, tf.int64) + self._first_period + self.horizon
        origin = tf.gather(self._origins, items) if self._spec.age else target
        return moments.tensors(self._spec, self._calendar, origin, target)

    def _lifetime(self, items: tf.Tensor, times: tf.Tensor) -> Inputs:
        if not self._spec.lifetime:
            return {}
        columns = tf.range(self._num_periods, dtype=tf.int64)
        stop = tf.cast(times, tf.int64) + 1 - self.window
        within = (columns >= tf.gather(self._lower, items)[:, None]) & (columns < stop[:, None])
        found = []
        for array in self._counts[""]:
            rows = tf.gather(tf.reshape(array, [-1, self._num_periods]), items)
            found.append(tf.reduce_sum(tf.where(within, rows, 0), axis=1))
        return lifetimes.tensors(*found)

    def target(self, items: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        """Returns the rates at t + h, float32 [batch(, outputs)], percent; 0 without clicks.

        A single click makes a target: --min_clicks only concerns the history. With several outputs,
        a target after the last period is 0 as well, and not eligible.
        """
        found = []
        for output in self.outputs:
            counts, cells, inside = self._counts[output.rate], *self._cells(items, times, output)
            shares = tf.cast(tf.gather(counts.shares, cells), tf.float64)
            clicks = tf.cast(tf.gather(counts.clicks, cells), tf.float64)
            rate = share_rate(shares, tf.maximum(clicks, 1))
            found.append(tf.cast(tf.where(inside & (clicks > 0), rate, 0), tf.float32))
        return tf.stack(found, axis=-1) if len(found) > 1 else found[0]

    def target_clicks(self, examples: Examples) -> np.ndarray:
        """Returns clicks at t + h, int64 [examples] or [examples, outputs]; 0 after the log."""
        items, times = tf.constant(examples.items), tf.constant(examples.times)
        found = []
        for output in self.outputs:
            cells, inside = self._cells(items, times, output)
            clicks = tf.gather(self._counts[output.rate].clicks, cells)
            found.append(tf.where(inside, clicks, 0).numpy())
        return np.stack(found, axis=-1) if len(found) > 1 else found[0]

    def _cells(
        self, items: tf.Tensor, times: tf.Tensor, output: Output
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns places of targets in a flattened panel, and which are not after its end."""
        column = tf.cast(times, tf.int64) + output.horizon
        inside = column < self._num_periods
        return places(items, tf.minimum(column, self._num_periods - 1), self._num_periods), inside

    def training_batches(
        self,
        examples: Examples,
        batch_size: int,
        seed: int,
        *,
        half_weight_clicks: float = 0,
        weighting: Literal["equal", "clicks"] = "equal",
    ) -> tuple[TrainingBatches, int]:
        """Returns endless batches of (inputs, target); the order is a pure function of the step.

        With `half_weight_clicks` c a batch also has weights, [batch]: an example whose target has
        p clicks has weight p / (p + c), divided by the mean weight. A rate from 5 clicks is less
        certain than one from 5,000, and weights by the inverse of (sampling variance + a constant)
        have this form. Without c the weighting "clicks" uses p divided by the mean of p, which
        makes a loss per click the likelihood of all clicks.

        With several outputs there are always weights, [batch, outputs]: 0 for a target that does
        not belong to the split, and of mean 1 over the other targets of each output.

        Every epoch is a new permutation; examples that do not fill its last batch are skipped.

        Args:
            examples: the training examples.
            batch_size: examples per step, at most the number of examples.
            seed: seed of the permutations.
            half_weight_clicks: c; 0 uses `weighting` instead.
            weighting: "equal", as in the paper, or "clicks".

        Returns:
            The batches, as a function of the first step, and the number of steps per epoch.
        """
        weights, eligible = None, examples.eligible
        if half_weight_clicks or weighting == "clicks":
            clicks = self.target_clicks(examples)
            weights = clicks / (clicks + half_weight_clicks) if half_weight_clicks else clicks
            if eligible is None:
                weights = weights / weights.mean()
            else:
                weights = np.where(eligible, weights, 0)
                weights = weights / weights.mean(axis=0, where=eligible)
        elif eligible is not None:
            weights = eligible.astype(np.float32)
        batches = TrainingBatches(self, examples, batch_size, seed, weights)
        return batches, batches.steps_per_epoch

    def batches(self, examples: Examples, batch_size: int = 1024) -> Iterator[tuple[slice, Inputs]]:
        """Yields the inputs of all examples in order, with the slice of examples of each batch."""
        for start in range(0, len(examples), batch_size):
            part = slice(start, min(start + batch_size, len(examples)))
            yield part, self._gather_compiled(examples.items[part], examples.times[part])

    def targets(self, examples: Examples) -> np.ndarray:
        """Returns the targets of all examples, float32 [examples(, outputs)], percent."""
        return self.target(tf.constant(examples.items), tf.constant(examples.times)).numpy()

    @functools.cached_property
    def _gather_compiled(self):
        shape = tf.TensorSpec([None], tf.int32)
        return tf.function(self.gather, input_signature=[shape, shape], autograph=False)


class TrainingBatches:
    """Endless batches of (inputs, target) or (inputs, target, weight); see `training_batches`.

    Args:
        windows: computes the inputs and targets.
        examples: the training examples.
        batch_size: examples per step, at most the number of examples.
        seed: seed of the permutations.
        weights: weights of the examples, [examples] or [examples, outputs]; None for no weights.

    Attributes:
        steps_per_epoch: number of batches of one epoch.
    """

    def __init__(
        self,
        windows: Windows,
        examples: Examples,
        batch_size: int,
        seed: int,
        weights: np.ndarray | None = None,
    ):
        self._windows, self._seed = windows, seed
        self._items, self._times = _tensor(examples.items), _tensor(examples.times)
        self._weights = None if weights is None else tf.constant(weights, tf.float32)
        self._num_examples = len(examples)
        self.batch_size = min(batch_size, self._num_examples)
        self.steps_per_epoch = self._num_examples // self.batch_size

    def __call__(self, first_step: int) -> tf.data.Dataset:
        """Yields one batch per element, starting with a global step."""
        steps = tf.data.Dataset.range(first_step, np.iinfo(np.int64).max)
        return self._read(steps, lambda step: self._batches(step[None], ()), 8)

    def stacked(self, first_step: int, num_steps: int, size: int) -> tf.data.Dataset:
        """Yields the same batches, `size` per element, [steps, batch, ...], from one gather.

        Args:
            first_step: a global step.
            num_steps: total number of batches, all of one epoch.
            size: batches per element; the last element may have fewer.
        """
        end = first_step + num_steps

        def stack(first: tf.Tensor):
            steps = tf.range(first, tf.minimum(first + size, end))
            return self._batches(steps, (tf.shape(steps)[0],))

        return self._read(tf.data.Dataset.range(first_step, end, size), stack, 1)

    def _batches(self, steps: tf.Tensor, shape: tuple) -> tuple[tf.Tensor | Inputs, ...]:
        """Gathers the examples of several steps of one epoch, [*shape, batch, ...]."""
        epoch, within = steps[0] // self.steps_per_epoch, tf.range(self.batch_size, dtype=tf.int64)
        place = (steps % self.steps_per_epoch)[:, None] * self.batch_size + within
        key = tf.stack([tf.constant(self._seed, tf.int64), epoch])
        chosen = tf.random.experimental.index_shuffle(
            tf.reshape(place, [-1]), key, self._num_examples - 1
        )
        items, times = tf.gather(self._items, chosen), tf.gather(self._times, chosen)
        found: tuple[tf.Tensor | Inputs, ...] = (
            self._windows.gather(items, times),
            self._windows.target(items, times),
        )
        if self._weights is not None:
            found = (*found, tf.gather(self._weights, chosen))
        return tf.nest.map_structure(
            lambda rows: tf.reshape(rows, (*shape, self.batch_size, *rows.shape[1:])), found
        )

    @staticmethod
    def _read(steps: tf.data.Dataset, batches: Callable, ahead: int) -> tf.data.Dataset:
        # Off, since tf.data would copy all arrays that it gathers from to rewrite the pipeline.
        options = tf.data.Options()
        options.experimental_optimization.apply_default_optimizations = False
        options.autotune.enabled = False
        # AutoGraph has nothing to convert here, and would take longer than building the graph.
        plain = tf.autograph.experimental.do_not_convert(batches)
        found = steps.map(plain, num_parallel_calls=1, deterministic=True)
        return found.prefetch(ahead).with_options(options)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """Wraps an array as a tensor without copying, even if it is a mapped file."""
    if isinstance(array, np.memmap) and array.flags.writeable and array.size:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)
