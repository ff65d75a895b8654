"""A teacher of the user's that cannot work stops the job before anything is made or started."""

from pathlib import Path

import pytest
import ray
from composed import composed
from label_fakes import FakeTeacher
from safetensors.torch import load_file

from mke_ray.data.demo import DemoSource
from mke_ray.errors import ConfigError, MkeRayError, StoreError
from mke_ray.expansion import expand
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.own_teacher import check_more_teachers
from mke_ray.models.computing import Computing
from mke_ray.schema import FeatureSpec, LabelKind, LabelSpace

FAKES = "label_fakes.FakeTeacher"


class FiledTeacher(FakeTeacher):
    """A teacher whose weights are in a file that it opens at once, or when asked for the hash."""

    def __init__(self, weights: str, *, is_late: bool = False) -> None:
        super().__init__("video", num_classes=10, kind="video")
        self._weights = weights
        if not is_late:
            self.fingerprint()

    def fingerprint(self) -> str:
        if self._weights.endswith(".safetensors"):
            load_file(self._weights)
        content = Path(self._weights).read_text()
        if not content:
            raise RuntimeError("size mismatch for head.weight:\n\tcopying [3, 4]")
        return content


FILED = f"{__name__}.{FiledTeacher.__name__}"


def job_with(tmp_path, network, modality="video"):
    (job,) = composed(
        "teacher=custom",
        f"teacher.modality={modality}",
        f"+teacher.network={network}",
        f"allow_targets=[label_fakes,{__name__},nowhere]",
        f"root={tmp_path / 'run'}",
    )
    return job


@pytest.mark.parametrize(
    ("network", "error", "said"),
    [
        ("{_target_: nowhere.Teacher}", ConfigError, "nowhere"),
        ("{_target_: label_fakes.Nobody}", ConfigError, "Nobody"),
        ("{}", ConfigError, "_target_ is missing"),
        (f"{{_target_: {FAKES}, colour: red}}", ConfigError, "colour"),
        (
            "{_target_: label_fakes.FakeReader, source: null}",
            ConfigError,
            "it has no modality, needs, predict",
        ),
        (f"{{_target_: {FILED}, weights: /nowhere/a.pt}}", ConfigError, "/nowhere/a.pt"),
        (f"{{_target_: {FILED}, weights: /nowhere/a.pt, is_late: true}}", ConfigError, "a.pt"),
        (f"{{_target_: {FILED}, weights: /dev/null}}", ConfigError, "size mismatch"),
        (f"{{_target_: {FAKES}, modality: audio}}", ConfigError, "set teacher.modality=audio"),
        (f"{{_target_: {FAKES}, modality: video}}", StoreError, "kind=features"),
        (
            "{_target_: mke_ray.models.teachers.StudentTeacher, path: /nowhere/student}",
            MkeRayError,
            "/nowhere/student",
        ),
    ],
)
def test_a_teacher_that_cannot_work_is_named_before_anything_is_written(
    tmp_path, monkeypatch, network, error, said
):
    def never(*_args, **_more):
        pytest.fail("something was started")

    monkeypatch.setattr(ray, "init", never)
    monkeypatch.setattr(DemoSource, "prepare", never)
    with pytest.raises(error) as caught:
        expand([job_with(tmp_path, network)])
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_damaged_weights_are_named_with_the_key(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"no header")
    with pytest.raises(ConfigError, match=r"^teacher\.network: .*SafetensorError"):
        check_job(job_with(tmp_path, f"{{_target_: {FILED}, weights: {weights}}}"))


@pytest.mark.parametrize(
    ("network", "error", "said"),
    [
        ("{_target_: nowhere.Teacher}", ConfigError, "more_teachers.second: "),
        (f"{{_target_: {FAKES}, colour: red}}", ConfigError, "leave it out"),
        (f"{{_target_: {FAKES}, modality: video}}", StoreError, "more_teachers.second: the teach"),
        ("{_target_: label_fakes.FakeReader, source: null}", ConfigError, "it has no modality"),
        ("heavy", ConfigError, "more_teachers.second='heavy'; give _target_"),
    ],
)
def test_a_further_teacher_that_cannot_work_is_named(tmp_path, network, error, said):
    (job,) = composed(
        f"+more_teachers.second={network}",
        "allow_targets=[label_fakes,nowhere]",
        f"root={tmp_path / 'run'}",
    )
    with pytest.raises(error) as caught:
        check_job(job)
    assert said in str(caught.value)


def test_switches_that_need_a_network_name_the_teacher_without_one(tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("good")
    job = job_with(tmp_path, f"{{_target_: {FILED}, weights: {weights}}}")
    job.labelling.precision = "bfloat16"
    check_job(job)
    job.labelling.channels_last = True
    with pytest.raises(ConfigError, match=r"labelling\.channels_last=true.*teacher\.network"):
        check_job(job)


def test_a_teacher_that_fits_is_taken(tmp_path):
    weights = tmp_path / "weights"
    weights.write_text("good")
    check_job(job_with(tmp_path, f"{{_target_: {FILED}, weights: {weights}}}"))


class SpacedTeacher(FakeTeacher):
    """A teacher that knows its label space."""

    def __init__(self, kind: str, classes: list[str]) -> None:
        super().__init__("x", num_classes=len(classes))
        self.label_space = LabelSpace(tuple(classes), LabelKind(kind))


@pytest.mark.parametrize(
    ("kind", "classes", "said"),
    [
        ("multi", ["p", "q"], r"more_teachers\.second: .*of kind multi, the source's are single"),
        ("multi", ["p", "q"], r"set more_teachers\.second\.kind=single .*teacher=mapped"),
        ("single", ["q", "p"], r"more_teachers\.second: .*\['q', 'p'\].*\['p', 'q'\]"),
        (
            "single",
            ["q", "p"],
            r"set source\.classes=\[q,p\], where .* map them \(teacher=mapped",
        ),
        ("single", ["LABEL_0", "LABEL_1"], r"or map the teacher's \(teacher=mapped with a table"),
    ],
)
def test_a_further_teacher_of_other_labels_is_refused(kind, classes, said):
    spec = {"_target_": f"{__name__}.SpacedTeacher", "kind": kind, "classes": classes}
    fits_with = ({"x": FeatureSpec(2)}, LabelSpace(("p", "q")), Computing())
    with pytest.raises(StoreError, match=said):
        check_more_teachers({"second": spec}, *fits_with)


def test_a_further_teacher_is_not_called_as_the_first():
    fits_with = ({"x": FeatureSpec(2)}, LabelSpace(("p", "q")), Computing())
    with pytest.raises(ConfigError, match=r"more_teachers\.teacher: .*name it otherwise"):
        check_more_teachers({"teacher": {"_target_": FAKES}}, *fits_with)
