"""Items are taken some at a time, in order and none too early."""

from mke_ray.batching import batched


def test_the_last_list_may_be_shorter_and_none_is_empty():
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(batched([], 2)) == []


def test_no_more_items_are_taken_than_a_list_needs():
    items = iter(range(10))
    assert next(batched(items, 3)) == [0, 1, 2]
    assert next(items) == 3
