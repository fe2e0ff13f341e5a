import json

import pytest
from pydantic import ValidationError

from mmnet.checks import InputError
from mmnet.mma4ctr.data import dataset
from mmnet.mma4ctr.data.specification import DatasetSpec
from tests.mma4ctr.logs import log

DOCUMENT = {
    "source": "tiktok",
    "label": "finish",
    "min_rows": 5,
    "daily": False,
    "rows": 364,
    "users": 24,
    "items": 40,
    "positives": 46,
    "arrays": ["device", "item"],
    "inputs": {"käufe.txt": "671c"},
    "ledger": {"log: the item is in the item files": 364},
    "content": "fab9",
    "truth": "",
}


def test_what_is_written_is_read_again():
    spec = DatasetSpec.model_validate(DOCUMENT)
    assert spec.model_dump(mode="json") == DOCUMENT
    assert list(spec.model_dump()) == list(DOCUMENT)


def test_further_keys_are_not_read_and_none_may_change():
    spec = DatasetSpec.model_validate(DOCUMENT | {"later": 1})
    assert spec == DatasetSpec.model_validate(DOCUMENT)
    with pytest.raises(ValidationError, match="frozen"):
        spec.truth = "elsewhere"


@pytest.mark.parametrize("name", DOCUMENT)
def test_a_document_without_one_of_its_keys_is_refused(name, tmp_path):
    about = {"format": dataset.STORE.format, "folder": "0" * 16, "fingerprint": "1"}
    (tmp_path / "dataset.json").write_text(json.dumps({**about, **DOCUMENT, name: None}))
    with pytest.raises(
        InputError, match=r"dataset.json is missing or truncated; prepare the dataset"
    ):
        dataset.load(tmp_path)


def test_a_source_that_this_version_does_not_know_is_refused():
    with pytest.raises(ValidationError, match="must be one of wechat, tiktok"):
        DatasetSpec.model_validate(log().spec.model_dump() | {"source": "another"})
