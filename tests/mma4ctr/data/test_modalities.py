import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.data import modalities
from mmnet.mma4ctr.data.modalities import Raw
from tests.mma4ctr.files import feed, play, watch, write_tiktok, write_wechat
from tests.mma4ctr.logs import reduction

ITEMS = np.array([1, 4, 9])
FULL = [float(n) for n in range(128)]


def rows_of(data):
    return [data.values[a:b].tolist() for a, b in zip(data.offsets, data.offsets[1:], strict=False)]


def catalogue(tmp_path, feeds):
    return modalities.wechat(write_wechat(tmp_path, [play()], feeds))


def test_an_empty_text_is_filled_from_its_other_column(tmp_path):
    found = catalogue(
        tmp_path,
        [
            feed(5, ocr="7 8", ocr_char="1", asr_char="", asr="2 3 ", description=" 9"),
            feed(3, ocr="", ocr_char="4  5", asr_char="6", asr="1", description="nan"),
            feed(4, ocr="", ocr_char="", description="", description_char="11"),
        ],
    )
    assert found.item_ids.tolist() == [3, 4, 5]
    assert rows_of(found.modalities["visual"].tokens) == [[4, 5], [], [7, 8]]
    assert rows_of(found.modalities["acoustic"].tokens) == [[6], [3], [2, 3]]
    assert rows_of(found.modalities["textual"].tokens) == [[], [11], [9]]


def test_tags_lose_their_probabilities_and_are_filled_but_keywords_are_not(tmp_path):
    found = catalogue(
        tmp_path,
        [
            feed(1, machine_tag_list="25 0.3;34 8.5e-05", manual_tag_list="1"),
            feed(2, manual_tag_list="7;8", manual_keyword_list="5"),
            feed(3, machine_keyword_list="16;17;18"),
        ],
    )
    keywords, tags = found.modalities["textual"].lists
    assert rows_of(tags) == [[25, 34], [7, 8], []]
    assert rows_of(keywords) == [[], [], [16, 17, 18]]


def test_music_ids_written_as_floats_are_whole_and_missing_ones_zero(tmp_path):
    found = catalogue(
        tmp_path, [feed(1, bgm_singer_id="12.0", bgm_song_id=""), feed(2, bgm_singer_id="NaN")]
    )
    singer, song = found.modalities["acoustic"].ids
    assert (singer.tolist(), song.tolist()) == ([12, 0], [0, 0])


def test_wrong_tokens_are_named(tmp_path):
    with pytest.raises(InputError, match=r"feed_info.csv line 3, column ocr or ocr_char: .*'x'"):
        catalogue(tmp_path / "a", [feed(1), feed(2, ocr="1 x 3")])
    with pytest.raises(InputError, match=r"column ocr or ocr_char: .*'1,2,3'"):
        catalogue(tmp_path / "b", [feed(1, ocr="1,2,3")])
    with pytest.raises(InputError, match=r"machine_tag_list.*between semicolons"):
        catalogue(tmp_path / "c", [feed(1, machine_tag_list="1 0.5|2 0.3")])
    with pytest.raises(InputError, match="no feed has anything visual"):
        catalogue(tmp_path / "d", [feed(1, ocr=""), feed(2, ocr="")])
    with pytest.raises(InputError, match="a second time, with other"):
        catalogue(tmp_path / "e", [feed(1), feed(1, ocr="5")])


def tiktok(tmp_path, **features):
    files = {"videos": [[(1, FULL)]], "audios": [[(1, FULL)]], "titles": [(1, {"3": 1})]}
    write_tiktok(tmp_path, [watch()], **(files | features))
    return modalities.tiktok_features(tmp_path, ITEMS)


def test_short_vectors_are_padded_and_absent_items_are_absent(tmp_path):
    raw = tiktok(tmp_path, videos=[[(4, [2.0, 3.0]), (77, FULL)], [(1, [])]]).modalities["visual"]
    assert raw.present.tolist() == [True, True, False]
    assert raw.part.tolist() == [1, 0, -1]
    np.testing.assert_array_equal(raw.vectors[1], [2.0, 3.0, *[0.0] * 126])
    assert not raw.vectors[0].any()


def test_of_several_lines_of_an_item_the_last_counts(tmp_path):
    found = tiktok(
        tmp_path,
        videos=[[(1, [5.0]), (1, [6.0])], [(1, [7.0])]],
        titles=[(9, {"3": 1}), (9, {"8": 2, "4": 1})],
    )
    assert found.modalities["visual"].vectors[0, 0] == 7
    assert rows_of(found.modalities["textual"].tokens) == [[], [], [8, 8, 4]]


def test_a_title_repeats_its_words_and_an_empty_one_reads_zero(tmp_path):
    found = tiktok(
        tmp_path, titles=[(1, {"30": 2, "7": 1}), (500, {"1": 1}), (9, {}), (4, {"5": 1})]
    )
    raw = found.modalities["textual"]
    assert rows_of(raw.tokens) == [[30, 30, 7], [5], [0]]
    assert raw.present.all()


def test_what_is_wrong_in_json_lines_is_said_with_its_place(tmp_path):
    with pytest.raises(InputError, match=r"part1.txt line 2, key video.*129 numbers where 128"):
        tiktok(tmp_path / "long", videos=[[(1, FULL), (4, [*FULL, 1.0])]])
    with pytest.raises(InputError, match=r"track1_title.txt line 2: must be JSON"):
        tiktok(tmp_path / "word", titles=[(1, {"3": 1}), (4, {"a": 1})])
    for name, words in (("one", {"3": 20_000_000}), ("two", {"3": 60_000, "4": 60_000})):
        with pytest.raises(InputError, match=r"title.txt line 2, .* a title of .* at most 100,000"):
            tiktok(tmp_path / name, titles=[(1, {"3": 1}), (4, words)])
    with pytest.raises(InputError, match="no item of the log is in the files of acoustic"):
        tiktok(tmp_path / "empty", audios=[[(77, FULL)]])
    write_tiktok(tmp_path / "none", [watch()], videos=[[(1, FULL)]])
    with pytest.raises(InputError, match=r"track1_audio_\*.txt: no such file"):
        modalities.tiktok_features(tmp_path / "none", ITEMS)
    path = tmp_path / "long" / "track1_video_features_part1.txt"
    path.write_text('{"item_id": 1, "video_feature_dim_128": [1.0]}\n{"item_id": 4\n')
    with pytest.raises(InputError, match="line 2: must be a line of JSON"):
        modalities.tiktok_features(tmp_path / "long", ITEMS)


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
    found = catalogue(tmp_path, [feed(n, asr_char=str(n), bgm_song_id=n % 3) for n in range(1, 9)])
    raw, everyone = found.modalities["acoustic"], np.ones(8, bool)
    full = modalities.table("acoustic", raw, everyone, reduction())
    assert full.shape[1] == 1 + 1 + 1  # one component; 1 singer and 3 songs: one number each
    bare = modalities.table("acoustic", raw, everyone, reduction(music=False))
    np.testing.assert_array_equal(full[:, :1], bare)


def test_lists_are_padded_and_taken_as_they_are(tmp_path):
    found = catalogue(
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
