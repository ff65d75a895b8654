"""The pre-flight of a run on rows of two views: when it looks, what it costs, when it stops."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from composed import composed
from job_processes import kill_once, start_job

from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest
from mke_ray.errors import ConfigError
from mke_ray.expansion.checks import check_job
from mke_ray.expansion.draws import summarise
from mke_ray.expansion.whole import run_stages
from mke_ray.labels.store import UnitStore
from mke_ray.report.terminal import terminal
from mke_ray.schema import Split
from mke_ray.storage import open_root
from mke_ray.train.fits import FitStore

CLASSES = ["p", "q", "r"]
SPLITS = {"labelled": 60, "probe": 300, "unlabeled": 640, "test": 200}


def write_table(path: Path, *, witness: float) -> None:
    """Write rows of two views; the second shows the class as strongly as asked."""
    rng = np.random.default_rng(5)
    split = [name for name, number in SPLITS.items() for _ in range(number)]
    label_N = rng.integers(0, 3, len(split))
    shown_N3 = np.eye(3)[label_N]
    views = {
        name: strength * shown_N3 + rng.normal(size=shown_N3.shape)
        for name, strength in (("a", 1.2), ("b", witness))
    }
    columns = {f"{name}_{k}": x_N3[:, k] for name, x_N3 in views.items() for k in range(3)}
    names = [CLASSES[one] for one in label_N]
    pq.write_table(pa.table({**columns, "label": names, "split": split}), path)


def lines_of(folder: Path, *overrides: str, root: str = "run") -> list[str]:
    """Return what a job on the rows of a folder is told."""
    return [
        "experiment=features",
        "objective=expansion",
        "scaling.launch=local",
        "tracking=off",
        f"source.root={folder}",
        "source.table=rows.parquet",
        "source.modalities={a: [a_*], b: [b_*]}",
        f"source.classes={CLASSES}",
        "++source.columns={label: label, split: split}",
        *(f"++decode.{one}={{kind: features, num_features: 3}}" for one in "ab"),
        *(
            f"++student.encoders.{one}={{type: features, num_inputs: 3, hidden: [16]}}"
            for one in "ab"
        ),
        "teacher.modality=a",
        "fit.num_steps=60",
        "teacher.fit.num_steps=60",
        "labelling.unit_size=32",
        "arms=[mm_student]",
        "expansion.members=1",
        "expansion.rounds=1",
        f"root={folder / root}",
        *overrides,
    ]


def job_of(folder: Path, *overrides: str, root: str = "run") -> JobConfig:
    (job,) = composed(*lines_of(folder, *overrides, root=root))
    return job


@pytest.fixture(scope="module")
def helpful(tmp_path_factory) -> Path:
    """A folder of rows whose second view helps."""
    folder = tmp_path_factory.mktemp("helpful")
    write_table(folder / "rows.parquet", witness=2.0)
    return folder


@pytest.fixture(scope="module")
def useless(tmp_path_factory) -> Path:
    """A folder of rows whose second view is noise."""
    folder = tmp_path_factory.mktemp("useless")
    write_table(folder / "rows.parquet", witness=0.0)
    return folder


def labelled_units(job: JobConfig) -> list[str]:
    """Return the unlabeled units that the teacher labelled."""
    folders = [open_root(str(one)) for one in (Path(job.root) / "labels").iterdir()]
    (store,) = (one for one in map(UnitStore.open, folders) if "teacher" in one.spec)
    return store.survey().index.units(Split.UNLABELED)


def teachers_of(job: JobConfig) -> set[str]:
    """Return the fingerprints of the teachers of a run."""
    store = FitStore(open_root(job.root))
    return {one for one in fits_of(job) if store.facts(one)["spec"]["arm"] == "teacher"}


def fits_of(job: JobConfig) -> set[str]:
    """Return the fingerprints of the fits of a run."""
    return {one.name for one in (Path(job.root) / "fits").iterdir()}


def test_of_few_samples_the_witnesses_are_those_of_the_first_round(helpful):
    """So looking ahead trains one trial student, and changes nothing."""
    ahead, blind = job_of(helpful, root="ahead"), job_of(helpful, "preflight=off", root="blind")
    with_it, without_it = run_stages(ahead), run_stages(blind)
    assert with_it["preflight"]["verdict"] == "go"
    assert without_it["preflight"] is None
    (trial,) = fits_of(ahead) - fits_of(blind)
    assert FitStore(open_root(ahead.root)).facts(trial)["spec"]["arm"] == "trial"
    assert with_it["arms"] == without_it["arms"]
    evidence = with_it["preflight"]["evidence"]
    assert evidence["joined"]["value"] > evidence["teacher"]["value"] + 0.05
    page = (Path(ahead.root) / "report" / "index.html").read_text()
    assert re.search(r"What was to be expected\?</h2>\s*<p>Go: ", page)
    assert "preflight_venn" in page
    assert "Pre-flight" not in (Path(blind.root) / "report" / "index.html").read_text()


def test_a_no_go_ends_the_job_before_the_rest_is_labelled_and_warn_goes_on(useless, capsys):
    """What is labelled is kept; nothing is labelled twice when the job goes on after all."""
    keys = ("preflight.samples=160", "preflight.worth=0.5")
    job = job_of(useless, "preflight=stop", *keys)
    found = run_stages(job, console=terminal())
    assert found["preflight"]["verdict"] == "no-go"
    assert "arms" not in found
    assert 32 * len(labelled_units(job)) == 160
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("No-go") == 1
    assert "preflight=warn goes on all the same" in said
    assert "preflight.html" in said
    (witness,) = (
        one
        for one in fits_of(job)
        if FitStore(open_root(job.root)).facts(one)["spec"]["arm"] == "witness"
    )
    facts = FitStore(open_root(job.root)).facts(witness)
    assert facts["num_rows"] < 160 + SPLITS["probe"]
    (trial,) = fits_of(job) - {witness, *teachers_of(job)}
    assert FitStore(open_root(job.root)).facts(trial)["num_rows"] == 160 + SPLITS["labelled"]
    assert not (Path(job.root) / "report" / "metrics.json").exists()

    metrics = run_stages(job_of(useless, "preflight=warn", *keys))
    assert metrics["preflight"]["verdict"] == "no-go"
    assert metrics["arms"]["mm_student"]["value"] > 0
    assert 32 * len(labelled_units(job)) == SPLITS["unlabeled"]
    assert witness in fits_of(job)
    summary = summarise([found, metrics])
    assert summary["num_ended_by_preflight"] == 1
    assert summary["arms"].keys() == metrics["arms"].keys()


def test_what_is_no_no_go_goes_on_and_is_found_once(helpful, monkeypatch):
    """The second start reads what the first found: no witness is asked again."""
    keys = ("preflight.samples=200", "preflight.certainty=0.6")
    job = job_of(helpful, "preflight=stop", *keys, root="stop")
    first = run_stages(job)
    assert first["preflight"]["verdict"] != "no-go"
    assert "mm_student" in first["arms"]
    monkeypatch.setattr("mke_ray.expansion.preflight_trial.measure", _refuse)
    assert run_stages(job)["preflight"] == first["preflight"]
    hopeless = ("preflight=warn", "preflight.samples=200", "preflight.worth=0.9")
    other = job_of(helpful, *hopeless, root="stop")
    again = run_stages(other)["preflight"]
    assert again["verdict"] == "no-go"
    assert again["gain"] == first["preflight"]["gain"]


def test_another_student_is_looked_at_anew(helpful, monkeypatch):
    """And what was found of the first is not shown as its own."""
    job = job_of(helpful, "preflight.samples=200", root="stop")
    monkeypatch.setattr("mke_ray.expansion.preflight_trial.measure", _refuse)
    with pytest.raises(AssertionError, match="looked again"):
        run_stages(job_of(helpful, "preflight.samples=200", "fusion=gated", root="stop"))
    run_stages(job)


def test_a_bucket_that_grows_is_not_looked_at_again(tmp_path, monkeypatch):
    """The look ahead is one; what is new is labelled and trained on."""
    path = tmp_path / "rows.parquet"
    write_table(path, witness=2.0)
    whole = pq.read_table(path)
    is_last = pa.array(np.arange(len(whole)) > 900)
    late = pc.and_(pc.equal(whole.column("split"), "unlabeled"), is_last)
    pq.write_table(whole.filter(pc.invert(late)), path)
    job = job_of(tmp_path, "preflight.samples=200")
    first = run_stages(job)
    pq.write_table(pa.concat_tables([whole.filter(pc.invert(late)), whole.filter(late)]), path)
    monkeypatch.setattr("mke_ray.expansion.preflight_trial.measure", _refuse)
    second = run_stages(job)
    assert second["counts"]["samples"] > first["counts"]["samples"]
    assert second["preflight"] == first["preflight"]


def test_a_driver_killed_between_its_two_trainings_repeats_none_and_finds_the_same(helpful):
    """The witness that was there is read, the trial student trained, and all numbers agree."""
    keys = ("preflight.samples=200", "fit.num_steps=400")
    calm = run_stages(job_of(helpful, *keys, root="calm"))
    killed = job_of(helpful, *keys, root="killed")
    fits = Path(killed.root) / "fits"
    process = start_job("expand", lines_of(helpful, *keys, root="killed"))
    kill_once(lambda: len(list(fits.glob("*/done.json"))) >= 2, process)
    trained = {one: one.stat().st_mtime_ns for one in fits.glob("*/done.json")}
    assert 2 <= len(trained) < len(fits_of(job_of(helpful, root="calm")))
    found = run_stages(killed)
    assert found["preflight"] == calm["preflight"]
    assert found["arms"] == calm["arms"]
    assert {one: one.stat().st_mtime_ns for one in trained} == trained


def test_where_samples_are_not_kept_it_finds_the_same(helpful):
    """Each training reads its rows from the source again."""
    keys = ("preflight.samples=200", "preflight.worth=0.9", "preflight=stop")
    kept = run_stages(job_of(helpful, *keys, root="kept"))["preflight"]
    assert run_stages(job_of(helpful, *keys, "samples=off", root="off"))["preflight"] == kept


@pytest.mark.s3
def test_in_a_bucket_it_finds_the_same_and_leaves_its_page_there(helpful, s3_server):
    """What it found is read from there by the next start, and nothing is asked again."""
    keys = ("preflight.samples=200", "preflight.worth=0.9", "preflight=stop")
    here = run_stages(job_of(helpful, *keys, root="kept"))["preflight"]
    uri = s3_server.uri("ahead")
    job = job_of(helpful, *keys, f"root={uri}")
    assert run_stages(job)["preflight"] == here
    root = open_root(uri)
    assert json.loads(root.read("report/preflight.json")) == here
    assert b"No-go" in root.read("report/preflight.html")
    before = set(root.names("fits"))
    assert run_stages(job)["preflight"] == here
    assert set(root.names("fits")) == before


def test_its_samples_are_spread_over_all(helpful):
    """Not the first ones of the listing, which may all be of one person or site."""
    hopeless = ("preflight=stop", "preflight.samples=64", "preflight.worth=0.9")
    job = job_of(helpful, *hopeless, root="few")
    run_stages(job)
    manifest = Manifest.open(open_root(job.root).child("manifest"))
    units = [one.unit for one in manifest.unit_refs([Split.UNLABELED])]
    places = sorted(units.index(one) for one in labelled_units(job))
    assert len(places) == 2
    assert places[0] < len(units) / 2 <= places[1]


def test_without_a_probe_it_is_unsure_and_says_what_helps(helpful, tmp_path):
    """Nothing can be told, nothing breaks, and the job goes on."""
    table = pq.read_table(helpful / "rows.parquet")
    is_probe = pc.equal(table.column("split"), "probe")
    pq.write_table(table.filter(pc.invert(is_probe)), tmp_path / "rows.parquet")
    metrics = run_stages(job_of(tmp_path, "preflight=stop"))
    assert metrics["preflight"]["verdict"] == "unsure"
    assert "split=probe" in metrics["preflight"]["said"]
    assert metrics["gate"]["verdict"] == "unverified"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("preflight.mode=of", "preflight.mode"),
        ("preflight.samples=0", "preflight.samples"),
        ("preflight.worth=3", "preflight.worth"),
        ("preflight.certainty=0.3", "preflight.certainty"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_name(helpful, override, named):
    """Before anything starts."""
    with pytest.raises(ConfigError, match=named):
        check_job(job_of(helpful, override))


def test_numbers_are_where_they_are_looked_for(helpful):
    """Standard JSON, with the numbers that the page says."""
    job = job_of(helpful, root="ahead")
    run_stages(job)
    plain = json.loads((Path(job.root) / "report" / "preflight.json").read_text())
    assert (
        plain == json.loads((Path(job.root) / "report" / "metrics.json").read_text())["preflight"]
    )


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("looked again")
