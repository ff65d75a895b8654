"""A configuration of dense labels that cannot work is refused before anything starts."""

import pytest
from composed import composed

from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job


def job(tmp_path, *overrides):
    given = [f"source.root={tmp_path}", f"root={tmp_path}/run", "tracking=off"]
    return composed("experiment=nyu_depth_v2_small", *given, *overrides)[0]


def test_the_experiment_is_fine_as_it_is(tmp_path):
    run = check_job(job(tmp_path))
    assert run.arms[-1] == "mm_supervised"
    assert run.teacher_fit("s").student["flip_average"] is True


@pytest.mark.parametrize("fusion", ["add", "dense_gated", "dense_attention"])
def test_every_dense_fusion_can_be_chosen(tmp_path, fusion):
    check_job(job(tmp_path, f"fusion={fusion}"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["~views.mask"], "one stream"),
        (["~views.depth"], "one stream"),
        (["+views.depth.stream=other"], "one stream"),
        (["views.rgb.flip=false"], "mirrored and cropped alike"),
        (["views.depth.scale=[0.5,1]"], "mirrored and cropped alike"),
        (["views.depth.mirrored=[]"], r"views\.depth\.mirrored=\[\].*channels=hha"),
        (["~decode.mask", "~views.mask", "~teacher.views.mask"], r"decode\.mask is missing"),
        (["decode.depth.height=30"], r"decode\.depth is 30 high"),
        (["fit.class_balance=-1"], r"fit\.class_balance=-1"),
        (["+student.encoders.mask={type: pyramid}"], "'mask' is the true class map"),
        (["teacher.modality=mask"], "'mask' is the true class map"),
        (["decode.depth.channels=metres", "student.encoders.depth.reads=hha"], "channels=hha"),
    ],
)
def test_what_cannot_work_is_named(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        check_job(job(tmp_path, *overrides))


def test_a_decoder_for_labels_that_are_not_dense_is_refused(tmp_path):
    overrides = [
        "student.encoders={video: {type: pyramid, channels: [4, 4]}}",
        "+teacher.decoder={channels: [4]}",
        "fusion=add",
        "teacher.train=true",
    ]
    with pytest.raises(ConfigError, match=r"teacher\.decoder is for dense labels"):
        check_job(composed("tracking=off", f"root={tmp_path}", *overrides)[0])


def test_dense_labels_without_a_decoder_are_refused(tmp_path):
    without = job(tmp_path)
    without.teacher.decoder = {}
    with pytest.raises(ConfigError, match=r"teacher\.decoder is empty"):
        check_job(without)
    without = job(tmp_path)
    without.student.decoder = {}
    with pytest.raises(ConfigError, match=r"student\.decoder is empty"):
        check_job(without)


def test_a_teacher_may_see_other_views_than_its_students(tmp_path):
    run = check_job(job(tmp_path))
    own = run.job.teacher.views or {}
    assert run.teacher_fit("s").views == own != run.job.views
    run.job.teacher.views = None
    assert run.teacher_fit("s").views == {k: run.job.views[k] for k in ("rgb", "mask")}


def test_a_view_that_moves_pictures_alone_is_refused(tmp_path):
    moving = job(tmp_path)
    moving.views = {"rgb": {"_target_": "mke_ray.data.views.ImageView", "height": 60, "width": 80}}
    with pytest.raises(ConfigError, match=r"they move by .*ImageView"):
        check_job(moving)
