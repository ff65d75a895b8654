"""The teachers of a dry run: each answers, and what is odd about it is said with its key."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from label_fakes import FakeSource, teacher_spec
from rich.console import Console

from mke_ray.config_schema import LabellingConfig, TeacherConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion.teacher_trial import Candidate, timed_answer, try_teachers
from mke_ray.schema import FeatureSpec


def run_of(**more_teachers):
    job = SimpleNamespace(
        labelling=LabellingConfig(),
        teacher=TeacherConfig(modality="x", train=False, network=teacher_spec()),
        more_teachers=more_teachers,
    )
    decode = {"x": FeatureSpec(2), "y": FeatureSpec(1)}
    return SimpleNamespace(source=FakeSource(2), job=job, decode=decode)


def read_samples(number=4, modalities=("x", "y")):
    sizes = {"x": 2, "y": 1}
    pieces = {name: [np.ones(sizes[name], "<f4").tobytes()] for name in modalities}
    row = SimpleNamespace(key="key")
    return [SimpleNamespace(row=row, stored=SimpleNamespace(pieces=pieces)) for _ in range(number)]


def said_of(run, good):
    console = Console(file=io.StringIO(), width=200)
    each_s = try_teachers(run, good, console)
    return each_s, console.file.getvalue()


def test_odd_logits_are_refused():
    arrays_BX = np.zeros((2, 2), np.float32)

    def timed(logits):
        one = Candidate("mine", "more_teachers.mine", "x", "yours", lambda _: np.array(logits))
        return timed_answer(run_of(), one, arrays_BX, read_samples(2))

    assert timed([[0.0, 1.0, 2.0]] * 2) >= 0.0
    with pytest.raises(ConfigError, match=r"teachers\.mine .*\(2, 2\), expected \(2, 3\)"):
        timed([[0.0, 1.0]] * 2)
    with pytest.raises(ConfigError, match=r"not finite for 1 of 2 samples, for example key: \[nan"):
        timed([[0.0, 1.0, 2.0], [float("nan"), 0.0, 0.0]])


def test_every_teacher_of_the_pass_answers():
    each_s, said = said_of(run_of(second=teacher_spec(modality="y")), read_samples())
    assert each_s > 0.0
    assert said.splitlines() == ["teacher         reads x, yours", "second          reads y, yours"]


def test_a_further_teacher_that_fails_is_named_by_its_key():
    run = run_of(second=teacher_spec(modality="y", num_classes=5))
    with pytest.raises(ConfigError, match=r"more_teachers\.second answers with shape"):
        said_of(run, read_samples())


def test_teachers_of_a_modality_that_nobody_has_are_not_timed():
    run = run_of(second=teacher_spec(modality="y"))
    assert said_of(run, read_samples(modalities=("y",)))[0] is None
    each_s, said = said_of(run, read_samples(modalities=("x",)))
    assert each_s > 0.0 and "second          not tried: none of the samples read has y" in said


def test_what_a_teacher_has_to_say_of_its_answers_is_printed():
    names = ["a", "b", "c", "d"]
    mapped = {
        "_target_": "mke_ray.models.label_map.MappedTeacher",
        "teacher": teacher_spec(num_classes=4),
        "teacher_classes": names,
        "table": {"a": "zero", "b": "one", "c": "two"},
        "classes": ["zero", "one", "two"],
    }
    _, said = said_of(run_of(second=mapped), read_samples())
    assert "of its probability is on 1 classes that the table does not map (d)" in said
