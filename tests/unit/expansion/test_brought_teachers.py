"""The files conf/teacher/pretrained_*.yaml, with networks saved as a user's are."""

import pytest
from composed import composed

pytest.importorskip("transformers", reason="the extra transformers is not installed")

from tiny_pretrained import save_ast, save_videomae, save_vit

from mke_ray.config import build
from mke_ray.errors import ConfigError, StoreError
from mke_ray.expansion.checks import check_job

DIGITS = {"id2label": {number: str(number) for number in range(10)}}


def job_with(tmp_path, name, *more):
    overrides = [
        f"teacher={name}",
        f"teacher.network.path={tmp_path}",
        "decode.audio.sample_rate_hz=16000",
        f"root={tmp_path / 'run'}",
    ]
    (job,) = composed(*overrides, *more)
    return job


@pytest.mark.parametrize(
    ("name", "save"),
    [("sound", save_ast), ("pictures", save_vit), ("clips", save_videomae)],
)
def test_a_pretrained_network_is_a_teacher_by_its_folder(tmp_path, name, save):
    save(tmp_path, **DIGITS)
    job = job_with(tmp_path, f"pretrained_{name}")
    check_job(job)
    job.labelling.channels_last = True
    check_job(job)  # it shows its network
    assert build(job.teacher.network).modality == job.teacher.modality


def test_other_classes_are_refused_until_a_table_maps_them(tmp_path):
    save_ast(tmp_path)
    with pytest.raises(StoreError, match=r"the teacher has the classes \['calm', 'loud'\]"):
        check_job(job_with(tmp_path, "pretrained_sound"))
    save_ast(tmp_path, id2label={number: f"tone of {number}" for number in range(12)})
    rows = [f"tone of {number},{number}" for number in range(10)]
    (tmp_path / "table.csv").write_text("\n".join(["from,to", *rows]))
    inner = f"{{_target_: mke_ray.models.brought.SoundTeacher, path: {tmp_path}}}"
    overrides = [
        "teacher=mapped",
        "teacher.modality=audio",
        f"+teacher.network.teacher={inner}",
        f"teacher.network.table={tmp_path / 'table.csv'}",
        "decode.audio.sample_rate_hz=16000",
    ]
    (job,) = composed(*overrides, f"root={tmp_path / 'run'}")
    further = {**job.teacher.network}
    del further["classes"]
    job.more_teachers["second"] = further
    check_job(job)
    digits = [str(number) for number in range(10)]
    assert job.teacher.network["classes"] == job.more_teachers["second"]["classes"] == digits


def test_classes_that_are_given_stay(tmp_path):
    classes = [str(number) for number in range(9, -1, -1)]
    (job,) = composed(
        "teacher=mapped",
        "teacher.modality=audio",
        "teacher.network.table={a: b}",
        f"teacher.network.classes={classes}",
        f"root={tmp_path / 'run'}",
    )
    with pytest.raises(ConfigError, match=r"teacher=\{\} is none; give the teacher whose classes"):
        check_job(job)
    assert job.teacher.network["classes"] == classes


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("program", "teacher.network.trust=true", r"form=None.*give form\.stored.*'features'"),
        ("program", "+teacher.network.form={layout: BN}", r"trust"),
        ("onnx", "teacher.network.form={layout: BN}", r"form=\{'layout': 'BN'\}.*form\.stored"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for_by_its_key(tmp_path, name, more, said):
    path = tmp_path / "net"
    path.write_bytes(b"any")
    where = [f"teacher.network.path={path}", f"root={tmp_path / 'run'}"]
    with pytest.raises(ConfigError, match=r"^teacher\.network: .*" + said):
        check_job(composed(f"teacher={name}", "teacher.modality=audio", more, *where)[0])


def test_what_is_stored_has_to_suit_the_network(tmp_path):
    save_ast(tmp_path, **DIGITS)
    with pytest.raises(StoreError, match=r"sample_rate_hz=16000 .*sample_rate_hz is 8000"):
        check_job(job_with(tmp_path, "pretrained_sound", "decode.audio.sample_rate_hz=8000"))


def test_a_student_may_have_a_pretrained_encoder_whose_files_are_pinned(tmp_path):
    save_vit(tmp_path)
    overrides = ["student=pretrained", f"student.encoders.video.path={tmp_path}"]
    more = ["student.encoders.video.trainable=last_1", f"root={tmp_path / 'run'}"]
    run = check_job(composed(*overrides, *more)[0])
    fit = run.trial_settings().template
    video = fit.student["encoders"]["video"]
    assert len(video["digest"]) == 64 and video["config"]["model_type"] == "vit"
    before = fit.fingerprint()
    save_vit(tmp_path, seed=1)
    again = check_job(composed(*overrides, *more)[0]).trial_settings().template
    assert again.fingerprint() != before


def test_files_that_a_teacher_names_are_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "tagger").mkdir()
    (tmp_path / "classes.csv").write_text("from,to")
    monkeypatch.chdir(tmp_path)
    inner = "{_target_: mke_ray.models.brought.SoundTeacher, path: tagger}"
    overrides = [f"+teacher.network.teacher={inner}", "teacher.network.table=classes.csv"]
    more = "+more_teachers.second={_target_: mke_ray.models.brought.ClipTeacher, path: owner/name}"
    own = ["teacher=mapped", "teacher.modality=audio", more]
    (job,) = composed(*own, *overrides, "root=run")
    assert job.teacher.network["teacher"]["path"] == str(tmp_path / "tagger")
    assert job.teacher.network["table"] == str(tmp_path / "classes.csv")
    assert job.more_teachers["second"]["path"] == "owner/name"
