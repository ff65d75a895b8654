"""A source is made or looked for only where it is listed."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from composed import composed

from mke_ray.data.sources import SourceRow
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.run import Run


@dataclass
class Counted:
    """A source of a few rows that counts how often it is prepared."""

    label_space: Any
    prepared: list[bool] = field(default_factory=list)

    def identity(self) -> dict[str, Any]:
        return {"source": "counted"}

    def prepare(self, progress: Any = None) -> None:
        self.prepared.append(True)

    def rows(self):
        for split in ("labelled", "unlabeled", "probe", "test"):
            for number in range(8):
                yield SourceRow(f"{split}/{number}", -1, "", None, None, f"g{number}", split, (0,))


@pytest.fixture
def run(tmp_path) -> Run:
    (job,) = composed("experiment=two_moon", "tracking=off", f"root={tmp_path / 'run'}")
    run = check_job(job)
    run.source = Counted(run.source.label_space)
    return run


def test_a_source_is_prepared_when_it_is_listed_and_no_more(run):
    run.manifest(refresh=True)
    assert len(run.source.prepared) == 1
    run.manifest()
    run.manifest(refresh=True)
    assert len(run.source.prepared) == 1


@pytest.mark.parametrize(("looks", "expected"), [(True, 2), (False, 1)])
def test_a_later_run_needs_the_source_only_to_look_for_changes(run, looks, expected):
    run.manifest()
    later = Run(replace(run.job, refresh=looks), run.root, run.source, run.decode, run.arms)
    later.manifest(refresh=True)
    later.manifest()
    assert len(run.source.prepared) == expected
