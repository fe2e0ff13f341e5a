import importlib.util
import sys
from pathlib import Path

import keras
import pytest

from mmnet.checks import InputError
from mmnet.serving import conversion
from tests.serving import exported

onnx = pytest.importorskip("onnx")
pytest.importorskip("tf2onnx")


@pytest.fixture(scope="module")
def directory(small_export):
    return small_export


@pytest.fixture(scope="module")
def cache(onnx_cache):
    return onnx_cache


@pytest.fixture(scope="module")
def path(directory, cache):
    return conversion.converted(directory, "from_static", cache)


def test_weights_that_are_gone_are_refused(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    for there in (False, True):
        if there:
            (tmp_path / "variables").mkdir()
            (tmp_path / "variables" / "variables.index").symlink_to("nowhere")
        with pytest.raises(InputError, match=r"cannot be read \(.*variables.*: No such file"):
            conversion.fingerprint(tmp_path)


def names(values):
    return [value.name for value in values]


def test_the_file_has_the_names_of_the_signature_and_a_free_batch(path, directory):
    model = onnx.load(path)
    onnx.checker.check_model(model)
    _, signature = conversion.signature_of(directory, "from_static")
    assert set(names(model.graph.input)) == set(signature.structured_input_signature[1])
    assert names(model.graph.output) == ["fusion_weights", "predicted_share_rate"]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_it_is_made_once(path, directory, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    assert conversion.converted(directory, "from_static", cache) == path
    assert not list(cache.glob(".*"))  # nothing left beside it


def test_an_edited_file_is_converted_again(path, directory, monkeypatch, tmp_path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    edited = tmp_path / path.name
    edited.write_bytes(content)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match="needs the extra fast"):
        conversion.converted(directory, "from_static", tmp_path)
    assert not edited.exists()


def test_the_export_is_left_alone(directory):
    assert not list(directory.rglob("*.onnx"))


def test_other_weights_are_another_file(directory, tmp_path):
    other = exported.write(tmp_path, seed=1)
    assert conversion.fingerprint(other) != conversion.fingerprint(directory)


def test_an_unknown_signature_is_named(directory, tmp_path):
    with pytest.raises(
        InputError, match=r"no signature from_statik; it has .*Did you mean from_static"
    ):
        conversion.converted(directory, "from_statik", tmp_path)


def test_strings_stay_with_tensorflow(directory, tmp_path):
    with pytest.raises(InputError, match=r"raw_columns .*StringSplitV2.*use --runtime=tensorflow"):
        conversion.converted(directory, "raw_columns", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_the_converter_stumbles_over_is_one_sentence(directory, tmp_path, monkeypatch):
    import tf2onnx

    def stumbles(*_, **__):
        raise KeyError("a node\nand a long story")

    monkeypatch.setattr(tf2onnx.convert, "from_graph_def", stumbles)
    with pytest.raises(InputError, match=r"static .* cannot be converted") as caught:
        conversion.converted(directory, "static", tmp_path)
    assert "\n" not in str(caught.value)


def test_without_the_extra_it_says_what_to_install(directory, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"needs the extra fast: pip install 'mmnet\[fast\]'"):
        conversion.converted(directory, "static", tmp_path)


def test_a_cache_that_cannot_be_written_is_named(directory, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/below/.*-static.onnx cannot be written: Not a dir"):
        conversion.converted(directory, "static", tmp_path / "file" / "below")


def test_a_model_in_bfloat16_stays_with_tensorflow(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        directory = exported.write(tmp_path / "export")
    finally:
        keras.config.set_dtype_policy(before)
    with pytest.raises(InputError, match=r"\(it was trained with --precision=mixed_bfloat16\)"):
        conversion.converted(directory, "from_static", tmp_path / "cache")


def test_triton_gets_the_signature_of_named_tensors(small_export, onnx_cache, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    place = Path(__file__).parents[2] / "docs" / "deploy" / "triton" / "convert.py"
    spec = importlib.util.spec_from_file_location("convert", place)
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    # The cache that other tests have filled.
    convert.converted = lambda *of: conversion.converted(*of, cache=onnx_cache)
    path = convert.write(str(small_export), str(tmp_path / "mmnet"))
    assert path == tmp_path / "mmnet" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(str(path))
    assert [one.name for one in session.get_outputs()] == ["predicted_share_rate"]
    assert {one.shape[0] for one in session.get_inputs()} != {1}  # the batch axis is free
