"""Parts of a table that several threads read."""

import threading

import pytest

from mmnet.data.threads import in_order


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_the_parts_and_the_first_error_comes_first(threads):
    later = threading.Event()

    def function(part):
        if threads > 1 and part == 2:
            later.wait(10)  # part 3 fails before part 2 does
        if part == 3:
            later.set()
        if part >= 2:
            raise ValueError(f"part {part}")
        return 10 * part

    found = in_order(function, range(9), threads)
    assert [next(found), next(found)] == [0, 10]
    with pytest.raises(ValueError, match="part 2"):
        next(found)


def test_few_parts_are_begun_before_their_results_are_taken():
    begun = []
    found = in_order(begun.append, range(100), threads=2)
    next(found)
    assert len(begun) <= 3
    assert len(list(found)) == 99
