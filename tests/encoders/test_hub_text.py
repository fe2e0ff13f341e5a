"""Texts through a frozen BERT in TensorFlow Hub's format; no test needs a network."""

import contextlib
import hashlib
import shutil
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from mmnet.checks import InputError
from mmnet.encoders import handles, hub_text
from mmnet.encoders.cache import VectorCache
from mmnet.encoders.hub_text import HubTextEncoder
from tests.encoders import tiny_bert

TEXTS = [
    "the cat is at home",
    "Ten tips",
    "how to bake bread with a dog, and how to bake it without one; all in ten tips",
    "the dog",
    "stock market",
    "zebra",
]
URL = "https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"


@pytest.fixture(scope="module")
def encoder(tiny_bert_dir):
    return HubTextEncoder(tiny_bert_dir, max_tokens=32, batch_size=4)


def first_use(*args, **settings):
    """An encoder that has loaded its models."""
    encoder = HubTextEncoder(*args, **settings)
    list(encoder.encode(["a"]))
    return encoder


def encoded(encoder, texts):
    """All vectors in the order of the texts, NaN where none came."""
    vectors = np.full((len(texts), encoder.dim), np.nan, "float32")
    for positions, batch in encoder.encode(texts):
        assert positions.dtype == np.int64
        assert batch.dtype == np.float32
        assert np.isnan(vectors[positions]).all()  # each comes once
        vectors[positions] = batch
    return vectors


# A product in another order of summation: 256 terms of order 1 at float32's 6e-8, over two layers.
SAME = {"rtol": 0, "atol": 2e-5}


def test_a_vector_does_not_depend_on_the_batch(encoder):
    together = encoded(encoder, TEXTS)
    alone = [encoded(encoder, [text])[0] for text in TEXTS]
    np.testing.assert_allclose(together, alone, **SAME)
    np.testing.assert_allclose(encoded(encoder, TEXTS[::-1])[::-1], together, **SAME)
    assert together.shape == (6, tiny_bert.WIDTH)
    assert len(np.unique(together.round(3), axis=0)) == 6


def test_a_vector_is_the_pooled_output_of_the_two_models_as_they_are(tiny_bert_dir):
    encoder = HubTextEncoder(tiny_bert_dir, max_tokens=tiny_bert.POSITIONS)
    preprocessor = tf.saved_model.load(str(tiny_bert_dir / "preprocess"))
    network = tf.saved_model.load(str(tiny_bert_dir / "encoder"))
    expected = network(preprocessor(tf.constant(TEXTS)))["pooled_output"]
    np.testing.assert_allclose(encoded(encoder, TEXTS), expected, **SAME)


def test_short_texts_do_not_pay_for_long_ones(encoder, monkeypatch):
    shapes = []
    pool = encoder._bert.pool

    def noted(batch):
        shapes.append(batch["input_word_ids"].shape)
        return pool(batch)

    monkeypatch.setattr(encoder._bert, "pool", noted)
    # Word pieces with both marks: 7, 2 + 12 letters and 9, 20 digits, 3.
    encoded(encoder, ["the cat is at home", "the", "1" * 20, "a", "a", "a"])
    # Four at most together; a length is the longest of the batch, up to a multiple of 8.
    assert shapes == [(4, 24), (2, 8)]
    shapes.clear()
    monkeypatch.setattr(encoder, "bucket", 32)
    encoded(encoder, ["a", "1" * 20])
    assert shapes == [(2, 32)]


def test_reads_so_many_tokens_of_a_text(encoder):
    # 30 fit between the two marks.
    texts = [" ".join(["dog"] * 30 + end) for end in ([], ["cat"], ["cat"] * 500)]
    vectors = encoded(encoder, texts)
    np.testing.assert_allclose(vectors[1:], vectors[[0, 0]], **SAME)
    fewer = encoded(encoder, [" ".join(["dog"] * 29 + ["cat"])])
    assert abs(fewer - vectors[0]).max() > 0.01


def test_many_texts_are_read_part_by_part(encoder, monkeypatch):
    texts = [f"the dog {i}" for i in range(20)]
    whole = encoded(encoder, texts)
    monkeypatch.setattr(encoder, "texts_at_once", 7)
    np.testing.assert_allclose(encoded(encoder, texts), whole, **SAME)


def test_an_empty_text_is_absent(encoder):
    digests = encoder.digests(["", " \n\t\u3000", "a", "a ", "a"])
    assert digests.dtype == np.uint8
    assert digests.any(axis=1).tolist() == [False, False, True, True, True]
    assert digests[2].tobytes() == hashlib.blake2b(b"a", digest_size=16).digest()
    assert (digests[2] == digests[4]).all()
    assert (digests[2] != digests[3]).any()
    assert encoder.digests([]).shape == (0, 16)


def test_a_text_without_tokens_has_no_vector(encoder):
    vectors = encoded(encoder, ["", "dog", "\u200b"])  # a space of no width, which BERT drops
    assert np.isnan(vectors).all(axis=1).tolist() == [True, False, True]
    assert list(encoder.encode([])) == []


def test_reads_any_text(encoder):
    texts = ["猫と犬 😀", "naïve ÉCOLE", "\x00", "bro\ud800ken", "a" * 5000]
    assert np.isfinite(encoded(encoder, [*texts[:2], *texts[3:]])).all()
    assert encoder.digests(texts).shape == (5, 16)


def test_the_cache_encodes_a_title_once(encoder, tmp_path):
    titles = ["the cat", "", "the dog", "the cat"]
    vectors = VectorCache(tmp_path, encoder).vectors(titles)
    # float16 has 11 bits of mantissa, and tanh ends at 1.
    np.testing.assert_allclose(vectors[[0, 2, 3]], encoded(encoder, titles)[[0, 2, 3]], atol=2**-11)
    assert not vectors[1].any()
    again = VectorCache(tmp_path, encoder)
    again.vectors([*titles, "the dogs"])
    assert (again.hits, again.encoded, again.absent) == (2, 1, 1)
    assert again.problems() == []


def test_hits_need_no_network_in_memory(encoder, tiny_bert_dir, tmp_path, monkeypatch):
    titles = ["the cat", "the dog", ""]
    vectors = VectorCache(tmp_path, encoder).vectors(titles)
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    later = HubTextEncoder(tiny_bert_dir, max_tokens=32)
    assert later.dim == encoder.dim
    np.testing.assert_array_equal(VectorCache(tmp_path, later).vectors(titles), vectors)
    assert "_bert" not in vars(later)


def test_a_length_that_is_not_declared_is_found_by_trying(tiny_bert_dir, tmp_path):
    class Undeclared(tf.Module):
        @tf.function(input_signature=[tiny_bert.Encoder.__call__.input_signature[0]])
        def __call__(self, inputs):
            ids = tf.cast(inputs["input_word_ids"][:, :1], tf.float32)
            return {"pooled_output": tf.tile(ids, [1, tf.constant([5, 7])[1]])}

    shutil.copytree(tiny_bert_dir / "preprocess", tmp_path / "preprocess")
    tf.saved_model.save(Undeclared(), str(tmp_path / "encoder"))
    assert HubTextEncoder(tmp_path).dim == 7


def test_the_fingerprint_follows_the_network_wherever_it_lies(encoder, tiny_bert_dir, tmp_path):
    copied = shutil.copytree(tiny_bert_dir, tmp_path / "copied")
    (copied / "encoder" / "fingerprint.pb").write_bytes(b"TensorFlow's own")
    same = HubTextEncoder(str(copied), max_tokens=32, batch_size=2, bucket=32)
    assert same.fingerprint == encoder.fingerprint
    assert same.about == {"kind": "hub_text", "max_tokens": 32, "precision": "float32"}
    assert HubTextEncoder(copied, max_tokens=16).fingerprint != encoder.fingerprint
    weights = next(copied.glob("encoder/variables/*.data*"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    folders = copied / "preprocess", copied / "encoder"
    assert hub_text._fingerprint(same.about, folders) != encoder.fingerprint


def test_takes_an_encoder_and_its_preprocessor_apart(encoder, tiny_bert_dir):
    apart = HubTextEncoder(
        tiny_bert_dir / "encoder", preprocessor=tiny_bert_dir / "preprocess", max_tokens=32
    )
    assert apart.fingerprint == encoder.fingerprint


def test_a_filled_cache_of_tensorflow_hub_needs_no_network(
    encoder, tiny_bert_dir, tmp_path, monkeypatch
):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    for part in ("encoder", "preprocess"):  # tensorflow-hub names a folder by its handle's SHA-1
        name = hashlib.sha1(f"{URL}/{part}".encode()).hexdigest()
        shutil.copytree(tiny_bert_dir / part, tmp_path / name)
    fetched = HubTextEncoder(f"{URL}/encoder", preprocessor=f"{URL}/preprocess", max_tokens=32)
    assert fetched.fingerprint == encoder.fingerprint


def test_bfloat16_is_near_and_does_not_stay_on(tiny_bert_dir):
    try:
        rounded = first_use(tiny_bert_dir, max_tokens=32, precision="bfloat16")
    except InputError as error:
        pytest.skip(str(error))
    exact = HubTextEncoder(tiny_bert_dir, max_tokens=32)
    difference = abs(encoded(rounded, TEXTS) - encoded(exact, TEXTS)).max()
    # 8 bits of mantissa, a dozen products one after another.
    assert 1e-5 < difference < 12 * 2**-8
    assert rounded.fingerprint != exact.fingerprint
    assert rounded.about["precision"] == "bfloat16"
    assert not tf.config.optimizer.get_experimental_options().get(hub_text._BFLOAT16)


def test_bfloat16_that_changes_nothing_is_refused(tiny_bert_dir, monkeypatch):
    monkeypatch.setattr(hub_text, "_bfloat16", lambda wanted: contextlib.nullcontext())
    with pytest.raises(
        InputError, match=r"bfloat16 has no effect here: .*--text_precision=float32"
    ):
        first_use(tiny_bert_dir, max_tokens=32, precision="bfloat16")


def test_an_unreachable_handle_is_told_at_once(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        HubTextEncoder(URL, preprocessor="https://tfhub.dev/tensorflow/preprocess/3")
    assert time.monotonic() - start < 30
    sentence = str(caught.value)
    assert "'https://tfhub.dev/tensorflow/preprocess/3'" in sentence
    assert "Name or service not known" in sentence
    assert "TFHUB_CACHE_DIR" in sentence
    assert "local directory with the two SavedModels preprocess/ and encoder/" in sentence
    assert "\n" not in sentence


def test_a_server_that_is_silent_is_not_waited_for(tmp_path, monkeypatch):
    import socket

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(handles, "FETCH_SECONDS", 0.2)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/bert"
        with pytest.raises(InputError, match="timed out"):
            HubTextEncoder(url, preprocessor=url)
    assert socket.getdefaulttimeout() is None


def test_an_encoders_handle_alone_is_not_enough():
    with pytest.raises(InputError, match="set --text_preprocessor as well, or use a local"):
        HubTextEncoder(URL)


def test_a_directory_without_both_models_is_refused(tiny_bert_dir, tmp_path):
    for wrong in (tmp_path, tmp_path / "nowhere", tiny_bert_dir / "encoder"):
        with pytest.raises(InputError, match=r"preprocess is not a SavedModel; .*TFHUB_CACHE_DIR"):
            HubTextEncoder(wrong)
    shutil.copytree(tiny_bert_dir / "preprocess", tmp_path / "preprocess")
    with pytest.raises(InputError, match="encoder is not a SavedModel"):
        HubTextEncoder(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist"):
        HubTextEncoder(tmp_path / "nowhere", preprocessor=tmp_path / "preprocess")


@pytest.mark.parametrize("part", ["saved_model.pb", "fingerprint.pb"])
def test_a_damaged_model_is_refused(part, tiny_bert_dir, tmp_path):
    copied = shutil.copytree(tiny_bert_dir, tmp_path / "copied")
    (copied / "encoder" / part).write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=r"encoder: the encoder cannot be loaded: .*again"):
        first_use(copied)


class NoBert(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def __call__(self, x):
        return x


class OtherOutput(tf.Module):
    @tf.function(input_signature=[tiny_bert.Encoder.__call__.input_signature[0]])
    def __call__(self, inputs):
        return {"sequence_output": tf.cast(inputs["input_mask"], tf.float32)}


class NoMask(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, texts):
        return tf.strings.unicode_decode(texts, "UTF-8")

    @tf.function(
        input_signature=[
            [tf.RaggedTensorSpec([None, None], tf.int32)],
            tf.TensorSpec([], tf.int32),
        ]
    )
    def bert_pack_inputs(self, inputs, seq_length):
        return {"input_word_ids": inputs[0].to_tensor()[:, :seq_length]}


@pytest.mark.parametrize(
    ("part", "model", "message"),
    [
        ("preprocess", NoBert, "it has no tokenize; use the preprocessor"),
        ("preprocess", NoMask, "it returns no input_mask. Received: input_word_ids"),
        (
            "encoder",
            NoBert,
            "it does not accept a dict with input_mask, input_type_ids, ",
        ),
        ("encoder", OtherOutput, "it returns no pooled_output. Received: sequence_output"),
        ("encoder", tf.Module, "it is not callable"),
    ],
)
def test_a_model_that_is_no_bert_is_refused(tiny_bert_dir, tmp_path, part, model, message):
    for name in ("preprocess", "encoder"):
        if name != part:
            shutil.copytree(tiny_bert_dir / name, tmp_path / name)
    tf.saved_model.save(model(), str(tmp_path / part))
    with pytest.raises(InputError, match=f"of TensorFlow Hub: {message}"):
        first_use(tmp_path)


def test_more_tokens_than_the_encoder_takes_are_refused(tiny_bert_dir):
    with pytest.raises(
        InputError, match=r"cannot encode a text of 65 tokens: .*set fewer --text_pieces"
    ):
        first_use(tiny_bert_dir, max_tokens=65)


@pytest.mark.parametrize("package", ["tensorflow_hub", "tensorflow_text"])
def test_a_missing_package_is_named(tiny_bert_dir, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match="pip install tensorflow-hub tensorflow-text"):
        first_use(tiny_bert_dir)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 2}, {"batch_size": 0}, {"bucket": 0}, {"precision": "float16"}]
)
def test_arguments_are_checked(wrong):
    with pytest.raises(ValueError, match="`"):
        HubTextEncoder("nowhere", **wrong)


def test_importing_loads_no_hub(modules_of_the_tasks):
    assert "mmnet.encoders.hub_text" in modules_of_the_tasks
    assert not {"tensorflow_hub", "tf_keras", "tensorflow_text"} & modules_of_the_tasks
