"""A line per teacher, with its value on the select part of the probe and on nothing else."""

from types import SimpleNamespace

from label_fakes import FakeSource, make_world, teacher_spec

from mke_ray.data.manifest import Mark
from mke_ray.data.sources import SourceRow
from mke_ray.expansion.stages import Labels
from mke_ray.expansion.teacher_lines import select_value, teacher_lines
from mke_ray.labels.labelling import LocalRunner, run_pass
from mke_ray.labels.probe import SELECT, probe_part
from mke_ray.schema import LabelKind, LabelSpace
from mke_ray.storage import open_root

SPLITS = ["test", "probe", "unlabeled"]


class KnownSource(FakeSource):
    """All labels are known: class 0 from sample 4 on, where FakeTeacher is right, on select rows.

    Everywhere else the truth is what the teacher does not say.
    """

    kind = LabelKind.SINGLE

    def __init__(self, num_samples, **more):
        super().__init__(num_samples, SPLITS, **more)
        self.label_space = LabelSpace(("zero", "one", "two"), self.kind)

    def rows(self):
        for row in super().rows():
            number = int(row.key)
            is_select = row.split == "probe" and probe_part(row.group) == SELECT
            said = 0 if number > 2 else 2
            truth = said if is_select and number % 2 else (said + 1) % 3
            yield SourceRow(row.key, -1, "", None, None, row.group, row.split, (truth,))


class MultiSource(KnownSource):
    kind = LabelKind.MULTI


def done(tmp_path, monkeypatch, source=KnownSource):
    monkeypatch.setattr("label_fakes.FakeSource", source)
    teachers = [teacher_spec(), teacher_spec(modality="y")]
    plan = make_world(open_root(str(tmp_path / "run")), 90, teachers=teachers)
    run_pass(plan, plan.manifest.unit_refs(), LocalRunner())
    return plan


def select_rows(plan):
    return [
        (ref, place, row)
        for ref in plan.manifest.unit_refs(["probe"])
        for place, row in enumerate(plan.manifest.read_unit(ref))
        if probe_part(row.group) == SELECT
    ]


def test_only_rows_of_the_select_part_that_are_in_use_count(tmp_path, monkeypatch):
    plan = done(tmp_path, monkeypatch)
    rows = select_rows(plan)
    right = sum(int(row.key) % 2 for _, _, row in rows)
    assert 0 < right < len(rows) < 30
    found = select_value(plan.teachers[0].labels, plan.manifest, select_fraction=0.5)
    assert found == (
        f"accuracy {right / len(rows):.3f} on {len(rows)} samples of the probe's select part"
    )
    ref, place, row = next(one for one in rows if int(one[2].key) % 2)
    manifest = plan.manifest.add_marks([Mark(row.sample_id, ref.unit, place, "copy_of_test")])
    found = select_value(plan.teachers[0].labels, manifest, select_fraction=0.5)
    assert found.startswith(f"accuracy {(right - 1) / (len(rows) - 1):.3f} on {len(rows) - 1}")


def test_every_teacher_has_its_line(tmp_path, monkeypatch):
    plan = done(tmp_path, monkeypatch)
    first, second = (one.labels for one in plan.teachers)
    run = SimpleNamespace(job=SimpleNamespace(gate=SimpleNamespace(select_fraction=0.5)))
    labels = Labels(plan.samples, first, None, {"sound": second})
    lines = list(teacher_lines(run, plan.manifest, labels))
    assert [line.split(":")[0] for line in lines] == ["teacher", "sound"]
    assert first.root.uri in lines[0] and second.root.uri in lines[1]
    assert "accuracy 0.000" not in lines[0] and "accuracy 0.000" in lines[1]


def test_samples_of_many_classes_have_their_metric(tmp_path, monkeypatch):
    plan = done(tmp_path, monkeypatch, MultiSource)
    found = select_value(plan.teachers[0].labels, plan.manifest, select_fraction=0.5)
    assert found.startswith("mAP 0.")


def test_without_a_select_part_nothing_is_said(tmp_path, monkeypatch):
    plan = done(tmp_path, monkeypatch)
    assert select_value(plan.teachers[0].labels, plan.manifest, select_fraction=0.0) == ""
