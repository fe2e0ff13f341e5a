"""Requests that share a call: each gets its own answer, whatever the others ask."""

import asyncio
import random
import threading

import numpy as np
import pytest

from mmnet.serving.requests import RequestError
from mmnet.serving.shared_calls import SharedCalls


class Model:
    """Doubles numbers; refuses negative ones, and has no finite answer for 99."""

    def __init__(self):
        self.rows, self.free = [], threading.Event()
        self.free.set()

    def __call__(self, arrays):
        assert self.free.wait(10)
        numbers = arrays["x"]
        self.rows.append(len(numbers))
        if (numbers < 0).any():
            raise RequestError("x: must be 0 or more")
        return {"y": np.where(numbers == 99, np.nan, 2 * numbers)}


async def in_thread(function, *arguments):
    return await asyncio.to_thread(function, *arguments)


def asked(calls, *numbers):
    return asyncio.ensure_future(calls({"x": np.array(numbers, float)}))


async def answers(*requests):
    """Outputs, or the sentence of a refusal."""
    found = await asyncio.gather(*requests, return_exceptions=True)
    return [str(one) if isinstance(one, Exception) else one[0]["y"].tolist() for one in found]


async def while_busy(model, calls, *requests):
    """Answers to requests that all arrive while the model scores another one."""
    model.free.clear()
    first = asked(calls, 0)
    await asyncio.sleep(0)
    rest = [asked(calls, *numbers) for numbers in requests]
    await asyncio.sleep(0)
    model.free.set()
    await first
    return await answers(*rest)


def test_an_idle_model_is_called_at_once_and_a_busy_one_for_all_that_wait():
    model = Model()
    found = asyncio.run(while_busy(model, SharedCalls(model, in_thread), [1, 2], [3], [4]))
    assert found == [[2, 4], [6], [8]]
    assert model.rows == [1, 4]  # a power of two


@pytest.mark.parametrize(
    ("wrong", "told"), [(-1, "x: must be 0 or more"), (99, "row 1: the model has no finite y")]
)
def test_a_wrong_request_is_refused_alone(wrong, told):
    model = Model()
    found = asyncio.run(while_busy(model, SharedCalls(model, in_thread), [1], [5, wrong], [3]))
    assert [found[0], found[2]] == [[2], [6]]
    assert told in found[1]


def test_a_call_has_no_more_rows_than_allowed_but_one_request_may():
    model = Model()
    calls = SharedCalls(model, in_thread, most_rows=3)
    found = asyncio.run(while_busy(model, calls, [1, 2], [3], [4], [5, 6, 7, 8]))
    assert found == [[2, 4], [6], [8], [10, 12, 14, 16]]
    assert model.rows == [1, 4, 1, 4]  # three rows are filled up


def test_a_client_that_has_gone_stops_nobody():
    model = Model()
    calls = SharedCalls(model, in_thread)

    async def run():
        model.free.clear()
        gone, waiting = asked(calls, 1), asked(calls, 2)
        await asyncio.sleep(0.01)
        gone.cancel()
        model.free.set()
        return await answers(waiting, asked(calls, 3))

    assert asyncio.run(run()) == [[4], [6]]


def test_an_internal_error_reaches_the_requests_of_its_call_only():
    def broken(arrays):
        if arrays["x"][0] == 1:
            raise MemoryError("no memory")
        return {"y": arrays["x"]}

    async def run():
        calls = SharedCalls(broken, in_thread)
        return [await answers(asked(calls, 1)), await answers(asked(calls, 2))]

    assert asyncio.run(run()) == [["no memory"], [[2]]]


def test_a_request_that_comes_the_moment_the_last_one_is_answered_is_answered_too():
    async def run():
        calls = SharedCalls(Model(), in_thread)
        return [(await calls({"x": np.array([number])}))[0]["y"].tolist() for number in (1, 2)]

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [[2], [4]]


@pytest.mark.parametrize("number_of_calls", [1, 3])
def test_every_request_gets_its_own_answer_whenever_it_comes(number_of_calls):
    model, draw = Model(), random.Random(number_of_calls)

    async def client(calls):
        for _ in range(20):
            await asyncio.sleep(draw.choice((0, 0, 0.0001)))
            numbers = [draw.randrange(50) for _ in range(draw.randint(1, 4))]
            (found,) = await answers(asked(calls, *numbers))
            assert found == [2 * number for number in numbers]

    async def run():
        calls = SharedCalls(model, in_thread, calls=number_of_calls, most_rows=6)
        await asyncio.wait_for(asyncio.gather(*(client(calls) for _ in range(20))), 60)

    asyncio.run(run())
    assert set(model.rows) <= {1, 2, 4, 8}  # at most six rows, filled up


@pytest.mark.parametrize("rows", [1, 2, 3, 63, 64, 65, 200])
def test_a_call_has_one_of_few_numbers_of_rows_and_the_answer_those_of_the_request(rows):
    model = Model()
    found = asyncio.run(SharedCalls(model, in_thread)({"x": 100 + np.arange(rows)}))
    assert found[0]["y"].tolist() == [200 + 2 * number for number in range(rows)]
    assert model.rows == [next(n for n in (1, 2, 4, 8, 16, 32, 64, 128, 192, 256) if n >= rows)]
