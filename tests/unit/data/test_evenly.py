"""Some units of many, at even distances."""

import itertools

from mke_ray.data.manifest import UnitRef, evenly


def _refs(num: int, num_rows: int = 10) -> list[UnitRef]:
    return [
        UnitRef(unit=f"u{one}", split="unlabeled", part="p", row_group=one, num_rows=num_rows)
        for one in range(num)
    ]


def test_so_many_units_that_they_hold_the_rows_wanted() -> None:
    """Spread over the whole manifest, each once, and the same every time."""
    refs = _refs(1000)
    some = evenly(refs, 200)
    places = [one.row_group for one in some]
    assert sum(one.num_rows for one in some) == 200
    assert len(set(places)) == 20
    assert min(places) < 50
    assert max(places) >= 950
    assert {b - a for a, b in itertools.pairwise(places)} == {50}
    assert evenly(refs, 200) == some


def test_all_where_they_hold_fewer() -> None:
    """Nothing to choose."""
    assert evenly(_refs(3), 30) == _refs(3)
    assert evenly([], 5) == []


def test_never_none_of_some() -> None:
    """One unit at least."""
    assert len(evenly(_refs(100), 1)) == 1
