"""A BERT as TensorFlow Hub has them, small and untrained: two SavedModels in a directory."""

import itertools
import string

import keras
import tensorflow as tf

WORDS = "a an and at bread cat cats dog home how in is market of on stock the to ten tips with"
PIECES = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *string.digits,
    *string.ascii_lowercase,
    *string.punctuation,
    *(f"##{piece}" for piece in (*string.digits, *string.ascii_lowercase, "ing", "ed", "er")),
    *WORDS.split()[1:],
]
"""A WordPiece vocabulary: every word of ASCII letters can be spelled."""

LAYERS, WIDTH, HEADS, POSITIONS = 2, 64, 4, 64


def write(directory):
    """Writes `directory/preprocess` and `directory/encoder`."""
    vocabulary = directory / "vocab.txt"
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("\n".join(PIECES) + "\n")
    tf.saved_model.save(Preprocess(vocabulary), str(directory / "preprocess"))
    tf.saved_model.save(Encoder(), str(directory / "encoder"))
    vocabulary.unlink()  # the preprocessor has its own copy
    return directory


class Preprocess(tf.Module):
    def __init__(self, vocabulary):
        super().__init__()
        import tensorflow_text  # late, as in the encoder: other tests do without it

        self.text = tensorflow_text
        self.tokenizer = tensorflow_text.BertTokenizer(
            str(vocabulary), token_out_type=tf.int32, lower_case=True
        )
        for rank in (1, 2):  # pieces, or words of pieces
            tokens = tf.RaggedTensorSpec([None] * (rank + 1), tf.int32, ragged_rank=rank)
            self.bert_pack_inputs.get_concrete_function([tokens], tf.TensorSpec([], tf.int32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, texts):
        return self.bert_pack_inputs([self.tokenize(texts)], tf.constant(POSITIONS))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def tokenize(self, texts):
        return self.tokenizer.tokenize(texts)

    @tf.function
    def bert_pack_inputs(self, inputs, seq_length):
        tokens = [t.merge_dims(1, -1) if t.ragged_rank > 1 else t for t in inputs]
        cut = self.text.RoundRobinTrimmer(seq_length - 1 - len(tokens)).trim(tokens)
        ids, types = self.text.combine_segments(cut, PIECES.index("[CLS]"), PIECES.index("[SEP]"))
        ids, mask = self.text.pad_model_inputs(ids, seq_length)
        types, _ = self.text.pad_model_inputs(types, seq_length)
        return {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}


class Encoder(tf.Module):
    def __init__(self):
        super().__init__()
        seeds = itertools.count()

        def weights():
            return keras.initializers.RandomNormal(stddev=0.2, seed=next(seeds))

        def embedding(rows):
            return keras.layers.Embedding(rows, WIDTH, embeddings_initializer=weights())

        def dense(width, activation=None):
            return keras.layers.Dense(width, activation, kernel_initializer=weights())

        self.words, self.positions, self.types = map(embedding, (len(PIECES), POSITIONS, 2))
        self.attention = [
            keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, kernel_initializer=weights())
            for _ in range(LAYERS)
        ]
        self.inner = [dense(4 * WIDTH, keras.activations.gelu) for _ in range(LAYERS)]
        self.outer = [dense(WIDTH) for _ in range(LAYERS)]
        self.norms = [keras.layers.LayerNormalization() for _ in range(2 * LAYERS + 1)]
        self.pooler = dense(WIDTH, "tanh")

    @tf.function(
        input_signature=[
            {
                name: tf.TensorSpec([None, None], tf.int32, name)
                for name in ("input_word_ids", "input_mask", "input_type_ids")
            }
        ]
    )
    def __call__(self, inputs):
        ids, mask = inputs["input_word_ids"], tf.cast(inputs["input_mask"], tf.bool)
        places = tf.range(tf.shape(ids)[1])
        tf.debugging.assert_less(tf.shape(ids)[1], POSITIONS + 1, "too long")
        x = self.words(ids) + self.types(inputs["input_type_ids"]) + self.positions(places)
        x = self.norms[0](x)
        for layer in range(LAYERS):
            y = self.attention[layer](x, x, attention_mask=mask[:, None, :])
            x = self.norms[2 * layer + 1](x + y)
            y = self.outer[layer](self.inner[layer](x))
            x = self.norms[2 * layer + 2](x + y)
        pooled = self.pooler(x[:, 0])
        return {"pooled_output": pooled, "sequence_output": x, "default": pooled}
