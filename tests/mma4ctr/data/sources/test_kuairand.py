import csv

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.mma4ctr import config
from mmnet.mma4ctr.data import dataset
from mmnet.mma4ctr.data.sources import kuairand
from tests.data.sources.test_kuairand import LOG, VIDEOS

VIDEO = VIDEOS.partition("\n")[0].split(",")
MIDNIGHT = 1_650_816_000_000  # 2022-04-25 at 0:00 in China, in ms
DAY = 24 * 60 * 60 * 1000


def shown(user=1, video=1, time=MIDNIGHT, **others):
    row = dict.fromkeys(LOG, 0) | {"user_id": user, "video_id": video, "time_ms": time}
    return row | {"date": 20220425, "tab": 1} | others


def video(number, **columns):
    empty = dict.fromkeys(VIDEO, "")
    return empty | {"video_id": number, "video_type": "NORMAL", "tag": "3"} | columns


def write(directory, rows, videos):
    directory.mkdir(parents=True, exist_ok=True)
    for name, columns, lines in (
        ("log_1.csv", LOG, rows),
        ("video_features_basic_1.csv", VIDEO, videos),
    ):
        with (directory / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(lines)
    return directory


def prepared(tmp_path, rows, videos, **flags):
    place = write(tmp_path / "raw", rows, videos)
    flags = config.InteractionFlags(source="kuairand", source_dir=str(place), **flags)
    return dataset.prepare(flags, tmp_path / "dataset")


def test_days_are_those_of_china_and_the_label_is_the_one_asked_for(tmp_path):
    rows = [
        shown(7, 1, MIDNIGHT - 1, is_click=1, tab=4),
        shown(7, 1, MIDNIGHT, long_view=1),
        shown(7, 2, MIDNIGHT + DAY - 1, is_click=1, long_view=1),
        shown(9, 2, MIDNIGHT + DAY, is_like=1),
    ]
    videos = [video(2), video(1)]
    found = prepared(tmp_path, rows, videos)
    assert (found.time - found.time[0]).tolist() == [0, 1, 1, 2]
    assert found.time[0] * DAY == MIDNIGHT + 8 * 60 * 60 * 1000 - DAY
    assert found.label.tolist() == [1, 0, 1, 0]
    assert found.device.tolist() == [4, 1, 1, 1]
    assert found.user_ids[found.user].tolist() == [7, 7, 7, 9]
    for label, wanted in (("long_view", [0, 1, 1, 0]), ("like", [0, 0, 0, 1])):
        assert prepared(tmp_path / label, rows, videos, label=label).label.tolist() == wanted


def test_videos_have_what_the_publisher_says_of_each_modality(tmp_path):
    place = write(
        tmp_path,
        [shown()],
        [
            video(5, video_duration=1000, server_width="", tag="3,7", music_id=12, music_type=9),
            video(2, video_type="AD", upload_type="Web", tag="", music_type=""),
            video(9, video_duration=999, tag="7,7"),
        ],
    )
    found = kuairand.catalogue(place, np.array([2, 5]))
    assert found.item_ids.tolist() == [2, 5, 9]
    visual, acoustic, textual = (found.modalities[n] for n in ("visual", "acoustic", "textual"))
    np.testing.assert_allclose(visual.vectors[:, 0], np.log([1, 1001, 1000]), rtol=1e-6)
    assert visual.vectors[:, 3:].tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 0]]  # AD, NORMAL, Web
    assert acoustic.vectors.tolist() == [[0], [1], [0]]
    assert acoustic.ids[0].tolist() == [0, 12, 0]
    assert textual.vectors.tolist() == [[0, 0], [1, 1], [0, 1]]  # 3 and 7
    assert all(raw.present.all() for raw in found.modalities.values())


def test_of_many_values_the_frequent_ones_have_columns(tmp_path):
    common = [video(n, tag=str(n % 128)) for n in range(256)]
    rare = [video(1000 + n, tag=str(500 + n)) for n in range(9)]
    found = kuairand.catalogue(write(tmp_path, [shown()], common + rare), np.array([1]))
    vectors = found.modalities["textual"].vectors
    assert vectors.shape == (265, 128)
    assert vectors[:256].sum(axis=0).tolist() == [2] * 128
    assert not vectors[256:].any()


def test_what_is_wrong_is_one_sentence(tmp_path):
    flags = config.InteractionFlags(source="kuairand", generate=("seed=1",))
    with pytest.raises(InputError, match=r"nothing generates logs of --source=kuairand; name"):
        dataset.prepare(flags, tmp_path / "generated")
    with pytest.raises(InputError, match=r"--source=kuairand needs --source_dir, .* files$"):
        dataset.prepare(config.InteractionFlags(source="kuairand"), tmp_path / "none")
    with pytest.raises(InputError, match=r"lacks item 3, which user 1 was shown"):
        prepared(tmp_path / "lacks", [shown(video=3)], [video(1)])
    with pytest.raises(InputError, match=r"line 2, column is_click: a label must be 0 or 1"):
        prepared(tmp_path / "label", [shown(is_click=2)], [video(1)])
    with pytest.raises(InputError, match=r"video_duration: .*'long'"):
        prepared(tmp_path / "size", [shown()], [video(1, video_duration="long")])
    rows = [shown(video=3), shown()]
    assert len(prepared(tmp_path / "drop", rows, [video(1)], unknown_items="drop")) == 1
