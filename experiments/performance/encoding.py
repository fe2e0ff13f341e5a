"""What content costs: texts through a frozen encoder and through the cache, in one run.

    python experiments/performance/encoding.py --handle=DIR [--texts=FILE --column=NAME]
        [--count=1000] [--rounds=3] [--rows=1000000] [--output=FILE]

DIR is a text encoder's directory (`experiments/content/convert_minilm.py` makes one of a real
network), FILE a CSV or Parquet with a column of texts; without it, titles are made up. Each
variant encodes the same distinct texts into an empty cache and reads them back from it, wall clock
over all: hashing, tokenizing, the encoder, writing segments. The variants take turns, round by
round, and ratios are formed within a round, so that a machine whose speed drifts does not decide.

The last part fills a cache with made-up vectors, and a new process reads all of them: its peak of
resident memory, TensorFlow included.
"""

import functools
import hashlib
import tempfile
import time
from pathlib import Path

import bench
import numpy as np
import pandas as pd

from mmnet.checks import InputError
from mmnet.encoders.cache import KEY_BYTES, VectorCache
from mmnet.encoders.hub_text import HubTextEncoder
from mmnet.training.records import peak_memory

MAX_TOKENS = 128
WORDS = "the of a cat dog stock market bread home guitar final cup rate bank video how to ten tips"


def read_texts(options) -> list[str]:
    """Distinct texts, drawn from the file or made up."""
    draw = np.random.default_rng(0)
    if options.texts:
        if ".parquet" in options.texts:
            table = pd.read_parquet(options.texts, columns=[options.column])
        else:
            table = pd.read_csv(options.texts, usecols=[options.column])
        texts = table[options.column].dropna().astype(str)
        texts = texts[texts.str.strip() != ""].unique()
        if len(texts) < options.count:
            raise SystemExit(f"{options.texts} has {len(texts)} distinct texts; lower --count")
        return draw.choice(texts, options.count, replace=False).tolist()
    words = WORDS.split()
    lengths = np.minimum(draw.geometric(0.1, options.count) + 2, 60)
    return [f"{i} {' '.join(draw.choice(words, n))}" for i, n in enumerate(lengths)]


class Variant:
    """An encoder whose calls are timed."""

    def __init__(self, handle: str, **settings):
        self.encoder = HubTextEncoder(handle, max_tokens=MAX_TOKENS, **settings)
        bert = self.encoder._bert
        self._pool, bert.pool = bert.pool, self._timed
        self.inside = 0.0

    def _timed(self, batch):
        start = time.perf_counter()
        vectors = self._pool(batch)
        self.inside += time.perf_counter() - start
        return vectors

    def __call__(self, texts: list[str]) -> tuple[float, float, float, np.ndarray]:
        """Seconds to encode, share of them inside the encoder, seconds of hits; the vectors."""
        with tempfile.TemporaryDirectory() as directory:
            self.inside, start = 0.0, time.perf_counter()
            vectors = VectorCache(directory, self.encoder).vectors(texts)
            encoding = time.perf_counter() - start
            start = time.perf_counter()
            again = VectorCache(directory, self.encoder)
            np.testing.assert_array_equal(again.vectors(texts), vectors)
            hits = time.perf_counter() - start
        return encoding, self.inside / encoding, hits, vectors


def text_lines(options) -> list[str]:
    """Encodes with all variants; the table of them."""
    texts = read_texts(options)
    settings = {
        "float32": {},
        "float32, all padded to the same length": {"bucket": MAX_TOKENS},
        "bfloat16": {"precision": "bfloat16"},
    }
    variants, notes = {}, []
    for name, one in settings.items():
        try:
            variants[name] = Variant(options.handle, **one)
        except InputError as error:
            notes.append(f"- {name}: {error}")
    for variant in variants.values():
        variant(texts[:: max(1, len(texts) // 100)])  # compiles
    calls = {name: functools.partial(variant, texts) for name, variant in variants.items()}
    found = bench.turns(calls, options.rounds)
    vectors = {name: unit(rounds[-1][-1]) for name, rounds in found.items()}
    spent = {name: np.array([row[:-1] for row in rows]).T for name, rows in found.items()}
    source = f"`{Path(options.texts).name}`, {options.column}" if options.texts else "made up"
    lengths = [len(text.split()) for text in texts]
    lines = [
        f"## {len(texts):,} texts ({source}; {np.mean(lengths):.0f} words on average, at most "
        f"{max(lengths)}), {MAX_TOKENS} tokens, vectors of {variant.encoder.dim}",
        "",
        "| variant | texts/s | speed-up | in the encoder, % | hits/s | hits / encoding |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, (encoding, share, hits) in spent.items():
        columns = (
            len(texts) / encoding,
            spent["float32"][0] / encoding,
            100 * share,
            len(texts) / hits,
            encoding / hits,
        )
        cells = [bench.spread(column, three_digits) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in list(variants)[1:]:
        cosine = np.sum(vectors[name] * vectors["float32"], axis=1)
        notes.append(f"- Least cosine between {name} and float32: {cosine.min():.5f}.")
    return [*lines, "", *notes]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one, float32."""
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Fabricated:
    """An encoder that draws its vectors."""

    def __init__(self, dim: int):
        self.about = {"kind": "fabricated"}
        self.fingerprint = hashlib.sha256(b"fabricated").hexdigest()
        self.dim = dim

    def digests(self, contents):
        """As the text encoder has them."""
        keys = [hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest() for text in contents]
        return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES)

    def encode(self, contents):
        """Normal numbers."""
        draw = np.random.default_rng(0)
        for start in range(0, len(contents), 4096):
            positions = np.arange(start, min(start + 4096, len(contents)))
            yield positions, draw.standard_normal((len(positions), self.dim), np.float32)

    def problems(self):
        """None."""
        return []


def memory_lines(options) -> list[str]:
    """Fills a cache, and reads it in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        child = (__file__, f"--cache={directory}", f"--rows={options.rows}", f"--dim={options.dim}")
        (_, filled, fill_peak), (hits, read, peak) = (
            bench.run(*child).output.split()[-3:] for _ in ("fill", "read")
        )
    return [
        f"## {options.rows:,} cached vectors of {options.dim}",
        "",
        f"- Peak of resident memory of a process that reads all ({int(hits):,} hits): {peak} GB, "
        f"of which the result is {options.rows * options.dim * 2 / 1e9:.2f} GB; {read} s.",
        f"- The process that wrote them: {fill_peak} GB, {filled} s.",
    ]


def read_cache(options) -> None:
    """What those processes do: prints hits, seconds and the peak of resident memory in GB."""
    contents = [f"title {i}" for i in range(options.rows)]
    start = time.perf_counter()
    cache = VectorCache(options.cache, Fabricated(options.dim))
    vectors = cache.vectors(contents)
    seconds = time.perf_counter() - start
    assert vectors.any(axis=1).all()
    print(cache.hits, f"{seconds:.1f}", f"{peak_memory()[0] / 1e9:.2f}")


def three_digits(number: float) -> str:
    """A number to three digits, or whole from 1,000."""
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def main():
    """Runs the parts asked for and prints them."""
    options = bench.options(
        __doc__,
        handle={"default": "", "help": "a text encoder's directory"},
        texts={"default": "", "help": "CSV or Parquet"},
        column="title",
        count={"default": 1000, "help": "texts per round"},
        rounds=3,
        rows={"default": 1_000_000, "help": "cached vectors; 0: leave out"},
        dim=768,
        cache=bench.HIDDEN,
    )
    if options.cache:
        read_cache(options)
        return
    lines = [
        "# Encoding",
        "",
        f"`python experiments/performance/encoding.py --count={options.count} "
        f"--rounds={options.rounds}`: {bench.cores()} cores, {bench.versions('TensorFlow')}. "
        "Median (least to most).",
        "",
    ]
    if options.handle:
        lines += [*text_lines(options), ""]
    if options.rows:
        lines += memory_lines(options)
    bench.publish(lines, options.output)


if __name__ == "__main__":
    main()
