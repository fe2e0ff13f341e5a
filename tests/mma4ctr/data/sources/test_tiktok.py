import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr.data.sources.tiktok import catalogue
from tests.mma4ctr.files import entries, watch, write_tiktok

ITEMS = np.array([1, 4, 9])
FULL = [float(n) for n in range(128)]


def tiktok(tmp_path, **features):
    files = {"videos": [[(1, FULL)]], "audios": [[(1, FULL)]], "titles": [(1, {"3": 1})]}
    write_tiktok(tmp_path, [watch()], **(files | features))
    return catalogue(tmp_path, ITEMS)


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
    assert entries(found.modalities["textual"].tokens) == [[], [], [8, 8, 4]]


def test_a_title_repeats_its_words_and_an_empty_one_reads_zero(tmp_path):
    found = tiktok(
        tmp_path, titles=[(1, {"30": 2, "7": 1}), (500, {"1": 1}), (9, {}), (4, {"5": 1})]
    )
    raw = found.modalities["textual"]
    assert entries(raw.tokens) == [[30, 30, 7], [5], [0]]
    assert raw.present.all()


def test_what_is_wrong_in_json_lines_is_said_with_its_place(tmp_path):
    with pytest.raises(InputError, match=r"part1.txt line 2, key video.*129 numbers where 128"):
        tiktok(tmp_path / "long", videos=[[(1, FULL), (4, [*FULL, 1.0])]])
    with pytest.raises(InputError, match=r"track1_title.txt line 2: must be JSON"):
        tiktok(tmp_path / "word", titles=[(1, {"3": 1}), (4, {"a": 1})])
    for name, words in (("one", {"3": 20_000_000}), ("two", {"3": 60_000, "4": 60_000})):
        with pytest.raises(InputError, match=r"title.txt line 2, .* a title of .* at most 100,000"):
            tiktok(tmp_path / name, titles=[(1, {"3": 1}), (4, words)])
    with pytest.raises(InputError, match="the files of acoustic features have none"):
        tiktok(tmp_path / "empty", audios=[[(77, FULL)]])
    write_tiktok(tmp_path / "none", [watch()], videos=[[(1, FULL)]])
    with pytest.raises(InputError, match=r"track1_audio_\*.txt: no such file"):
        catalogue(tmp_path / "none", ITEMS)
    path = tmp_path / "long" / "track1_video_features_part1.txt"
    path.write_text('{"item_id": 1, "video_feature_dim_128": [1.0]}\n{"item_id": 4\n')
    with pytest.raises(InputError, match="line 2: must be a line of JSON"):
        catalogue(tmp_path / "long", ITEMS)
