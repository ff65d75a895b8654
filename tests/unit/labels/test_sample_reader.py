"""Tests of stores that keep no media: what is read again is what was labelled, or an error."""

import dataclasses

import numpy as np
import pytest
from label_fakes import DECODE, FakeSource, FakeTeacher, make_world, source_spec, teacher_spec

from mke_ray.config import build
from mke_ray.data.manifest import Mark, write_manifest
from mke_ray.errors import StoreError
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.origin import Origin
from mke_ray.labels.plan import LabelPlan, samples_store, with_teachers
from mke_ray.labels.sample_reader import keeps_media, sample_reader
from mke_ray.labels.verify import verify
from mke_ray.storage import open_root

BROKEN = {1: "bad", 2: "no_y", 3: "io", 6: "gone"}
COLUMNS = ["sample_id", "status", "x", "x_status", "y", "y_status"]


def world_without_media(root, num_samples, *, teachers=None, decode=DECODE, media=False, **more):
    """Return the plan of a pass of ``make_world`` that keeps no media."""
    spec = source_spec(num_samples, **more)
    plan = LabelPlan(
        root,
        write_manifest(root.child("manifest"), build(spec), unit_size=4),
        spec,
        samples_store(root, decode, media=media),
        max_bad_fraction=0.5,
    )
    return with_teachers(plan, [teacher_spec()] if teachers is None else teachers)


@pytest.fixture
def root(tmp_path):
    return open_root(str(tmp_path / "run"))


@pytest.fixture
def both(tmp_path):
    """Return finished passes over the same source, with media and without."""
    kept = make_world(open_root(str(tmp_path / "kept")), 10, broken=BROKEN)
    off = world_without_media(open_root(str(tmp_path / "off")), 10, broken=BROKEN)
    for plan in (kept, off):
        run_pass(plan, refs_of(plan), LocalRunner())
    return kept, off


def refs_of(plan):
    return list(plan.manifest.unit_refs())


def labels_of(plan):
    return [plan.teachers[0].labels.read(ref.unit) for ref in refs_of(plan)]


def reader_of(plan, **changes):
    source = {**plan.source, **changes}
    return sample_reader(plan.samples, plan.root, Origin(source))


def marked(plan, number, reason):
    (mark,) = [
        Mark(row.sample_id, ref.unit, place, reason)
        for ref in refs_of(plan)
        for place, row in enumerate(plan.manifest.read_unit(ref))
        if int(row.key) == number
    ]
    return dataclasses.replace(plan, manifest=plan.manifest.add_marks([mark]))


def test_labels_and_what_became_of_every_sample_are_the_same_without_media(both):
    kept, off = both
    assert labels_of(off) == labels_of(kept)
    small = [one for one in kept.samples.schema.names if one not in DECODE]
    for ref in refs_of(kept):
        mine, other = off.samples.read(ref.unit), kept.samples.read(ref.unit)
        assert mine.select(small) == other.select(small)
        assert not set(DECODE) & set(mine.column_names)
    assert verify(off.samples, off.manifest).ok
    assert off.samples.read_index().counts() == kept.samples.read_index().counts()


def test_stores_with_and_without_media_do_not_mix(both):
    kept, off = both
    assert keeps_media(kept.samples) and not keeps_media(off.samples)
    names = [plan.samples.root.uri.rpartition("/")[2] for plan in both]
    assert names[0] != names[1]
    assert [plan.teachers[0].labels.spec["samples"] for plan in both] == names


def test_what_is_read_again_is_what_would_have_been_stored(both):
    kept, off = both
    for ref in refs_of(kept):
        again = reader_of(off).read(ref.unit, COLUMNS)
        assert again == kept.samples.read(ref.unit, columns=COLUMNS)


def test_only_wanted_rows_that_are_there_are_read_again(root, tmp_path):
    log = tmp_path / "reads"
    plan = world_without_media(root, 8, broken=BROKEN)
    run_pass(plan, refs_of(plan), LocalRunner())
    reader = reader_of(plan, log=str(log))
    for ref in refs_of(plan):
        keys = [int(row.key) for row in plan.manifest.read_unit(ref)]
        wanted = [place for place, key in enumerate(keys) if key in (0, 1, 2, 6)]
        table = reader.read(ref.unit, ["x", "y"], rows=wanted)
        there = [key for key, one in zip(keys, table.column("x").to_pylist(), strict=True) if one]
        assert there == [key for key in keys if key in (0, 2)]
    assert sorted(line.split()[0] for line in log.read_text().splitlines()) == ["0", "2"]


@pytest.mark.parametrize(
    ("how", "said"), [("gone", "missing_file"), ("bad", "truncated"), ("io", "TimeoutError")]
)
def test_a_file_that_cannot_be_read_as_before_is_an_error_that_names_it(both, how, said):
    _, off = both
    reader = reader_of(off, broken={**BROKEN, 5: how})
    with pytest.raises(StoreError, match=rf"x of sample .*00005.*{said}.*refresh=true"):
        for ref in refs_of(off):
            reader.read(ref.unit, COLUMNS)


def test_a_modality_that_came_or_went_is_an_error(both):
    _, off = both
    for broken, said in (({**BROKEN, 5: "no_y"}, "no_sound"), ({1: "bad"}, "there was none")):
        reader = reader_of(off, broken=broken)
        with pytest.raises(StoreError, match=f"y of sample .*{said}"):
            for ref in refs_of(off):
                reader.read(ref.unit, COLUMNS)


def test_other_content_is_an_error(both, monkeypatch):
    _, off = both
    changed = np.array([5, 2.5000002], np.float32)
    read = FakeSource.reader

    def reader(source, spec):
        made = read(source, spec)
        honest = made.read

        def lie(row):
            decoded = honest(row)
            if row.key == "00005":
                decoded.arrays["x"] = changed
            return decoded

        made.read = lie
        return made

    monkeypatch.setattr(FakeSource, "reader", reader)
    with pytest.raises(StoreError, match=r"00005.*other content"):
        for ref in refs_of(off):
            reader_of(off).read(ref.unit, COLUMNS)


@pytest.mark.parametrize("media", [True, False])
def test_a_store_that_is_opened_again_takes_samples_whatever_the_order_of_modalities(root, media):
    decode = {"y": DECODE["y"], "x": DECODE["x"]}
    for _ in range(2):  # the file of a store has its keys sorted
        plan = world_without_media(root, 4, decode=decode, media=media)
    run_pass(plan, refs_of(plan), LocalRunner())
    assert plan.samples.read(refs_of(plan)[0].unit).column_names == plan.samples.schema.names
    assert plan.samples.schema.names[4] == "y_status"


def test_without_a_source_the_error_says_what_is_missing(both):
    _, off = both
    reader = sample_reader(off.samples, off.root, None)
    with pytest.raises(StoreError, match=r"samples=off.*no source was given"):
        reader.read(refs_of(off)[0].unit, COLUMNS)


def test_a_copy_is_read_again_and_a_deleted_sample_is_not(both):
    _, off = both
    plan = marked(off, 4, "double")
    plan = marked(plan, 5, "deleted")
    reader = reader_of(plan, broken={**BROKEN, 5: "gone"})
    found = {
        key: row
        for ref in refs_of(plan)
        for key, row in zip(
            [int(row.key) for row in plan.manifest.read_unit(ref)],
            reader.read(ref.unit, COLUMNS).to_pylist(),
            strict=True,
        )
    }
    assert found[4]["x"] is not None and found[4]["x_status"] == "ok"
    assert (found[5]["x"], found[5]["x_status"], found[5]["status"]) == (None, "gone", "bad")


def test_another_teacher_decodes_again_and_gives_the_labels_of_stored_samples(both, tmp_path):
    kept, off = both
    log, teacher = tmp_path / "reads", [teacher_spec(scale=3.0, modality="y")]
    plans = []
    for plan, source in ((kept, kept.source), (off, {**off.source, "log": str(log)})):
        again = with_teachers(dataclasses.replace(plan, source=source), teacher)
        run_pass(again, refs_of(again), LocalRunner())
        plans.append(again)
    assert labels_of(plans[1]) == labels_of(plans[0])
    numbers = sorted(int(line.split()[0]) for line in log.read_text().splitlines())
    assert numbers == [n for n in range(10) if n not in BROKEN]
    log.unlink()
    run_pass(plans[1], refs_of(plans[1]), LocalRunner())
    assert not log.exists()


def test_a_unit_that_somebody_else_stored_first_is_read_again(root, monkeypatch):
    plan = world_without_media(root, 4)
    (ref,) = refs_of(plan)
    other = dataclasses.replace(plan, teachers=())
    seen = []

    class Late(FakeTeacher):
        def predict(self, arrays_BX):
            seen.append(np.asarray(arrays_BX).tolist())
            return super().predict(arrays_BX)

    monkeypatch.setattr("label_fakes.FakeTeacher", Late)
    run_pass(other, [ref], LocalRunner())
    run_pass(plan, [ref], LocalRunner())
    keys = [int(row.key) for row in plan.manifest.read_unit(ref)]
    assert seen == [[[key, key / 2] for key in keys]]
