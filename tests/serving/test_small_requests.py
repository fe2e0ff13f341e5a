"""Small requests that are read together have the arrays, or the refusals, that each has alone."""

import asyncio
import copy
import random

import numpy as np
import pytest
import tensorflow as tf

from mmnet.serving import request_rules, requests
from mmnet.serving.requests import RequestError
from mmnet.serving.shared_calls import SharedCalls
from mmnet.serving.small_requests import Layout, Unread

SPECS = {
    "clicks": tf.TensorSpec([None, 2], tf.int64),
    "shares": tf.TensorSpec([None, 2], tf.int64),
    "trend": tf.TensorSpec([None, 2, 2], tf.float32),
    "rate": tf.TensorSpec([None], tf.float32),
    "tags": tf.TensorSpec([None], tf.string),
    "title": tf.TensorSpec([None], tf.string),
    "target_period": tf.TensorSpec([None], tf.string),
    "own": tf.TensorSpec([None], tf.int64),
}
RULES = request_rules.Rules(
    may_be_unknown=frozenset({"rate"}),
    limits={"clicks": (0.0, 2.0**53 - 1, "a count"), "shares": (0.0, 2.0**53 - 1, "a count")},
    shares_within_clicks=True,
    may_be_absent=({"own": 7.0},),
)
SEPARATORS = {"tags": ";"}
ROW = {
    "clicks": [5, 6],
    "shares": [5, 0],
    "trend": [[0.1, 1], [3.4e39, -2.5]],
    "rate": None,
    "tags": "['a', 12.0]",
    "title": "猫",
    "target_period": "3",
    "own": 1,
}
UNUSUAL = [
    *(None, True, 0, -1, 6, 7.0, 2**53, 2**63, 2**70, 0.5, 1e400, float("nan")),
    *("", "a", "['a;b']", "\ud800", "x" * 70_000, {"b64": "AA=="}, {}, [], [1], [1, 2], [5, 6.0]),
    *([[1, 2], [3, 4]], [[1], [2]], ["a"]),
]
KINDS = {tf.int64: "INT64", tf.float32: "FP32", tf.string: "BYTES"}


def layout():
    return Layout(SPECS, SEPARATORS, RULES)


def bits(arrays):
    """Arrays by name, as what they are made of."""
    return {
        name: (one.dtype, one.shape, one.tolist() if one.dtype == object else one.tobytes())
        for name, one in arrays.items()
    }


def disturbed(draws):
    """Rows of a request, most often one of which is unusual in one place."""
    rows = [copy.deepcopy(ROW) for _ in range(draws.choice([1, 1, 2]))]
    row, name = draws.choice(rows), draws.choice(list(SPECS))
    kind = draws.choice(["as it is", "gone", "value", "value", "inside", "more"])
    if kind == "gone":
        for one in rows:
            del one[name]
    elif kind == "value":
        row[name] = draws.choice(UNUSUAL)
    elif kind == "inside" and isinstance(row[name], list):
        row[name][0] = draws.choice(UNUSUAL)
    elif kind == "more":
        row["made up"] = 1
    return rows


def inputs_of(rows, draws):
    """The same as inputs of the V2 protocol; sometimes one of them is unusual."""
    found = []
    for name in rows[0]:
        spec = SPECS.get(name)
        sizes = list(spec.shape)[1:] if spec is not None else []
        values = [row.get(name) for row in rows]
        for _ in sizes:
            if not all(isinstance(one, list) for one in values):
                break
            values = [value for one in values for value in one]
        shape = [len(rows), *sizes]
        kind = KINDS[spec.dtype] if spec is not None else "FP32"
        found.append([name, kind, shape, values])
    one = draws.choice(found)
    change = draws.choice(["as it is"] * 6 + ["shape", "kind", "data", "twice", "deep"])
    if change == "shape":
        one[2] = draws.choice([[], [1], [2, 2], ["1"], [-1], None, [0]])
    elif change == "kind":
        one[1] = draws.choice(["FP64", "BYTES", ""])
    elif change == "data":
        one[3] = draws.choice([None, "a", 7, [], {}])
    elif change == "twice":
        found.append(one)
    elif change == "deep":
        one[3] = [one[3]]
    return [tuple(one) for one in found if one[2] is not None]


def unread(found, read):
    return Unread(*found, lambda: (read(), {"read": 1}))


@pytest.mark.parametrize("protocol", ["rows", "v2"])
def test_any_request_is_read_as_it_is_alone(protocol):
    draws, whole, together, left = random.Random(0), layout(), [], 0
    for _ in range(600):
        rows = disturbed(draws)
        if protocol == "rows":
            body = {"instances": rows}
            found = whole.of_rows(rows)

            def read(body=body):
                return requests.from_tf_serving(body, SPECS, SEPARATORS, RULES)
        else:
            inputs = inputs_of(rows, draws)
            found = whole.of_v2(inputs)

            def read(inputs=inputs):
                return requests.from_v2(inputs, SPECS, SEPARATORS, RULES)

        if found is None:
            left += 1
            continue
        try:
            arrays = whole.together([unread(found, read)])
        except RequestError:
            continue  # whatever it says, the request is then read alone
        wanted = read()
        assert bits(arrays) == bits(wanted)
        together.append((unread(found, read), wanted))
    assert min(len(together), left) > 100
    joined = whole.together([one for one, _ in together])
    assert bits(joined) == bits(
        {name: np.concatenate([one[name] for _, one in together]) for name in SPECS}
    )


def small(change):
    """A small request of one row, and what it would be alone."""
    row = ROW | change

    def read():
        return requests.from_tf_serving({"instances": [row]}, SPECS, SEPARATORS, RULES)

    return unread(layout().of_rows([row]), read)


def test_a_wrong_request_is_refused_alone_and_the_others_share_their_call():
    rows = []

    def call(arrays):
        rows.append(len(arrays["clicks"]))
        return {"y": arrays["clicks"].sum(axis=1)}

    async def in_thread(function, *arguments):
        return await asyncio.to_thread(function, *arguments)

    async def run(*changes):
        calls = SharedCalls(call, in_thread, read=layout().together)
        asked = [calls(small(change)) for change in changes]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [
            str(one) if isinstance(one, RequestError) else one[0]["y"].tolist() for one in found
        ]

    wrong = {"shares": [6, 0]}
    told = "shares[0][0] must be not above clicks. Received: 6"
    assert asyncio.run(run({}, {"clicks": [9, 9]})) == [[11], [18]]
    assert asyncio.run(run({}, wrong, {"clicks": [9, 9]}, {"clicks": ["5", 6]})) == [
        [11],
        told,
        [18],
        "clicks: must be whole numbers of one shape. Received: [['5', 6]]",
    ]
    assert asyncio.run(run(wrong, wrong)) == [told, told]
    assert rows == [2, 2]  # none for requests that are all wrong


def test_requests_that_are_read_and_small_ones_share_a_call():
    async def in_thread(function, *arguments):
        return function(*arguments)

    async def run():
        calls = SharedCalls(
            lambda arrays: {"y": arrays["clicks"].sum(axis=1)},
            in_thread,
            read=layout().together,
        )
        one, other = small({"clicks": [8, 8]}), small({"clicks": [7, 7]})
        return await asyncio.gather(calls(other.read()), calls(one), calls(other.read()))

    assert [one[0]["y"].tolist() for one in asyncio.run(run())] == [[14], [16], [14]]
