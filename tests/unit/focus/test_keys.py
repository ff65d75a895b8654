"""Keys of jobs/focus.py that make no sense are refused by name, before anything is read."""

import os

import pytest
from composed import composed

from mke_ray.errors import ConfigError, StoreError
from mke_ray.focus.distilling_study import check_distilling
from mke_ray.focus.job import focus

FEATURES = ("experiment=av_mnist_features", "source.root=/nowhere")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("focus.study=other", r"focus\.study='other'; choose one of \['features', 'gaussian'\]"),
        ("focus.rho=1.5", r"focus\.rho=1\.5"),
        ("focus.temperature=0", r"focus\.temperature=0"),
        ("focus.kept=1", r"focus\.kept=1"),
        ("focus.select_from=unimodal", r"focus\.select_from='unimodal'"),
        ("focus.num_permutations=0", r"focus\.num_permutations=0"),
        ("focus.batch_rows=8", r"focus\.batch_rows=8.*at least 16"),
        ("focus.splits=[test]", r"focus\.splits=\['test'\]"),
        ("focus.gaussian.overlaps=[11]", r"focus\.gaussian\.overlaps=\[11\]"),
        ("focus.gaussian.num_train=10", r"focus\.gaussian\.num_train=10"),
        ("focus.student=smell", r"focus\.student=smell.*'audio', 'image'"),
        ("focus.layer=nothing", r"focus\.layer='nothing'.*'fusion'"),
        ("+focus.teacher_encoders.smell={type: features}", r"focus\.teacher_encoders\.smell"),
        ("fit.optimizer.type=adam", r"fit\.optimizer\.type"),
    ],
)
def test_a_key_out_of_range_is_refused_by_name(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        focus(composed(*FEATURES, override))


def test_what_is_no_row_of_features_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match=r"focus\.study=features: decode\.\w+ is no row of feat"):
        check_distilling(composed()[0])


def test_draws_of_the_synthetic_study_have_a_key_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"focus\.gaussian\.num_seeds"):
        focus(composed("experiment=two_moon", "data_seeds=2", "focus.study=gaussian"))


def test_a_store_is_one_draw_of_the_data() -> None:
    more = ("focus.samples=/nowhere/samples/s", "data_seeds=3")
    with pytest.raises(ConfigError, match=r"data_seeds=3: focus\.samples=/nowhere/samples/s holds"):
        focus(composed(*FEATURES, *more))


def test_a_store_is_named_from_any_folder_and_looked_for_before_anything_is_trained() -> None:
    jobs = composed(*FEATURES, "focus.samples=runs/samples/s")
    assert jobs[0].focus.samples == os.path.abspath("runs/samples/s")
    with pytest.raises(StoreError, match="runs/samples/s holds no store"):
        check_distilling(jobs[0])
