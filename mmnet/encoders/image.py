"""Image vectors from frozen networks: ResNet-50, or any image network of TensorFlow Hub.

A content is the path of an image file, relative to one directory. `pictures.py` turns files into
pixels, in parallel with the network; this file has the networks and the batches.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from mmnet import checks
from mmnet.checks import InputError
from mmnet.encoders import handles, pictures
from mmnet.encoders.handles import typed_line
from mmnet.encoders.pictures import Decoder, Folder, Unusable
from mmnet.encoders.problems import Problem, Problems

DIGEST_BYTES = 16
SIDE = 224
"""Height and width if a network accepts any size."""

FILES_AT_ONCE = 256
"""Number of files that one thread hashes at a time."""


@dataclass(frozen=True)
class Network:
    """A frozen network.

    Attributes:
        call: uint8 [batch, height, width, 3] to float32 [batch, dim].
        height, width: its input size, in pixels.
        digest: SHA-256 of its weights, hexadecimal.
        model: owner of its variables, to which functions only have weak references.
    """

    call: Callable[[tf.Tensor], tf.Tensor]
    height: int
    width: int
    digest: str
    model: object


class ImageEncoder:
    """Vectors of image files.

    A file that is missing, damaged, too large or not an image has no vector; `problems` counts
    such files and lists some. Memory does not grow with the number of files: it holds two batches
    of images, and the use of `pictures.Decoder` and one file of `max_bytes` per worker.

    Args:
        kind: `resnet50` (keras.applications, pooled, 2048 numbers) or `hub` (an image
            feature-vector SavedModel: float32 [batch, height, width, 3] in [0, 1] to [batch, dim];
            tensorflow.org/hub/common_signatures/images).
        weights: for `resnet50`, a .h5, .weights.h5 or .keras file without the classification
            layer, or `random` for trials; for `hub`, a directory, or a handle that tensorflow_hub
            resolves.
        image_root: the directory that contents are relative to.
        batch_size: number of images per call of the network.
        workers: number of threads that read and decode; default: all cores.
        max_pixels: see `pictures.Decoder`.
        max_bytes: maximum size of a file.

    Raises:
        InputError: the directory does not exist; or weights are missing, unreachable, or of another
            network.
    """

    def __init__(
        self,
        kind: str,
        weights: str,
        image_root: str | os.PathLike[str],
        *,
        batch_size: int = 32,
        workers: int | None = None,
        max_pixels: int = pictures.MAX_PIXELS,
        max_bytes: int = pictures.MAX_BYTES,
    ):
        checks.one_of(NETWORKS, kind=kind)
        self.batch_size = checks.at_least(1, batch_size=batch_size)
        self.workers = checks.at_least(1, workers=workers or os.cpu_count() or 1)
        self._folder = Folder(image_root, max_bytes)
        self._network = network = NETWORKS[kind](weights)
        self._decode = Decoder(network.height, network.width, max_pixels)
        self._problems = Problems()
        # Not compiled by XLA: on CPU it took 15 % more time than oneDNN's convolutions.
        shape = [None, network.height, network.width, 3]
        self.network = tf.function(network.call, [tf.TensorSpec(shape, tf.uint8)])
        self.dim = _dim(self.network, network, weights)
        self.about: dict[str, str | int | float | bool] = {
            "encoder": "image",
            "kind": kind,
            "height": network.height,
            "width": network.width,
            "dim": self.dim,
            "pictures": pictures.VERSION,
        }
        told = json.dumps({**self.about, "weights": network.digest}, sort_keys=True)
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    def digests(self, contents: Sequence[str], files_at_once: int = FILES_AT_ONCE) -> np.ndarray:
        """Hashes the bytes of every file.

        Args:
            contents: paths relative to the image root; "" means no image.
            files_at_once: number of files that one thread hashes at a time.

        Returns:
            uint8 [contents, 16], BLAKE2b; zeros if there is no file to read.

        Raises:
            InputError: a path leads out of the image root; in that case no file is read.
        """
        self._check(contents)
        digests = np.zeros((len(contents), DIGEST_BYTES), np.uint8)

        def fill(start: int) -> None:
            for i in range(start, min(start + files_at_once, len(contents))):
                data = self._read(str(contents[i]))
                if data is not None:
                    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
                    digests[i] = np.frombuffer(digest, np.uint8)

        with ThreadPoolExecutor(self.workers) as pool:
            # Hashing and reading release the GIL. A list, so that an error is raised here.
            list(pool.map(fill, range(0, len(contents), files_at_once)))
        return digests

    def encode(self, contents: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encodes files batch by batch, in the order in which they are decoded.

        Args:
            contents: paths relative to the image root; "" means no image.

        Returns:
            Pairs of positions, int64 [n], and vectors, float32 [n, dim]. The position of a file
            without a vector is never yielded.

        Raises:
            InputError: a path leads out of the image root; in that case no file is read.
        """
        self._check(contents)
        return self._batches(contents)

    def problems(self) -> list[Problem]:
        """Returns the problems with files so far, with some names; a file counts once."""
        return self._problems.found()

    def picture(self, content: str) -> np.ndarray | None:
        """Decodes one file to the network's input: uint8 [height, width, 3], or None."""
        data = self._read(content)
        try:
            return None if data is None else self._decode(data)
        except Unusable as why:
            self._problems.add(str(why), content)
            return None

    def _check(self, contents: Iterable[str]) -> None:
        for content in contents:
            with contextlib.suppress(Unusable):  # reported when it is read
                self._folder.path(str(content))

    def _read(self, content: str) -> bytes | None:
        if not content:
            return None
        try:
            return self._folder.read(content)
        except Unusable as why:
            self._problems.add(str(why), content)
            return None

    def _batches(self, contents: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for positions, batch in self._pictures(contents):
            yield positions.numpy(), self.network(batch).numpy()

    def _pictures(self, contents: Sequence[str]) -> tf.data.Dataset:
        """Returns batches of positions, int64 [n], and images, uint8 [n, height, width, 3]."""
        shape = (self._decode.height, self._decode.width, 3)
        nothing = np.zeros(shape, np.uint8)

        def look_up(position: np.int64) -> tuple[np.ndarray, bool]:
            picture = self.picture(str(contents[int(position)]))
            return (nothing, False) if picture is None else (picture, True)

        def load(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            # Pillow rather than `tf.io.decode_image`, which cannot read WebP or CMYK JPEG, decodes
            # all frames of a GIF of any size, and does not name the file in its errors. Pillow
            # releases the GIL while it decodes and scales, so threads run in parallel with each
            # other and with the network.
            picture, found = tf.numpy_function(
                look_up, [position], (tf.uint8, tf.bool), stateful=False
            )
            return position, tf.ensure_shape(picture, shape), tf.ensure_shape(found, ())

        data = tf.data.Dataset.range(len(contents)).map(
            load, num_parallel_calls=self.workers, deterministic=False
        )
        data = data.filter(lambda position, picture, found: found)
        data = data.map(lambda position, picture, found: (position, picture))
        data = data.batch(self.batch_size).prefetch(1)
        options = tf.data.Options()
        # A separate thread pool, so that decoding does not block the network's operations.
        options.threading.private_threadpool_size = self.workers
        # Autotuning has nothing to tune here, and its thread delays the end of some iterations by
        # up to two seconds.
        options.autotune.enabled = False
        return data.with_options(options)


def resnet50(weights: str) -> Network:
    """Builds ResNet-50 of keras.applications: no classification layer, pooled, 2048 numbers."""
    handles.check_resnet50(weights)
    model = keras.applications.ResNet50(
        include_top=False, pooling="avg", weights=None, input_shape=(SIDE, SIDE, 3)
    )
    if weights == "random":
        _draw_weights(model)
    else:
        _load_weights(model, weights)

    def call(pixels: tf.Tensor) -> tf.Tensor:
        inputs = keras.applications.resnet50.preprocess_input(tf.cast(pixels, tf.float32))
        return tf.cast(model(inputs, training=False), tf.float32)

    digest = hashlib.sha256()
    for values in model.get_weights():  # in the order of layers, for any file format
        digest.update(f"{values.shape} {values.dtype.newbyteorder('<').str};".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return Network(call, SIDE, SIDE, digest.hexdigest(), model)


def _draw_weights(model: keras.Model) -> None:
    """Draws random weights that are always the same, independent of any seed."""
    draw = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) == 4:  # a convolution; the rest starts as 0 or 1
            # Variance one over fan-in: with the residuals, vectors neither vanish nor overflow.
            scale = np.sqrt(1 / np.prod(variable.shape[:3]))
            variable.assign(scale * draw.standard_normal(variable.shape, np.float32))


def _load_weights(model: keras.Model, weights: str) -> None:
    for variable in model.weights:
        # Keras only warns of some layers that a file lacks, and leaves their weights unchanged.
        variable.assign(np.full(variable.shape, np.nan, np.float32))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(weights)
        if not all(np.isfinite(values).all() for values in model.get_weights()):
            raise ValueError("some weights are missing or not finite")
    except Exception as error:  # HDF5, zip, layers and shapes each raise their own exceptions
        raise InputError(
            f"--image_weights={weights}: not the weights of keras.applications.ResNet50"
            f"(include_top=False) ({typed_line(error)})"
        ) from None


def hub(weights: str) -> Network:
    """Loads a SavedModel with the image feature-vector signature, from a directory or a handle."""
    directory = handles.image_folder(weights)
    try:
        handles.check_fingerprint(directory)
        loaded = tf.saved_model.load(str(directory))
    except Exception as error:  # each part of a broken file raises its own
        raise InputError(
            f"--image_weights={weights}: this SavedModel cannot be loaded ({typed_line(error)})"
        ) from None
    signatures = getattr(loaded, "signatures", {})
    if callable(loaded):
        function, specs = loaded, getattr(loaded.__call__, "concrete_functions", [])
    elif "serving_default" in signatures:
        served = signatures["serving_default"]
        (name, *more), specs = served.structured_input_signature[1], [served]
        if more or len(served.structured_outputs) != 1:
            raise _other_network(weights, "more than one input or output")

        def function(images: tf.Tensor) -> tf.Tensor:
            (vectors,) = served(**{name: images}).values()
            return vectors
    else:
        raise _other_network(weights, "it has no callable function")
    height, width = _input_size(specs)

    def call(pixels: tf.Tensor) -> tf.Tensor:
        return tf.cast(function(tf.cast(pixels, tf.float32) / 255), tf.float32)

    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).parts):
        # TensorFlow writes a new random number into fingerprint.pb at every export.
        if path.is_file() and path.name != "fingerprint.pb":
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(directory).as_posix()}\0{content}\n".encode())
    return Network(call, height, width, digest.hexdigest(), loaded)


NETWORKS: dict[str, Callable[[str], Network]] = {"resnet50": resnet50, "hub": hub}
"""Flag value -> function that builds the network from the name of its weights."""


def _input_size(functions: Iterable) -> tuple[int, int]:
    """Returns height and width of the first image input that fixes them."""
    for function in functions:
        for spec in tf.nest.flatten(function.structured_input_signature):
            shape = getattr(spec, "shape", None)
            if shape is not None and shape.rank == 4 and None not in shape[1:3]:
                return shape[1], shape[2]
    return SIDE, SIDE


def _dim(function: Callable[[tf.Tensor], tf.Tensor], network: Network, weights: str) -> int:
    """Returns the length of vectors, from a trial of the network with two grey images."""
    grey = tf.fill([2, network.height, network.width, 3], tf.constant(128, tf.uint8))
    try:
        vectors = function(grey).numpy()
    except Exception as error:
        raise _other_network(weights, typed_line(error)) from None
    if vectors.ndim != 2 or len(vectors) != 2:
        raise _other_network(weights, f"it returns {list(vectors.shape)} for a batch of 2")
    if not np.isfinite(vectors).all():
        raise _other_network(weights, "it returns numbers that are not finite")
    return int(vectors.shape[1])


def _other_network(weights: str, why: str) -> InputError:
    return InputError(
        f"--image_weights={weights}: not an image feature-vector network, which maps float32 "
        f"[batch, height, width, 3] in [0, 1] to [batch, dim] ({why})"
    )
