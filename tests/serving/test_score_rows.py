"""Scores of a model with two rates and two horizons, from tables and from a dataset."""

import keras
import numpy as np
import pandas as pd
import pytest

from mmnet import config, tasks
from mmnet.checks import InputError
from mmnet.data import dataset as datasets
from mmnet.data.splits import Examples
from mmnet.data.windows import Windows
from mmnet.flags import parse
from mmnet.serving import decision, export, exported, golden, reasons
from tests.serving import several
from tests.serving.exported import needs

NAMES = {
    (1, "predicted_share_rate"): 0,
    (3, "predicted_share_rate"): 1,
    (1, "predicted_like"): 2,
    (3, "predicted_like"): 3,
}
"""Horizon and column -> number of the output."""


def predict(place, output, *more):
    flags = [f"--saved_model={place / 'export'}", f"--output={output}", *more]
    tasks.predict(parse(config.PredictConfig, flags))
    return pd.read_parquet(output)


def of_tables(place):
    return [f"--{name}={place / name}.parquet" for name in ("counts", "items")]


@pytest.fixture(scope="module")
def scored(several_outputs, tmp_path_factory):
    """Scores with everything that can be asked for."""
    output = tmp_path_factory.mktemp("scores") / "scores.parquet"
    more = ["--as_of=20", "--rule=stored", "--explore", "--explain"]
    return predict(several_outputs, output, *of_tables(several_outputs), *more)


@pytest.fixture(scope="module")
def wanted(several_outputs):
    """What the network itself returns for the same items, and with their own clicks hidden."""
    dataset = datasets.load(several_outputs / "dataset")
    items = np.arange(several.ITEMS, dtype=np.int32)
    examples = Examples(items, np.full(several.ITEMS, 20, np.int32))
    (_, inputs), *_ = Windows(dataset).batches(examples, len(items))
    model = keras.models.load_model(several_outputs / "model.keras")
    inputs = {name: np.asarray(tensor) for name, tensor in inputs.items()}
    gone = reasons.filled(inputs, reasons.hidden(dataset.fitted.spec)["own_clicks"])
    return dataset, *(np.asarray(model(one)) for one in (inputs, inputs | gone))


def test_a_row_per_item_and_horizon_with_a_column_per_rate(scored, wanted):
    dataset, predicted, _ = wanted
    assert list(scored.columns[:5]) == [
        *("item_id", "period", "horizon", "predicted_share_rate", "predicted_like")
    ]
    assert scored["item_id"].tolist() == [f"i{n}" for n in range(several.ITEMS) for _ in range(2)]
    assert scored["horizon"].tolist() == [1, 3] * several.ITEMS
    assert scored["period"].tolist() == [21, 23] * several.ITEMS
    for (horizon, column), number in NAMES.items():
        found = scored.loc[scored["horizon"] == horizon, column]
        # Another order of float32 sums.
        np.testing.assert_allclose(found, predicted[:, number], rtol=1e-4)
    window = slice(17, 21)
    for column, rate in (("seen_clicks", ""), ("seen_clicks_like", "like")):
        clicks = dataset.panel.of_rate(rate).clicks[:, window].sum(axis=1)
        np.testing.assert_array_equal(scored[column][::2], clicks)


def test_every_output_has_its_own_interval(scored, several_outputs):
    decisions = exported.document(several_outputs / "export", decision.FILE, decision.Decisions)
    outputs = exported.fitted(several_outputs / "export").spec.outputs()
    for output in outputs:
        rows = scored[scored["horizon"] == output.horizon]
        column, of = (
            ("predicted_like", "like") if output.rate else ("predicted_share_rate", "share_rate")
        )
        clicks = rows["seen_clicks_like" if output.rate else "seen_clicks"].to_numpy()
        low, high = decisions.of(output).bounds(clicks, rows[column].to_numpy())
        np.testing.assert_array_equal(rows[f"{of}_low"], low)
        np.testing.assert_array_equal(rows[f"{of}_high"], high)


def test_a_rule_decides_in_the_rows_of_its_horizon_by_its_rate(scored, several_outputs):
    decisions = exported.document(several_outputs / "export", decision.FILE, decision.Decisions)
    output = exported.fitted(several_outputs / "export").spec.outputs()[3]
    rule = decisions.of(output).rules[several.RULES[0]]
    rows, others = scored[scored["horizon"] == 3], scored[scored["horizon"] == 1]
    assert others["decision"].isna().all()
    assert others["propensity"].isna().all()
    # Items of odd numbers are of the category c1.
    threshold = np.where(np.arange(several.ITEMS) % 2, rule.thresholds["c1"], rule.threshold)
    kept = rows["predicted_like"].to_numpy() >= threshold
    np.testing.assert_array_equal(rows["decision"] == "keep", kept)
    band = ~kept & (rows["like_high"].to_numpy() >= threshold)
    np.testing.assert_array_equal(rows["propensity"], np.where(kept, 1, np.where(band, 0.5, 0)))
    assert 0 < (rows["decision"] == "explore").sum() < band.sum()
    assert 0 < kept.sum() < len(kept) - band.sum()


def test_reasons_are_of_the_rate_that_the_rule_decides_by(scored, wanted):
    _, predicted, without = wanted
    for horizon, number in ((1, 2), (3, 3)):
        found = scored.loc[scored["horizon"] == horizon, "reason_own_clicks"]
        change = predicted[:, number] - without[:, number]
        # Differences of float32 scores of up to 30 percent.
        np.testing.assert_allclose(found, change, rtol=1e-3, atol=1e-4)


def test_decide_decides_as_predict(scored, several_outputs, wanted):
    dataset, _, _ = wanted
    items = np.arange(several.ITEMS, dtype=np.int32)
    examples = Examples(items, np.full(several.ITEMS, 20, np.int32))
    rows = golden.rows(dataset, Windows(dataset), examples, several.ITEMS)
    shown = np.arange(several.ITEMS) % 2 == 0  # of the others, the history is hidden
    loaded, _ = export.load(several_outputs / "export")
    given = {name: array[shown] for name, array in (rows.columns | rows.keys).items()}
    found = loaded.signatures["decide"](**given)
    assert given["target_period"].tolist() == ["21"] * shown.sum()  # of the first horizon
    later = scored[scored["horizon"] == 3][shown]
    assert [one.decode() for one in found["decision"].numpy()] == later["decision"].tolist()
    np.testing.assert_allclose(found["propensity"], later["propensity"])
    for name, column in (
        ("predicted_like_h3", "predicted_like"),
        ("like_h3_high", "like_high"),
        ("share_rate_h3_low", "share_rate_low"),
    ):
        np.testing.assert_allclose(found[name], later[column], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found["reason_own_clicks"], later["reason_own_clicks"], rtol=1e-3, atol=1e-4
    )


def test_a_dataset_scores_as_its_tables(scored, several_outputs, tmp_path):
    more = [f"--dataset_dir={several_outputs / 'dataset'}", "--rule=threshold=9 of like at 3"]
    found = predict(several_outputs, tmp_path / "scores.parquet", "--as_of=20", *more)
    for column in ("item_id", "period", "horizon", "seen_clicks_like", "observed_periods"):
        assert found[column].equals(scored[column])
    for column in ("predicted_share_rate", "predicted_like", "like_high"):
        np.testing.assert_allclose(found[column], scored[column], rtol=1e-6)
    rows = found[found["horizon"] == 3]
    assert rows["decision"].equals(
        pd.Series(np.where(rows["predicted_like"] >= 9, "keep", "drop"), rows.index)
    )


def test_a_directory_of_blocks_resumes(scored, several_outputs, tmp_path):
    more = [*of_tables(several_outputs), "--as_of=20", "--shard_items=16"]
    first = predict(several_outputs, tmp_path / "scores", *more)
    assert len(list((tmp_path / "scores").glob("part-*"))) == 4
    (tmp_path / "scores" / "part-00002.parquet").unlink()
    again = predict(several_outputs, tmp_path / "scores", *more)
    assert again.equals(first)
    np.testing.assert_allclose(first["predicted_like"], scored["predicted_like"], rtol=1e-6)


def test_another_runtime_returns_every_output(scored, several_outputs, tmp_path):
    needs("onnx")
    more = [*of_tables(several_outputs), "--as_of=20", "--runtime=onnx"]
    found = predict(several_outputs, tmp_path / "scores.parquet", *more)
    for column in ("predicted_share_rate", "predicted_like"):
        np.testing.assert_allclose(found[column], scored[column], rtol=1e-4)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("threshold=9 of lke", "does not predict a rate 'lke', only like. Did you mean like"),
        ("threshold=9 at 2", "does not predict 2 periods ahead, only --horizon=1,3"),
        ("keep=0.1 of like", "was not solved when this model was trained"),
    ],
)
def test_a_rule_of_what_is_not_predicted_is_refused(several_outputs, tmp_path, rule, told):
    with pytest.raises(InputError, match=f"^--rule={rule}.*{told}"):
        predict(
            several_outputs, tmp_path / "x.parquet", *of_tables(several_outputs), f"--rule={rule}"
        )


def test_a_table_without_the_counts_of_a_rate_is_refused(several_outputs, tmp_path):
    counts = pd.read_parquet(several_outputs / "counts.parquet").drop(columns="likes")
    counts.to_parquet(tmp_path / "counts.parquet")
    more = [f"--counts={tmp_path / 'counts.parquet'}", of_tables(several_outputs)[1]]
    with pytest.raises(InputError, match="likes"):
        predict(several_outputs, tmp_path / "x.parquet", *more)


def test_the_export_passes_its_own_checks(several_outputs, capsys):
    flags = [f"--saved_model={several_outputs / 'export'}", "--verify"]
    tasks.predict(parse(config.PredictConfig, flags))
    told = capsys.readouterr().out
    assert "WRONG" not in told
    assert "golden rows, decide" in told
