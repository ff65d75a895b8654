"""How ``make test`` gives tests to its processes."""

from types import SimpleNamespace
from typing import Any

import pytest
from composed import REPOSITORY

COLLECTED = [
    "tests/cluster/test_a.py::test_one",
    "tests/cluster/test_b.py::test_two[x::y]",
    "tests/integration/test_c.py::test_three",
    "tests/integration/test_c.py::test_four",
]


class Process:
    """Notes which tests it is given."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.given: list[list[int]] = []

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.given.append(numbers)

    def shutdown(self) -> None:
        """Nothing more comes."""


def test_one_process_is_given_all_clusters_and_others_are_given_file_by_file(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"dist": "loadfile", "tx": ["2*popen"], "loadscopereorder": False}.items():
        monkeypatch.setattr(pytestconfig.option, name, value)
    scheduler: Any = pytestconfig.hook.pytest_xdist_make_scheduler(config=pytestconfig, log=None)
    processes = [Process("a"), Process("b")]
    for one in processes:
        scheduler.add_node(one)
        scheduler.add_node_collection(one, COLLECTED)
    scheduler.schedule()
    assert [one.given for one in processes] == [[[0, 1]], [[2, 3]]]


def test_tests_that_need_ray_are_run_by_file() -> None:
    lines = (REPOSITORY / "Makefile").read_text().splitlines()
    (by_file,) = [one for one in lines if one.startswith("BY_FILE := ")]
    assert "--dist loadfile --no-loadscope-reorder" in by_file
    (run,) = [one for one in lines if "pytest tests/cluster tests/integration" in one]
    assert "$(BY_FILE)" in run
