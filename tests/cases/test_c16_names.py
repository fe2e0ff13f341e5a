"""Columns may have names in any script, with spaces, quotes and stops."""

import pytest

from tests.cases import worlds

CHINESE = {
    **{"item_id": "视频编号", "category": "类别", "tags": "标签", "author": "作者"},
    **{"duration": "时长", "title": "标题"},
    **{"period": "日期", "clicks": "播放量", "shares": "分享量"},
    **{"timestamp": "时间", "shared": "是否分享", "user_id": "user's id"},
}
ODD = {
    **{"category": "Video Category", "tags": "tags (raw)", "author": "author.name"},
    **{"duration": "Duration, s", "title": "Title/Original"},
    **{"shared": "is shared?", "user_id": 'the "user"'},
}
ODD_FIELDS = (
    "--taxonomies=Video Category,tags (raw)",
    "--categoricals=author.name",
    '--numerics="Duration, s"',
    "--texts=Title/Original",
)


ODD_COUNTS = ("--numerator=Shares, all", "--denominator=clicks/plays")


def items(names):
    worlds.joined(worlds.items()).rename(columns=names).to_csv("items.csv", index=False)


def values(dataset):
    return [sorted(values) for values in dataset.fitted.vocabularies.values()]


@pytest.fixture
def usual(drives):
    items({})
    worlds.counts().to_csv("counts.csv", index=False)
    return drives.made("--counts=counts.csv", "--items=items.csv", *worlds.FIELDS)


def test_names_in_chinese(drives, usual):
    items(CHINESE)
    table = worlds.counts()
    table.rename(columns=CHINESE).to_csv("counts.csv", index=False)
    columns = ["--item_column=视频编号", "--period_column=日期"]
    columns += ["--numerator=分享量", "--denominator=播放量"]
    fields = ["--taxonomies=类别,标签", "--categoricals=作者", "--numerics=时长", "--texts=标题"]
    made = drives.made("--counts=counts.csv", "--items=items.csv", *columns, *fields)
    worlds.holds(made, worlds.of_counts(table))
    assert values(made) == values(usual)
    assert len(made.tensors) == len(usual.tensors)
    for one, other in zip(made.tensors.values(), usual.tensors.values(), strict=True):
        assert one.tobytes() == other.tobytes()
    assert made.history.tobytes() == usual.history.tobytes()


def test_odd_names(drives, usual):
    items(ODD)
    made = drives.made("--counts=counts.csv", "--items=items.csv", *ODD_FIELDS)
    assert values(made) == values(usual)
    for one, other in zip(made.tensors.values(), usual.tensors.values(), strict=True):
        assert one.tobytes() == other.tobytes()
    assert made.history.tobytes() == usual.history.tobytes()


def test_events_with_names_in_chinese(drives):
    items(CHINESE)
    table = worlds.events()
    table.rename(columns=CHINESE).to_csv("events.csv", index=False)
    columns = ["--item_column=视频编号", "--time_column=时间"]
    columns += ["--numerator=是否分享", "--denominator=events", "--taxonomies=类别"]
    made = drives.made("--events=events.csv", "--items=items.csv", *columns)
    worlds.holds(made, worlds.of_events(table))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("numerator", "key"),
    [
        ("is shared?", ""),
        ('"is shared?" == 1', 'the "user",item_id,timestamp'),
    ],
)
def test_events_with_odd_names(drives, ending, numerator, key):
    items({})
    table = worlds.events()
    odd = table.rename(columns=ODD)
    odd.to_csv("events.csv", index=False) if ending == "csv" else odd.to_parquet("events.parquet")
    keyed = [f"--event_key={key}"] if key else []
    flags = ["--taxonomies=category", f"--numerator={numerator}", "--denominator=events", *keyed]
    made = drives.made(f"--events=events.{ending}", "--items=items.csv", *flags)
    worlds.holds(made, worlds.of_events(table))
