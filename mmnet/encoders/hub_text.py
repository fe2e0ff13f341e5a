"""Texts as vectors of a frozen BERT in TensorFlow Hub's format.

tensorflow-hub and tensorflow-text are imported, and the network is loaded, when the first text is
encoded. If all vectors are in the cache, they are not needed, and tensorflow-hub would also load a
second Keras.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2

from mmnet import checks
from mmnet.checks import InputError
from mmnet.encoders import handles
from mmnet.encoders.cache import KEY_BYTES
from mmnet.encoders.handles import first_line
from mmnet.encoders.problems import Problem

TEXTS_AT_ONCE = 8192
"""Number of texts to tokenize and sort by length at a time."""

_BFLOAT16 = "auto_mixed_precision_onednn_bfloat16"


class HubTextEncoder:
    """A frozen BERT (Devlin et al., 2019), from TensorFlow Hub or from a directory.

    Its two SavedModels follow the interface of all BERT models there: the preprocessor has
    `tokenize` (texts -> ids of word pieces, ragged) and `bert_pack_inputs` (those and a length ->
    dict of tensors [batch, length], with `input_mask` among them); the encoder maps that dict to
    one with `pooled_output` [batch, dim].

    A batch has texts of similar length, padded to the longest, so that short texts are cheap. The
    same text in another batch can differ by float32 rounding.

    Args:
        handle: a directory with `preprocess/` and `encoder/`; or, together with `preprocessor`, a
            hub handle or a SavedModel's directory.
        preprocessor: hub handle or directory of the preprocessor that the encoder's page names.
        max_tokens: maximum word pieces per text, including its first and last mark.
        batch_size: number of texts per call of the encoder.
        texts_at_once: number of texts to tokenize and sort by length at a time.
        bucket: lengths are padded to a multiple of it; `max_tokens` pads all texts alike.
        precision: "float32", or "bfloat16": TensorFlow then rounds the inputs of matrix
            products to 8 bits of mantissa, on CPUs that support this in hardware.

    Attributes:
        about: kind, max_tokens and precision.
        fingerprint: SHA-256 over `about` and all files of both SavedModels.
        dim: length of a vector.

    Raises:
        InputError: a handle cannot be downloaded, or a directory is not a SavedModel; from
            `encode`: a package is missing, a SavedModel is not a BERT or accepts fewer tokens, or
            the machine does not support bfloat16.
    """

    def __init__(
        self,
        handle: str | Path,
        *,
        preprocessor: str | Path = "",
        max_tokens: int = 128,
        batch_size: int = 32,
        bucket: int = 8,
        texts_at_once: int = TEXTS_AT_ONCE,
        precision: str = "float32",
    ):
        self.max_tokens = checks.at_least(3, max_tokens=max_tokens)
        self.batch_size = checks.at_least(1, batch_size=batch_size)
        self.texts_at_once = checks.at_least(1, texts_at_once=texts_at_once)
        self.bucket = checks.at_least(1, bucket=bucket)
        checks.one_of(("float32", "bfloat16"), precision=precision)
        self.about: dict[str, str | int | float | bool] = {
            "kind": "hub_text",
            "max_tokens": max_tokens,
            "precision": precision,
        }
        self._folders = handles.bert_folders(str(handle), str(preprocessor))
        self.fingerprint = _fingerprint(self.about, self._folders)
        self.dim = _declared_dim(self._folders[1]) or self._bert.dim

    def digests(self, contents: Sequence[str]) -> np.ndarray:
        """Returns a hash of each text, uint8 [contents, 16]; all zeros for a blank one."""
        keys = [
            hashlib.blake2b(_utf8(text), digest_size=KEY_BYTES).digest()
            if text.strip()
            else bytes(KEY_BYTES)
            for text in contents
        ]
        return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)

    def encode(self, contents: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Encodes texts, grouped by similar length.

        Yields:
            Positions in `contents`, int64 [batch], and vectors, float32 [batch, dim]. A text
            without tokens is not yielded.
        """
        for start in range(0, len(contents), self.texts_at_once):
            texts = [_utf8(text) for text in contents[start : start + self.texts_at_once]]
            inputs, empty = self._bert.pack(texts)
            lengths = inputs["input_mask"].sum(axis=1)
            # The longest first, so that running out of memory happens at once.
            order = np.argsort(-lengths, kind="stable")
            order = order[~empty[order]]
            for low in range(0, len(order), self.batch_size):
                rows = order[low : low + self.batch_size]
                length = min(self.max_tokens, -(-lengths[rows[0]] // self.bucket) * self.bucket)
                batch = {name: array[rows, :length] for name, array in inputs.items()}
                yield start + rows, self._bert.pool(batch)

    def problems(self) -> list[Problem]:
        """Returns no problems: every text has a vector or is empty."""
        return []

    @functools.cached_property
    def _bert(self) -> _Bert:
        return _Bert(*self._folders, self.max_tokens, self.about["precision"] == "bfloat16")


class _Bert:
    """The two models, loaded and tested.

    Attributes:
        dim: length of a vector.
    """

    def __init__(self, preprocessor: Path, encoder: Path, max_tokens: int, bfloat16: bool):
        hub = handles.tensorflow_hub()
        self._max_tokens, self._bfloat16 = tf.constant(max_tokens), bfloat16
        self._pack, inputs = _packing(preprocessor, _load(hub, preprocessor, "preprocessor"))
        self._pool = _pooling(encoder, _load(hub, encoder, "encoder"), inputs)
        longest, _ = self.pack([b"a " * max_tokens])
        try:
            rounded, exact = self.pool(longest), self._pool(longest).numpy()
        except tf.errors.OpError as error:
            raise InputError(
                f"{encoder}: the encoder cannot encode a text of {max_tokens} tokens: "
                f"{first_line(error)}; set fewer --text_pieces, or use its own preprocessor"
            ) from None
        if bfloat16 and np.array_equal(rounded, exact):
            raise InputError(
                "bfloat16 has no effect here: TensorFlow uses it for frozen networks on CPUs "
                "that support it (AVX512_BF16, AMX) and unless TF_ENABLE_ONEDNN_OPTS is 0; use "
                "--text_precision=float32"
            )
        self.dim = int(exact.shape[1])

    def pack(self, texts: list[bytes]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns the encoder's inputs, each [texts, max_tokens], and texts without tokens."""
        inputs, empty = self._pack(tf.constant(texts, tf.string), self._max_tokens)
        return {name: tensor.numpy() for name, tensor in inputs.items()}, empty.numpy()

    def pool(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Returns vectors, float32 [texts, dim]."""
        with _bfloat16(self._bfloat16):
            return self._pool({k: tf.constant(v) for k, v in inputs.items()}).numpy()


def _load(hub: Any, folder: Path, role: str) -> Any:
    try:
        handles.check_fingerprint(folder)
        return hub.load(str(folder))
    except (OSError, ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"{folder}: the {role} cannot be loaded: {first_line(error)}; download it again"
        ) from None


def _packing(folder: Path, preprocessor: Any) -> tuple[Any, dict[str, tf.TensorSpec]]:
    """Builds a function from texts and a length to the encoder's inputs and to missing tokens.

    Returns:
        The function, and the specs of those inputs.
    """
    wrong = f"{folder} is not a BERT preprocessor of TensorFlow Hub"
    fix = "use the preprocessor that the encoder's documentation names"
    for name in ("tokenize", "bert_pack_inputs"):
        if not callable(getattr(preprocessor, name, None)):
            raise InputError(f"{wrong}: it has no {name}; {fix}")

    def pack(texts: tf.Tensor, length: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        tokens = preprocessor.tokenize(texts)  # [batch, (words), (pieces)], or without words
        if tokens.ragged_rank > 1:
            tokens = tokens.merge_dims(1, -1)
        return preprocessor.bert_pack_inputs([tokens], length), tokens.row_lengths() == 0

    signature = [tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)]
    function = tf.function(pack, signature, autograph=False)
    try:
        inputs, _ = function.get_concrete_function().structured_outputs
        specs = {
            name: tf.TensorSpec([None, None], tensor.dtype, name) for name, tensor in inputs.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{wrong}: {first_line(error)}; {fix}") from None
    if "input_mask" not in specs:
        raise InputError(f"{wrong}: it returns no input_mask. Received: {', '.join(specs)}; {fix}")
    return function, specs


def _pooling(folder: Path, encoder: Any, inputs: dict[str, tf.TensorSpec]) -> Any:
    """Builds a function from the preprocessor's tensors to `pooled_output`."""
    wrong = f"{folder} is not a BERT encoder of TensorFlow Hub"
    if not callable(encoder):
        raise InputError(
            f"{wrong}: it is not callable (a model that Keras 3 exports has `serve` instead); "
            "export a function of a dict with input_word_ids, input_mask and input_type_ids"
        )

    def pool(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        outputs = encoder(batch)
        if not isinstance(outputs, dict) or "pooled_output" not in outputs:
            came = ", ".join(sorted(outputs)) if isinstance(outputs, dict) else "not a dict"
            raise InputError(f"{wrong}: it returns no pooled_output. Received: {came}")
        return tf.cast(outputs["pooled_output"], tf.float32)

    function = tf.function(pool, [inputs], autograph=False)  # one graph for all lengths
    try:
        function.get_concrete_function()
    except InputError:
        raise
    except (ValueError, TypeError):
        raise InputError(
            f"{wrong}: it does not accept a dict with {', '.join(sorted(inputs))}, each int32 "
            "[batch, length]"
        ) from None
    return function


@contextlib.contextmanager
def _bfloat16(wanted: bool) -> Iterator[None]:
    """Lets TensorFlow lower float32 graphs to bfloat16 for calls inside this context only.

    The weights of a SavedModel are float32 in its graph, so the graph is rewritten. TensorFlow
    reads the option at each call and keeps a rewritten graph in addition to the first.
    """
    if not wanted:
        yield
        return
    before = tf.config.optimizer.get_experimental_options().get(_BFLOAT16, False)
    tf.config.optimizer.set_experimental_options({_BFLOAT16: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_BFLOAT16: before})


def _fingerprint(about: dict[str, str | int | float | bool], folders: Sequence[Path]) -> str:
    """Returns a SHA-256 over settings and files, independent of their location."""
    whole = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for folder in folders:
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
        for name, path in sorted(files.items()):
            # TensorFlow's own fingerprint contains a number that is random at each save.
            if path.is_file() and path.name != "fingerprint.pb":
                whole.update(f"\n{name}\0{path.stat().st_size}\0".encode())
                with path.open("rb") as file:
                    while part := file.read(2**20):
                        whole.update(part)
        whole.update(b"\n\n")
    return whole.hexdigest()


def _declared_dim(folder: Path) -> int:
    """Returns the length of `pooled_output` by the signatures of a SavedModel; 0 if unknown.

    It does not load any weights.
    """
    try:
        content = (folder / "saved_model.pb").read_bytes()
        graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    except (OSError, ValueError, message.DecodeError):
        return 0
    declared = set()
    for graph in graphs:
        for function in graph.object_graph_def.concrete_functions.values():
            outputs = function.output_signature.dict_value.fields
            if "pooled_output" in outputs:
                shape = outputs["pooled_output"].tensor_spec_value.shape
                declared.add(shape.dim[-1].size if shape.dim else -1)
    return declared.pop() if len(declared) == 1 and min(declared) > 0 else 0


def _utf8(text: str) -> bytes:
    """Encodes text as UTF-8; a lone surrogate, which is not valid, becomes a question mark."""
    return text.encode("utf-8", "replace")
