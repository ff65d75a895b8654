"""Several teachers refine labels together, from end to end in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError
from mke_ray.expansion import expand
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.storage import open_root

CLASSES = ["p", "q", "r"]
SPLITS = {"labelled": 40, "probe": 240, "unlabeled": 500, "test": 400}
STRENGTHS = {"a": 1.0, "b": 1.2, "c": 2.0}


class ViewTeacher:
    """Knows how strongly its view shows the class, and so is as good as that view allows.

    Args:
        modality: The view.
        strength: How strongly it shows the class.
    """

    def __init__(self, modality: str, strength: float) -> None:
        self.modality = modality
        self.needs = {"kind": "features", "num_features": 3}
        self._strength = strength

    def predict(self, arrays_BX: np.ndarray) -> np.ndarray:
        return np.asarray(arrays_BX, np.float32) * self._strength

    def fingerprint(self) -> str:
        return f"view {self.modality} {self._strength}"


def further(view: str, strength: float | None = None) -> str:
    target = f"{__name__}.{ViewTeacher.__name__}"
    shown = STRENGTHS[view] if strength is None else strength
    return f"+more_teachers.of_{view}={{_target_: {target}, modality: {view}, strength: {shown}}}"


def write_table(path: Path, *, kind: str = "single") -> None:
    """Write rows of three views; one row in ten lacks the third."""
    rng = np.random.default_rng(3)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    label_N = rng.integers(0, 3, len(split))
    shown_N3 = np.eye(3)[label_N] if kind == "single" else 1.0 * (rng.random((len(split), 3)) < 0.4)
    columns: dict[str, Any] = {}
    for view, strength in STRENGTHS.items():
        seen_N3 = strength * shown_N3 + rng.normal(size=shown_N3.shape)
        columns |= {f"{view}_{k}": list(seen_N3[:, k]) for k in range(3)}
    columns["c_0"] = [None if n % 10 == 3 else x for n, x in enumerate(columns["c_0"])]
    labels: dict[str, Any] = {"label": [CLASSES[one] for one in label_N]}
    if kind == "multi":
        labels = {f"is_{name}": shown_N3[:, k].astype(int) for k, name in enumerate(CLASSES)}
    group = [f"{one} {number // 2}" for number, one in enumerate(split)]
    pq.write_table(pa.table({**columns, **labels, "split": split, "group": group}), path)


def job_of(folder: Path, *overrides: str, root: str = "run", kind: str = "single") -> JobConfig:
    """A teacher of ``a``, a student of ``a`` and ``b``; ``c`` is stored for further teachers."""
    if not (folder / "rows.parquet").exists():
        write_table(folder / "rows.parquet", kind=kind)
    label = "label" if kind == "single" else "[is_p, is_q, is_r]"
    (job,) = composed(
        "experiment=features",
        "objective=expansion",
        "preflight=off",
        "scaling.launch=local",
        "tracking=off",
        f"source.root={folder}",
        "source.table=rows.parquet",
        "source.modalities={a: [a_*], b: [b_*], c: [c_*]}",
        f"source.classes={CLASSES}",
        f"source.label_kind={kind}",
        f"++source.columns={{label: {label}, split: split, group: group}}",
        *(f"++decode.{one}={{kind: features, num_features: 3}}" for one in "abc"),
        *(
            f"++student.encoders.{one}={{type: features, num_inputs: 3, hidden: [16]}}"
            for one in "ab"
        ),
        "teacher.modality=a",
        "fit.num_steps=60",
        "teacher.fit.num_steps=80",
        "expansion.rounds=1",
        "expansion.members=1",
        "arms=[mm_student]",
        f"allow_targets=[{__name__}]",
        f"root={folder / root}",
        *overrides,
    )
    return job


def metrics_of(job: JobConfig) -> dict[str, Any]:
    return json.loads((Path(job.root) / "report" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same data with the teacher of ``a`` alone, and with one of ``c`` beside it."""
    folder = tmp_path_factory.mktemp("teachers")
    alone, joined = job_of(folder, root="alone"), job_of(folder, further("c"), root="joined")
    run_stages(alone)
    run_stages(joined)
    return alone, joined


def test_two_teachers_of_two_modalities_beat_one(both):
    alone, joined = (metrics_of(one)["arms"] for one in both)
    assert joined["teacher"]["value"] == alone["teacher"]["value"]  # the gate's is the first
    assert joined["relabel_only"]["value"] > alone["relabel_only"]["value"] + 0.05
    assert joined["mm_student"]["value"] > alone["mm_student"]["value"]


def test_the_report_names_every_teacher_with_its_exponent(both):
    alone, joined = both
    assert "teachers" not in metrics_of(alone)["refinement"][0]
    (found,) = metrics_of(joined)["refinement"]
    assert set(found["teachers"]) == {"of_c"} and set(found["witnesses"]) == {"b"}
    assert found["teachers"]["of_c"]["exponent"] > 0.0
    assert 0.5 < found["teachers"]["of_c"]["temperature"] < 2.0  # it knows how sure it may be
    assert "teacher of_c" in (Path(joined.root) / "report" / "index.html").read_text()


def test_the_first_witnesses_learn_the_labels_of_all_teachers(both):
    specs = [
        json.loads(path.read_text())["spec"]
        for path in (Path(both[1].root) / "fits").glob("*/*/fit.json")
    ]
    (witness,) = (one for one in specs if one["arm"] == "witness")
    store = UnitStore.open(open_root(str(Path(both[1].root) / "labels" / witness["labels"])))
    assert store.spec["derivation"]["type"] == "combination"


def test_the_first_teacher_alone_is_what_it_is_without_others(both, tmp_path):
    alone, joined = both
    job = job_of(Path(alone.root).parent, further("c"), "expansion.teachers=first", root="joined")
    run_stages(job)
    found = [metrics_of(one)["arms"]["mm_student"] for one in (alone, job)]
    assert found[0] == found[1]
    names = {path.name for path in (Path(alone.root) / "labels").iterdir()}
    assert names < {path.name for path in (Path(joined.root) / "labels").iterdir()}


def test_a_teacher_that_guesses_is_not_listened_to(tmp_path, caplog):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    noise_N3 = np.random.default_rng(0).normal(size=(table.num_rows, 3))
    for k in range(3):
        place = table.column_names.index(f"c_{k}")
        table = table.set_column(place, f"c_{k}", pa.array(noise_N3[:, k]))
    pq.write_table(table, tmp_path / "rows.parquet")
    job = job_of(tmp_path, further("c"), "expansion.open_set=on")
    run_stages(job)
    (found,) = metrics_of(job)["refinement"]
    assert "open_set" in found  # further teachers are among what tells irrelevant samples
    assert found["teachers"]["of_c"]["exponent"] <= 0.25 < found["witnesses"]["b"]
    assert "put the best teacher first" not in caplog.text


def test_teachers_of_many_classes_are_combined_class_by_class(tmp_path, caplog):
    job = job_of(tmp_path, further("c"), kind="multi")
    run_stages(job)
    assert "more_teachers: of_c alone makes the select part" in caplog.text
    metrics = metrics_of(job)
    assert metrics["refinement"][0]["teachers"]["of_c"]["exponent"] > 0.0
    arms = metrics["arms"]
    assert arms["relabel_only"]["value"] > arms["teacher"]["value"] + 0.1
    assert arms["mm_student"]["value"] > arms["teacher"]["value"]


def test_without_a_probe_all_teachers_count_alike(tmp_path, caplog):
    write_table(tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    kept = [number for number, one in enumerate(table["split"].to_pylist()) if one != "probe"]
    pq.write_table(table.take(kept), tmp_path / "rows.parquet")
    job = job_of(tmp_path, further("c"))
    with caplog.at_level("INFO", logger="mke_ray"):
        run_stages(job)
    (found,) = metrics_of(job)["refinement"]
    assert found["teacher"] == 1.0 and found["witnesses"] == {"b": 1.0}
    assert found["teachers"] == {"of_c": {"exponent": 1.0, "temperature": 1.0}}
    said = "before any witness: teacher 1 (temperature 1.00), teacher of_c 1 (temperature 1.00)"
    assert said in caplog.text


def test_a_dry_run_says_whose_labels_are_combined(tmp_path, capsys):
    expand([job_of(tmp_path, further("c"), "dry_run=true")])
    said = " ".join(capsys.readouterr().out.split())
    assert "1 rounds of 3 witnesses of b, of the labels of teacher, of_c together" in said
    expand([job_of(tmp_path, further("c"), "dry_run=true", "expansion.teachers=first")])
    assert "together" not in capsys.readouterr().out


def test_other_words_for_the_teachers_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"expansion\.teachers='both'; choose all.*first"):
        check_job(job_of(tmp_path, "expansion.teachers=both"))
