import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from mmnet.config import TableFlags, TaskFlags
from mmnet.data import pipeline
from mmnet.data.splits import Examples
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows, places

ITEMS, PERIODS, WINDOW, HORIZON = 7, 16, 4, 2


@pytest.fixture(scope="module")
def dataset():
    """Seven items with gaps, two taxonomies, a numeric, a text and a vector."""
    rng = np.random.default_rng(0)
    clicks = rng.integers(0, 6, (ITEMS, PERIODS)) * rng.integers(0, 2, (ITEMS, PERIODS))
    clicks[:, [0, -3, -2, -1]] = 7
    item, period = np.nonzero(clicks)
    ids = np.array([f"item {i}" for i in range(ITEMS)], object)
    counts = {"item_id": ids[item], "period": period, "clicks": clicks[item, period]}
    counts["shares"] = rng.integers(0, counts["clicks"] + 1)
    items = {
        "item_id": ids,
        "category": ["a", "b", "a", "b", "a", "", "c"],
        "tags": ["x;y", "x", "", "y", "z", "x", "y"],
        "length": [1.0, 2.0, None, 3.0, 4.0, 5.0, 6.0],
        "title": ["one two", "two", "", "one", "three", "two one", "one"],
    }
    vectors = pa.table({"item_id": ids[:3], "cover": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    found = InMemory(
        Table(pa.table(counts), "counts"),
        Table(pa.table(items), "items"),
        {"cover": Table(vectors, "vectors")},
    )
    flags = TableFlags(taxonomies=("category", "tags"), numerics=("length",), texts=("title",))
    task = TaskFlags(
        window=WINDOW,
        horizon=HORIZON,
        min_clicks=3,
        min_train_clicks=1,
        min_target_clicks=1,
        min_test_rows=1,
        text_tokens=2,
    )
    return pipeline.prepare(found, flags, task)


@pytest.fixture(scope="module")
def windows(dataset):
    return Windows(dataset)


def all_pairs():
    items, times = np.indices((ITEMS, PERIODS - HORIZON))
    return Examples(items.ravel().astype(np.int32), times.ravel().astype(np.int32))


def naive_inputs(dataset, item, t):
    """One example, a period at a time; what lies before the first period is missing."""
    inputs = {"share_rate": [], "missing_flag": [], "clicks": []}
    inputs |= {"taxonomy_rate": [], "taxonomy_missing_flag": []}
    for column in range(t - WINDOW + 1, t + 1):
        if column < 0:
            step = (0, 1, 0, [0, 0], [1, 1])
        else:
            missing = dataset.panel.clicks[item, column] < 3  # --min_clicks
            step = (
                dataset.share_rate[item, column],
                float(missing),
                0 if missing else dataset.panel.clicks[item, column],
                dataset.taxonomy_rate[item, column],
                dataset.taxonomy_missing_flag[item, column],
            )
        for values, value in zip(inputs.values(), step, strict=True):
            values.append(value)
    return inputs | {name: array[item] for name, array in dataset.tensors.items()}


def test_gathers_what_a_loop_over_periods_would(dataset, windows):
    pairs = all_pairs()
    found = windows.gather(tf.constant(pairs.items), tf.constant(pairs.times))
    for row, (item, t) in enumerate(zip(pairs.items, pairs.times, strict=True)):
        for name, values in naive_inputs(dataset, item, t).items():
            np.testing.assert_array_equal(found[name][row], values, err_msg=f"{name} {item} {t}")


def test_gathers_what_the_spec_declares(dataset, windows):
    pairs = all_pairs()
    found = windows.gather(tf.constant(pairs.items), tf.constant(pairs.times))
    declared = {name: (tuple(x.shape[1:]), x.dtype.name) for name, x in found.items()}
    assert declared == dataset.fitted.spec.tensors()


def test_a_missing_step_holds_no_clicks_and_no_rate(dataset, windows):
    pairs = all_pairs()
    found = windows.gather(tf.constant(pairs.items), tf.constant(pairs.times))
    hidden = found["missing_flag"].numpy() == 1
    assert hidden.any()
    assert not found["share_rate"].numpy()[hidden].any()
    assert not found["clicks"].numpy()[hidden].any()


def test_targets_are_the_rates_a_horizon_later_also_with_few_clicks(dataset, windows):
    examples = dataset.split.train
    clicks, shares = dataset.panel.clicks, dataset.panel.shares
    target = examples.times + HORIZON
    few = clicks[examples.items, target] < 3
    assert few.any()  # --min_clicks is a rule about histories
    expected = 100 * shares[examples.items, target] / clicks[examples.items, target]
    # float32 against float64.
    np.testing.assert_allclose(windows.targets(examples), expected, rtol=1e-6)


def test_the_share_of_missing_entries_is_counted_right(dataset):
    for name in ("train", "validation", "test"):
        examples = dataset.split[name]
        flags = [
            naive_inputs(dataset, item, t)["missing_flag"]
            for item, t in zip(examples.items, examples.times, strict=True)
        ]
        # Sums of whole numbers are exact; the two divisions round.
        assert dataset.missing_share(name) == pytest.approx(np.mean(flags), rel=1e-12)


def test_batches_of_all_examples_come_in_order(dataset, windows):
    pairs = all_pairs()
    whole = windows.gather(tf.constant(pairs.items), tf.constant(pairs.times))
    found = list(windows.batches(pairs, batch_size=40))
    assert [part for part, _ in found] == [slice(0, 40), slice(40, 80), slice(80, 98)]
    for name, values in whole.items():
        joined = np.concatenate([inputs[name] for _, inputs in found])
        np.testing.assert_array_equal(joined, values)


# ------------------------------------------------------------------------ batches to train on


def order(dataset, num_examples, *, steps, batch_size=8, seed=0, first_step=0):
    """Rows of the first training examples in each batch, and the steps per epoch."""
    train = dataset.split.train
    examples = Examples(train.items[:num_examples], train.times[:num_examples])
    keys = examples.items.astype(np.int64) * 1000 + examples.times
    rows = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, np.arange(len(keys))), default_value=-1
    )

    class Rows(Windows):
        def gather(self, items, times):
            return rows.lookup(tf.cast(items, tf.int64) * 1000 + tf.cast(times, tf.int64))

    batches, steps_per_epoch = Rows(dataset).training_batches(examples, batch_size, seed)
    found = [batch.numpy() for batch, _ in batches(first_step).take(steps)]
    assert len(keys) == num_examples
    return found, steps_per_epoch


def test_an_epoch_is_a_permutation_and_each_is_another(dataset):
    found, steps_per_epoch = order(dataset, 24, steps=9)
    assert steps_per_epoch == 3
    epochs = [np.concatenate(found[start : start + 3]) for start in (0, 3, 6)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(24))
    assert not (epochs[0] == epochs[1]).all()
    assert not (epochs[1] == epochs[2]).all()


def test_no_example_comes_twice_in_an_epoch_that_leaves_some_out(dataset):
    found, steps_per_epoch = order(dataset, 30, steps=3)
    assert steps_per_epoch == 3  # 6 of 30 sit out
    assert len(set(np.concatenate(found).tolist())) == 24


def test_who_sits_out_changes_with_the_epoch(dataset):
    found, _ = order(dataset, 30, steps=30)
    assert set(np.concatenate(found).tolist()) == set(range(30))


@pytest.mark.parametrize("first_step", [1, 4, 7])
def test_a_batch_is_a_function_of_its_step(dataset, first_step):
    whole, _ = order(dataset, 24, steps=9)
    rest, _ = order(dataset, 24, steps=9 - first_step, first_step=first_step)
    np.testing.assert_array_equal(whole[first_step:], rest)


def test_seeds_differ(dataset):
    first, second = (np.concatenate(order(dataset, 24, steps=3, seed=s)[0]) for s in (0, 1))
    assert not (first == second).all()


@pytest.mark.parametrize("num_examples", [1, 2, 3, 5])
def test_fewer_examples_than_a_batch_make_one_batch(dataset, num_examples):
    found, steps_per_epoch = order(dataset, num_examples, steps=2)
    assert steps_per_epoch == 1
    for batch in found:
        assert sorted(batch.tolist()) == list(range(num_examples))


def test_training_batches_hold_inputs_and_their_targets(dataset, windows):
    examples = dataset.split.train
    batches, _ = windows.training_batches(examples, 16, seed=3)
    inputs, target = next(iter(batches(0)))
    pairs = set(zip(examples.items.tolist(), examples.times.tolist(), strict=True))
    known = {
        (*np.ravel(windows.gather(*place)["share_rate"]), float(windows.target(*place)[0]))
        for place in (([i], [t]) for i, t in pairs)
    }
    for row in range(16):
        assert (*inputs["share_rate"][row].numpy(), float(target[row])) in known


@pytest.mark.parametrize("half_weight_clicks", [0, 5])
def test_stacked_batches_are_the_single_ones(dataset, windows, half_weight_clicks):
    batches, steps = windows.training_batches(
        dataset.split.train, 16, seed=3, half_weight_clicks=half_weight_clicks
    )
    first = steps + 1  # inside the second epoch, which has steps - 1 batches left
    stacks = list(batches.stacked(first, steps - 1, 4))
    assert all(len(stack[1]) == 4 for stack in stacks[:-1])
    expected = [tf.nest.flatten(batch) for batch in batches(first).take(steps - 1)]
    found = [
        [tensor[step] for tensor in tf.nest.flatten(stack)]
        for stack in stacks
        for step in range(len(stack[1]))
    ]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for tensor, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(tensor, wanted)


def test_examples_may_weigh_by_the_clicks_of_their_targets(dataset, windows):
    examples = dataset.split.train
    clicks = dataset.panel.clicks[examples.items, examples.times + HORIZON]
    batches, steps = windows.training_batches(examples, len(examples), 0, half_weight_clicks=5)
    assert steps == 1
    _, _, weights = next(iter(batches(0)))
    expected = clicks / (clicks + 5)  # 5 clicks weigh half of what very many would
    # float32; the order is that of the epoch.
    np.testing.assert_allclose(np.sort(weights), np.sort(expected / expected.mean()), rtol=1e-6)


def test_examples_may_weigh_by_the_clicks_themselves(dataset, windows):
    examples = dataset.split.train
    clicks = dataset.panel.clicks[examples.items, examples.times + HORIZON]
    everything = {"batch_size": len(examples), "seed": 0, "weighting": "clicks"}
    batches, _ = windows.training_batches(examples, **everything)
    _, _, weights = next(iter(batches(0)))
    # float32; the order is that of the epoch.
    np.testing.assert_allclose(np.sort(weights), np.sort(clicks / clicks.mean()), rtol=1e-6)
    # Where clicks count half is said, that holds.
    batches, _ = windows.training_batches(examples, **everything, half_weight_clicks=5)
    expected = clicks / (clicks + 5)
    _, _, weights = next(iter(batches(0)))
    np.testing.assert_allclose(np.sort(weights), np.sort(expected / expected.mean()), rtol=1e-6)


def test_rows_beyond_int32_are_found():
    # 40 million items of 60 periods are 2.4e9 steps, more than int32 numbers.
    found = places(tf.constant([40_000_000]), tf.constant([59]), 60)
    assert found.numpy().tolist() == [2_400_000_059]


# ----------------------------------------------------------------- several horizons and rates


@pytest.fixture(scope="module")
def several():
    """Seven items, two rates at two horizons, and two fields."""
    rng = np.random.default_rng(1)
    views, clicks = (rng.integers(0, 6, (ITEMS, PERIODS)) for _ in range(2))
    views[:, 4:] += 1
    item, period = np.nonzero(views + clicks)
    counts = {"item_id": [f"item {i}" for i in item], "period": period}
    for below, above, panel in (("clicks", "shares", clicks), ("views", "likes", views)):
        counts |= {below: panel[item, period]}
        counts[above] = rng.integers(0, counts[below] + 1)
    items = {"item_id": [f"item {i}" for i in range(ITEMS)], "category": [*"ababa", "", "c"]}
    found = InMemory(Table(pa.table(counts), "counts"), Table(pa.table(items), "items"))
    flags = TableFlags(taxonomies=("category",), also_predict=("like",), rate=("like=likes/views",))
    task = TaskFlags(
        window=3, horizon=(1, 3), min_target_clicks=2, min_test_rows=1, inputs=("age",)
    )
    return pipeline.prepare(found, flags, task)


def naive_target(dataset, item, t, output):
    """The rate and the clicks of one target; none after the last period."""
    counts = dataset.panel.rates["like"] if output.rate else dataset.panel
    column = t + output.horizon
    if column >= PERIODS or not counts.clicks[item, column]:
        return 0.0, 0
    return (
        100 * counts.shares[item, column] / counts.clicks[item, column],
        counts.clicks[item, column],
    )


def test_targets_of_several_outputs_are_those_of_a_loop(several):
    windows, outputs = Windows(several), several.fitted.spec.outputs()
    items, times = (x.ravel().astype(np.int32) for x in np.indices((ITEMS, PERIODS - 1)))
    wanted = [
        [naive_target(several, item, t, output) for output in outputs]
        for item, t in zip(items, times, strict=True)
    ]
    examples = Examples(items, times)
    # float32 against float64.
    np.testing.assert_allclose(windows.targets(examples), np.array(wanted)[..., 0], rtol=1e-6)
    np.testing.assert_array_equal(windows.target_clicks(examples), np.array(wanted)[..., 1])


def test_inputs_of_a_further_rate_are_its_own(several):
    windows = Windows(several)
    items, times = (x.ravel().astype(np.int32) for x in np.indices((ITEMS, PERIODS)))
    found = windows.gather(tf.constant(items), tf.constant(times))
    declared = {name: (tuple(x.shape[1:]), x.dtype.name) for name, x in found.items()}
    assert declared == several.fitted.spec.tensors()
    alone = several.alone(several.fitted.spec.outputs()[2])  # of likes, with a spec of its own
    own = Windows(alone).gather(tf.constant(items), tf.constant(times))
    for main, name in several.fitted.spec.sequences("like").items():
        np.testing.assert_array_equal(found[name], own[main])
    views = several.panel.rates["like"].clicks
    np.testing.assert_array_equal(found["clicks_like"][:, -1], views.ravel())


@pytest.mark.parametrize("half_weight_clicks", [0, 5])
def test_a_target_that_is_not_eligible_weighs_nothing_and_others_one_on_average(
    several, half_weight_clicks
):
    train, windows = several.split.train, Windows(several)
    batches, steps = windows.training_batches(
        train, len(train), seed=0, half_weight_clicks=half_weight_clicks
    )
    assert steps == 1
    _, target, weight = next(iter(batches(0)))
    assert target.shape == weight.shape == train.eligible.shape
    weight = weight.numpy()
    np.testing.assert_array_equal((weight > 0).sum(axis=0), train.eligible.sum(axis=0))
    # float32 sums of some dozens of weights.
    np.testing.assert_allclose(weight.sum(axis=0) / (weight > 0).sum(axis=0), 1, rtol=1e-5)
    if not half_weight_clicks:
        assert set(np.unique(weight)) == {0, 1}


def test_weights_follow_the_clicks_of_their_own_rate(several):
    train, windows = several.split.train, Windows(several)
    batches, _ = windows.training_batches(train, len(train), seed=0, weighting="clicks")
    _, _, weight = next(iter(batches(0)))
    clicks = np.where(train.eligible, windows.target_clicks(train), 0)
    wanted = clicks / clicks.mean(axis=0, where=train.eligible)
    np.testing.assert_allclose(np.sort(weight, axis=0), np.sort(wanted, axis=0), rtol=1e-6)


def test_a_view_has_the_targets_of_one_output_and_all_inputs(several):
    whole = Windows(several)
    for number, output in enumerate(several.fitted.spec.outputs()):
        view = several.of_output(output)
        windows = Windows(view)
        for split in ("train", "validation", "test"):
            rows = several.split[split].eligible[:, number]
            examples = several.split[split].taken(rows)
            own = view.examples(split)
            assert own.eligible is None
            np.testing.assert_array_equal(own.items, examples.items)
            np.testing.assert_array_equal(own.times, examples.times)
            wanted = whole.targets(examples)[:, number]
            np.testing.assert_array_equal(windows.targets(own), wanted)
            clicks = whole.target_clicks(examples)[:, number]
            np.testing.assert_array_equal(windows.target_clicks(own), clicks)
        items, times = tf.constant(own.items), tf.constant(own.times)
        found, inputs = windows.gather(items, times), whole.gather(items, times)
        assert set(found) == set(inputs) == set(several.fitted.spec.tensors())
        for name, tensor in inputs.items():  # the age, too, is that of the main target
            np.testing.assert_array_equal(found[name], tensor)
        assert view.fitted.spec.horizon == output.horizon
        rate = several.fitted.spec.of_rate(output.rate)
        assert view.fitted.spec.rate_scale == rate.rate_scale


def test_one_output_is_its_own_view(dataset):
    [output] = dataset.fitted.spec.outputs()
    assert dataset.of_output(output) is dataset
    assert dataset.alone(output) is dataset
