"""Why a student gains, measured on the smallest TwoMoon, in this process."""

import json
from pathlib import Path

import pytest
from composed import composed

from mke_ray.config_schema import JobConfig
from mke_ray.data.manifest import Manifest, Mark
from mke_ray.data.manifest.marks import FORGOTTEN
from mke_ray.errors import ConfigError
from mke_ray.expansion import expand, mechanism_setting
from mke_ray.expansion.draws import inside_one_task
from mke_ray.expansion.mechanism_plan import settings_of
from mke_ray.expansion.mechanism_setting import known_record
from mke_ray.schema import Split
from mke_ray.storage import open_root

TINY = (
    "experiment=mechanism",
    "scaling.launch=local",
    "tracking=off",
    "data_seeds=2",
    "source.num_unlabeled=60",
    "source.num_test=40",
    "mechanism.num_unlabeled=[30]",
    "mechanism.num_labelled=[]",
    "mechanism.alphas=[1]",
    "mechanism.radii=[0,0.3,1]",
    "mechanism.num_subsets=2",
    "fit.num_steps=5",
    "teacher.fit.num_steps=20",
    "labelling.unit_size=40",
)


def tiny(root: Path, *more: str) -> list[JobConfig]:
    return composed(*TINY, f"root={root}", *more)


def test_the_tiny_version_runs_in_this_process_and_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expand(tiny(tmp_path))
    said = capsys.readouterr().out
    assert f"Page: {tmp_path}/report/index.html" in said
    report = tmp_path / "report"
    found = json.loads((report / "mechanism.json").read_text())
    assert found["num_draws"] == 2
    assert [one["num_unlabeled"] for one in found["records"]] == [60, 30, 60, 30]
    assert list(found["spaces"]) == ["a", "b", "a + b"]
    base = found["records"][0]
    assert {(s["arm"], s["alpha"], s["kind"]) for s in base["students"]} == {
        (arm, 1.0, kind) for arm in ("noisy_student", "mke") for kind in ("hard", "soft")
    }
    assert len(found["records"][1]["students"]) == 2
    assert {one.stem for one in (report / "figures").glob("*.png")} == {
        "neighbourhoods",
        "expansion",
        "prediction",
        "gains",
    }
    assert "</html>" in (report / "index.html").read_text()

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(mechanism_setting, "open_run", never)
    expand(tiny(tmp_path))
    again = json.loads((report / "mechanism.json").read_text())
    assert again["records"] == found["records"]
    assert again["num_known"] == 4


def test_a_record_of_other_samples_is_measured_again_and_not_joined(tmp_path: Path) -> None:
    (job,) = tiny(tmp_path, "data_seeds=null", "mechanism.num_unlabeled=[]")
    expand([job])
    (setting,) = settings_of(inside_one_task(job))
    first = known_record(setting)
    assert first is not None and first["data"]
    manifest = Manifest.open(open_root(setting.job.root).child("manifest"))
    ref = next(manifest.unit_refs(["unlabeled"]))
    row = manifest.read_unit(ref)[0]
    assert manifest.add_marks([Mark(row.sample_id, ref.unit, 0, FORGOTTEN)]).digest(Split)
    assert known_record(setting) is None
    expand([job])
    again = known_record(setting)
    assert again is not None and again["data"] != first["data"]


def test_a_record_that_does_not_say_of_which_samples_it_is_counts_for_nothing(
    tmp_path: Path,
) -> None:
    (job,) = tiny(tmp_path, "data_seeds=null", "mechanism.num_unlabeled=[]")
    (setting,) = settings_of(inside_one_task(job))
    open_root(setting.job.root).write(
        "mechanism.json", json.dumps({"inputs": setting.inputs()}).encode()
    )
    assert known_record(setting) is None


def test_our_student_is_measured_beside_the_published_one_and_not_predicted(
    tmp_path: Path,
) -> None:
    more = ("objective=expansion", "arms=[mke]", "expansion.rounds=1", "expansion.members=1")
    expand(tiny(tmp_path, *more, "data_seeds=1", "mechanism.label_kinds=[hard]"))
    found = json.loads((tmp_path / "report" / "mechanism.json").read_text())
    by_size = {one["arm"]: one["at"] for one in found["gains"]["num_unlabeled"]}
    assert by_size == {"mke": [30.0, 60.0], "mm_student": [30.0, 60.0]}
    (ours,) = [s for s in found["records"][0]["students"] if s["arm"] == "mm_student"]
    assert ours["predicted"] is None
    assert ours["observed"] is not None
    assert list(found["prediction"]) == ["mke, hard", "all"]


def test_a_rehearsal_says_how_much_there_is_to_train_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expand(tiny(tmp_path / "run", "dry_run=true"))
    assert "2 draws, 4 runs and at most 12 students; 0 runs" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("mechanism.label_kinds=[firm]", r"mechanism\.label_kinds=\['firm'\]"),
        ("mechanism.alphas=[-1]", r"mechanism\.alphas=\[-1\.0\]"),
        ("mechanism.radii=[0.5,0.5]", r"mechanism\.radii=\[0\.5, 0\.5\]"),
        ("mechanism.num_labelled=[0]", r"mechanism\.num_labelled=\[0\]"),
        ("mechanism.max_samples=0", r"mechanism\.max_samples=0"),
        ("objective.alpha={a: 1.0, b: 0.5}", r"objective\.alpha="),
        ("source.num_test=0", r"source\.num_test=0"),
        ("source=two_moon", r"source\.num_unlabeled is not set"),
    ],
)
def test_a_key_that_cannot_be_measured_is_refused_by_name(
    tmp_path: Path, override: str, said: str
) -> None:
    overrides = [one for one in TINY if override != "source=two_moon" or "source." not in one]
    jobs = composed(*overrides, f"root={tmp_path / 'run'}", override)
    with pytest.raises(ConfigError, match=said):
        expand(jobs)
    assert not (tmp_path / "run").exists()
