"""The proof of a finished pass, as ``verify=true`` asks for it."""

import logging

import pytest
from label_fakes import make_world

from mke_ray.errors import StoreError
from mke_ray.expansion.stages import Labels
from mke_ray.expansion.verifying import verify_stage
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.storage import open_root


@pytest.fixture
def plan(tmp_path):
    plan = make_world(open_root(str(tmp_path / "run")), 12, broken={1: "bad"})
    report = run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan, Labels(plan.samples, plan.teachers[0].labels, report)


def test_whole_stores_are_said_to_be_whole(plan, caplog):
    caplog.set_level(logging.INFO)
    verify_stage(plan[0].manifest, plan[1])
    assert caplog.text.count("holds each of 12 rows of 3 units exactly once") == 2
    assert "verify labels: 100%, 12 of 12 rows" in caplog.text


def test_a_store_that_lost_a_unit_is_named_with_the_unit_and_the_way_out(plan):
    world, labels = plan
    unit = next(world.manifest.unit_refs()).unit
    for name in list(labels.labels.root.names("commits")):
        if unit in name:
            labels.labels.root.delete(name)
    wanted = rf"labels/.*: \d+ problems in 3 units: .*unit {unit} missing.*start jobs/label\.py"
    with pytest.raises(StoreError, match=wanted):
        verify_stage(world.manifest, labels)
