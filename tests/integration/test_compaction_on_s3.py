"""Parts on a real S3 server and by actors of a real Ray: a unit costs about its own bytes."""

from dataclasses import replace
from functools import partial

import pytest
from aiobotocore.response import StreamingBody
from label_fakes import make_world

from mke_ray.labels import compaction
from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.compaction import CompactionPlan, compact
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.labels.verify import verify
from mke_ray.object_client import ObjectClient
from mke_ray.storage import open_root

PART_BYTES = 1 << 16


def compacted(plan, runner, *, part_bytes=PART_BYTES):
    refs = list(plan.manifest.unit_refs())
    indexes = [store.write_index([ref.unit for ref in refs]) for store in plan.stores]
    what = CompactionPlan(plan.root, plan.stores)
    return compact(what, refs, indexes, runner, part_bytes=part_bytes)


def content_of(plan):
    refs = list(plan.manifest.unit_refs())
    return [{ref.unit: store.read(ref.unit) for ref in refs} for store in plan.stores]


def fetched_bytes(monkeypatch, read) -> int:
    """Return how many bytes of answers some reading took off the server, by either client."""
    total, read_object, read_body = 0, ObjectClient._read, StreamingBody.read

    def counted_of_client(*args):
        nonlocal total
        content = read_object(*args)
        total += len(content)
        return content

    async def counted(*args):
        nonlocal total
        content = await read_body(*args)
        total += len(content)
        return content

    with monkeypatch.context() as patch:
        patch.setattr(ObjectClient, "_read", counted_of_client)
        patch.setattr(StreamingBody, "read", counted)
        read()
    return total


@pytest.mark.s3
def test_a_unit_of_a_part_on_s3_costs_about_its_own_bytes(s3_server, monkeypatch):
    plan = make_world(open_root(s3_server.uri("compaction")), 64)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    content = content_of(plan)
    for store, index, tables in zip(
        plan.stores, compacted(plan, LocalRunner()), content, strict=True
    ):
        assert verify(store, plan.manifest).ok
        assert len(list(store.root.names("parts"))) == 1
        for unit, table in tables.items():
            place = index.location(unit)
            num_bytes = fetched_bytes(monkeypatch, partial(store.read, unit, location=place))
            assert num_bytes == place.num_bytes < PART_BYTES / 8
            assert store.read(unit, location=place, check_digest=True).equals(table)
            assert store.read_small_columns(unit, place, ["sample_id"]).num_rows == 4


def test_actors_write_the_parts(ray_session, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "_FEW_PARTS", 1)
    plan = make_world(open_root(str(tmp_path / "run")), 64)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    content = content_of(plan)
    runner, said = RayDataRunner(ActorPool(min_actors=2, max_actors=2)), []
    compacted(plan, replace(runner, say=said.append), part_bytes=1 << 14)
    assert said == ["starting 2 workers"]
    assert content_of(plan) == content
    for store in plan.stores:
        report = verify(store, plan.manifest)
        assert report.ok and report.num_orphans == 0
        assert list(store.root.names("attempts")) == []
