import numpy as np

from mmnet.mma4ctr.data import modalities
from mmnet.mma4ctr.data.modalities import Raw
from tests.mma4ctr.files import catalogue_of_feeds, feed
from tests.mma4ctr.logs import reduction


def random_raw(draw, items, parts=1):
    vectors = draw.normal(size=(items, 128)).astype(np.float32)
    part = (np.arange(items) % parts).astype(np.int16)
    return Raw(np.ones(items, bool), vectors=vectors, part=part)


def test_published_components_are_of_each_file_and_honest_ones_of_all():
    draw = np.random.default_rng(0)
    raw, everyone = random_raw(draw, 60, parts=2), np.ones(60, bool)
    apart = modalities.table("visual", raw, everyone, reduction(per_part=True))
    # The first file decides how many components there are; each file is centred by itself.
    np.testing.assert_allclose(apart[raw.part == 0].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(apart[raw.part == 1].mean(axis=0), 0, atol=1e-5)
    together = modalities.table("visual", raw, everyone, reduction())
    assert abs(together[raw.part == 0].mean(axis=0)).max() > 1e-3
    assert modalities.table("acoustic", raw, everyone, reduction()).shape[1] == 10


def test_statistics_are_of_the_items_to_fit_to_only():
    draw = np.random.default_rng(0)
    raw, fit = random_raw(draw, 60), np.arange(60) < 30
    before = modalities.table("visual", raw, fit, reduction(widths={"visual": 5}))
    raw.vectors[40:] *= 100
    after = modalities.table("visual", raw, fit, reduction(widths={"visual": 5}))
    np.testing.assert_array_equal(before[:40], after[:40])


def test_rounding_is_to_four_decimals(tmp_path):
    raw, everyone = random_raw(np.random.default_rng(0), 30), np.ones(30, bool)
    found = modalities.table("visual", raw, everyone, reduction(rounded=True))
    np.testing.assert_array_equal(found, found.astype(np.float64).round(4).astype(np.float32))


def test_the_acoustic_table_of_wechat_ends_in_random_vectors(tmp_path):
    found = catalogue_of_feeds(
        tmp_path, [feed(n, asr_char=str(n), bgm_song_id=n % 3) for n in range(1, 9)]
    )
    raw, everyone = found.modalities["acoustic"], np.ones(8, bool)
    full = modalities.table("acoustic", raw, everyone, reduction())
    assert full.shape[1] == 1 + 1 + 1  # one component; 1 singer and 3 songs: one number each
    bare = modalities.table("acoustic", raw, everyone, reduction(music=False))
    np.testing.assert_array_equal(full[:, :1], bare)


def test_lists_are_padded_and_taken_as_they_are(tmp_path):
    found = catalogue_of_feeds(
        tmp_path, [feed(1, machine_keyword_list="5;6;7"), feed(2, machine_tag_list="9 0.5")]
    )
    table = modalities.table(
        "textual", found.modalities["textual"], np.ones(2, bool), reduction(widths={"textual": 1})
    )
    np.testing.assert_array_equal(table[:, 1:], [[5, 6, 7, 0], [0, 0, 0, 9]])


def test_stored_arrays_give_the_same_modality_back():
    raw = random_raw(np.random.default_rng(0), 5)
    again = Raw.of(raw.arrays())
    np.testing.assert_array_equal(again.vectors, raw.vectors)
    assert (again.tokens, again.ids, again.lists) == (None, (), ())
