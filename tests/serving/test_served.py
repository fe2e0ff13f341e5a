"""What a server calls: TensorFlow, or a runtime that scores the golden rows in the same way."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mmnet.checks import InputError
from mmnet.schema import MISSING_ID
from mmnet.serving import choosing, export, exported, runtimes, served
from mmnet.serving.exported import OUTPUT
from mmnet.serving.requests import input_specs
from mmnet.serving.runtimes import OpenSignature
from mmnet.serving.served import Settings, calls_of
from tests.models.tiny import SPEC
from tests.serving.exported import golden_rows, needs

SCALES = exported.scales(SPEC)
RUN = served.run


@pytest.fixture(scope="module")
def loaded(small_export):
    """The export."""
    return export.load(small_export)[0]


@pytest.fixture(scope="module")
def goldens(loaded):
    """Batches of some of its signatures."""
    names = ("serving_default", "raw_columns", "from_static")
    return [one for one in golden_rows(loaded) if one.signature in names]


def some(loaded, *names, **more):
    """The export with some of its signatures."""
    signatures = {name: loaded.signatures[name] for name in names}
    return SimpleNamespace(signatures=signatures, _owner=loaded, **more)


def inputs_of(goldens, name):
    return next(one.inputs for one in goldens if one.signature == name)


def stand_in(monkeypatch, loaded, missing=(), error=None, spend=lambda runtime, arrays: None):
    """Replaces the other runtimes by TensorFlow's scores with an error, in percent."""
    asked = []

    def opened(path, name, *, runtime, calls, cache):
        asked.append((name, runtime, calls, cache))
        if name in missing or runtime in missing:
            raise InputError(f"no {name} on --runtime={runtime}")

        wrong = (error or {}).get(name, 0)

        def run(part):
            spend(runtime, part)
            found = RUN(loaded.signatures[name], part)
            # The other runtimes may have outputs in another order.
            return {output: found[output] + wrong for output in reversed(list(found))}

        inputs = {
            key: (np.dtype(spec.dtype.as_numpy_dtype), tuple(spec.shape[1:]))
            for key, spec in input_specs(loaded.signatures[name]).items()
        }
        return OpenSignature(run, inputs, runtime=runtime)

    monkeypatch.setattr(served, "opened", opened)
    return asked


# ----------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("extra", [None, {}, {"runtime": "tensorflow"}])
def test_without_a_setting_it_is_tensorflow(extra):
    assert served.settings(extra) == Settings("tensorflow", "runs/onnx_cache")


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (
            {"runtim": "onnx"},
            "\"extra\" may have runtime and cache. Received: 'runtim'. Did you mean runtime?",
        ),
        (
            {"runtime": "onxx"},
            '"runtime" must be one of tensorflow, onnx, openvino, fastest. '
            "Received: 'onxx'. Did you mean onnx?",
        ),
        ({"runtime": ["onnx"]}, "\"runtime\" must be a text. Received: ['onnx']"),
        ({"runtime": "onnx", "cache": ""}, "\"cache\" must be a text. Received: ''"),
    ],
)
def test_a_wrong_setting_is_one_sentence(extra, sentence):
    with pytest.raises(InputError) as caught:
        served.settings(extra)
    assert str(caught.value) == f"model-settings.json: {sentence}"


# --------------------------------------------------------------------------------- signatures


def test_on_tensorflow_signatures_are_called_as_they_are(loaded, goldens, small_export):
    found, lines = calls_of(loaded, small_export, Settings(), goldens, scales=SCALES)
    assert (set(found), lines) == (set(loaded.signatures), [])
    inputs = inputs_of(goldens, "raw_columns")
    wanted = loaded.signatures["raw_columns"](**inputs)[OUTPUT]
    np.testing.assert_array_equal(found["raw_columns"](inputs)[OUTPUT], wanted)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_another_runtime_scores_tensors_and_raw_columns(
    runtime, loaded, goldens, small_export, onnx_cache
):
    needs(runtime)
    few = some(
        loaded, "serving_default", "raw_columns", "examples", read_columns=loaded.read_columns
    )
    chosen = Settings(runtime, str(onnx_cache))
    found, lines = calls_of(few, small_export, chosen, goldens, scales=SCALES, calls=2)
    assert not lines
    for name in ("serving_default", "raw_columns"):
        inputs = inputs_of(goldens, name)
        if name == "serving_default":  # a request may hold any ids
            inputs = {key: array.copy() for key, array in inputs.items()}
            inputs["field_tags"][:2, 0] = 10**9, -1
        wanted = RUN(loaded.signatures[name], inputs)
        scored = found[name](inputs)
        assert list(scored) == list(wanted)
        # float32 rounds at 6e-8; another order of sums through a dozen layers loses two digits.
        np.testing.assert_allclose(scored[OUTPUT], wanted[OUTPUT], rtol=1e-5, atol=1e-5)
    # It is not TensorFlow that is called: a missing input is named in other words.
    with pytest.raises(ValueError, match="`tensors` has no"):
        found["serving_default"]({})


def test_the_columns_are_read_as_by_the_whole_signature(loaded, goldens):
    columns = inputs_of(goldens, "raw_columns")
    tensors = RUN(loaded.read_columns, columns)
    assert tensors["field_tags"][2].tolist() == [MISSING_ID] * 3
    assert {name: (array.shape[1:], array.dtype) for name, array in tensors.items()} == {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in SPEC.tensors().items()
    }
    found = RUN(loaded.signatures["serving_default"], tensors)
    wanted = RUN(loaded.signatures["raw_columns"], columns)
    np.testing.assert_array_equal(found[OUTPUT], wanted[OUTPUT])


def test_signatures_of_tensors_are_opened_for_as_many_calls_as_there_are(
    loaded, goldens, small_export, monkeypatch
):
    asked = stand_in(monkeypatch, loaded)
    found, lines = calls_of(
        loaded, small_export, Settings("onnx", "here"), goldens, scales=SCALES, calls=3
    )
    # No golden rows of `explained` and `static` are given: nothing would compare them.
    assert asked == [(name, "onnx", 3, "here") for name in ("serving_default", "from_static")]
    assert not lines
    inputs = inputs_of(goldens, "from_static")
    wanted = RUN(loaded.signatures["from_static"], inputs)
    assert list(found["from_static"](inputs)) == list(wanted)


def test_an_export_of_before_reads_raw_columns_with_tensorflow(
    loaded, goldens, small_export, monkeypatch
):
    stand_in(monkeypatch, loaded)
    old = some(loaded, "serving_default", "raw_columns")
    found, lines = calls_of(old, small_export, Settings("onnx"), goldens, scales=SCALES)
    assert lines == [
        "raw_columns stays with TensorFlow, as an earlier version of mmnet wrote this export; "
        "export the model again with this version"
    ]
    inputs = inputs_of(goldens, "raw_columns")
    wanted = RUN(loaded.signatures["raw_columns"], inputs)[OUTPUT]
    np.testing.assert_array_equal(found["raw_columns"](inputs)[OUTPUT], wanted)


def test_a_signature_that_does_not_convert_stays(loaded, goldens, small_export, monkeypatch):
    stand_in(monkeypatch, loaded, missing=["from_static"])
    _, lines = calls_of(loaded, small_export, Settings("onnx"), goldens, scales=SCALES)
    assert lines == ['from_static stays with TensorFlow: no from_static on "runtime": "onnx"']


# ----------------------------------------------------------------------------------- refusals


def test_a_network_that_does_not_convert_is_refused(loaded, goldens, small_export, monkeypatch):
    stand_in(monkeypatch, loaded, missing=["serving_default"])
    with pytest.raises(InputError) as caught:
        calls_of(loaded, small_export, Settings("openvino"), goldens, scales=SCALES)
    told = 'model-settings.json: no serving_default on "runtime": "openvino"'
    assert str(caught.value) == told


@pytest.mark.parametrize("name", ["serving_default", "from_static"])
def test_a_runtime_that_scores_otherwise_is_refused(
    name, loaded, goldens, small_export, monkeypatch
):
    (scale,) = SCALES.values()
    stand_in(monkeypatch, loaded, error={name: 2 * choosing.PARITY * scale})
    told = (
        rf'model-settings.json: "runtime": "onnx" differs from TensorFlow by .*e-04 of a score in '
        rf'{name}, but only 0.0001 is allowed; use "runtime": "tensorflow"'
    )
    with pytest.raises(InputError, match=told):
        calls_of(loaded, small_export, Settings("onnx"), goldens, scales=SCALES)


@pytest.mark.parametrize(
    ("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_without_the_extra_it_says_what_to_install(
    runtime, package, loaded, goldens, small_export, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    runtimes._openvino_core.cache_clear()
    told = f'"runtime": "{runtime}" needs the extra fast: pip install \'mmnet[fast]\''
    with pytest.raises(InputError) as caught:
        calls_of(loaded, small_export, Settings(runtime), goldens, scales=SCALES)
    assert str(caught.value) == f"model-settings.json: {told}"
    runtimes._openvino_core.cache_clear()


def test_the_second_system_stays_with_tensorflow(loaded, small_export):
    told = '"runtime" is for share rates: exports of MMa4CTR, as this one, stay with TensorFlow'
    with pytest.raises(InputError) as caught:
        calls_of(loaded, small_export, Settings("onnx"), [], scales=None)
    assert str(caught.value) == f'model-settings.json: {told}; use "runtime": "tensorflow"'
    _, lines = calls_of(loaded, small_export, Settings("fastest"), [], scales=None)
    assert lines == [told]


def test_without_golden_rows_nothing_is_compared(loaded, small_export):
    with pytest.raises(InputError, match='"runtime": "onnx" is checked by golden rows of serving_'):
        calls_of(loaded, small_export, Settings("onnx"), [], scales=SCALES)


# ------------------------------------------------------------------------------------ fastest


@pytest.fixture
def spend(monkeypatch):
    """Replaces CPU time: calls spend milliseconds by runtime and number of rows."""
    seconds = [0.0]
    monkeypatch.setattr(served, "time", SimpleNamespace(process_time=lambda: seconds[0]))
    milliseconds = {
        **{("tensorflow", 1): 4, ("tensorflow", 64): 11, ("onnx", 1): 2, ("onnx", 64): 6},
        **{("openvino", 1): 1, ("openvino", 64): 20},
    }

    def spend(runtime, arrays):
        rows = len(next(iter(arrays.values())))
        seconds[0] += milliseconds.get((runtime, rows), 0) / 1e3

    def on_tensorflow(function, arrays):
        spend("tensorflow", arrays)
        return RUN(function, arrays)

    monkeypatch.setattr(served, "run", on_tensorflow)
    return spend


def test_fastest_takes_the_least_cpu_of_few_and_of_many_rows(
    loaded, goldens, small_export, monkeypatch, spend
):
    asked = stand_in(monkeypatch, loaded, spend=spend)
    _, lines = calls_of(loaded, small_export, Settings("fastest"), goldens, scales=SCALES)
    assert lines == [
        "the fastest runtime is onnx; CPU of calls of 1 and 64 rows in ms: tensorflow 4.00 and "
        "11.00, onnx 2.00 and 6.00, openvino 1.00 and 20.00"
    ]
    # The others are only opened to be measured, and nothing is opened twice.
    opened = [(name, runtime) for name, runtime, *_ in asked]
    assert opened == [
        *(("serving_default", "onnx"), ("serving_default", "openvino"), ("from_static", "onnx"))
    ]


def test_fastest_is_tensorflow_where_nothing_else_scores_alike(
    loaded, goldens, small_export, monkeypatch, spend
):
    (scale,) = SCALES.values()
    error = {"from_static": 2 * choosing.PARITY * scale}
    stand_in(monkeypatch, loaded, missing=["openvino"], error=error, spend=spend)
    found, lines = calls_of(loaded, small_export, Settings("fastest"), goldens, scales=SCALES)
    assert lines[0].startswith("the fastest runtime is tensorflow; CPU of calls of 1 and 64 rows")
    assert lines[1] == 'no serving_default on "runtime": "openvino"'
    assert '"runtime": "onnx" differs from TensorFlow' in lines[2]
    inputs = inputs_of(goldens, "serving_default")
    wanted = RUN(loaded.signatures["serving_default"], inputs)[OUTPUT]
    np.testing.assert_array_equal(found["serving_default"](inputs)[OUTPUT], wanted)
