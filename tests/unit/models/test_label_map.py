"""A table from one label space to another, against probabilities added up by hand."""

import logging

import numpy as np
import pytest
import torch
from label_fakes import FakeTeacher
from scipy.special import expit, log_softmax, logit, softmax

from mke_ray.config import build
from mke_ray.errors import ConfigError
from mke_ray.models.class_tables import read_table
from mke_ray.models.label_map import LabelMap, MappedTeacher
from mke_ray.models.teachers import Teacher
from mke_ray.schema import IGNORE, LabelKind, LabelSpace

KNOWN = LabelSpace(("bark", "howl", "meow", "rain", "hum"))
MULTI = LabelSpace(KNOWN.classes, LabelKind.MULTI)
TABLE = {"bark": "dog", "howl": "dog", "meow": "cat", "rain": "rain"}
CLASSES = ["cat", "dog", "rain"]
LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32) * 3


def mapped(known=KNOWN, table=TABLE, classes=CLASSES, logits=LOGITS, **more):
    one = LabelMap(table, known, classes, **more)
    return one, one.logits(torch.from_numpy(logits)).numpy()


def test_logits_are_logarithms_of_summed_probabilities():
    p = softmax(LOGITS, axis=1)
    _, found = mapped()
    by_hand = np.stack([p[:, 2], p[:, 0] + p[:, 1], p[:, 3]], axis=1)
    np.testing.assert_allclose(found, np.log(by_hand), rtol=1e-5)
    renormalised = by_hand / by_hand.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax(found, axis=1), renormalised, rtol=1e-5)


def test_a_class_of_the_run_takes_what_is_not_in_the_table():
    p = softmax(LOGITS, axis=1)
    _, found = mapped(unmapped="rain")
    np.testing.assert_allclose(np.exp(found[:, 2]), p[:, 3] + p[:, 4], rtol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, rtol=1e-5)
    only = {"bark": "dog", "meow": "cat"}  # the rest is reachable through unmapped alone
    _, found = mapped(table=only, unmapped="rain")
    np.testing.assert_allclose(np.exp(found[:, 2]), p[:, [1, 3, 4]].sum(axis=1), rtol=1e-5)


def test_the_mass_of_what_is_not_in_the_table_is_reported():
    one, _ = mapped()
    wanted = softmax(LOGITS, axis=1)[:, 4].mean()
    assert one.unmapped_mass(torch.from_numpy(LOGITS)) == pytest.approx(wanted, rel=1e-5)
    many, _ = mapped(MULTI, kind="multi")
    p = expit(LOGITS)
    wanted = (p[:, 4] / p.sum(axis=1)).mean()
    assert many.unmapped_mass(torch.from_numpy(LOGITS)) == pytest.approx(wanted, rel=1e-5)


def test_many_classes_at_once_are_joined_as_if_they_were_independent():
    p = expit(LOGITS)
    _, found = mapped(MULTI, kind="multi")
    dog = 1 - (1 - p[:, 0]) * (1 - p[:, 1])
    np.testing.assert_allclose(found[:, 1], logit(dog), rtol=1e-4)
    np.testing.assert_allclose(found[:, 0], LOGITS[:, 2], rtol=1e-4)


def test_one_class_per_sample_and_many_are_made_of_each_other():
    p = softmax(LOGITS, axis=1)
    _, found = mapped(kind="multi")
    np.testing.assert_allclose(found[:, 1], logit(p[:, 0] + p[:, 1]), rtol=1e-4)
    _, found = mapped(MULTI, kind="single")
    np.testing.assert_allclose(found[:, 1], np.log(expit(LOGITS[:, :2]).sum(axis=1)), rtol=1e-4)


def test_a_teacher_that_is_quite_sure_stays_finite():
    sure = np.array([[500.0, -500.0, 0.0, -500.0, -500.0]], np.float32)
    for known in (KNOWN, MULTI):
        for kind in ("single", "multi"):
            _, found = mapped(known, kind=kind, logits=sure)
            assert np.isfinite(found).all() and found[0].argmax() == 1


def test_class_maps_are_mapped_at_every_pixel():
    known = LabelSpace(KNOWN.classes, LabelKind.DENSE, IGNORE)
    maps = np.random.default_rng(1).normal(size=(2, 5, 3, 4)).astype(np.float32)
    one, found = mapped(known, kind="dense", logits=maps)
    p = softmax(maps, axis=1)
    assert one.label_space.kind == LabelKind.DENSE and found.shape == (2, 3, 3, 4)
    np.testing.assert_allclose(np.exp(found[:, 1]), p[:, 0] + p[:, 1], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table": {**TABLE, "growl": "dog"}}, r"\['growl'\] in 'from' are no classes.*bark"),
        ({"table": {**TABLE, "hum": "engine"}}, r"\['engine'\] in 'to' are no classes.*cat"),
        ({"table": {"bark": "dog", "rain": "rain"}}, r"maps nothing to \['cat'\]"),
        ({"unmapped": "noise"}, r"\['noise'\] in 'unmapped'"),
        ({"kind": "dense"}, "label space of kind dense|cannot be made"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        mapped(**change)


def teacher_of(table=TABLE, **more):
    inner = FakeTeacher("x", num_classes=5)
    return MappedTeacher(inner, table, CLASSES, teacher_classes=KNOWN.classes, **more)


X = np.random.default_rng(2).normal(size=(60, 2)).astype(np.float32)


def test_any_teacher_is_seen_through_a_table():
    teacher = teacher_of()
    inner = FakeTeacher("x", num_classes=5)
    by_hand = log_softmax(inner.predict(X), axis=1)
    assert isinstance(teacher, Teacher) and teacher.label_space.classes == tuple(CLASSES)
    np.testing.assert_allclose(teacher.predict(X)[:, 0], by_hand[:, 2], rtol=1e-4)
    assert teacher.needs == inner.needs and not hasattr(teacher, "network")
    (remark,) = teacher.remarks()
    share = np.exp(by_hand)[:, 4].mean()
    assert f"{share:.1%} of its probability is on 1 classes" in remark and "(hum)" in remark


def test_a_table_may_be_written_from_either_side_and_in_files(tmp_path):
    other_way = {"dog": ["bark", "howl"], "cat": ["meow"], "rain": "rain"}
    other_way["rain"] = ["rain"]
    (tmp_path / "a.yaml").write_text("dog: [bark, howl]\ncat: [meow]\nrain: [rain]\n")
    (tmp_path / "b.csv").write_text("from,to\nbark,dog\nhowl,dog\nmeow,cat\nrain,rain\n")
    tables = [TABLE, other_way, str(tmp_path / "a.yaml"), str(tmp_path / "b.csv")]
    assert len({teacher_of(one).fingerprint() for one in tables}) == 1
    other = teacher_of({**TABLE, "hum": "rain"})
    assert other.fingerprint() != teacher_of().fingerprint()
    assert other.fingerprint() == teacher_of(unmapped="rain").fingerprint()  # the same map
    assert other.remarks() == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "from,to\nbark,dog\nbark,cat\n", r"'bark' goes to 'dog' and to 'cat'"),
        ("a.csv", "name,class\nbark,dog\n", r"columns \['name', 'class'\]; give from and to"),
        ("a.yaml", "- bark\n", "holds no mapping"),
        ("a.yaml", "{}", "table is empty"),
        ("a.yaml", "bark: 3", "bark: 3; give a class"),
        ("a.yaml", "bark: [dog\n", r"a\.yaml is no YAML: while parsing .*; write from: to"),
        ("a.yaml", "hurle: h\xfcndin", r"a\.yaml is no text in UTF-8 .*; save it as that"),
        ("gone.yaml", None, "does not exist"),
    ],
)
def test_a_file_that_holds_no_table_is_named(tmp_path, name, text, said):
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=said):
        teacher_of(str(tmp_path / name))


def test_a_file_at_the_root_is_not_looked_for_in_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "table-of-a-test.yaml").write_text("bark: dog")
    monkeypatch.chdir(tmp_path)
    assert read_table("table-of-a-test.yaml") == {"bark": "dog"}
    with pytest.raises(ConfigError, match=r"table=/table-of-a-test\.yaml does not exist"):
        read_table("/table-of-a-test.yaml")


def test_a_teacher_that_does_not_tell_its_classes_is_asked_for_them():
    with pytest.raises(
        ConfigError, match=r"FakeTeacher does not tell its classes.*teacher_classes"
    ):
        MappedTeacher(FakeTeacher("x", num_classes=5), TABLE, CLASSES)
    wrong = MappedTeacher(
        FakeTeacher("x", num_classes=4), TABLE, CLASSES, teacher_classes=KNOWN.classes
    )
    with pytest.raises(ConfigError, match="4 logits, and has 5 classes"):
        wrong.predict(X)


def test_much_that_is_lost_is_logged_once(caplog):
    teacher = teacher_of({"bark": "dog", "meow": "cat", "rain": "rain"})
    teacher.map.unmapped_mass = lambda _: 0.75
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            teacher.predict(X)
    assert caplog.text.count("75.0% of its probability") == 1


def test_it_is_built_from_a_configuration():
    spec = {
        "_target_": "mke_ray.models.label_map.MappedTeacher",
        "teacher": {"_target_": "label_fakes.FakeTeacher", "modality": "x", "num_classes": 5},
        "teacher_classes": list(KNOWN.classes),
        "table": TABLE,
        "classes": CLASSES,
    }
    assert build(spec, Teacher).predict(X).shape == (60, 3)
