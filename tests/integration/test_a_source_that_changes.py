"""A folder of real videos changes: only what is new is decoded, and what is gone is not used."""

import os

import pytest
from label_fakes import teacher_spec
from left_behind import traces
from media_files import write_clip
from training_stores import fit_spec

from mke_ray.config import build
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.expansion.forget import forget_samples
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.probe import ProbeDivision
from mke_ray.labels.verify import verify
from mke_ray.storage import Root, open_root
from mke_ray.train.assemble import open_reader
from mke_ray.train.feed import Feed
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

DECODE = {
    "video": {"kind": "video", "num_frames": 2, "height": 24, "width": 32},
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 0.5},
}
STUDENT = {"encoders": {"video": {}, "audio": {}}, "fusion": {}, "head_hidden": []}


def clip(hz: float) -> bytes:
    return write_clip(num_frames=4, rate_hz=8, sound_s=0.5, sound_hz=hz)


def key(number: int) -> str:
    return f"unlabeled/clip-{number}.mp4"


def put_first(videos: Root) -> None:
    for number in range(6):
        videos.write(key(number), clip(300.0 + 50 * number))
    videos.write("labelled/a/1.mp4", clip(250.0))
    videos.write("test/b/2.mp4", clip(260.0))


def change(videos: Root) -> None:
    """Add a file, change one and delete one."""
    videos.write(key(9), clip(900.0))
    videos.write(key(2), clip(910.0) + b"\0" * 8)
    videos.delete(key(4))


def run_again(root: Root, videos: Root, reads: list[str]) -> LabelPlan:
    """Bring manifest, samples and labels up to date; every file that is read is noted."""
    spec = {
        "_target_": "mke_ray.data.videos.VideosSource",
        "root": videos.uri,
        "classes": ["a", "b", "c"],
    }
    plan = make_plan(
        root,
        manifest=write_manifest(root.child("manifest"), build(spec), unit_size=4),
        source=spec,
        decode=DECODE,
        teachers=[teacher_spec(modality="video", kind="video")],
        max_bad_fraction=0.0,
    )
    reader_class = type(build(spec).reader(plan.decode))
    read = reader_class.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            reader_class, "read", lambda self, row: (reads.append(row.key), read(self, row))[1]
        )
        run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


def fed(plan: LabelPlan) -> dict[int, list[float]]:
    """Return the target of every sample that a student is fed in an epoch."""
    names = [store.root.uri.rsplit("/", 1)[1] for store in plan.stores]
    spec = fit_spec(samples=names[0], labels=names[1], student=STUDENT, global_batch=2)
    reader = open_reader(spec, plan.root, cache_bytes=1 << 24)
    entries = usable_entries(reader, spec.rows, ProbeDivision())
    rows = RowPlan(entries, global_batch=2, window_units=4, seed=0)
    feed = Feed(reader, rows, selections=spec.rows)
    found: dict[int, list[float]] = {}
    for item in feed.batches(0, feed.batches_per_epoch):
        ids, targets = item.batch.sample_id_B.tolist(), item.batch.target_BC.tolist()
        found |= dict(zip(ids, targets, strict=True))
    return found


def rows_of(plan: LabelPlan) -> dict[tuple[str, str], str]:
    """Return the mark of every row by its key and version."""
    return {
        (row.key, row.etag): row.mark
        for ref in plan.manifest.unit_refs()
        for row in plan.manifest.read_unit(ref)
    }


def unlabeled_in_use(plan: LabelPlan) -> dict[str, int]:
    return {
        row.key: row.sample_id
        for ref in plan.manifest.unit_refs(["unlabeled"])
        for row in plan.manifest.read_unit(ref)
        if not row.mark
    }


def check_a_changing_source(root: Root, videos: Root) -> None:
    put_first(videos)
    reads: list[str] = []
    first = run_again(root, videos, reads)
    assert len(reads) == 8
    assert fed(first).keys() == set(unlabeled_in_use(first).values())

    reads.clear()
    assert run_again(root, videos, reads).manifest == first.manifest
    assert reads == []

    change(videos)
    second = run_again(root, videos, reads)
    assert sorted(reads) == [key(2), key(9)]
    before, after = rows_of(first), rows_of(second)
    marks = {old: after[old] for old in before if after[old]}
    assert sorted((old, mark) for (old, _), mark in marks.items()) == [
        (key(2), "changed"),
        (key(4), "deleted"),
    ]
    assert set(unlabeled_in_use(second)) == {key(n) for n in (0, 1, 2, 3, 5, 9)}
    assert fed(second).keys() == set(unlabeled_in_use(second).values())
    for store in second.stores:
        report = verify(store, second.manifest)
        assert report.ok and report.num_rows == 10

    check_forgetting(root, videos, second)


def check_forgetting(root: Root, videos: Root, plan: LabelPlan) -> None:
    gone = unlabeled_in_use(plan)[key(2)]
    stored = [
        row
        for ref in plan.manifest.unit_refs(["unlabeled"])
        for row in plan.samples.read(ref.unit).to_pylist()
        if row["sample_id"] == gone
    ]
    needles = [piece for row in stored for piece in row["audio"]]  # all show the same pictures
    needles.append(key(2).encode())
    assert len(stored) == 2 and traces(root, needles) == {"manifest", "samples"}
    root.write("report/index.html", f"a picture of {key(2)}".encode())
    done = forget_samples(root, keys=[key(2)])
    assert (done.num_rows, done.deleted) == (2, ("report",))
    assert traces(root, needles) == set()

    reads: list[str] = []
    again = run_again(root, videos, reads)
    assert reads == []
    assert again.manifest == Manifest.open(root.child("manifest"))
    assert fed(again).keys() == set(unlabeled_in_use(again).values())
    assert gone not in fed(again) and len(fed(again)) == 5
    for store in again.stores:
        assert verify(store, again.manifest).ok


def test_a_folder_that_changes_costs_only_what_is_new(tmp_path):
    check_a_changing_source(open_root(str(tmp_path / "run")), open_root(str(tmp_path / "videos")))


@pytest.mark.s3
def test_a_bucket_that_changes_costs_only_what_is_new(s3_server):
    folder = os.urandom(6).hex()
    check_a_changing_source(
        open_root(s3_server.uri(folder, "run")), open_root(s3_server.uri(folder, "videos"))
    )


def test_a_deleted_file_is_not_missed_by_another_decoding(tmp_path):
    """Another size is decoded from the start: what is gone is marked, and no error."""
    root, videos = open_root(str(tmp_path / "run")), open_root(str(tmp_path / "videos"))
    put_first(videos)
    plan = run_again(root, videos, [])
    change(videos)
    plan = run_again(root, videos, [])
    smaller = {**DECODE, "video": {**DECODE["video"], "height": 12, "width": 16}}
    other = make_plan(
        root, manifest=plan.manifest, source=plan.source, decode=smaller, max_bad_fraction=0.0
    )
    report = run_pass(other, other.manifest.unit_refs(), LocalRunner())
    assert (report.counts.samples, report.counts.ok) == (8, 8)
