"""A request becomes the arrays that the signature takes, or one sentence that names the input."""

import base64
import json

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

from mmnet.data.counts import Calendar
from mmnet.serving import (
    examples,
    export,
    exported,
    golden,
    period_texts,
    request_rules,
    requests,
)
from mmnet.serving.requests import RequestError

SPECS = {
    "clicks": tf.TensorSpec([None, 2], tf.int64),
    "rate": tf.TensorSpec([None], tf.float32),
    "title": tf.TensorSpec([None], tf.string),
}
RULES = request_rules.Rules(may_be_unknown=frozenset({"rate"}))
ROWS = [
    {"clicks": [1, 2], "rate": 0.5, "title": "猫"},
    {"clicks": [3, 4], "rate": None, "title": {"b64": base64.b64encode(b"\xff").decode()}},
]


def test_rows_columns_and_v2_say_the_same():
    by_row = requests.from_tf_serving({"instances": ROWS}, SPECS, rules=RULES)
    columns = {name: [row[name] for row in ROWS] for name in SPECS}
    by_column = requests.from_tf_serving({"inputs": columns}, SPECS, rules=RULES)
    v2 = requests.from_v2(
        [
            ("clicks", "INT64", [2, 2], [1, 2, 3, 4]),
            ("rate", "FP32", [2], [0.5, None]),
            ("title", "BYTES", [2], ["猫", b"\xff"]),
        ],
        SPECS,
        rules=RULES,
    )
    for found in (by_row, by_column, v2):
        np.testing.assert_array_equal(found["clicks"], [[1, 2], [3, 4]])
        np.testing.assert_array_equal(found["rate"], np.array([0.5, np.nan], np.float32))
        assert found["title"].tolist() == ["猫".encode(), b"\xff"]
        assert [found[name].dtype.kind for name in SPECS] == ["i", "f", "O"]


def test_periods_that_are_left_out_are_not_known():
    specs = SPECS | {name: tf.TensorSpec([None], tf.string) for name in period_texts.NAMES}
    given = [row | {"target_period": "2024-05-31"} for row in ROWS]
    found = requests.from_tf_serving({"instances": given}, specs, rules=RULES)
    assert list(found) == list(specs)
    assert found["target_period"].tolist() == [b"2024-05-31"] * 2
    assert found["release_period"].tolist() == found["first_click_period"].tolist() == [b""] * 2
    with pytest.raises(RequestError, match="input 'title' is missing"):
        requests.from_tf_serving({"inputs": {"clicks": [[1, 2]], "rate": [1.0]}}, specs)


def test_the_name_of_an_only_input_may_be_left_out():
    specs = {"examples": tf.TensorSpec([None], tf.string)}
    for body in (
        {"instances": [{"b64": "AA=="}]},
        {"instances": [{"examples": {"b64": "AA=="}}]},
        {"inputs": [{"b64": "AA=="}]},
        {"inputs": {"examples": [{"b64": "AA=="}]}},
    ):
        assert requests.from_tf_serving(body, specs)["examples"].tolist() == [b"\x00"]


def test_answers_stand_as_the_question_did():
    outputs = {"a": np.array([1.5, 2], np.float32), "b": np.array([[1, 2], [3, 4]], np.float32)}
    assert requests.to_tf_serving(outputs, by_row=True) == {
        "predictions": [{"a": 1.5, "b": [1, 2]}, {"a": 2, "b": [3, 4]}]
    }
    assert requests.to_tf_serving(outputs, by_row=False) == {
        "outputs": {"a": [1.5, 2], "b": [[1, 2], [3, 4]]}
    }
    assert requests.to_v2({"b": outputs["b"]}) == [
        {"name": "b", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clicks": [1, 2, 3]}, r"clicks: a row must have the shape \[2\]. Received: \[1, 2, 3\]"),
        ({"clicks": [1.5, 2]}, "clicks: must be whole numbers"),
        ({"clicks": ["1", "2"]}, "clicks: must be whole numbers"),
        ({"clicks": [True, False]}, "clicks: must be whole numbers"),
        ({"clicks": [2**70, 1]}, "clicks: must be whole numbers"),
        ({"clicks": [1, [2]]}, r"clicks: a row must have the shape \[2\]. Received: \[1, \[2\]\]"),
        ({"clicks": None}, "clicks: must be whole numbers"),
        ({"rate": "0.5"}, "rate: must be numbers"),
        ({"rate": [0.5]}, r"rate: a row must have the shape \[\]"),
        ({"rate": {}}, "rate: must be numbers"),
        ({"rate": None}, r"rate\[0\] must be a finite number. Received: null or NaN"),
        ({"rate": float("inf")}, r"rate\[0\] must be a finite number. Received: inf"),
        ({"title": 7}, "title: must be text. Received: 7"),
        ({"title": {"b64": "?"}}, "title: b64 must be base64"),
        ({"title": "\ud800"}, "lone surrogate"),
        ({"titel": "x"}, "no input 'titel'. Did you mean title"),
        ({"x" * 10**6: 1}, r"no input 'x+…$"),
        ({"title": "x" * 65_537}, r"title\[0\]: a text may have 65,536 bytes. Received: 65,537"),
        ({"rate": [[[[[[[[1.0]]]]]]]]}, r"rate: a row must have the shape \[\]. Received"),
    ],
)
def test_what_is_wrong_is_named(change, told):
    with pytest.raises(RequestError, match=told) as caught:
        requests.from_tf_serving({"instances": [ROWS[0] | change]}, SPECS)
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= requests.MAX_SENTENCE


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (7, "must be a JSON object"),
        ({}, "either instances or inputs"),
        ({"instances": [], "inputs": {}}, "either instances or inputs"),
        ({"instances": []}, "one row at least"),
        ({"instances": [ROWS[0], 7]}, r"instances\[1\]"),
        ({"instances": [{"clicks": [1, 2]}]}, r"input 'rate' is missing \(2 are\)"),
        ({"inputs": 7}, "one list per input"),
        ({"inputs": {"clicks": [[1, 2]], "rate": [1.0, 2.0], "title": [""]}}, "as many rows"),
        ({"inputs": {"clicks": [], "rate": [], "title": []}}, "one row at least"),
    ],
)
def test_a_body_that_is_no_request_is_refused(body, told):
    with pytest.raises(RequestError, match=told):
        requests.from_tf_serving(body, SPECS)


def test_too_many_rows_are_413():
    many = requests.MAX_ROWS + 1
    wrong = {"clicks": [7] * many, "rate": ["x"] * many, "title": [7] * many}
    for read in (
        lambda: requests.from_tf_serving({"instances": [ROWS[0]] * many}, SPECS),
        # Rows are counted before a value is looked at.
        lambda: requests.from_tf_serving({"inputs": wrong}, SPECS),
        lambda: requests.from_v2([("rate", "FP32", [many], [0.5] * many)], SPECS),
    ):
        with pytest.raises(RequestError, match="send it in parts") as caught:
            read()
        assert caught.value.status == 413


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "the body is not valid JSON: Expecting"),
        (b"\xff\xfe", "the body is not valid JSON"),
        (b'{"x": NaN}', "NaN is not a JSON number; an unknown value is null"),
        (b'{"x": -Infinity}', "-Infinity is not a JSON number"),
        (b"1" * 5000, "the body is not valid JSON"),
        (b"[" * 18 + b"]" * 18, "may be nested 16 deep"),
        (b"[" * 100_000 + b"]" * 100_000, "may be nested 16 deep"),
        (b"[" + b"[]," * 10**6 + b"[]]", "may have 1,000,000 lists. Received: 1,000,002"),
    ],
)
def test_a_body_that_is_not_json_is_refused_before_it_is_read(body, told):
    with pytest.raises(RequestError, match=told) as caught:
        requests.parse(body)
    assert caught.value.status in (400, 413)


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (("rate", "FP64", [1], [0.5]), "datatype must be FP32"),
        (("rate", "FP32", [2], [0.5]), r"rate: the shape \[2\] has 2 values. Received: 1"),
        (("rate", "FP32", [1], [[0.5], [[2]]]), r"the shape \[1\] has 1 values. Received: more"),
        (("rate", "FP32", [], [0.5]), r"rate: the shape must be \[rows\]. Received: \[\]"),
        (("rate", "FP32", [-1], [0.5]), "one row at least"),
        (("clicks", "INT64", [2], [1, 2]), r"clicks: the shape must be \[rows, 2\]. Received"),
    ],
)
def test_v2_requests_that_are_wrong_are_named(one, told):
    others = {
        "clicks": ("clicks", "INT64", [1, 2], [1, 2]),
        "rate": ("rate", "FP32", [1], [0.5]),
        "title": ("title", "BYTES", [1], ["a"]),
    }
    with pytest.raises(RequestError, match=told):
        requests.from_v2(list((others | {one[0]: one}).values()), SPECS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(["clicks", "rate", "title", "b64", "x"]), inside, max_size=3
        )
    ),
    max_leaves=12,
)


@hypothesis.settings(max_examples=400)
@hypothesis.given(json_values, st.sampled_from(["instances", "inputs", ""]))
def test_any_json_is_read_or_refused(value, key):
    body = {key: value} if key else value
    try:
        found = requests.from_tf_serving(body, SPECS)
    except RequestError as error:
        hypothesis.note(str(error))
    else:
        assert set(found) == set(SPECS)


v2_inputs = st.tuples(
    st.sampled_from([*SPECS, "x", ""]),
    st.sampled_from([*requests.V2_TYPES, "FP64", "BOOL", ""]),
    st.lists(st.integers(-1, 3) | st.just(2**63), max_size=3),
    json_values,
)
whole_v2 = st.tuples(
    st.tuples(st.just("clicks"), st.just("INT64"), st.just([1, 2]), json_values),
    st.tuples(st.just("rate"), st.just("FP32"), st.just([1]), json_values | st.just([0.5])),
    st.tuples(st.just("title"), st.just("BYTES"), st.just([1]), json_values | st.just(["a"])),
)


@hypothesis.settings(max_examples=800)
@hypothesis.given(st.lists(v2_inputs, max_size=4) | whole_v2.map(list))
def test_any_v2_request_is_read_or_refused(inputs):
    try:
        found = requests.from_v2(inputs, SPECS)
    except RequestError as error:
        hypothesis.note(str(error))
    else:
        assert set(found) == set(SPECS)


FIELD = {"tags": tf.TensorSpec([None], tf.string)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a|b", "a|b"),
        (["a", "b"], "a|b"),
        ('["a", "b"]', "a|b"),
        ("['a', 12.0]", "a|12"),
        ([True, 12, 12.0, 0.1, "12.0", None], "true|12|12|0.1|12|"),
        (True, "true"),
        (12, "12"),
        (12.0, "12"),
        ("[18+]", "[18+]"),
        ([], ""),
        (None, ""),
    ],
)
def test_values_of_a_field_are_spelled_as_in_tables(value, text):
    for found in (
        requests.from_tf_serving({"instances": [{"tags": value}]}, FIELD, {"tags": "|"}),
        requests.from_tf_serving({"inputs": {"tags": [value]}}, FIELD, {"tags": "|"}),
        requests.from_v2([("tags", "BYTES", [1], [value])], FIELD, {"tags": "|"}),
    ):
        assert found["tags"].tolist() == [text.encode()]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (["a", ["b"]], r"tags: a list must hold single values. Received: \['b'\]"),
        (["a|b"], r"tags: no value of a list may contain '\|', which separates values. Received"),
        ({"a": 1}, "tags: must be text. Received"),
    ],
)
def test_a_field_with_something_else_is_refused(value, told):
    with pytest.raises(RequestError, match=told):
        requests.from_tf_serving({"inputs": {"tags": [value]}}, FIELD, {"tags": "|"})


def test_an_answer_that_is_no_number_is_refused():
    requests.check_finite({"y": np.array([1.0, 2.0]), "known": np.array([True, False])})
    with pytest.raises(RequestError, match="row 1: the model has no finite y") as caught:
        requests.check_finite({"y": np.array([[1.0, 2.0], [1.0, np.nan]])})
    assert caught.value.status == 422


def test_what_tensorflow_refuses_is_told_without_its_notes():
    days = Calendar(kind="time", width=86_400)
    function = tf.function(lambda texts: period_texts.numbers(texts, days, "target_period"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        function(tf.constant(["2024-02-30"]))
    told = requests.reason(caught.value.message)
    assert told.startswith("the model refuses the inputs: ")
    assert "target_period: a period must be YYYY-MM-DD" in told
    assert "node" not in told


def test_golden_rows_score_the_same_in_every_format(run_dir):
    """PredictRequest, both forms of REST JSON and V2, of one golden batch."""
    loaded, fitted = export.load(run_dir / "export")
    signature = loaded.signatures["raw_columns"]
    specs = requests.input_specs(signature)
    batches = list(golden.read(run_dir / "export" / "1" / golden.FILE))
    *_, batch = (one for one in batches if one.signature == "raw_columns")
    message = predict_pb2.PredictRequest()
    message.model_spec.signature_name = "raw_columns"
    for name, array in batch.inputs.items():
        message.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    message = json_format.Parse(json_format.MessageToJson(message), predict_pb2.PredictRequest())
    texts = {
        name: [one.decode() for one in array] if array.dtype == object else array.tolist()
        for name, array in batch.inputs.items()
    }
    number = len(batch.inputs["clicks"])
    rows = [{name: values[row] for name, values in texts.items()} for row in range(number)]
    rules = request_rules.of(fitted, specs)
    forms = {
        "PredictRequest": {name: tf.make_ndarray(message.inputs[name]) for name in message.inputs},
        "instances": requests.from_tf_serving(
            json.loads(json.dumps({"instances": rows})), specs, rules=rules
        ),
        "inputs": requests.from_tf_serving(
            json.loads(json.dumps({"inputs": texts})), specs, rules=rules
        ),
        "v2": requests.from_v2(
            [
                (name, requests.v2_type(specs[name]), batch.inputs[name].shape, values)
                for name, values in texts.items()
            ],
            specs,
            rules=rules,
        ),
    }
    for one in batches:
        assert not rules.problem(one.inputs), one.signature
    for form, arrays in forms.items():
        found = signature(**{name: tf.constant(array) for name, array in arrays.items()})
        # The same graph on the same values.
        np.testing.assert_allclose(
            found[exported.OUTPUT],
            batch.outputs[exported.OUTPUT],
            rtol=1e-5,
            atol=1e-5,
            err_msg=form,
        )


def raw_columns(run_dir, loaded, fitted):
    """The signature of raw columns, its rules, and inputs of several rows."""
    signature = loaded.signatures["raw_columns"]
    rules = request_rules.of(fitted, requests.input_specs(signature))
    batches = golden.read(run_dir / "export" / "1" / golden.FILE)
    of_signature = (one.inputs for one in batches if one.signature == "raw_columns")
    return signature, rules, next(one for one in of_signature if len(one["clicks"]) > 1)


def as_lists(inputs):
    return {
        name: [one.decode() for one in array] if array.dtype == object else array.tolist()
        for name, array in inputs.items()
    }


def test_the_history_of_a_further_rate_may_be_left_out_and_is_then_hidden(several_outputs):
    loaded, fitted = export.load(several_outputs / "export")
    signature, rules, batch = raw_columns(several_outputs, loaded, fitted)
    specs = requests.input_specs(signature)
    of_like = ["clicks_like", "shares_like", "taxonomy_rate_like", "taxonomy_missing_flag_like"]
    of_like.append("taxonomy_evidence_like")
    given = as_lists({name: batch[name] for name in batch if name not in of_like})
    read = requests.from_tf_serving({"inputs": given}, specs, rules=rules)
    nothing = {"taxonomy_missing_flag_like": 1, "taxonomy_evidence_like": -1}
    for name in of_like:
        assert (read[name] == nothing.get(name, 0)).all()
    scored = signature(**read)
    outputs = fitted.spec.outputs()
    answer = requests.to_tf_serving(
        {name: one.numpy() for name, one in scored.items()}, by_row=True
    )
    assert set(answer["predictions"][0]) == {output.name for output in outputs}
    # The same values as serialized examples, in which features may be absent as well.
    columns = {name: read[name] for name in given}
    serialized = examples.serialize(columns)
    found = loaded.signatures["examples"](examples=tf.constant(serialized))
    for output in outputs:
        np.testing.assert_allclose(found[output.name], scored[output.name], rtol=1e-5)
    # All or nothing: clicks without shares would be a rate of 0.
    half = given | {"clicks_like": batch["clicks_like"].tolist()}
    with pytest.raises(RequestError, match="input 'shares_like' is missing"):
        requests.from_tf_serving({"inputs": half}, specs, rules=rules)


def test_a_request_without_evidence_is_valid_and_its_means_are_hidden(several_outputs):
    loaded, fitted = export.load(several_outputs / "export")
    signature, rules, batch = raw_columns(several_outputs, loaded, fitted)
    specs = requests.input_specs(signature)
    known = [name for name in batch if not name.startswith("taxonomy_evidence")]
    old = as_lists({name: batch[name] for name in known})
    read = requests.from_tf_serving({"inputs": old}, specs, rules=rules)
    for name in ("taxonomy_evidence", "taxonomy_evidence_like"):
        assert (read[name] == -1).all()
        assert (batch[name] > 0).any()
    hidden = dict(read)
    for rate in ("", "like"):
        for name, value in fitted.spec.hidden(rate)[1].items():
            hidden[name] = np.full_like(read[name], value)
    found, wanted, known = (signature(**one) for one in (read, hidden, batch))
    serialized = examples.serialize({name: read[name] for name in old})
    parsed = loaded.signatures["examples"](examples=tf.constant(serialized))
    for output in fitted.spec.outputs():
        np.testing.assert_array_equal(found[output.name], wanted[output.name])
        np.testing.assert_allclose(parsed[output.name], found[output.name], rtol=1e-5)
        assert (found[output.name].numpy() != known[output.name].numpy()).any()
