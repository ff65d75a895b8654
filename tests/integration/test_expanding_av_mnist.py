"""The three forms of AV-MNIST through every stage in this process, on tiny files."""

from collections import Counter

import pytest
from av_mnist_files import SMALL, make_av_mnist
from composed import composed

from mke_ray.data.manifest import Manifest
from mke_ray.expansion.whole import run_stages
from mke_ray.storage import open_root

COMMON = (
    "scaling.launch=local",
    "tracking=off",
    "arms=[um_student,mke,mm_labelled_only]",
    "teacher.fit.num_steps=10",
    "fit.num_steps=10",
    "fit.global_batch=16",
    "labelling.runner=local",
    "labelling.sample_timeout_s=null",
    "labelling.unit_size=16",
    *(f"source.{name}={number}" for name, number in SMALL.items()),
)
FEATURES = ("experiment=av_mnist_features", "source.num_image=6", "source.num_audio=8")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_av_mnist(tmp_path_factory.mktemp("files"))


def run(files, tmp_path, *overrides):
    root = tmp_path / "run"
    (job,) = composed(*COMMON, f"source.root={files}", f"root={root}", *overrides)
    return run_stages(job), Manifest.open(open_root(str(root)).child("manifest"))


@pytest.mark.parametrize(
    "overrides",
    [
        FEATURES,
        (*FEATURES, "teacher.modality=audio"),
        ("experiment=av_mnist",),
        ("experiment=av_mnist_videos", "source.num_processes=1"),
    ],
)
def test_a_form_of_av_mnist_goes_through_every_stage(files, tmp_path, overrides):
    metrics, manifest = run(files, tmp_path, *overrides)
    counts = metrics["counts"]
    assert counts["samples"] == counts["ok"] == sum(SMALL.values())
    assert {"teacher", "um_student", "mke", "mm_labelled_only"} <= set(metrics["arms"])
    assert metrics["arms"]["mke"]["num_test"] == SMALL["num_test"]
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    assert Counter(row.split for row in rows) == {
        name.removeprefix("num_"): number for name, number in SMALL.items()
    }


def test_draws_of_the_data_differ_in_the_pairs_and_clips_lie_where_they_are_wanted(files, tmp_path):
    jobs = composed(
        *COMMON,
        "experiment=av_mnist_videos",
        f"source.root={files}",
        f"root={tmp_path / 'run'}",
        "data_seeds=2",
    )
    assert [job.source["data_seed"] for job in jobs] == [0, 1]
    assert len({job.source["made"] for job in jobs}) == 2


def test_a_folder_for_clips_is_found_from_every_process(files):
    (job,) = composed(
        "experiment=av_mnist_videos", f"source.root={files}", "source.made=some/clips"
    )
    assert job.source["made"].startswith("/")
    assert job.source["made"].endswith("some/clips")
