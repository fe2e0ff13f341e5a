"""A vector is encoded once, found ever after, and lost by no kill."""

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmnet.checks import InputError
from mmnet.encoders import cache
from mmnet.encoders.cache import VectorCache
from mmnet.encoders.problems import Problem

DIM = 3


class Letters:
    """An encoder by hand: length, first and last letter; it keeps a record of its work.

    It knows no word with "?", gives zeros for "zero", and too much for "huge".
    """

    def __init__(self, name="letters", batch=2, dim=DIM):
        self.about = {"kind": name}
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.dim, self.batch, self.seen = dim, batch, []

    def digests(self, contents):
        keys = np.zeros((len(contents), 16), np.uint8)
        for row, word in enumerate(contents):
            if word:
                keys[row] = np.frombuffer(hashlib.md5(word.encode()).digest(), np.uint8)
        return keys

    def encode(self, contents):
        self.seen.extend(contents)
        known = [i for i, word in enumerate(contents) if "?" not in word]
        known.reverse()
        for start in range(0, len(known), self.batch):
            some = known[start : start + self.batch]
            vectors = np.stack([vector(contents[i], self.dim) for i in some])
            yield np.array(some, np.int64), vectors

    def problems(self):
        return []


def vector(word, dim=DIM):
    if word == "zero":
        return np.zeros(dim, "float32")
    if word == "huge":
        return np.full(dim, 7e4, "float32")  # float16 ends at 65504
    return np.resize(np.array([len(word), ord(word[0]), -ord(word[-1])], "float32"), dim)


def expected(*words):
    absent = ("", "zero", "huge")
    rows = [np.zeros(DIM) if w in absent or "?" in w else vector(w) for w in words]
    return np.array(rows).reshape(-1, DIM)


def encoded_by(directory, *words, open_cache=VectorCache):
    """What a new process would encode to have some words."""
    encoder = Letters()
    found = open_cache(directory, encoder).vectors(words)
    np.testing.assert_array_equal(found, expected(*words))
    return sorted(encoder.seen)


def segments(directory):
    return sorted(path.name for path in directory.rglob("*.keys.npy"))


def folder_of(directory, encoder=None):
    return directory / (encoder or Letters()).fingerprint[:16]


def two_rows_each(directory, encoder=None):
    """A cache whose segments hold two vectors."""
    return VectorCache(directory, encoder or Letters(), segment_bytes=2 * 2 * DIM)


def test_gives_vectors_in_the_order_of_the_contents(tmp_path):
    found = VectorCache(tmp_path, Letters()).vectors(["cat", "", "a", "cat"])
    assert found.dtype == np.float16
    # Length, code of the first letter, minus that of the last.
    np.testing.assert_array_equal(found, [[3, 99, -116], [0, 0, 0], [1, 97, -97], [3, 99, -116]])


def test_counts_distinct_contents_and_absent_positions(tmp_path):
    first = VectorCache(tmp_path, Letters())
    first.vectors(["cat", "", "dog", "cat", "?", "?"])
    assert (first.hits, first.encoded, first.absent) == (0, 2, 3)
    first.vectors(["cat", "cat", "cow", ""])
    assert (first.hits, first.encoded, first.absent) == (1, 1, 1)


def test_a_changed_content_costs_one_row(tmp_path):
    words = [f"word {i}" for i in range(20)]
    assert encoded_by(tmp_path, *words) == sorted(words)
    assert encoded_by(tmp_path, *words) == []
    words[7] = "another"
    assert encoded_by(tmp_path, *words) == ["another"]


def test_takes_an_array_of_strings_and_nothing_at_all(tmp_path):
    one = VectorCache(tmp_path, Letters())
    np.testing.assert_array_equal(one.vectors(np.array(["cat", ""])), expected("cat", ""))
    np.testing.assert_array_equal(one.vectors(np.array(["a"], object)), expected("a"))
    assert one.vectors([]).shape == (0, DIM)
    assert one.vectors(["", ""]).shape == (2, DIM)


def test_what_cannot_be_encoded_is_zero_and_tried_again(tmp_path):
    assert encoded_by(tmp_path, "cat", "why?") == ["cat", "why?"]
    assert encoded_by(tmp_path, "cat", "why?") == ["why?"]


def test_zero_and_not_finite_vectors_are_reported_and_not_kept(tmp_path):
    one = VectorCache(tmp_path, Letters())
    found = one.vectors(["cat", "zero", "huge", "zero"])
    np.testing.assert_array_equal(found, expected("cat", "zero", "huge", "zero"))
    assert (one.encoded, one.absent) == (1, 3)
    assert one.problems() == [
        Problem("encoded to a vector that is not finite as float16", 1, ("huge",)),
        Problem("encoded to a zero vector", 1, ("zero",)),
    ]
    assert encoded_by(tmp_path, "cat", "zero", "huge") == ["huge", "zero"]


def test_says_how_far_it_is(tmp_path):
    told = []
    one = VectorCache(tmp_path, Letters(batch=2))
    one.vectors(["a"])
    one.vectors(["a", "b", "c", "d", "b"], progress=lambda *args: told.append(args))
    assert told == [(2, 3), (3, 3)]


def test_encoders_share_a_directory(tmp_path):
    encoded_by(tmp_path, "cat")
    other = Letters("others", dim=2)
    np.testing.assert_array_equal(VectorCache(tmp_path, other).vectors(["cat"]), [[3, 99]])
    assert other.seen == ["cat"]
    assert encoded_by(tmp_path, "cat") == []


def test_says_whose_vectors_they_are(tmp_path):
    encoded_by(tmp_path, "cat")
    written = json.loads((folder_of(tmp_path) / "encoder.json").read_text())
    fingerprint = Letters().fingerprint
    about = {"kind": "letters"}
    assert written == {"format": 1, "fingerprint": fingerprint, "dim": DIM, "about": about}


WORDS = st.sampled_from(["", "a", "b", "cat", "dog", "é", "why?", "zero", "huge", "a b"])


# The directory is made anew in each example.
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    calls=st.lists(st.tuples(st.sampled_from(["get", "prune", "new"]), st.lists(WORDS)), max_size=6)
)
def test_equals_a_dictionary(tmp_path_factory, calls):
    directory = tmp_path_factory.mktemp("cache")
    kept, encoder = set(), Letters()
    one = two_rows_each(directory, encoder)
    for call, words in calls:
        if call == "new":
            one = two_rows_each(directory, encoder)
        elif call == "prune":
            assert one.prune(words) == len(kept - set(words))
            kept &= set(words)
        encoder.seen.clear()
        np.testing.assert_array_equal(one.vectors(words), expected(*words))
        assert sorted(encoder.seen) == sorted(set(words) - kept - {""})
        kept |= {word for word in words if expected(word).any()}
        assert one.hits + one.encoded == len(kept & set(words))
    shutil.rmtree(directory)


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    words = [f"word {i}" for i in range(8)]
    for killed_at in range(1, 9):  # each of the two files of each of four segments
        directory = tmp_path / str(killed_at)
        with monkeypatch.context() as patch:
            die_at_write(patch, killed_at)
            with pytest.raises(SystemError, match="killed"):
                two_rows_each(directory).vectors(words)
        # Before the n-th file stand (n - 1) // 2 whole segments of two vectors each.
        assert len(encoded_by(directory, *words)) == 8 - 2 * ((killed_at - 1) // 2)
        assert encoded_by(directory, *words) == []
        assert not list(directory.rglob(".*"))
        assert len(list(directory.rglob("*.vectors.npy"))) == len(segments(directory))


def die_at_write(patch, number):
    """Lets the process die in the middle of the n-th file of a segment."""
    writes = itertools.count(1)
    real = cache.write_atomic

    def write(path, content):
        if path.name.startswith("segment") and next(writes) == number:
            (path.parent / f".{path.stem}.0123456789ab.npy").write_bytes(b"\x93NUMPY")
            raise SystemError("killed")
        return real(path, content)

    patch.setattr(cache, "write_atomic", write)


def test_an_interrupt_keeps_every_batch(tmp_path):
    encoder = Letters(batch=2)

    def interrupt(done, _):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        VectorCache(tmp_path, encoder).vectors(list("abcdef"), progress=interrupt)
    assert encoded_by(tmp_path, *"abcdef") == ["a", "b"]  # the last ones came first


def test_a_slow_encoder_writes_by_the_clock(tmp_path):
    VectorCache(tmp_path, Letters(batch=2), segment_seconds=0.0).vectors(list("abcdef"))
    assert len(segments(tmp_path)) == 3


def test_vectors_of_two_writers_at_once_are_found_once(tmp_path):
    class Slow(Letters):
        def encode(self, contents):
            encoded_by(tmp_path, *contents)  # another process was faster
            yield from super().encode(contents)

    VectorCache(tmp_path, Slow()).vectors(["cat", "dog"])
    assert len(segments(tmp_path)) == 2
    assert encoded_by(tmp_path, "cat", "dog") == []
    assert VectorCache(tmp_path, Letters()).prune(["cat"]) == 1
    assert len(np.load(next(tmp_path.rglob("*.keys.npy")))) == 1
    assert encoded_by(tmp_path, "cat", "dog") == ["dog"]


def test_prune_drops_what_is_not_wanted(tmp_path):
    encoded_by(tmp_path, *"abcdef", open_cache=two_rows_each)
    one = two_rows_each(tmp_path)
    assert one.prune(["a", "b", "e", "", "new"]) == 3
    assert encoded_by(tmp_path, "a", "b", "e") == []
    assert encoded_by(tmp_path, *"abcdef") == ["c", "d", "f"]


def test_prune_joins_small_segments_and_leaves_whole_ones(tmp_path):
    encoded_by(tmp_path, *"abcd")
    for letter in "efg":
        encoded_by(tmp_path, letter)
    one = VectorCache(tmp_path, Letters(), segment_bytes=4 * 2 * DIM)  # four vectors
    assert one.prune(list("abcdefg")) == 0
    assert segments(tmp_path) == ["segment-000000.keys.npy", "segment-000004.keys.npy"]
    assert encoded_by(tmp_path, *"abcdefg") == []
    assert one.prune([]) == 7
    assert segments(tmp_path) == []


def test_a_killed_prune_loses_nothing(tmp_path, monkeypatch):
    encoded_by(tmp_path / "whole", *"abcdefgh", open_cache=two_rows_each)
    wanted = "aceg"
    for killed_at in range(1, 5):
        directory = tmp_path / str(killed_at)
        shutil.copytree(tmp_path / "whole", directory)
        with monkeypatch.context() as patch:
            die_at_write(patch, killed_at)
            with pytest.raises(SystemError, match="killed"):
                two_rows_each(directory).prune(list(wanted))
        assert encoded_by(directory, *"abcdefgh") == []
    for killed_at in range(1, 9):  # each of the two files of each of four old segments
        directory = tmp_path / f"removing {killed_at}"
        shutil.copytree(tmp_path / "whole", directory)
        with monkeypatch.context() as patch:
            die_at_removal(patch, killed_at)
            with pytest.raises(SystemError, match="killed"):
                two_rows_each(directory).prune(list(wanted))
        assert encoded_by(directory, *wanted) == []
        assert VectorCache(directory, Letters()).prune(list(wanted)) <= 4
        assert encoded_by(directory, *"abcdefgh") == list("bdfh")


def die_at_removal(patch, number):
    removals = itertools.count(1)
    real = cache.Path.unlink

    def unlink(path, missing_ok=False):
        if path.name.startswith("segment") and next(removals) == number:
            raise SystemError("killed")
        real(path, missing_ok=missing_ok)

    patch.setattr(cache.Path, "unlink", unlink)


@pytest.mark.parametrize(
    ("name", "value"), [("fingerprint", "0" * 64), ("format", 2), ("dim", 4), ("format", None)]
)
def test_a_foreign_cache_is_refused(tmp_path, name, value):
    encoded_by(tmp_path, "cat")
    path = folder_of(tmp_path) / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(InputError, match=rf"another encoder, or .*: {name} is .*delete the folder"):
        VectorCache(tmp_path, Letters())


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "\x00"])
def test_a_description_that_is_none_is_refused(tmp_path, text):
    encoded_by(tmp_path, "cat")
    (folder_of(tmp_path) / "encoder.json").write_text(text)
    with pytest.raises(InputError, match=r"encoder\.json is not a description of an encoder"):
        VectorCache(tmp_path, Letters())


def test_vectors_without_a_description_are_refused(tmp_path):
    encoded_by(tmp_path, "cat")
    (folder_of(tmp_path) / "encoder.json").unlink()
    with pytest.raises(InputError, match=r"no encoder\.json that describes their encoder"):
        VectorCache(tmp_path, Letters())


def test_one_encoders_folder_is_no_cache(tmp_path):
    encoded_by(tmp_path, "cat")
    with pytest.raises(InputError, match="use its parent directory"):
        VectorCache(folder_of(tmp_path), Letters())


def test_a_file_is_no_cache(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be used as an encoder cache"):
        VectorCache(tmp_path / "file", Letters())


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def longer(path):
    array = np.load(path)
    np.save(path, np.concatenate([array, array]))


def of_another_type(path):
    np.save(path, np.load(path).astype("float32"))


def of_objects(path):
    np.save(path, np.array([{}], object), allow_pickle=True)


def emptied(path):
    path.write_bytes(b"")


def an_archive(path):
    path.write_bytes(b"PK\x03\x04, and no more")


DAMAGES = [cut, longer, of_another_type, of_objects, emptied, an_archive]


@pytest.mark.parametrize("kind", ["keys", "vectors"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_refused(tmp_path, kind, damage):
    encoded_by(tmp_path, "cat", "dog")
    damage(folder_of(tmp_path) / f"segment-000000.{kind}.npy")
    one = VectorCache(tmp_path, Letters())
    for refused in (lambda: one.vectors(["cow"]), lambda: one.prune(["cow"])):
        with pytest.raises(InputError, match=r"segment-000000\.\w+\.npy is damaged \(.*delete"):
            refused()


def test_edited_vectors_are_refused(tmp_path):
    encoded_by(tmp_path, "cat", "dog")
    path = folder_of(tmp_path) / "segment-000000.vectors.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-4])  # as an earlier version wrote it
    VectorCache(tmp_path, Letters()).vectors(["cat"])
    path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    with pytest.raises(InputError, match="its vectors are not those that were written"):
        VectorCache(tmp_path, Letters()).vectors(["cat"])


def test_keys_without_vectors_are_refused(tmp_path):
    encoded_by(tmp_path, "cat")
    (folder_of(tmp_path) / "segment-000000.vectors.npy").unlink()
    with pytest.raises(InputError, match="missing, although its keys exist"):
        VectorCache(tmp_path, Letters()).vectors(["cat"])


def test_what_killed_writers_left_confuses_nobody(tmp_path):
    encoded_by(tmp_path, "cat")
    folder = folder_of(tmp_path)
    for name in (".segment-000001.keys.0123456789ab.npy", "segment-000001.vectors.npy"):
        (folder / name).write_bytes(b"half")
    assert encoded_by(tmp_path, "cat") == []
    assert encoded_by(tmp_path, "cat", "dog") == ["dog"]
    assert encoded_by(tmp_path, "cat", "dog") == []
    assert len(list(folder.iterdir())) == 2 + 2 * 2  # encoder.json, lock, two segments


def test_files_beside_the_segments_are_left_alone(tmp_path):
    encoded_by(tmp_path, "cat")
    for name in ("segment-x.vectors.npy", "notes.txt"):
        (folder_of(tmp_path) / name).write_text("mine")
    assert encoded_by(tmp_path, "cat", "dog") == ["dog"]
    assert (folder_of(tmp_path) / "segment-x.vectors.npy").read_text() == "mine"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((np.array([0]), np.ones((1, 2), "float32")), r"must yield vectors \[1, 3\]"),
        ((np.array([1]), np.ones((1, 3), "float32")), "must yield positions of its 1 contents"),
    ],
)
def test_an_encoder_that_breaks_its_contract_is_found_out(tmp_path, batch, message):
    encoder = Letters()
    encoder.encode = lambda contents: iter([batch])
    with pytest.raises(ValueError, match=message):
        VectorCache(tmp_path, encoder).vectors(["cat"])


def test_processes_write_at_the_same_time(tmp_path):
    # Half of the words are the same; each process writes a segment per batch.
    program = """
        import hashlib, sys
        import numpy as np
        from mmnet.encoders import cache
        from tests.encoders.test_cache import Letters
        words = [f"both {i}" for i in range(20)] + [f"{sys.argv[2]} {i}" for i in range(20)]
        cache.VectorCache(sys.argv[1], Letters(batch=1), segment_seconds=0).vectors(words)
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(tmp_path), name])
        for name in ("one", "two")
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    words = [f"{name} {i}" for name in ("both", "one", "two") for i in range(20)]
    assert encoded_by(tmp_path, *words) == []
    assert len(segments(tmp_path)) == len(list(tmp_path.rglob("*.vectors.npy")))


def test_only_numpy_is_loaded():
    program = "import sys, mmnet.encoders.cache; print('tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == "False"
