"""The label selector of a pool of nodes, as Ray takes it."""

import pytest
from ray._private.label_utils import validate_label_selector

from mke_ray.node_pools import selector_of


def test_a_pool_selects_the_nodes_of_its_label() -> None:
    assert selector_of("gpu-train") == {"pool": "gpu-train"}
    assert selector_of(None) == selector_of() == selector_of("a", None) == {}


@pytest.mark.parametrize("pools", [("a",), ("cpu-decode", "gpu-teacher"), ("a", "a", "b", "c")])
def test_ray_takes_the_selector_of_several_pools(pools: tuple[str, ...]) -> None:
    selector = selector_of(*pools)
    assert not validate_label_selector(selector)
    assert all(one in selector["pool"] for one in pools)
