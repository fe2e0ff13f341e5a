"""What an evaluation writes: its numbers by hand, its files by their contract."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from matplotlib import colors
from matplotlib.image import imread

from mmnet.evaluation import error_tables, intervals, plots, report
from mmnet.evaluation.report import Probes, Setting, metrics, table, write_report
from mmnet.evaluation.scenarios import SCENARIOS
from mmnet.evaluation.significance import Clusters

RUN = dict(split="chronological", taxonomy_mean="leave_one_out", seed=0)
SETTING = Setting(**RUN)
COUNTED = dict(numerator="shares", denominator="clicks")
CONTRACT = {"mse", "mae", "precision_at_5", "precision_at_10", "spearman", "n"}


def predictions(n=400, seed=0, **columns):
    """Simulated predictions of a good, an ignorant and a fair forecast, one per scenario."""
    draws = np.random.default_rng(seed)
    chance = draws.beta(1, 30, n)
    clicks = 50 + draws.geometric(0.005, n)
    shares = draws.binomial(clicks, chance)
    rows = pd.DataFrame(
        {
            "item_id": [f"item {i}" for i in range(n)],
            "period": pd.Timestamp("2021-03-01") + pd.to_timedelta(np.arange(n) % 5, unit="D"),
            "clicks": clicks,
            "shares": shares,
            "share_rate": 100 * shares / clicks,
            "true_share_rate": 100 * chance,
            "natural_observed_periods": draws.integers(0, 7, n),
            "age_periods": draws.geometric(0.1, n) - 1,
            "category": draws.choice(["music", "news", "$a_b$", "food"], n),
            "tags": [["a", "b", "b"], ["c"], []] * (n // 3) + [["a"]] * (n % 3),
        }
    )
    known = {"normal": 0.9, "cold_start": 0.0, "noisy": 0.5}
    frame = pd.concat(
        [
            rows.assign(
                scenario=scenario,
                predicted_share_rate=part * 100 * chance + (1 - part) * 3.3,
                observed_periods=np.floor(part * rows["natural_observed_periods"]).astype(int),
            )
            for scenario, part in known.items()
        ]
    )
    return frame.assign(**columns)


def small(**columns):
    """Four rows a scenario; off by one, by two and not at all."""
    truth = [0.0, 2.0, 4.0, 10.0]
    rows = [
        (scenario, f"item {i}", i % 2, 50, rate, rate + error)
        for scenario, error in zip(SCENARIOS, (1.0, 2.0, 0.0), strict=True)
        for i, rate in enumerate(truth)
    ]
    return pd.DataFrame(rows, columns=report.COLUMNS).assign(**columns)


# ----------------------------------------------------------------------------------- metrics


def test_metrics_by_hand():
    found = metrics(small(), SETTING)
    assert [found[s]["mse"] for s in SCENARIOS] == [1, 4, 0]
    assert [found[s]["mae"] for s in SCENARIOS] == [1, 2, 0]
    for scenario in SCENARIOS:
        assert found[scenario]["n"] == 4
        assert found[scenario]["spearman"] == pytest.approx(1)
        assert found[scenario]["precision_at_5"] == 1
        assert found[scenario]["precision_at_5_per_period"] is None  # two rows a period
        # 10⁴ (0 + .02·.98 + .04·.96 + .1·.9) / 4 / 49.
        assert found[scenario]["sampling_noise_mse"] == pytest.approx(1e4 * 0.148 / 4 / 49)


def test_metrics_have_the_form_of_the_contract():
    found = metrics(predictions(), SETTING)
    assert set(found) == {*SCENARIOS, *RUN}
    assert {name: found[name] for name in RUN} == RUN
    for scenario in SCENARIOS:
        assert set(found[scenario]) >= CONTRACT
        assert all(
            isinstance(found[scenario][name], float) for name in CONTRACT - {"n", "spearman"}
        )


def test_the_keys_do_not_depend_on_what_is_known():
    full, bare = metrics(predictions(), SETTING), metrics(small(), SETTING)
    assert [sorted(full[s]) for s in SCENARIOS] == [sorted(bare[s]) for s in SCENARIOS]
    assert bare["normal"]["mse_to_true_rate"] is None
    assert bare["normal"]["by_observed_periods"] is None


def test_the_order_of_rows_and_columns_changes_no_metric():
    frame = predictions()
    shuffled = metrics(frame.sample(frac=1, random_state=0)[sorted(frame.columns)], SETTING)
    for scenario, known in metrics(frame, SETTING).items():
        if scenario in SCENARIOS:
            for name in ("n", "tied", "spearman", "precision_at_5", "precision_at_10_per_period"):
                assert shuffled[scenario][name] == known[name]
            # Sums in another order differ in the last bits.
            assert shuffled[scenario]["mse"] == pytest.approx(known["mse"], rel=1e-12)


def test_a_constant_prediction_has_no_correlation_and_scores_chance():
    found = metrics(predictions(predicted_share_rate=3.3), SETTING)["normal"]
    assert found["spearman"] is None
    assert found["precision_at_5"] == 20 / 400
    assert found["precision_at_5_per_period"] == pytest.approx(0.05)


def test_ties_of_the_truth_are_named():
    rate = np.zeros(400)
    rate[:30] = np.arange(1, 31)
    found = metrics(predictions(share_rate=np.tile(rate, 3)), SETTING)
    assert found["noisy"]["tied"] == ["precision_at_10"]


def test_error_to_the_true_rate_leaves_the_sampling_noise_out():
    found = metrics(predictions(n=3000), SETTING)["normal"]
    noise = found["mse"] - found["mse_to_true_rate"]
    # Both estimate the same noise from 3,000 rows with heavy tails: a fifth of it.
    assert noise == pytest.approx(found["sampling_noise_mse"], rel=0.2)


def test_rows_by_observed_periods_add_up():
    frame = predictions()
    found = metrics(frame, SETTING)
    assert [row["observed_periods"] for row in found["normal"]["by_observed_periods"]] == [
        *range(6)
    ]
    assert found["cold_start"]["by_observed_periods"] == [
        {"observed_periods": 0, "n": 400, "mse": pytest.approx(found["cold_start"]["mse"])}
    ]


@pytest.mark.parametrize(
    "columns",
    [
        dict(share_rate=np.tile([0.0, 2.0, 4.0, 130.0], 3)),  # forks per star
        dict(shares=0.25, share_rate=0.5),  # durations
    ],
)
def test_sampling_noise_is_left_out_where_the_rate_is_no_share_of_clicks(columns):
    assert metrics(small(**columns), SETTING)["normal"]["sampling_noise_mse"] is None
    assert metrics(small(), Setting(**RUN, binomial=False))["normal"]["sampling_noise_mse"] is None


def test_sampling_noise_knows_shares_from_float32_rates():
    frame = predictions().drop(columns="shares")
    frame["clicks"] *= 10_000  # millions of clicks: a float32 rate is off by a part of a share
    frame["share_rate"] = frame["share_rate"].astype("float32")
    assert metrics(frame, SETTING)["normal"]["sampling_noise_mse"] > 0


def wrong_truth():
    frame = small()
    frame.loc[frame.index[-1], "share_rate"] = 11.0
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (small().rename(columns={"clicks": "click"}), "need the column clicks. Did you mean click"),
        (small()[lambda frame: frame["scenario"] != "noisy"], "Received: normal, cold_start"),
        (small(scenario="nosy"), "Received: nosy"),
        (small(system=["a"] * 6 + ["b"] * 6), "one system. Received: a, b"),
        (pd.concat([small(), small().tail(1)]), "Received two of noisy, item 3, 1"),
        (small().head(-1), "noisy differs from normal"),
        (wrong_truth(), "noisy differs from normal"),
        (small(predicted_share_rate=np.nan), "finite"),
    ],
)
def test_says_what_is_wrong(frame, message):
    with pytest.raises(ValueError, match=message):
        metrics(frame, SETTING)


# ------------------------------------------------------------------------------------ tables


def system(normal, cold_start, noisy, tied=()):
    """Metrics of one system: (MSE, P@5, P@10) per scenario."""
    rows = dict(zip(SCENARIOS, (normal, cold_start, noisy), strict=True))
    keys = ("mse", "precision_at_5", "precision_at_10")
    return {s: dict(zip(keys, row, strict=True), n=1234, tied=tied) for s, row in rows.items()}


PAPER = {
    "HA": system((1.650, 0.919, 0.920), (42.143, 0.054, 0.101), (7.174, 0.747, 0.791)),
    "MMNet": system((0.149, 0.977, 0.976), (3.442, 0.755, 0.786), (0.175, 0.968, 0.969)),
}


def test_the_table_reads_like_table_1_of_the_paper():
    header, rule, ha, mmnet = table(PAPER).splitlines()
    assert header == (
        "| System | Normal MSE | Normal P@5 | Normal P@10 | Cold-start MSE | Cold-start P@5 | "
        "Cold-start P@10 | Noisy MSE | Noisy P@5 | Noisy P@10 | n |"
    )
    assert rule == "| --- |" + " ---: |" * 10
    assert ha == (
        "| HA | 1.650 | 0.919 | 0.920 | 42.143 | 0.054 | 0.101 | 7.174 | 0.747 | 0.791 | 1,234 |"
    )
    assert mmnet == (
        "| MMNet | **0.149** | **0.977** | **0.976** | **3.442** | **0.755** | **0.786** | "
        "**0.175** | **0.968** | **0.969** | 1,234 |"
    )


def test_systems_that_print_alike_are_best_together():
    same = (0.14901, 0.05, 0.5), (1.0, 0.5, 0.5), (1.0, 0.5, 0.5)
    other = (0.14899, 0.05, 0.5), (1.0, 0.5, 0.5), (1.0, 0.5, 0.5)
    first, second = table({"a": system(*same), "b": system(*other)}).splitlines()[2:]
    assert first.startswith("| a | **0.149** | **0.050** |")
    assert second.startswith("| b | **0.149** | **0.050** |")


def test_small_errors_keep_their_digits():
    row = (0.00012345, 0.5, 0.5)
    assert "0.000123" in table({"a": system(row, row, row)})


def test_the_table_marks_ties_and_what_is_not_known():
    row = (1.0, 0.5, None)
    line = table({"a | b": system(row, row, row, tied=["precision_at_5"])}).splitlines()[2]
    assert line.startswith(r"| a \| b | **1.000** | **0.500**† | – |")


def test_bins_of_clicks_and_ages_cover_every_row():
    frame = predictions(n=3000)
    for column in ("clicks", "age_periods", "natural_observed_periods"):
        found = error_tables.error_table(frame, column)
        assert found["n"].sum() == 3000
        assert found["n"].iloc[-1] >= 30
        whole = metrics(frame, SETTING)
        for scenario in SCENARIOS:
            assert np.average(found[scenario], weights=found["n"]) == pytest.approx(
                whole[scenario]["mse"]
            )


def test_bins_are_named_by_what_they_hold():
    ages = np.repeat([0, 1, 3, 4, 5, 7, 9], 40)
    frame = predictions(n=280, age_periods=np.tile(ages, 3))
    found = error_tables.error_table(frame, "age_periods")
    assert found["group"].tolist() == ["0", "1", "3", "4–5", "6–7", "8 or more"]
    assert found["n"].tolist() == [40, 40, 40, 80, 40, 40]


def test_each_bin_has_the_interval_of_its_own_rows():
    ages = np.repeat([0, 1, 3, 4, 5, 7, 9, np.nan], 40)  # 3 before 4 and 5: no row of age 2
    frame = predictions(n=320, age_periods=np.tile(ages, 3))
    frame["item_id"] = np.tile(np.arange(320) // 5, 3)
    found = error_tables.error_table(frame, "age_periods", with_ends=True)
    assert len(found) == 6
    for scenario in SCENARIOS:
        own = frame[(frame["scenario"] == scenario) & frame["age_periods"].isin([4, 5])]
        squared = (own["predicted_share_rate"] - own["share_rate"]).to_numpy() ** 2
        known = intervals.mse_ends(squared, Clusters(own["item_id"].to_numpy()))
        (row,) = found[found["group"] == "4–5"].to_dict("records")
        ends = {end: row[f"{scenario}_{end}"] for end in ("low", "high")}
        assert ends == pytest.approx(known, rel=1e-12)


def bands(figure):
    """Colours of the shaded areas of each panel."""
    return [
        [tuple(area.get_facecolor()[0][:3]) for area in axes.collections] for axes in figure.axes
    ]


def test_curves_have_bands_where_intervals_are_known():
    curve = [{"missing_rate": rate, "mse": 2.0, "precision_at_5": 0.5} for rate in (0, 1)]
    assert bands(plots.degradation_plot({"a": curve})) == [[], []]
    with_ends = [row | {"mse_low": 1.0, "mse_high": 4.0} for row in curve]
    figure = plots.degradation_plot({"a": with_ends})
    assert list(map(len, bands(figure))) == [1, 0]
    (area,) = figure.axes[0].collections
    assert area.get_datalim(figure.axes[0].transData).intervaly.tolist() == [1.0, 4.0]
    assert "without the variance between seeds" in figure.axes[0].get_title(loc="left")
    frame = predictions(n=300)
    frame["item_id"] = np.tile(np.arange(300) // 3, 3)
    for ends in (False, True):
        errors = error_tables.error_table(frame, "clicks", with_ends=ends)
        figure = plots.error_plot(errors, "clicks")
        shown = [colors.to_rgb(plots.COLOURS[s]) for s in SCENARIOS] if ends else []
        assert bands(figure) == [shown]
        texts = [text.get_text() for text in figure.axes[0].texts]
        assert ("Bands: 95 % intervals of the MSE by test item" in "".join(texts)) == ends


# ------------------------------------------------------------------------------------- files


def scores(factor):
    """Scores of one outage, worse by a factor in MSE."""
    return {
        s: {"mse": factor * (1 + n), "precision_at_5": 0.9 / factor, "precision_at_10": 0.8}
        for n, s in enumerate(SCENARIOS)
    }


OUTAGE = {"nothing": scores(1), "taxonomies": scores(1.5), "vector_$a_b$": scores(3)}
ATTENTION = {
    s: {"fusion": {"history": 1 - part, "meta": part, "vector_cover": 0.0}}
    for s, part in zip(SCENARIOS, (0.25, 0.875, 0.5), strict=True)
}


def attention_rows():
    frame = predictions()[["scenario", "item_id", "period"]]
    return frame.assign(fusion_history=np.float32(0.75))


def write(directory):
    return write_report(
        directory,
        predictions(system="MMNet"),
        SETTING,
        Probes(outage=OUTAGE, attention_rows=attention_rows()),
        others={"HA": PAPER["HA"]},
        taxonomies=["category", "tags"],
        attention=ATTENTION,
        **COUNTED,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run") / "evaluation"
    found = write(directory)
    return directory, found


def test_writes_every_file_and_nothing_else(written):
    directory, _ = written
    assert {path.name for path in directory.iterdir()} == {
        "metrics.json",
        "systems.json",
        "predictions.parquet",
        "table.md",
        "calibration.png",
        "predicted_vs_true.png",
        "outage.json",
        "outage.png",
        "attention.json",
        "attention.parquet",
        "gates.png",
        "error_by_age.png",
        "error_by_clicks.png",
        "share_rate_by_category.png",
        "share_rate_by_tags.png",
        "report.html",
    }


def test_metrics_json_is_what_was_returned_in_plain_json(written):
    directory, found = written
    text = (directory / "metrics.json").read_text()
    assert json.loads(text) == found == intervals.with_ends(metrics(predictions(), SETTING), {})
    assert "NaN" not in text
    assert found["cold_start"]["spearman"] is None  # its forecast is a constant
    assert text == json.dumps(found, indent=2, sort_keys=True) + "\n"


def test_systems_json_holds_every_row_of_the_table(written):
    directory, found = written
    systems = json.loads((directory / "systems.json").read_text())
    assert list(systems) == ["HA", "MMNet"]
    assert systems["MMNet"] == found
    assert table({"MMNet": found, "HA": PAPER["HA"]}) in (directory / "table.md").read_text()


def test_predictions_start_with_the_columns_of_the_contract(written):
    directory, _ = written
    assert tuple(pyarrow.parquet.read_schema(directory / "predictions.parquet").names)[:6] == (
        "scenario", "item_id", "period", "clicks", "share_rate", "predicted_share_rate",
    )  # fmt: skip
    found = pd.read_parquet(directory / "predictions.parquet")
    np.testing.assert_array_equal(
        found["predicted_share_rate"], predictions()["predicted_share_rate"]
    )


def test_the_text_has_every_table(written):
    directory, _ = written
    text = (directory / "table.md").read_text()
    for part in (
        "Sampling noise",
        "## Calibration",
        "## MSE by observed periods",
        "## MSE by item",
    ):
        assert part in text
    assert "nan" not in text.lower()


def test_plots_can_be_read(written):
    directory, _ = written
    for path in directory.glob("*.png"):
        pixels = imread(path)
        height, width = pixels.shape[:2]
        assert 300 < height < 2000
        assert 900 < width < 2500
        assert len(np.unique(pixels[..., 0])) > 20  # something is drawn


def test_the_same_predictions_write_the_same_bytes(written, tmp_path):
    directory, _ = written
    write(tmp_path)
    for path in directory.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "columns",
    [
        dict(),
        dict(predicted_share_rate=0.0),
        dict(share_rate=0.0, predicted_share_rate=0.0),
        dict(share_rate=np.tile([0.0, 1.0, 2.0, 300.0], 3)),
        dict(predicted_share_rate=-1.0),
        dict(age_periods=np.nan, category=None),
    ],
)
def test_odd_predictions_are_reported_all_the_same(tmp_path, columns):
    taxonomies = ["category"] if "category" in columns else []
    counted = COUNTED | {"numerator": "paid == '$_$'"}  # which is no formula of Matplotlib's
    write_report(tmp_path, small(**columns), SETTING, Probes(), taxonomies=taxonomies, **counted)
    assert (tmp_path / "metrics.json").exists()
    assert (tmp_path / "error_by_age.png").exists() == ("age_periods" in columns)
    assert not (tmp_path / "outage.json").exists()  # what is not known is not written
    assert not (tmp_path / "attention.json").exists()


def test_the_outage_table_has_a_row_for_each_input_that_is_gone(written):
    directory, _ = written
    assert json.loads((directory / "outage.json").read_text()) == OUTAGE
    section = (directory / "table.md").read_text().split("## What if an input is missing?\n")[1]
    assert "without it every scenario is cold-start" in section
    header, _, nothing, taxonomies = [li for li in section.splitlines() if li[:1] == "|"][:4]
    assert header.startswith("| Removed | Normal MSE | Normal P@5 | Normal P@10 | Cold-start MSE |")
    assert nothing == (
        "| nothing | 1.000 | 0.900 | 0.800 | 2.000 | 0.900 | 0.800 | 3.000 | 0.900 | 0.800 |"
    )
    assert taxonomies.startswith("| taxonomies | 1.500 | 0.600 | 0.800 | 3.000 |")


def test_the_gates_are_a_table_and_bars_that_sum_to_one(written):
    directory, _ = written
    assert json.loads((directory / "attention.json").read_text()) == ATTENTION
    text = (directory / "table.md").read_text()
    assert "| Scenario | history | meta | vector_cover |\n" in text
    assert "| Cold-start | 0.125 | 0.875 | 0.000 |\n" in text
    figure = plots.gates_plot({"fusion": {s: kinds["fusion"] for s, kinds in ATTENTION.items()}})
    widths = np.array([bar.get_width() for bar in figure.axes[0].patches]).reshape(3, 3)
    np.testing.assert_allclose(widths[1], [0.25, 0.875, 0.5])  # meta, scenario by scenario
    np.testing.assert_allclose(widths.sum(axis=0), 1)


def test_the_parts_of_a_head_have_a_panel_and_a_table_of_their_own():
    parts = {"own_clicks": 0.5, "prior": 0.25, "direct": 0.25}
    attention = {
        s: {**kinds, "head": parts, "prior_fusion": {"taxonomies": 0.75, "meta": 0.25}}
        for s, kinds in ATTENTION.items()
    }
    gates = report._gates(attention)
    assert list(gates) == ["head", "fusion", "prior_fusion"]
    figure = plots.gates_plot(gates)
    shown = [
        [[bar.get_width() for bar in bars] for bars in axes.containers] for axes in figure.axes
    ]
    assert shown[0] == [[0.5] * 3, [0.25] * 3, [0.25] * 3]
    assert shown[2] == [[0.75] * 3, [0.25] * 3]
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Weights of the parts of a prediction",
        "Weights of the modalities in the direct part",
        "Weights of the modalities in the prior",
    ]
    # A modality has one colour, whoever looks at it.
    colours = [
        {bars.get_label(): bars[0].get_facecolor() for bars in axes.containers}
        for axes in figure.axes
    ]
    assert colours[1]["meta"] == colours[2]["meta"] != colours[1]["history"]
    text = report._gates_text(gates["head"])
    assert "| Scenario | own_clicks | prior | direct |\n" in text
    assert "| Noisy | 0.500 | 0.250 | 0.250 |\n" in text


def test_the_outage_plot_shows_every_score(written):
    figure = plots.outage_plot(OUTAGE)
    widths = [[bar.get_width() for bar in axes.patches] for axes in figure.axes]
    assert widths[:3] == [[1, 1.5, 3], [2, 3, 6], [3, 4.5, 9]]
    np.testing.assert_allclose(widths[3:], [[0.9, 0.6, 0.3]] * 3)


def test_without_a_gate_the_means_are_written_and_nothing_is_drawn(tmp_path):
    context = {s: {"context": {"title": 0.5, "body": 0.5}} for s in SCENARIOS}
    write_report(
        tmp_path,
        small(),
        SETTING,
        Probes(outage={"nothing": scores(1)}),
        attention=context,
        **COUNTED,
    )
    assert json.loads((tmp_path / "attention.json").read_text()) == context
    names = {path.name for path in tmp_path.iterdir()}
    assert "outage.json" in names
    assert not names & {"gates.png", "outage.png"}


def test_wrong_predictions_write_nothing(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        write_report(
            tmp_path / "new", small(predicted_share_rate=np.nan), SETTING, Probes(), **COUNTED
        )
    assert not (tmp_path / "new").exists()


def test_labels_name_other_rates_by_their_columns():
    figure = plots.taxonomy_plot(predictions(), "category", "share rate (forks per 100 stars, %)")
    assert figure.axes[0].get_xlabel() == "mean share rate (forks per 100 stars, %)"


def test_the_category_plot_shows_the_true_means_in_order():
    frame = predictions()
    figure = plots.taxonomy_plot(frame, "category", "share rate")
    normal = frame[frame["scenario"] == "normal"].groupby("category")["share_rate"].mean()
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(bars, normal.sort_values())


def test_an_item_counts_once_for_each_of_its_tags():
    figure = plots.taxonomy_plot(predictions(n=300), "tags", "share rate")
    labels = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert labels == {"a  (n = 100)", "b  (n = 100)", "c  (n = 100)"}


def test_the_category_plot_keeps_the_twenty_with_most_rows():
    names = [f"c{i}" for i in range(25) for _ in range(i + 1)]
    frame = predictions(n=325, category=np.tile(names, 3))
    axes = plots.taxonomy_plot(frame, "category", "share rate").axes[0]
    assert len(axes.patches) == 20
    assert "the 20 of 25 values" in axes.get_title(loc="left")
    assert "c4  (n = 5)" not in {label.get_text() for label in axes.get_yticklabels()}
