import pytest

from mmnet.checks import InputError
from tests.mma4ctr.files import catalogue_of_feeds, entries, feed


def test_an_empty_text_is_filled_from_its_other_column(tmp_path):
    found = catalogue_of_feeds(
        tmp_path,
        [
            feed(5, ocr="7 8", ocr_char="1", asr_char="", asr="2 3 ", description=" 9"),
            feed(3, ocr="", ocr_char="4  5", asr_char="6", asr="1", description="nan"),
            feed(4, ocr="", ocr_char="", description="", description_char="11"),
        ],
    )
    assert found.item_ids.tolist() == [3, 4, 5]
    assert entries(found.modalities["visual"].tokens) == [[4, 5], [], [7, 8]]
    assert entries(found.modalities["acoustic"].tokens) == [[6], [3], [2, 3]]
    assert entries(found.modalities["textual"].tokens) == [[], [11], [9]]


def test_tags_lose_their_probabilities_and_are_filled_but_keywords_are_not(tmp_path):
    found = catalogue_of_feeds(
        tmp_path,
        [
            feed(1, machine_tag_list="25 0.3;34 8.5e-05", manual_tag_list="1"),
            feed(2, manual_tag_list="7;8", manual_keyword_list="5"),
            feed(3, machine_keyword_list="16;17;18"),
        ],
    )
    keywords, tags = found.modalities["textual"].lists
    assert entries(tags) == [[25, 34], [7, 8], []]
    assert entries(keywords) == [[], [], [16, 17, 18]]


def test_music_ids_written_as_floats_are_whole_and_missing_ones_zero(tmp_path):
    found = catalogue_of_feeds(
        tmp_path, [feed(1, bgm_singer_id="12.0", bgm_song_id=""), feed(2, bgm_singer_id="NaN")]
    )
    singer, song = found.modalities["acoustic"].ids
    assert (singer.tolist(), song.tolist()) == ([12, 0], [0, 0])


def test_wrong_tokens_are_named(tmp_path):
    with pytest.raises(InputError, match=r"feed_info.csv line 3, column ocr or ocr_char: .*'x'"):
        catalogue_of_feeds(tmp_path / "a", [feed(1), feed(2, ocr="1 x 3")])
    with pytest.raises(InputError, match=r"column ocr or ocr_char: .*'1,2,3'"):
        catalogue_of_feeds(tmp_path / "b", [feed(1, ocr="1,2,3")])
    with pytest.raises(InputError, match=r"machine_tag_list.*between semicolons"):
        catalogue_of_feeds(tmp_path / "c", [feed(1, machine_tag_list="1 0.5|2 0.3")])
    with pytest.raises(InputError, match="the visual modality is empty"):
        catalogue_of_feeds(tmp_path / "d", [feed(1, ocr=""), feed(2, ocr="")])
    with pytest.raises(InputError, match="with other values than in its first row"):
        catalogue_of_feeds(tmp_path / "e", [feed(1), feed(1, ocr="5")])
