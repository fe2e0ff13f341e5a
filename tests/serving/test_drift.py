"""A period that is like training ends with 0; one that is not ends with 3 and says in what."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mmnet import config, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data import histories
from mmnet.data.windows import Windows
from mmnet.serving import checksums, drift, exported, profile

LIMITS = drift.Limits(psi=0.2, ks=0.2, volume=2.0, bias=0.2)


# --------------------------------------------------------------------------- the two distances


def test_psi_by_hand():
    # Two bins, 3 and 1 of 4 then, 1 and 3 of 4 now.
    then = profile.distribution(np.array([1.0, 1, 1, 2]))
    assert then.shares == (0.75, 0.25, 0)
    # Half a row more in each of three bins (the last: absent) of 4 rows: 3.5, 1.5 and 0.5 of 5.5.
    expected = 2 * (3.5 - 1.5) / 5.5 * np.log(3.5 / 1.5)
    assert profile.psi(then, np.array([1.0, 2, 2, 2])) == pytest.approx(expected)


@pytest.mark.parametrize("draw", ["normal", "poisson", "mostly zero"])
@pytest.mark.parametrize("shift", [0, 0.3, 2])
def test_ks_is_scipys_up_to_the_grid(draw, shift):
    draws = np.random.default_rng(int(10 * shift))

    def sample(n, shift):
        if draw == "normal":
            return draws.normal(shift, 1, n)
        if draw == "poisson":
            return draws.poisson(2 + shift, n).astype(float)
        return draws.exponential(1 + shift, n) * (draws.uniform(size=n) < 0.2)

    then, now = sample(5000, 0), sample(800, shift)
    found = profile.ks(profile.distribution(then), now)
    # The grid of 101 quantiles knows either function to one percent.
    assert found == pytest.approx(stats.ks_2samp(then, now).statistic, abs=0.011)


def test_absent_values_and_new_categories_have_bins_of_their_own():
    then = profile.distribution(np.array(["a", "a", "b", profile.ABSENT], object))
    assert (then.values, then.shares) == (("a", "b"), (0.5, 0.25, 0, 0.25))
    assert then.bins(np.array(["new", "a"], object)).tolist() == [0.5, 0, 0.5, 0]
    numbers = profile.distribution(np.array([1.0, np.nan]))
    assert numbers.absent == 0.5
    assert profile.distribution(np.array([np.nan])).bins(np.array([3.0])).tolist() == [1, 0]


def small_profile(values, items):
    then = profile.distribution(values)
    usual = profile.Period(rows=100, clicks=1000, bias=0.0)
    return profile.Profile(
        inputs={"x": then},
        score=then,
        items=items,
        mean_rate=5.0,
        bias=0.0,
        periods={"1": usual},
    )


def compare(described, values, clicks=1000, error=0.0):
    scores = np.full(200, 5.0)
    scores[::2] += 0.1
    described = described.model_copy(update={"score": profile.distribution(scores)})
    found = drift.compare(described, {"x": values}, scores, scores - error, clicks, LIMITS)
    return {f"{one.name} {one.measure}" for one in found if one.drifted}


def test_the_luck_of_few_rows_is_no_drift():
    draws = np.random.default_rng(0)
    described = small_profile(draws.normal(size=3000), items=3000)
    false = sum(bool(compare(described, draws.normal(size=40))) for _ in range(200))
    # Without the allowance a third of such samples of 40 and more would count.
    assert false <= 1
    one = described.inputs["x"]
    loud = [profile.psi(one, draws.normal(size=40)) > LIMITS.psi for _ in range(200)]
    assert np.mean(loud) > 0.3


def test_a_shift_a_loss_a_volume_and_a_bias_are_found():
    draws = np.random.default_rng(0)
    described = small_profile(draws.normal(size=3000), items=3000)
    same = draws.normal(size=2000)
    assert compare(described, same) == set()
    assert compare(described, same + 1) == {"x PSI", "x KS"}
    lost = np.where(draws.uniform(size=2000) < 0.3, np.nan, same)
    assert compare(described, lost) == {"x PSI"}
    assert compare(described, same, clicks=499) == {"clicks ratio"}
    assert compare(described, same, clicks=2001) == {"clicks ratio"}
    assert compare(described, same, error=1.2) == {"bias percent"}
    assert compare(described, same, error=-1.2) == {"bias percent"}


# ----------------------------------------------------------------------------- the small run


@pytest.fixture(scope="module")
def described(run_dir):
    """The export's profile and the dataset."""
    document = exported.asset(run_dir / "export", profile.FILE)
    return profile.Profile.model_validate(document), datasets.load(run_dir / "dataset")


def drifted(described, dataset, column=21):
    rows = profile.of_period(dataset, column)
    observed = profile.observe(dataset, Windows(dataset), rows)
    nothing = np.zeros(0)
    clicks = int(dataset.panel.clicks[:, column].sum())
    found = drift.compare(described, observed, nothing, nothing, clicks, LIMITS)
    return {one.name for one in found if one.drifted}


def test_a_validation_period_is_usual(described):
    known, dataset = described
    assert drifted(known, dataset) == set()
    assert {"history: clicks", "taxonomy rate: tags", "field: author", "text: title"} < set(
        known.inputs
    )


def with_tensor(dataset, name, change):
    return dataclasses.replace(
        dataset, tensors=dataset.tensors | {name: change(dataset.tensors[name])}
    )


@pytest.mark.parametrize(
    ("name", "tensor", "change"),
    [
        ("numeric: duration", "numeric_duration", lambda x: np.array(x) + 2),
        ("field: category", "field_category", lambda x: np.full(x.shape, 1, x.dtype)),  # unknown
        ("text: title", "text_title", lambda x: np.zeros(x.shape, x.dtype)),
        ("vector: cover", "vector_cover", lambda x: np.array(x) * 10),
    ],
)
def test_an_input_that_changed_is_named_and_no_other(described, name, tensor, change):
    known, dataset = described
    assert drifted(known, with_tensor(dataset, tensor, change)) == {name}


def test_a_broken_log_is_found_in_the_history(described):
    known, dataset = described
    broken = dataclasses.replace(dataset, history=np.array(dataset.history))
    broken.missing_flag[:, 10:21] = 1
    before = dataset.fitted.spec.window - 1
    broken.history[:, before + 10 : before + 21, histories.CLICKS] = 0
    found = drifted(known, broken)
    assert {"history: missing share", "history: clicks", "history: share rate"} <= found


class Unread(list):
    """A vocabulary of which only single values may be read."""

    def __iter__(self):
        raise AssertionError("a large vocabulary would be read for every batch")


def test_a_batch_reads_its_own_values_of_a_vocabulary(described):
    _, data = described
    examples = data.examples("validation").taken(np.arange(50))
    known = data.fitted.vocabularies
    unread = {name: Unread(values) for name, values in known.items()}
    fitted = data.fitted.model_copy(update={"vocabularies": unread})
    data = dataclasses.replace(data, fitted=fitted)
    found = profile.observe(data, Windows(data), examples)
    for field in fitted.spec.fields:
        names = np.array([profile.ABSENT, profile.UNKNOWN, *known[field.tensor]], object)
        wanted = names[data.tensors[field.tensor][examples.items, 0]]
        np.testing.assert_array_equal(found[f"field: {field.name}"], wanted)


def flags(run_dir, tmp_path, **more):
    given = {
        "saved_model": str(run_dir / "export"),
        "dataset_dir": str(run_dir / "dataset"),
        "output": str(tmp_path / "drift"),
    }
    return config.DriftConfig(**given | more)


def test_a_period_of_many_items_is_observed_by_a_sample(described, monkeypatch):
    _, dataset = described
    windows, number = Windows(dataset), 20
    splits = dataset.examples("train"), dataset.examples("validation")
    predicted = np.ones(len(splits[1]))
    whole = profile.fit(dataset, windows, *splits, predicted)
    monkeypatch.setattr(profile, "sample", functools.partial(profile.sample, number=number))
    observe, sizes = profile.observe, []
    monkeypatch.setattr(
        profile, "observe", lambda *given: sizes.append(len(given[-1])) or observe(*given)
    )
    found = profile.fit(dataset, windows, *splits, predicted)
    assert found.periods == whole.periods  # rows, clicks and bias are those of all
    assert set(sizes) == {number}
    assert min(one.rows for one in found.periods.values()) > number


def test_the_driver_ends_with_0_or_3_and_leaves_a_report(run_dir, tmp_path, capsys):
    assert tasks.drift(flags(run_dir, tmp_path, checked="21")) == 0
    assert "no drift" in capsys.readouterr().out
    # A limit that nothing keeps: every bias is more than a billionth of the rate off.
    document = exported.asset(run_dir / "export", profile.FILE)
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    for one in document["inputs"].values():
        if one["quantiles"]:
            one["edges"] = [edge + 100 for edge in one["edges"]]
            one["quantiles"] = [value + 100 for value in one["quantiles"]]
    (copy / exported.ABOUT_DIRECTORY / profile.FILE).write_text(json.dumps(document))
    checksums.write(copy, {})
    assert tasks.drift(flags(run_dir, tmp_path, checked="21", saved_model=str(copy))) == 3
    assert "drifted: " in capsys.readouterr().out
    found = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert found["drifted"]
    assert found["period"] == 21
    names = {one["name"] for one in found["findings"] if one["drifted"]}
    assert {"history: share rate", "numeric: duration"} <= names
    assert "| **yes** |" in (tmp_path / "drift" / "drift.md").read_text()


def test_a_period_without_rows_and_a_strange_profile_are_refused(run_dir, tmp_path):
    with pytest.raises(InputError, match="--checked=0: no item with clicks in this period"):
        tasks.drift(flags(run_dir, tmp_path, checked="0"))
    with pytest.raises(InputError, match="--checked=99 is outside the counts"):
        tasks.drift(flags(run_dir, tmp_path, checked="99"))
    copy = shutil.copytree(run_dir / "export" / "1", tmp_path / "1")
    (copy / exported.ABOUT_DIRECTORY / profile.FILE).write_text('{"inputs": 3}')
    checksums.write(copy, {})
    with pytest.raises(InputError, match=r"profile\.json: inputs: .*export the model again"):
        tasks.drift(flags(run_dir, tmp_path, saved_model=str(copy)))


def test_drift_of_several_outputs_is_about_the_main_one_and_the_histories_of_all(
    several_outputs, tmp_path
):
    flags = config.DriftConfig(
        saved_model=str(several_outputs / "export"),
        counts=str(several_outputs / "counts.parquet"),
        items=str(several_outputs / "items.parquet"),
        output=str(tmp_path / "same"),
        checked="20",
    )
    tasks.drift(flags)
    found = json.loads((tmp_path / "same" / "drift.json").read_text())["findings"]
    names = {one["name"] for one in found}
    assert {"history: clicks", "history of like: clicks", "score", "bias"} <= names
    # A source that has lost the further rate.
    counts = pd.read_parquet(several_outputs / "counts.parquet")
    counts.loc[counts["period"] > 15, ["views", "likes"]] = 0
    counts.to_parquet(tmp_path / "counts.parquet")
    lost = flags.model_copy(
        update={"counts": str(tmp_path / "counts.parquet"), "output": str(tmp_path / "lost")}
    )
    assert tasks.drift(lost) == drift.EXIT_CODE
    found = json.loads((tmp_path / "lost" / "drift.json").read_text())["findings"]
    drifted = {one["name"] for one in found if one["drifted"]}
    assert "history of like: missing share" in drifted
    assert "history: missing share" not in drifted
