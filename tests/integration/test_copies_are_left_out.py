"""Copies of test clips, encoded once more and hidden among the other splits, from file to feed."""

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from composed import composed
from encoded_again import Again, encode_again

from mke_ray.config_schema import JobConfig
from mke_ray.data.demo import DemoSource
from mke_ray.data.manifest import Manifest
from mke_ray.data.videos import VideosSource
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.probe import ProbeDivision
from mke_ray.storage import open_root
from mke_ray.train.assemble import open_reader
from mke_ray.train.fits import FitSpec, FitStore
from mke_ray.train.usable import usable_entries

SMALLER = Again(size=(80, 80), crf=32, rate_hz=12, gain=0.5, layout="stereo", sound_rate_hz=22050)
LATER = Again(crf=30, trim_s=0.2, sound_bits=48_000)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a demo, and hide four copies in it: of test in three splits, of probe in one."""
    folder = tmp_path_factory.mktemp("copies")
    demo = DemoSource(
        str(folder), num_labelled=12, num_unlabeled=20, num_probe=10, num_test=10, num_broken=0,
        num_processes=1,
    )  # fmt: skip
    demo.prepare()
    rows = list(csv.DictReader((folder / "clips.csv").open()))
    of = {split: [row for row in rows if row["split"] == split] for split in ("test", "probe")}
    planted = [
        ("unlabeled", of["test"][0], SMALLER),
        ("unlabeled", of["test"][1], LATER),
        ("unlabeled", of["probe"][0], SMALLER),
        ("labelled", of["test"][2], LATER),
        ("probe", of["test"][3], SMALLER),
    ]
    for number, (split, row, how) in enumerate(planted):
        uri = f"clips/copy-{number}.mp4"
        content = encode_again((folder / row["uri"]).read_bytes(), how)
        (folder / uri).write_bytes(content)
        rows.append({**row, "uri": uri, "split": split, "group": f"copy-{number}"})
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    (folder / "all.csv").write_text(table.getvalue())
    return folder


def job_of(bucket: Path, root: Path, *overrides: str) -> JobConfig:
    (job,) = composed(
        "experiment=demo",
        "labelling.unit_size=8",
        "source=videos",
        f"source.root={bucket}",
        "source.table=all.csv",
        "source.classes=['0','1','2','3','4','5','6','7','8','9']",
        f"root={root}",
        "labelling.runner=local",
        "scaling.launch=local",
        "engine=torch",
        "tracking=off",
        "arms=[mke]",
        "model_seeds=[0]",
        "fit.num_steps=2",
        "fit.global_batch=8",
        "fit.validate_every_steps=0",
        "teacher.fit.num_steps=2",
        *overrides,
    )
    return job


@pytest.fixture(scope="module")
def finished(bucket: Path, tmp_path_factory: pytest.TempPathFactory) -> JobConfig:
    job = job_of(bucket, tmp_path_factory.mktemp("run"))
    run_stages(job)
    return job


def marks_of(root: str) -> dict[str, str]:
    manifest = Manifest.open(open_root(root).child("manifest"))
    rows = [row for ref in manifest.unit_refs() for row in manifest.read_unit(ref)]
    return {row.key: row.mark for row in rows if row.mark}


EXPECTED = {
    "clips/copy-0.mp4": "copy_of_test",
    "clips/copy-1.mp4": "copy_of_test",
    "clips/copy-2.mp4": "copy_of_probe",
    "clips/copy-3.mp4": "copy_of_test",
    "clips/copy-4.mp4": "copy_of_test",
}


def test_every_planted_copy_is_marked_and_nothing_else(finished: JobConfig) -> None:
    assert marks_of(finished.root) == EXPECTED


def test_the_report_counts_them_and_the_list_names_them(finished: JobConfig) -> None:
    report = Path(finished.root, "report")
    found = json.loads((report / "metrics.json").read_text())["doubles"]
    assert found == {
        "probe": {"copy_of_test": 1},
        "labelled": {"copy_of_test": 1},
        "unlabeled": {"copy_of_test": 2, "copy_of_probe": 1},
        "excluded": 5,
    }
    assert "clips/copy-0.mp4" in (report / "index.html").read_text()
    lists = list(Path(finished.root, "doubles").glob("doubles-*.parquet"))
    listed = [pair for one in lists for pair in pq.read_table(one).to_pylist()]
    assert {pair["key"] for pair in listed} == set(EXPECTED)
    assert max(pair["distance"] for pair in listed) < 0.2


def fits_of(job: JobConfig) -> list[FitSpec]:
    store = FitStore(open_root(job.root))
    names = [path.name for path in Path(job.root, "fits").iterdir()]
    return [FitSpec.from_dict(store.facts(name)["spec"]) for name in names]


def test_neither_teacher_nor_witness_nor_student_is_fed_a_copy(finished: JobConfig) -> None:
    root, fits = open_root(finished.root), fits_of(finished)
    assert {fit.arm for fit in fits} == {"teacher", "witness", "mke", "mm_student"}
    for fit in fits:
        reader = open_reader(fit, root, cache_bytes=1 << 20)
        fed = [
            row
            for entry in usable_entries(reader, fit.rows, ProbeDivision())
            for row, usable in zip(reader.manifest_rows(entry.unit), entry.usable, strict=True)
            if usable
        ]
        by_split = Counter(row.split for row in fed)
        expected = {"labelled": 12, "unlabeled": 20}
        for split in by_split.keys() & expected.keys():
            assert by_split[split] == expected[split], (fit.arm, split)
        assert by_split, fit.arm
        assert not {row.key for row in fed} & set(EXPECTED)


def test_a_second_start_looks_for_nothing_and_writes_nothing(finished: JobConfig) -> None:
    def times() -> dict[Path, int]:
        paths = [one for name in ("doubles", "manifest", "fits", "report")
                 for one in Path(finished.root, name).rglob("*") if one.is_file()]  # fmt: skip
        return {path: path.stat().st_mtime_ns for path in paths}

    before = times()
    run_stages(finished)
    assert times() == before


def test_copies_stay_in_use_if_nobody_looks(bucket: Path, tmp_path: Path) -> None:
    job = job_of(bucket, tmp_path, "doubles.enabled=false")
    metrics = run_stages(job)
    assert metrics["doubles"] is None
    assert marks_of(job.root) == {}


def test_the_source_of_these_tests_has_the_copies(bucket: Path) -> None:
    classes = [str(digit) for digit in range(10)]
    keys = {row.key for row in VideosSource(str(bucket), classes, table="all.csv").rows()}
    assert set(EXPECTED) < keys
