import hashlib
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from mmnet.checks import InputError
from mmnet.schema import FeatureSpec
from mmnet.serving import conversion, export, runtimes
from mmnet.serving.exported import OUTPUT
from mmnet.serving.runtimes import RUNTIMES, SIZES, TILE, OpenSignature, opened
from tests.models.tiny import SPEC, batch
from tests.serving import exported
from tests.serving.exported import needs

SIGNATURES = ("serving_default", "static", "from_static")


@pytest.fixture(scope="module")
def directory(small_export):
    return small_export


@pytest.fixture(scope="module")
def cache(onnx_cache):
    return onnx_cache


@pytest.fixture(scope="module")
def rows(directory):
    """More rows than two tiles, some with nothing at all, and the inputs of every signature."""
    inputs = batch(SPEC, 2 * TILE + 5)
    for name in inputs:
        inputs[name][:3] = 0
    inputs["missing_flag"][:3] = 1
    loaded, _ = export.load(directory)
    return inputs | exported.in_two_steps(loaded.signatures, inputs)


# ------------------------------------------------------------------------------ every runtime


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_gives_what_the_saved_model_gives(runtime, signature, directory, cache, rows):
    needs(runtime)
    loaded, _ = export.load(directory)
    function = loaded.signatures[signature]
    read = {name: tf.constant(rows[name]) for name in function.structured_input_signature[1]}
    wanted = function(**read)
    found = opened(directory, signature, runtime=runtime, cache=cache)(rows)
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == np.float32
        # float32 rounds at 6e-8; another order of sums through a dozen layers loses two digits.
        np.testing.assert_allclose(found[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_row_scores_the_same_in_any_batch(runtime, directory, cache, rows):
    needs(runtime)
    scorer = opened(directory, "from_static", runtime=runtime, cache=cache)
    wanted = scorer(rows)[OUTPUT]
    for size in (0, 1, 3, 17, TILE, TILE + 1):
        part = {name: array[:size] for name, array in rows.items()}
        # A program for another number of rows adds in another order.
        np.testing.assert_allclose(scorer(part)[OUTPUT], wanted[:size], rtol=1e-5, atol=1e-5)


def test_a_row_scores_the_same_in_any_place_of_a_tile_to_the_bit(run_dir):
    score = opened(run_dir / "export", "serving_default")
    draw = np.random.default_rng(0)
    tile = {
        name: (draw.random((TILE, *shape)) * 3).astype(dtype)
        for name, (dtype, shape) in score.inputs.items()
    }
    wanted = score(tile)[OUTPUT]
    for places in (1, 2, 5, 77, TILE // 2):
        moved = score({name: np.roll(array, places, axis=0) for name, array in tile.items()})
        np.testing.assert_array_equal(moved[OUTPUT], np.roll(wanted, places))


@pytest.mark.parametrize("size", [16, 64])
def test_openvino_pads_to_sizes_in_which_the_place_of_a_row_does_not_matter(
    size, directory, cache, rows
):
    needs("openvino")
    scorer = opened(directory, "from_static", runtime="openvino", cache=cache)
    part = {name: array[:size] for name, array in rows.items()}
    wanted = scorer(part)[OUTPUT]
    for places in (1, 5, size // 2):
        moved = scorer({name: np.roll(array, places, axis=0) for name, array in part.items()})
        np.testing.assert_array_equal(moved[OUTPUT], np.roll(wanted, places))


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_several_threads_may_call_it(runtime, directory, cache, rows):
    needs(runtime)
    scorer = opened(directory, "from_static", runtime=runtime, calls=2, cache=cache)
    parts = [{name: array[at : at + 1] for name, array in rows.items()} for at in range(40)]
    wanted = [scorer(part)[OUTPUT] for part in parts]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda part: scorer(part)[OUTPUT], parts))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "window"),
    [
        ("mmnet", 20),
        ("gru", 6),
        ("encoder_decoder", 6),
        ("mmved", 6),
        ("dftc", 6),
        ("transformer", 6),
    ],
)
def test_every_network_runs_on_every_runtime(name, window, tmp_path):
    needs("openvino"), needs("onnx")
    spec = SPEC.model_copy(update={"window": window, "horizon": 2})
    directory = exported.write(tmp_path / "export", name, spec)
    loaded, _ = export.load(directory)
    inputs = batch(spec, 40)
    inputs |= exported.in_two_steps(loaded.signatures, inputs)
    for signature in ("serving_default", "from_static"):
        wanted = opened(directory, signature)(inputs)
        for runtime in RUNTIMES[1:]:
            scorer = opened(directory, signature, runtime=runtime, cache=tmp_path / "cache")
            for output, found in scorer(inputs).items():
                np.testing.assert_allclose(found, wanted[output], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_recurrent_network_over_a_long_window_stays_with_tensorflow(tmp_path):
    needs("openvino"), needs("onnx")
    spec = SPEC.model_copy(update={"window": 20})  # unrolled up to 16 steps, then a loop
    directory = exported.write(tmp_path / "export", "gru", spec)
    with pytest.raises(InputError, match=r"cannot be converted to ONNX \(TensorList"):
        opened(directory, "serving_default", runtime="onnx", cache=tmp_path / "cache")
    inputs = batch(spec, 40)
    wanted = opened(directory, "serving_default")(inputs)[OUTPUT]
    found = opened(directory, "serving_default", runtime="xla")(inputs)[OUTPUT]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_raw_columns_are_read_by_tensorflow_alone(directory, cache):
    columns = {
        name: np.zeros((2, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
        for name, spec in export.raw_inputs(exported.fitted()).items()
    }
    columns = {n: np.array(["w1", ""]) if c.dtype == object else c for n, c in columns.items()}
    found = opened(directory, "raw_columns")(columns)
    assert np.isfinite(found[OUTPUT]).all()
    with pytest.raises(InputError, match="--runtime=xla cannot read strings"):
        opened(directory, "raw_columns", runtime="xla")


# ---------------------------------------------------------------------------------- bfloat16


def test_bfloat16_is_near_and_not_the_same(directory, cache, rows):
    needs("openvino")
    if not runtimes.has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    lower = opened(directory, "from_static", runtime="openvino", precision="bfloat16", cache=cache)(
        rows
    )[OUTPUT]
    wanted = opened(directory, "from_static")(rows)[OUTPUT]
    assert not np.array_equal(lower, wanted)
    # bfloat16 rounds at 4e-3, in each of a dozen layers; rates here have an sd of 2 percent.
    np.testing.assert_allclose(lower, wanted, atol=0.05 * SPEC.rate_scale)


def test_bfloat16_is_refused_where_the_processor_has_none(directory, cache, monkeypatch):
    needs("openvino")
    monkeypatch.setattr(runtimes, "BFLOAT16_FLAGS", ("a_flag_of_no_processor",))
    with pytest.raises(InputError, match="needs a processor with a_flag_of_no_processor"):
        opened(directory, "static", runtime="openvino", precision="bfloat16", cache=cache)


# ------------------------------------------------------------------------------ wrong requests


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"runtime": "onyx"}, r"--runtime must be one of tensorflow, xla, .*Did you mean onnx\?"),
        ({"precision": "float16"}, r"--precision must be one of float32, bfloat16. Received"),
        ({"precision": "bfloat16"}, "--precision=bfloat16 needs --runtime=openvino"),
        ({"signature": "statik"}, r"has no signature statik.*Did you mean static\?"),
        ({"directory": "nowhere"}, "no SavedModel there"),
    ],
)
def test_a_wrong_choice_is_one_sentence(options, sentence, directory):
    with pytest.raises(InputError, match=sentence):
        opened(**{"directory": directory, "signature": "static", **options})


@pytest.mark.parametrize(
    ("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_without_the_extra_it_says_what_to_install(runtime, package, directory, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    runtimes._openvino_core.cache_clear()
    sentence = rf"--runtime={runtime} needs the extra fast: pip install 'mmnet\[fast\]'"
    with pytest.raises(InputError, match=sentence):
        opened(directory, "static", runtime=runtime)


def test_nothing_is_told_to_openvinos_makers(directory, cache, tmp_path):
    needs("openvino")
    script = f"""
        import sys
        from mmnet.serving.runtimes import opened
        opened({str(directory)!r}, "static", runtime="openvino", cache={str(cache)!r})
        print([name for name in sys.modules if name.startswith("openvino_telemetry.")])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.stdout == "[]\n", done.stderr
    assert not list(tmp_path.glob("intel*"))  # where it keeps its user's id


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_damaged_file_of_the_cache_is_named(runtime, directory, tmp_path):
    needs(runtime)
    digest = hashlib.sha256(b"damaged").hexdigest()[:16]  # the file is what its name says
    name = f"{conversion.fingerprint(directory)[:16]}-static-{digest}.onnx"
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"{name} cannot be read .*; delete it and it"):
        opened(directory, "static", runtime=runtime, cache=tmp_path)


# --------------------------------------------------------------------------------- the scorer


def doubling(sizes=()):
    """A scorer whose runtime takes certain sizes only, and the sizes it was asked for."""
    asked = []

    def run(part):
        asked.append(len(part["x"]))
        return {"twice": 2 * part["x"], "sum": part["x"].sum(axis=1)}

    inputs = {"x": (np.dtype(np.float32), (3,)), "n": (np.dtype(np.int32), ())}
    return OpenSignature(run, inputs, runtime="onnx", sizes=sizes), asked


@given(st.integers(0, 3 * TILE + 1), st.sampled_from([(), *SIZES.values()]))
def test_every_row_comes_back_once_and_in_order(rows, sizes):
    scorer, asked = doubling(sizes)
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    found = scorer({"x": x, "n": np.zeros(rows, np.int32)})
    np.testing.assert_array_equal(found["twice"], 2 * x)
    np.testing.assert_array_equal(found["sum"], x.sum(axis=1))
    assert max(asked) <= TILE
    assert set(asked) <= set(sizes or asked)


@pytest.mark.parametrize(
    ("runtime", "rows", "wanted"),
    [
        ("xla", TILE + 2, [TILE, 16]),
        ("openvino", TILE + 2, [TILE, 4]),
        ("openvino", 64, [64]),
        ("openvino", 65, [128]),
    ],
)
def test_the_last_part_is_filled_up_to_the_next_size(runtime, rows, wanted):
    scorer, asked = doubling(SIZES[runtime])
    scorer({"x": np.zeros((rows, 3)), "n": np.zeros(rows)})
    assert asked == wanted


def test_inputs_are_cast_and_others_are_not_read():
    scorer, _ = doubling()
    found = scorer({"x": np.ones((1, 3), np.float16), "n": np.ones(1, np.int64), "other": "any"})
    assert found["twice"].dtype == np.float32


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": np.zeros((2, 3))}, "`tensors` has no n"),
        ({"x": np.zeros((2, 4)), "n": np.zeros(2)}, r"Received: x \(2, 4\), n \(2,\)"),
        ({"x": np.zeros((2, 3)), "n": np.zeros(3)}, r"Received: x \(2, 3\), n \(3,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(tensors, message):
    with pytest.raises(ValueError, match=message):
        doubling()[0](tensors)


def test_a_model_without_content_has_no_static_signature(tmp_path):
    bare = FeatureSpec(window=6, horizon=1, taxonomies=("category",))
    with pytest.raises(InputError, match="has no signature static"):
        opened(exported.write(tmp_path, spec=bare), "static")
