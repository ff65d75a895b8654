"""Scenes in the layout of NYU Depth V2 through every stage in this process, and what is left."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from composed import composed
from PIL import Image
from rich.console import Console

from mke_ray.config_schema import JobConfig
from mke_ray.expansion.rehearsal import rehearse
from mke_ray.expansion.whole import run_stages
from mke_ray.models import load_student
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore

NUM_TRAIN, NUM_TEST = 34, 6
ARMS = ("um_student", "noisy_student", "mm_student_no_reg", "mke")
TRUE_ARMS = ("mm_labelled_only", "mm_supervised")
OVERRIDES = (
    "experiment=nyu_depth_v2_small",
    "source.labelled=6",
    "source.probe=18",
    "scaling.launch=local",
    "tracking=off",
    "gate.min_samples=1",
    "labelling.unit_size=4",
    "student.encoders.rgb.channels=[4,8]",
    "student.encoders.depth.channels=[4,8]",
    "student.decoder.channels=[8]",
    "teacher.fit.num_steps=6",
    "fit.num_steps=3",
    "fit.global_batch=4",
    "fit.validate_every_steps=2",
    "doubles.enabled=false",
)


def write_scene(folder: Path, name: str, generator: np.random.Generator) -> None:
    """Write a wall above a floor with a box between, which depth tells from the wall."""
    height, width = 24, 32
    label = np.full((height, width), 0, np.uint8)  # wall
    label[14:] = 1  # floor
    top, left = generator.integers(4, 10), generator.integers(2, 18)
    label[top : top + 10, left : left + 10] = 2  # cabinet
    label[:2] = 255
    depth = np.select([label == 1, label == 2], [60, 50], 100).astype(np.uint8)
    shades = np.select([label == 1, label == 2], [90, 150], 170)[..., None]
    rgb = np.clip(shades + generator.normal(0, 25, (height, width, 3)), 0, 255)
    for kind, suffix, pixels in (
        ("rgb", "jpg", rgb),
        ("depth", "png", depth),
        ("label", "png", label),
    ):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.{suffix}")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    """Return the job of a run on a few made scenes."""
    folder, generator = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    names = [f"{number:04d}" for number in range(1, NUM_TRAIN + NUM_TEST + 1)]
    for name in names:
        write_scene(folder / "nyu", name, generator)
    (folder / "nyu/train.txt").write_text("\n".join(names[:NUM_TRAIN]))
    (folder / "nyu/test.txt").write_text("\n".join(names[NUM_TRAIN:]))
    places = (f"source.root={folder / 'nyu'}", f"root={folder / 'run'}")
    return composed(*OVERRIDES, *places)[0]


@pytest.fixture(scope="module")
def report(job: JobConfig) -> Path:
    """Return the folder of the report of the run."""
    run_stages(job)
    return Path(job.root) / "report"


def test_a_dry_run_lets_the_teacher_answer_and_takes_a_step_with_every_arm(
    job: JobConfig,
) -> None:
    said = io.StringIO()
    rehearse(job, Console(file=said, width=200))
    for arm in (*ARMS, *TRUE_ARMS):
        assert f"{arm} " in said.getvalue()
    assert "reads rgb, will be trained" in said.getvalue()


def test_every_arm_has_a_mean_iou_and_what_belongs_to_pixels(report: Path) -> None:
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["metric"] == "miou"
    assert {"teacher", *ARMS, *TRUE_ARMS} <= set(metrics["arms"])
    for arm in metrics["arms"].values():
        assert 0 <= arm["value"] <= 1
        assert arm["num_test"] == NUM_TEST
        assert arm["ci95"][0] <= arm["value"] <= arm["ci95"][1]
        assert 0 <= arm["pixel_accuracy"] <= 1
        assert len(arm["class_ious"]) == 13
    assert metrics["counts"]["ok"] == NUM_TRAIN + NUM_TEST - 6  # labelled ones are pictures alone
    assert metrics["pseudo_labels"]["num"] == NUM_TRAIN - 24
    assert 0 <= metrics["pseudo_labels"]["accuracy"] <= 1
    assert metrics["gate"]["openings"] == 1


def test_labels_of_pixels_are_refined_and_our_student_is_put_in_front_of_the_gate(
    report: Path,
) -> None:
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["judged"] == "mm_student"
    assert {"mm_student", "relabel_only"} <= set(metrics["arms"])
    assert metrics["arms"]["relabel_only"]["value"] != metrics["arms"]["teacher"]["value"]
    rounds = metrics["refinement"]
    assert all(set(one["witnesses"]) == {"depth"} for one in rounds)
    assert [one["log_likelihood"] for one in rounds] == [None] * len(rounds)  # nine are too few
    assert "Labels were refined" in (report / "index.html").read_text()


def test_labelled_pairs_are_for_the_witnesses_and_not_for_the_student(report: Path) -> None:
    store, learnt = FitStore(open_root(str(report.parent))), {}
    for folder in (report.parent / "fits").iterdir():
        spec = store.facts(folder.name)["spec"]
        learnt.setdefault(spec["arm"], set()).update(row["split"] for row in spec["rows"])
    assert learnt["witness"] == {"unlabeled", "probe"}
    assert learnt["mm_student"] == {"unlabeled"}


def test_the_value_of_an_arm_is_the_mean_of_the_ious_of_the_classes_that_are_there(
    report: Path,
) -> None:
    metrics = json.loads((report / "metrics.json").read_text())
    for arm in metrics["arms"].values():
        there = [one for one in arm["class_ious"] if one is not None]
        assert arm["value"] == pytest.approx(np.mean(there), abs=1e-6)


def test_the_page_shows_scenes_with_all_networks_and_the_gain_by_class(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert "What does each network see?" in page
    assert "Which classes gain?" in page
    assert "Pixel accuracy" in page
    scenes = Image.open(report / "figures/scenes.png")
    assert scenes.width > 1000
    assert (report / "figures/classes.png").exists()


def test_students_started_from_the_teacher_and_looked_at_the_select_part(report: Path) -> None:
    store, facts = FitStore(open_root(str(report.parent))), {}
    for folder in (report.parent / "fits").iterdir():
        facts[store.facts(folder.name)["spec"]["arm"]] = folder.name
    spec = store.facts(facts["mke"])["spec"]
    assert spec["init_from"] == facts["teacher"]
    history = store.history(facts["mke"])
    assert any("select_miou" in record for record in history)
    loaded = load_student(store.student_folder(facts["mke"]))
    assert set(loaded.student.modalities) == {"rgb", "depth"}
