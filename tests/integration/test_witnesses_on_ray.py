"""Refined labels on a real Ray: witnesses by DeepSpeed on two workers, posteriors by actors."""

import json
from pathlib import Path

import pytest
from composed import composed

from mke_ray.data.manifest import Manifest
from mke_ray.expansion import work
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore


@pytest.fixture(scope="module")
def finished(ray_session, tmp_path_factory):
    (job,) = composed(
        "experiment=tiny",
        "objective=expansion",
        "preflight=off",
        f"root={tmp_path_factory.mktemp('run')}",
        "arms=[mm_student]",
        "expansion.rounds=1",
        "gate.select_fraction=0.2",  # too few to fit anything, so that the witness is heard
        "expansion.members=2",
        "tracking=off",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "MOST_ROWS_HERE", 0)  # actors, however little there is
        run_stages(job)
    return job


def test_witnesses_and_members_are_trained_by_the_group_of_workers(finished):
    store = FitStore(open_root(finished.root))
    names = [path.name for path in Path(finished.root, "fits").iterdir()]
    facts = [store.facts(name) for name in names]
    arms = [one["spec"]["arm"] for one in facts]
    assert sorted(arms) == ["mm_student"] * 3 + ["teacher", "witness"]
    assert {one["world_size"] for one in facts if one["spec"]["arm"] != "teacher"} == {2}
    assert {one["engine"]["type"] for one in facts} == {"torch", "deepspeed"}


def test_refined_labels_are_there_exactly_once(finished):
    root = open_root(finished.root)
    manifest = Manifest.open(root.child("manifest"))
    stores = [
        UnitStore.open(root.child("labels", path.name))
        for path in Path(finished.root, "labels").iterdir()
    ]
    derived = [one for one in stores if "derivation" in one.spec]
    kinds = sorted(one.spec["derivation"]["type"] for one in derived)
    assert kinds == ["ensemble", "refinement"]
    for store in derived:
        wanted = {ref.unit for ref in manifest.unit_refs(["unlabeled"])}
        assert wanted <= store.committed()
        problems = [one for one in verify(store, manifest).problems if one.unit in wanted]
        assert not problems


def test_it_is_judged_and_reported(finished):
    metrics = json.loads(Path(finished.root, "report", "metrics.json").read_text())
    assert metrics["judged"] == "mm_student"
    assert metrics["shipped"] in ("mm_student", "teacher")
    assert metrics["arms"]["mm_student"]["select"] is None  # it learned from that part
    assert metrics["arms"]["relabel_only"]["select"] is None  # it was chosen by that part
    assert len(metrics["refinement"]) == 1
