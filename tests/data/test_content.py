import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mmnet.checks import InputError
from mmnet.config import EncodeConfig, TableFlags, TaskFlags
from mmnet.data import content, input_tables, pipeline, tables
from mmnet.data import dataset as datasets
from mmnet.data.content import Encoders
from mmnet.data.tables import InMemory, Table
from mmnet.data.windows import Windows
from mmnet.encoders import handles, hub_text
from mmnet.encoders.problems import Problem
from mmnet.tasks import preparing

TITLES = ["a cat", "a dog", "", "a cat", "broken"]


class Letters:
    """Stands for a frozen encoder: how often a text has an a, a b and a c; it counts its work."""

    dim = 3
    about = {"kind": "letters"}

    def __init__(self, handle, **options):
        self.fingerprint = hashlib.sha256(handle.encode()).hexdigest()
        self.read, self._broken = [], []

    def digests(self, contents):
        rows = [
            hashlib.blake2b(text.encode(), digest_size=16).digest() if text else bytes(16)
            for text in contents
        ]
        return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)

    def encode(self, contents):
        for position, text in enumerate(contents):
            self.read.append(text)
            if text == "broken":
                self._broken.append(text)
                continue
            vector = [text.count(letter) for letter in "abc"]
            yield np.array([position]), np.array([vector], np.float32)

    def problems(self):
        return [Problem("not readable", len(self._broken), tuple(self._broken[:3]))]


@pytest.fixture(autouse=True)
def letters(monkeypatch):
    monkeypatch.setattr(hub_text, "HubTextEncoder", Letters)
    monkeypatch.setattr(handles, "bert_folders", lambda handle, preprocessor: ())


def flags(tmp_path, **given):
    about = {"texts": ("title",), "text_encoder": "hub", "text_handle": "letters"}
    return TableFlags(**about | {"encoder_cache": str(tmp_path / "cache")} | given)


def items(titles=TITLES):
    ids = [f"i{number}" for number in range(len(titles))]
    return Table(pa.table({"item_id": ids, "title": titles}), "items")


def found(titles=TITLES, periods=12):
    rng = np.random.default_rng(0)
    counts = {
        "item_id": np.repeat([f"i{number}" for number in range(len(titles))], periods),
        "period": np.tile(np.arange(periods), len(titles)),
        "clicks": np.full(periods * len(titles), 9),
        "shares": rng.integers(0, 9, periods * len(titles)),
    }
    return InMemory(Table(pa.table(counts), "counts"), items(titles))


TASK = TaskFlags(window=2, min_target_clicks=1, min_test_rows=1)


def test_every_item_gets_the_vector_of_its_text(tmp_path):
    (encoded,) = Encoders(flags(tmp_path)).encode(items())
    cat, dog = [2, 0, 1], [1, 0, 0]
    np.testing.assert_array_equal(encoded.vectors, [cat, dog, [0, 0, 0], cat, [0, 0, 0]])


def test_the_ledger_says_what_has_no_vector_and_why(tmp_path):
    (encoded,) = Encoders(flags(tmp_path)).encode(items())
    rule = encoded.rule
    assert (rule.rule, rule.rows_in, rule.dropped) == ("text of 'title' exists", 5, 2)
    assert rule.note == "1 not readable: broken"


def test_a_changed_title_costs_one_text(tmp_path):
    list(Encoders(flags(tmp_path)).encode(items()))
    again = Encoders(flags(tmp_path))
    (encoded,) = again.encode(items(["a cat", "a bird", "", "a cat", ""]))
    assert (encoded.hits, encoded.encoded) == (1, 1)
    assert again.encoder("text").read == ["a bird"]


def test_a_model_reads_encoded_texts_as_one_more_vector(tmp_path):
    dataset = pipeline.prepare(found(), flags(tmp_path), TASK)
    (vector,) = dataset.fitted.spec.vectors
    assert (vector.name, vector.of, vector.dim) == ("title", "text", 3)
    assert not dataset.fitted.spec.texts
    assert dataset.tensors["vector_title"].dtype == np.float16
    directory = datasets.save(dataset, tmp_path / "dataset")
    (_, inputs), *_ = Windows(datasets.load(directory)).batches(dataset.split.test)
    assert inputs["vector_title"].dtype == "float32"
    np.testing.assert_array_equal(
        inputs["vector_title"], dataset.tensors["vector_title"][dataset.split.test.items]
    )


def test_two_encodings_are_two_datasets(tmp_path):
    def fingerprint(handle):
        given = flags(tmp_path, text_handle=handle)
        return input_tables.fingerprint(found(), given, TASK, Encoders(given))[0]

    assert fingerprint("letters") == fingerprint("letters")
    assert fingerprint("letters") != fingerprint("others")


def test_a_model_is_not_given_vectors_of_another_encoder(tmp_path):
    dataset = pipeline.prepare(found(), flags(tmp_path), TASK)
    fitted = dataset.fitted
    assert fitted.tables.text_handle == ""  # where it lay is not part of the model
    assert fitted.tables.encoder_cache == "runs/encoder_cache"
    same = fitted.model_copy(update={"tables": flags(tmp_path)})
    again = pipeline.transform(found(), same)
    np.testing.assert_array_equal(again.tensors["vector_title"], dataset.tensors["vector_title"])
    other = fitted.model_copy(update={"tables": flags(tmp_path, text_handle="others")})
    with pytest.raises(InputError, match=r"another text encoder .* --text_handle"):
        pipeline.transform(found(), other)
    with pytest.raises(InputError, match="needs --text_handle"):
        pipeline.transform(found(), fitted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": ("cover",)}, r"--images=cover needs --image_encoder=resnet50 or hub"),
        ({"images": ("cover",), "image_encoder": "resnet50"}, "--images needs --image_root"),
        ({"image_encoder": "resnet50"}, "--image_encoder=resnet50 has nothing to encode"),
        ({"texts": ()}, "--text_encoder=hub has nothing to encode"),
    ],
)
def test_flags_that_miss_their_other_half_are_refused(tmp_path, given, message):
    with pytest.raises(InputError, match=message):
        Encoders(flags(tmp_path, **given))


def test_a_text_column_of_numbers_is_refused(tmp_path):
    with pytest.raises(InputError, match="has number values, not text"):
        pipeline.prepare(found(["1984", "2001"]), flags(tmp_path), TASK)


def test_written_vectors_read_back_as_given_ones(tmp_path):
    (encoded,) = Encoders(flags(tmp_path)).encode(items())
    ids = np.array([f"i{number}" for number in range(5)], object)
    path = content.write(encoded, ids, "item_id", tmp_path / "vectors", rows_at_once=2)
    assert pyarrow.parquet.read_table(path)["vector"].null_count == 2
    given = TableFlags(vectors=(f"title:{path}",))
    tables_found = found()
    tables_found.vectors["title"] = tables.read(str(path), "vectors")
    dataset = pipeline.prepare(tables_found, given, TASK)
    np.testing.assert_array_equal(dataset.tensors["vector_title"], encoded.vectors)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (encoded,) = Encoders(flags(tmp_path)).encode(items())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"title\.parquet: (Not a directory|File exists)"):
        content.write(encoded, np.array(["i"] * 5, object), "item_id", tmp_path / "file")


def test_pruning_keeps_what_the_items_have(tmp_path):
    list(Encoders(flags(tmp_path)).encode(items(["a", "b", "c"])))
    assert Encoders(flags(tmp_path)).prune(items(["b", "new"])) == {"text": 2}
    (encoded,) = Encoders(flags(tmp_path)).encode(items(["a", "b", "c"]))
    assert (encoded.hits, encoded.encoded) == (1, 2)


def test_the_encode_driver_fills_the_cache_writes_and_prunes(tmp_path, capsys):
    from mmnet import tasks

    path = tmp_path / "items.csv"
    path.write_text("item_id,title\n007,a cat\n008,\n")
    cache = str(tmp_path / "cache")
    shared = {"items": str(path), "texts": ("title",), "text_encoder": "hub"}
    shared |= {"text_handle": "letters", "encoder_cache": cache}
    tasks.encode(EncodeConfig(**shared, output=str(tmp_path / "out")))
    rows = pyarrow.parquet.read_table(tmp_path / "out" / "title.parquet").to_pylist()
    assert rows == [{"item_id": "007", "vector": [2, 0, 1]}, {"item_id": "008", "vector": None}]
    path.write_text("item_id,title\n007,a dog\n008,\n")
    tasks.encode(EncodeConfig(**shared, prune=True))
    told = capsys.readouterr().out
    assert "title: 0 found, 1 encoded" in told
    assert "text cache: 1 vectors dropped" in told


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "--items not given"), ({"items": "i.csv", "texts": ("title",)}, "nothing to encode")],
)
def test_the_encode_driver_says_what_it_needs(given, message):
    from mmnet import tasks

    with pytest.raises(InputError, match=message):
        tasks.encode(EncodeConfig(**given))


def test_vectors_of_a_source_can_be_left_out():
    given = {"source": "simulated", "source_set": ("items=30", "periods=8", "clicks=500")}
    kept = input_tables.load_tables(TableFlags(**given))
    assert list(kept.vectors) == ["cover"]
    assert not input_tables.load_tables(TableFlags(**given, leave_out_vectors=("cover",))).vectors
    with pytest.raises(InputError, match=r"covers: no such vectors; the source has cover\. Did"):
        input_tables.load_tables(TableFlags(**given, leave_out_vectors=("covers",)))


def test_an_image_path_that_no_file_can_have_is_counted_and_one_outside_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    given = {"images": ("cover",), "image_encoder": "hub", "image_root": str(tmp_path)}
    encoders = Encoders(TableFlags(**given))

    def files(*paths):
        return encoders.files(Table(pa.table({"cover": list(paths)}), "items"))

    assert [name for name, *_ in files("a.png", "no\0file", "gone.png", "")] == ["a.png"]
    with pytest.raises(InputError, match=r"image '\.\./passwd' is outside --image_root="):
        files("a.png", "../passwd")


def test_a_column_does_not_lead_vectors_out_of_the_output(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,../title\na,one\n")
    given = {"texts": ("../title",), "text_encoder": "hub", "text_handle": "letters"}
    given |= {"items": str(tmp_path / "items.csv"), "encoder_cache": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"column '\.\./title' cannot be the name of a file"):
        preparing.encode(EncodeConfig(**given, output=str(tmp_path / "out")))
    assert not list(tmp_path.glob("*.parquet"))
