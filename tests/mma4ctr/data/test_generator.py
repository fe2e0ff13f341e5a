import itertools
import math
from collections import Counter

import numpy as np
import pyarrow.csv
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.config import InteractionFlags
from mmnet.mma4ctr.data import dataset, generator, weighted_label
from mmnet.mma4ctr.data.sources import SOURCES
from mmnet.mma4ctr.evaluation import metrics

SMALL = {"users": 60, "feeds": 200, "rows": 12_000, "text_scale": 0.02}


def actions(directory):
    return pyarrow.csv.read_csv(directory / "user_action.csv").to_pandas()


def test_a_seed_repeats_the_same_files(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        generator.wechat_files(tmp_path / name, **SMALL, embeddings=True, seed=seed)
    for path in (tmp_path / "a").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / path.name).read_bytes()


def test_columns_are_the_publishers(tmp_path):
    generator.wechat_files(tmp_path, **SMALL, embeddings=True)
    head = (tmp_path / "user_action.csv").open().readline().strip()
    assert head == (
        "userid,feedid,date_,device,read_comment,comment,like,play,stay,click_avatar,forward,"
        "follow,favorite"
    )
    head = (tmp_path / "feed_info.csv").open().readline().strip()
    assert head == (
        "feedid,authorid,videoplayseconds,description,ocr,asr,bgm_song_id,bgm_singer_id,"
        "manual_keyword_list,machine_keyword_list,manual_tag_list,machine_tag_list,"
        "description_char,ocr_char,asr_char"
    )
    line = (tmp_path / "feed_embeddings.csv").open().readlines()[1]
    assert len(line.split(",")[1].split(" ")) == 512


def test_positives_come_as_often_as_was_planted(tmp_path):
    options = SMALL | {"rows": 40_000, "feeds": 4000, "rate": 0.05, "ugly": False}
    truth = generator.wechat_files(tmp_path, **options)
    rows = actions(tmp_path)
    label = weighted_label.positive(rows).to_numpy()
    chance = truth.probability(rows["userid"], rows["feedid"])
    # Three standard errors of a sum of independent draws.
    error = 3 * np.sqrt(np.sum(chance * (1 - chance)))
    assert label.sum() == pytest.approx(chance.sum(), abs=error)
    # Where it is planted high, it is high: by tenths of the planted probability.
    order = np.argsort(chance)
    for part in np.array_split(order, 10):
        error = 4 * np.sqrt(np.sum(chance[part] * (1 - chance[part])))
        assert label[part].sum() == pytest.approx(chance[part].sum(), abs=error)


def test_behaviours_are_as_frequent_as_in_the_contest_given_who_is_a_positive(tmp_path):
    generator.wechat_files(
        tmp_path, **(SMALL | {"rows": 100_000, "feeds": 9000, "rate": 0.05, "ugly": False})
    )
    rows = actions(tmp_path)
    positive = weighted_label.positive(rows).to_numpy()
    assert 0.04 < positive.mean() < 0.06
    # Positives are drawn by the planted rule. Given them, all seven behaviours are those of the
    # contest: independent, each with its own rate, where their weighted sum is on the right side.
    rates, weights = generator.RATES, weighted_label.WEIGHTS
    chance = {True: Counter(), False: Counter()}
    for done in itertools.product((0, 1), repeat=len(rates)):
        pattern = dict(zip(rates, done, strict=True))
        high = sum(weights[name] * pattern[name] for name in rates) >= weighted_label.LEAST_SCORE
        likelihood = math.prod(rates[name] if pattern[name] else 1 - rates[name] for name in rates)
        chance[high]["all"] += likelihood
        for name in rates:
            chance[high][name] += likelihood * pattern[name]
    for name in rates:
        for high in (True, False):
            expected, number = chance[high][name] / chance[high]["all"], (positive == high).sum()
            # Four standard errors of a binomial share, for each of fourteen.
            error = 4 * np.sqrt(expected * (1 - expected) / number)
            found = rows[name][positive == high].mean()
            assert found == pytest.approx(expected, abs=error), (name, high)


def test_noise_has_one_probability(tmp_path):
    truth = generator.wechat_files(
        tmp_path, **SMALL, user_dispersion=0.0, taste_sd=0.0, item_sd=0.0, rate=0.01
    )
    rows = actions(tmp_path)
    np.testing.assert_allclose(truth.probability(rows["userid"], rows["feedid"]), 0.01)


def test_the_ugly_cases_are_there(tmp_path):
    generator.wechat_files(tmp_path / "wechat", **SMALL)
    rows = actions(tmp_path / "wechat")
    assert rows.duplicated(["userid", "feedid"]).any()
    assert (rows.groupby("userid")["device"].nunique() > 1).any()
    feeds = pyarrow.csv.read_csv(tmp_path / "wechat" / "feed_info.csv").to_pandas()
    assert not set(feeds["feedid"]) <= set(rows["feedid"])
    text = (tmp_path / "wechat" / "feed_info.csv").read_text()
    assert ",," in text
    assert ".0," in text
    generator.tiktok_files(tmp_path / "tiktok", users=20, items=500, rows=4000)
    flags = InteractionFlags(source="tiktok", source_dir=str(tmp_path / "tiktok"), min_rows=10)
    found = dataset.prepare(flags, tmp_path / "dataset")
    for raw in found.modalities.values():
        assert 0 < raw.present.mean() < 1
    assert (found.modalities["visual"].vectors[found.modalities["visual"].present] == 0).any()


def test_tiktok_truth_is_of_likes(tmp_path):
    truth = generator.tiktok_files(tmp_path, users=40, items=3000, rows=30_000, rate=0.05)
    flags = InteractionFlags(source="tiktok", source_dir=str(tmp_path), min_rows=1)
    found = dataset.prepare(flags, tmp_path / "dataset")
    chance = truth.probability(found.user_ids[found.user], found.item_ids[found.item])
    # 1,500 positives: the planted order is found again.
    assert metrics.auc(found.label, chance) > 0.6
    again = generator.Truth.read(tmp_path / generator.TRUTH)
    np.testing.assert_array_equal(
        again.probability(found.user_ids[:1], found.item_ids[:1]),
        truth.probability(found.user_ids[:1], found.item_ids[:1]),
    )


def test_both_tracks_of_tiktok_have_one_layout(tmp_path):
    options = {"users": 8, "items": 60, "rows": 400, "video_parts": 2}
    found = {}
    for source in ("tiktok", "tiktok_track2"):
        raw = tmp_path / source
        SOURCES[source].generate(raw, options)
        flags = InteractionFlags(source=source, source_dir=str(raw), min_rows=1)
        found[source] = dataset.prepare(flags, tmp_path / "datasets" / source)
    assert {path.name for path in (tmp_path / "tiktok_track2").glob("*track*")} == {
        path.name.replace("track1", "track2") for path in (tmp_path / "tiktok").glob("*track*")
    }
    one, two = found.values()
    np.testing.assert_array_equal(two.label, one.label)
    for name, raw in one.modalities.items():
        np.testing.assert_array_equal(two.modalities[name].present, raw.present)


def test_an_option_out_of_range_is_told(tmp_path):
    with pytest.raises(InputError, match="--generate: `rate` must be in"):
        SOURCES["wechat"].generate(tmp_path, {"rate": 2.0})
