import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mmnet.checks import InputError
from mmnet.encoders import handles, image
from mmnet.encoders.cache import VectorCache
from mmnet.encoders.image import ImageEncoder
from mmnet.encoders.pictures import Folder
from mmnet.encoders.problems import Problem

SIDE = 16
WEIGHTS = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]], "float32")
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


class MeanColour(tf.Module):
    """The smallest image network in the hub's format: mean red, green, blue times a matrix."""

    def __init__(self, weights, shape=(None, SIDE, SIDE, 3)):
        super().__init__()
        self.weights = tf.Variable(weights)
        self.__call__ = tf.function(self.mean, [tf.TensorSpec(shape, tf.float32)])

    def mean(self, images):
        return tf.reduce_mean(images, [1, 2]) @ self.weights

    def __call__(self, images):
        return self.mean(images)


class FeatureMap(MeanColour):
    """Gives what stands before the pooling: no vector."""

    def mean(self, images):
        return images @ self.weights


def saved(directory, network=None, **options):
    tf.saved_model.save(network or MeanColour(WEIGHTS, **options), str(directory))
    return str(directory)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The directory of the smallest hub network."""
    return saved(tmp_path_factory.mktemp("networks") / "mean_colour")


@pytest.fixture
def root(tmp_path):
    """A directory of small pictures, good and bad."""
    directory = tmp_path / "pictures"
    (directory / "sub").mkdir(parents=True)
    for name, colour in (("red.png", RED), ("green.gif", GREEN), ("white.webp", WHITE)):
        Image.new("RGB", (20, 30), colour).save(directory / name)
    Image.new("RGB", (30, 20), BLUE).save(directory / "sub" / "蓝.png")
    Image.new("RGB", (1, 1)).save(directory / "dot.gif")
    Image.new("RGB", (400, 300)).save(directory / "wide.png")
    (directory / "text.jpg").write_text("a text")
    (directory / "cut.png").write_bytes((directory / "red.png").read_bytes()[:60])
    (directory / "empty.jpg").touch()
    return directory


def encoder(network, root, **options):
    return ImageEncoder("hub", network, root, **options)


def encoded(encoder, contents):
    """Vectors by position."""
    found = {}
    for positions, vectors in encoder.encode(contents):
        assert positions.dtype == np.int64
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(positions), encoder.dim)
        found.update(zip(positions.tolist(), vectors.tolist(), strict=True))
    return found


# ---------------------------------------------------------------- contents


def test_gives_the_vector_of_every_picture(network, root):
    found = encoded(encoder(network, root), ["white.webp", "red.png", "sub/蓝.png", "green.gif"])
    # The mean colour in [0, 1] times the weights, whose last column sums the channels.
    assert found == {0: [1, 1, 1, 3], 1: [1, 0, 0, 1], 2: [0, 0, 1, 1], 3: [0, 1, 0, 1]}


def test_what_cannot_be_encoded_never_comes_and_is_told(network, root):
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "pipe.jpg")
    else:
        (root / "pipe.jpg").mkdir()
    contents = [
        "",
        "red.png",
        "none.jpg",
        "dot.gif",
        "text.jpg",
        "cut.png",
        "empty.jpg",
        "wide.png",
    ]
    contents += ["pipe.jpg", "sub", "green.gif"]
    made = encoder(network, root, max_pixels=100_000)
    assert made.problems() == []
    assert encoded(made, contents).keys() == {1, 10}
    assert made.problems() == [
        Problem("not a regular file", 2, ("pipe.jpg", "sub")),
        Problem("a single pixel", 1, ("dot.gif",)),
        Problem("damaged or cut short", 1, ("cut.png",)),
        Problem("empty file", 1, ("empty.jpg",)),
        Problem("more than 100,000 pixels", 1, ("wide.png",)),
        Problem("no such file", 1, ("none.jpg",)),
        Problem("not a JPEG, PNG, WebP or GIF picture", 1, ("text.jpg",)),
    ]


def test_a_file_counts_once_and_three_are_named(network, root):
    made = encoder(network, root)
    missing = [f"{i}.jpg" for i in range(9, 0, -1)]
    made.digests(missing)
    encoded(made, [*missing, *missing])
    assert made.problems() == [Problem("no such file", 9, ("1.jpg", "2.jpg", "3.jpg"))]


def test_batches_hold_as_many_pictures_as_asked(network, root):
    made = encoder(network, root, batch_size=3)
    contents = ["red.png", "", "none.jpg"] * 5 + ["green.gif"] * 3
    sizes = [len(positions) for positions, _ in made.encode(contents)]
    assert sizes == [3, 3, 2]  # 8 pictures among 18 contents


def test_vectors_do_not_depend_on_batches_and_threads(network, root):
    contents = ["red.png", "green.gif", "white.webp", "text.jpg", "sub/蓝.png"] * 7
    alone = encoded(encoder(network, root, batch_size=1, workers=1), contents)
    together = encoded(encoder(network, root, batch_size=64, workers=8), contents)
    assert alone == together
    assert len(alone) == 28


def test_nothing_gives_nothing(network, root):
    made = encoder(network, root)
    assert encoded(made, []) == encoded(made, ["", ""]) == {}
    assert made.digests([]).shape == (0, 16)
    assert made.problems() == []


def test_contents_may_be_an_array(network, root):
    made = encoder(network, root)
    for kind in (object, str):
        contents = np.array(["", "red.png"], kind)
        assert encoded(made, contents) == {1: [1, 0, 0, 1]}
        assert made.digests(contents).any(axis=1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("column", "colour"),
    [  # grey, which the encoder is tried with, gives a sound vector with each
        ([1, 1, 1], BLACK),  # a zero vector reads as absent
        ([1e-9, 1, 0], RED),  # zero in float16
        ([1e5, -1e5, 1], RED),  # above 65,504, the largest of float16
        ([3e38, -3e38, 3e38], (255, 0, 255)),  # above the largest of float32
    ],
)
def test_a_picture_whose_vector_cannot_be_stored_is_told(column, colour, root, tmp_path):
    Image.new("RGB", (20, 20), colour).save(root / "bad.png")
    weights = np.array(column, "float32")[:, np.newaxis]
    made = encoder(saved(tmp_path / "network", MeanColour(weights)), root)
    cache = VectorCache(tmp_path / "cache", made)
    assert not cache.vectors(["bad.png"]).any()
    (problem,) = cache.problems()
    assert problem.reason.startswith("encoded to a ")
    assert problem.examples == ("bad.png",)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.png", "out.png"])
def test_a_path_out_of_the_root_stops_before_anything_is_read(name, network, root, monkeypatch):
    (root.parent / "secret.png").touch()
    (root / "out.png").symlink_to("../secret.png")
    made = encoder(network, root)
    monkeypatch.setattr(Folder, "read", None)
    for method in (made.digests, made.encode):
        with pytest.raises(InputError, match="outside --image_root") as caught:
            method(["red.png", name])
        assert repr(name) in str(caught.value)


def test_encoding_may_stop_half_way(network, root):
    made = encoder(network, root, batch_size=1)
    batches = made.encode(["red.png"] * 100)
    next(batches)
    batches.close()
    assert len(encoded(made, ["red.png"] * 3)) == 3


# ---------------------------------------------------------------- digests


def test_a_digest_is_of_the_bytes(network, root):
    shutil.copy(root / "red.png", root / "copy.png")
    red, copy, green, text = encoder(network, root).digests(
        ["red.png", "copy.png", "green.gif", "text.jpg"]
    )
    np.testing.assert_array_equal(red, copy)
    assert len({bytes(red), bytes(green), bytes(text)}) == 3
    # b2sum --length=128 of "a text"
    assert bytes(text).hex() == "706860d9e8c7ee1c65261bc1e5b75631"


def test_there_is_no_digest_without_bytes(network, root):
    contents = ["", "none.jpg", "empty.jpg", "sub", "wide.png", "red.png"]
    made = encoder(network, root, max_bytes=(root / "wide.png").stat().st_size - 1)
    digests = made.digests(contents)
    assert digests.dtype == np.uint8
    assert digests.any(axis=1).tolist() == [False] * 5 + [True]
    assert {problem.examples for problem in made.problems()} == {
        ("none.jpg",),
        ("empty.jpg",),
        ("sub",),
        ("wide.png",),
    }


def test_digests_of_many_files_stand_in_their_places(network, root):
    contents = ["red.png", "", "green.gif", "white.webp"] * 5
    made = encoder(network, root)
    np.testing.assert_array_equal(
        made.digests(contents, files_at_once=3), np.tile(made.digests(contents[:4]), (5, 1))
    )


# ---------------------------------------------------------------- fingerprints


def test_a_copied_network_is_the_same_network(network, root, tmp_path):
    shutil.copytree(network, tmp_path / "copy")
    # As another export writes it: with another checksum, the first field.
    (tmp_path / "copy" / "fingerprint.pb").write_bytes(b"\x08\x07")
    one, other = encoder(network, root), encoder(str(tmp_path / "copy"), root.parent)
    assert one.fingerprint == other.fingerprint
    assert len(bytes.fromhex(one.fingerprint)) == 32
    assert one.about == other.about
    assert one.about == {
        "encoder": "image",
        "kind": "hub",
        "height": SIDE,
        "width": SIDE,
        "dim": 4,
        "pictures": 1,
    }


def test_one_changed_weight_is_another_network(network, root, tmp_path):
    changed = WEIGHTS.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], 2)
    other = encoder(saved(tmp_path / "changed", MeanColour(changed)), root)
    assert other.fingerprint != encoder(network, root).fingerprint


def test_other_pictures_are_other_vectors(network, root, monkeypatch):
    one = encoder(network, root)
    monkeypatch.setattr(image.pictures, "VERSION", 2)
    assert encoder(network, root).fingerprint != one.fingerprint


# ---------------------------------------------------------------- hub networks


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((None, 20, 24, 3), (20, 24)),
        ((None, None, None, 3), (224, 224)),
        ((None, None, None, None), (224, 224)),
    ],
)
def test_the_size_is_what_the_network_fixes(shape, size, root, tmp_path):
    made = encoder(saved(tmp_path / "network", shape=shape), root)
    assert (made.about["height"], made.about["width"]) == size
    assert made.picture("red.png").shape == (*size, 3)
    np.testing.assert_allclose(encoded(made, ["red.png"])[0], [1, 0, 0, 1], atol=1e-6)


def test_a_network_that_only_serves_is_called_as_it_serves(root, tmp_path):
    inputs = keras.Input((SIDE, SIDE, 3))
    keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)).export(
        str(tmp_path / "served"), verbose=False
    )
    made = encoder(str(tmp_path / "served"), root)
    np.testing.assert_allclose(encoded(made, ["red.png"])[0], [1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (lambda: FeatureMap(WEIGHTS), r"returns \[2, 16, 16, 4\]"),
        (
            lambda: MeanColour(WEIGHTS[:1], (None, SIDE, SIDE, 1)),
            "not an image feature-vector network",
        ),
        (lambda: MeanColour(np.full((3, 2), np.nan, "float32")), "not finite"),
        (lambda: tf.Module(), "no callable function"),
    ],
)
def test_another_kind_of_network_is_told(network, why, root, tmp_path):
    with pytest.raises(InputError, match=why):
        encoder(saved(tmp_path / "network", network()), root)


def test_a_directory_that_is_no_savedmodel_is_told(root, tmp_path):
    for wrong in (str(root), str(tmp_path / "none"), str(root / "red.png")):
        with pytest.raises(InputError, match=r"saved_model\.pb is missing") as caught:
            encoder(wrong, root)
        assert f"--image_weights={wrong}" in str(caught.value)


@pytest.mark.parametrize("part", ["saved_model.pb", "variables/variables.index", "fingerprint.pb"])
def test_a_broken_savedmodel_is_told(part, network, root, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(network, broken)
    (broken / part).write_bytes(b"broken")
    with pytest.raises(InputError, match="this SavedModel cannot be loaded") as caught:
        encoder(str(broken), root)
    assert "\n" not in str(caught.value)


def test_an_unreachable_handle_is_told(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    handle = "https://localhost:9/resnet_50/feature_vector/1"  # nothing listens there
    with pytest.raises(InputError, match="TFHUB_CACHE_DIR") as caught:
        encoder(handle, root)
    assert "local directory" in str(caught.value)
    assert handle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_handle_is_fetched_with_a_timeout_and_its_credentials(root, monkeypatch):
    asked = []

    def resolve(url):
        asked.append((url, socket.getdefaulttimeout()))
        raise OSError(f"no {url}")

    monkeypatch.setattr("tensorflow_hub.resolve", resolve)
    monkeypatch.setenv("HUB_TOKEN", "t0ken-of-a-hub")
    with pytest.raises(InputError) as caught:
        encoder("https://me:${HUB_TOKEN}@localhost:9/n", root)
    assert asked == [("https://me:t0ken-of-a-hub@localhost:9/n", handles.FETCH_SECONDS)]
    assert socket.getdefaulttimeout() is None
    assert "t0ken" not in str(caught.value)
    with pytest.raises(InputError, match="the environment variable NO_SUCH_TOKEN is not set"):
        encoder("https://${NO_SUCH_TOKEN}@localhost:9/n", root)


def test_a_handle_in_the_hubs_cache_needs_no_network(network, root, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = "https://localhost:9/mean_colour/1"
    # The hub names its directories by the SHA-1 of the handle.
    shutil.copytree(network, tmp_path / "363b269e34d0ba889b3e7e430475a786414ef66a")
    assert encoder(handle, root).fingerprint == encoder(network, root).fingerprint


def test_a_network_must_be_named(root):
    for kind in ("hub", "resnet50"):
        with pytest.raises(InputError, match=f"--image_encoder={kind} needs --image_weights"):
            ImageEncoder(kind, "", root)
    with pytest.raises(ValueError, match="Did you mean resnet50"):
        ImageEncoder("resnet", "random", root)


def test_no_second_keras_is_loaded_for_a_local_network(network, root):
    code = (
        "import sys\n"
        "from mmnet.encoders.image import ImageEncoder\n"
        "assert not {'tensorflow_hub', 'tf_keras'} & set(sys.modules)\n"
        "ImageEncoder('hub', *sys.argv[1:])\n"
        "assert not {'tensorflow_hub', 'tf_keras'} & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, network, str(root)],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


# ---------------------------------------------------------------- ResNet-50


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """ResNet-50 with random weights; building and tracing it takes seconds."""
    return ImageEncoder("resnet50", "random", tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def legacy(resnet, tmp_path_factory):
    """Its weights in the layout of the file that keras.applications downloads."""
    path = tmp_path_factory.mktemp("weights") / "resnet50_notop.h5"
    with h5py.File(path, "w") as file:
        layers = resnet._network.model.layers
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        file.attrs["keras_version"], file.attrs["backend"] = b"2.2.4", b"tensorflow"
        for layer in layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, values in zip(names, layer.get_weights(), strict=True):
                group[name] = values
    return path


def test_resnet50_gives_2048_numbers(resnet):
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (2, 100, 100, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(Path(resnet._folder.root) / f"{i}.png")
    found = encoded(resnet, ["0.png", "1.png"])
    assert resnet.dim == 2048
    assert found.keys() == {0, 1}
    assert not np.allclose(found[0], found[1])
    assert resnet.problems() == []


def test_resnet50_reads_pixels_as_caffe_did(resnet):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    # Blue, green, red, less the means of ImageNet.
    inputs = pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
    expected = resnet._network.model(inputs.astype("float32"), training=False)
    # Fused or not, 50 layers of float32 differ by rounding.
    np.testing.assert_allclose(resnet.network(pixels), expected, rtol=1e-3, atol=1e-3)


def test_random_weights_are_the_same_every_time(resnet):
    keras.utils.set_random_seed(1)
    assert image.resnet50("random").digest == resnet._network.digest


def test_weights_load_from_every_layout(resnet, legacy, tmp_path):
    resnet._network.model.save_weights(tmp_path / "a.weights.h5")
    assert image.resnet50(str(legacy)).digest == resnet._network.digest
    assert image.resnet50(str(tmp_path / "a.weights.h5")).digest == resnet._network.digest


def test_one_changed_weight_is_another_resnet50(resnet, legacy, tmp_path):
    shutil.copy(legacy, tmp_path / "changed.h5")
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        file["conv1_conv/conv1_conv/bias:0"][0] += 1e-3
    assert image.resnet50(str(tmp_path / "changed.h5")).digest != resnet._network.digest


def test_weights_that_do_not_fit_are_told(legacy, tmp_path):
    shutil.copy(legacy, tmp_path / "lacks.h5")
    with h5py.File(tmp_path / "lacks.h5", "r+") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:-5]
    shutil.copy(legacy, tmp_path / "nan.h5")
    with h5py.File(tmp_path / "nan.h5", "r+") as file:
        file["conv1_conv/conv1_conv/bias:0"][0] = np.nan
    (tmp_path / "text.h5").write_text("no weights")
    (tmp_path / "torch.pth").write_text("no weights")
    for name in ("lacks.h5", "nan.h5", "text.h5", "torch.pth"):
        with pytest.raises(InputError, match="not the weights of") as caught:
            image.resnet50(str(tmp_path / name))
        assert f"--image_weights={tmp_path / name}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_told(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        image.resnet50(str(tmp_path / "none.h5"))
