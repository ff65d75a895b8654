"""The teacher of a run answers by the mean over views, and views that do not fit are refused."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from composed import composed
from label_fakes import FakeSource
from rich.console import Console

from mke_ray.config import build
from mke_ray.config_schema import LabellingConfig, TeacherConfig
from mke_ray.data.codec import encode_modality
from mke_ray.errors import ConfigError
from mke_ray.expansion.averaged_views import AVERAGED, averaged, check_average_views
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.stages import known_teacher
from mke_ray.expansion.teacher_trial import try_teachers
from mke_ray.schema import decode_spec_from_dict

CROPS = {"type": "spatial_crops", "num": 2, "share": 0.5}
DECODE = decode_spec_from_dict({"seen": {"kind": "image", "height": 8, "width": 8}})


def config(*views, **more) -> TeacherConfig:
    return TeacherConfig(modality="seen", average_views=list(views), **more)


def test_without_views_the_teacher_is_built_as_before():
    assert averaged(config(), {"_target_": "x"}) == {"_target_": "x"}


def test_the_stored_array_is_always_among_the_views():
    found = averaged(config("flip"), {"_target_": "label_fakes.FakeTeacher", "kind": "image"})
    assert found["_target_"] == AVERAGED and found["views"] == ["identity", "flip"]
    picture = np.array([[[[0.0], [4.0]]]], np.float32)
    np.testing.assert_array_equal(build(found).predict(picture), [[2.0, 1.0, 2.0]])


@pytest.mark.parametrize(
    ("teacher", "needs", "kind", "said"),
    [
        (config("flip"), {"kind": "features"}, "single", "flip is no view of features"),
        (config("identity"), {"kind": "image"}, "single", "is always among the views"),
        (config(CROPS), {"kind": "image"}, "dense", "labels of pixels allow flip alone"),
        (config("flip", flip_average=True), {"kind": "image"}, "dense", "mirror already"),
        (config(CROPS), {"kind": "image", "height": 5}, "single", r"height=10.*height is 8"),
    ],
)
def test_views_that_do_not_fit_are_refused_by_their_key(teacher, needs, kind, said):
    with pytest.raises(ConfigError, match=rf"^teacher\.average_views.*{said}"):
        check_average_views(teacher, needs, DECODE, kind)


def test_views_that_fit_are_taken():
    check_average_views(config("flip", CROPS), {"kind": "image", "height": 4}, DECODE, "single")
    check_average_views(config("flip"), {"kind": "image"}, DECODE, "dense")
    check_average_views(config(), {"kind": "features"}, DECODE, "single")


def job_with(tmp_path, *overrides):
    (job,) = composed(f"root={tmp_path / 'run'}", *overrides)
    return job


def test_a_run_checks_the_views_of_its_own_teacher_and_of_a_trained_one(tmp_path):
    check_job(job_with(tmp_path, "teacher.average_views=[flip]"))
    with pytest.raises(ConfigError, match=r"teacher\.average_views=.*no view of audio"):
        check_job(
            job_with(
                tmp_path,
                "teacher.modality=audio",
                "teacher.network=${student.encoders.audio}",
                "teacher.average_views=[flip]",
            )
        )
    own = (
        "teacher=custom",
        "teacher.modality=video",
        "+teacher.network={_target_: label_fakes.FakeTeacher, modality: video, kind: video}",
        "allow_targets=[label_fakes]",
    )
    run = check_job(job_with(tmp_path, *own, "teacher.average_views=[flip]"))
    assert known_teacher(run, None).spec["_target_"] == AVERAGED
    check_job(
        job_with(
            tmp_path,
            *own,
            "teacher.average_views=[flip,{type: temporal_crops, num: 2, share: 0.5}]",
        )
    )
    with pytest.raises(ConfigError, match=r"teacher\.average_views=.*'mirror' is unknown"):
        check_job(job_with(tmp_path, *own, "teacher.average_views=[mirror]"))


def test_a_dry_run_lets_every_view_be_answered(tmp_path):
    log = tmp_path / "log"
    network = {"_target_": "label_fakes.FakeTeacher", "kind": "image", "log": str(log)}
    teacher = TeacherConfig("x", train=False, network=network, average_views=["flip"])
    job = SimpleNamespace(labelling=LabellingConfig(), teacher=teacher, more_teachers={})
    decode = {"x": DECODE["seen"]}
    run = SimpleNamespace(source=FakeSource(2), job=job, decode=decode)
    stored = SimpleNamespace(
        pieces={"x": encode_modality(np.ones((8, 8, 3), np.uint8), decode["x"])}
    )
    good = [SimpleNamespace(row=SimpleNamespace(key="key"), stored=stored)] * 2
    console = Console(file=io.StringIO(), width=200)
    assert try_teachers(run, good, console) > 0.0
    assert "yours, its answer the mean over the stored one and flip" in console.file.getvalue()
    assert len(log.read_text().splitlines()) == 4  # two answers of two views
