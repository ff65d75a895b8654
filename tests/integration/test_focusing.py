"""jobs/focus.py at its smallest: the synthetic study, and distillation on a table of features."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray
from composed import REPOSITORY, composed
from focus_table import features, table

from mke_ray.errors import ConfigError
from mke_ray.expansion import expand
from mke_ray.focus import distilling_study
from mke_ray.focus.job import focus
from mke_ray.ray_tasks import run_tasks
from mke_ray.session import session_of

GAUSSIAN = (
    "experiment=gaussian",
    "focus.num_permutations=2",
    "focus.gaussian.num_seeds=2",
    "focus.gaussian.overlaps=[0,10]",
    "focus.gaussian.extras=[0,20]",
    "focus.gaussian.shared=[5]",
    "focus.gaussian.num_train=40",
    "focus.gaussian.num_test=50",
    "focus.gaussian.num_steps=20",
)


def test_the_synthetic_study_leaves_numbers_figures_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    focus(composed(*GAUSSIAN, f"root={tmp_path}"))
    assert f"Page: {tmp_path}/report/index.html" in capsys.readouterr().out
    found = json.loads((tmp_path / "report" / "focus.json").read_text())
    assert [one["at"] for one in found["gamma"]] == [0.0, 1.0]
    assert [one["at"] for one in found["alpha"]] == pytest.approx([0.0, 2 / 3])
    (setting,) = found["channels"]
    assert set(setting["arms"]) == {
        "no_kd",
        "regular",
        "general",
        "algorithm_1",
        "specific",
        "random",
    }
    assert len(found["records"]) == 10
    assert "seed" not in found and found["data_seed"] == 0  # the only one that counts here
    figures = {one.stem for one in (tmp_path / "report" / "figures").glob("*.png")}
    assert figures == {"channels", "sharing"}
    page = (tmp_path / "report" / "index.html").read_text()
    assert "</html>" in page and "http" not in page.replace("http://www.w3.org", "")


def test_a_rehearsal_says_what_would_be_trained_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    focus(composed(*GAUSSIAN, "dry_run=true", f"root={tmp_path}/run"))
    said = capsys.readouterr().out
    assert "gamma 2, alpha 2, channels 1; 2 seeds each" in said
    assert "one step of every fit of one seed in each of 5 settings" in said
    table(tmp_path)
    focus(features(tmp_path, "dry_run=true"))
    said = capsys.readouterr().out
    assert "2 to train on and 2 to test were read" in said
    assert "one step of every fit; layer fusion has 8 channels, of which 4 are kept" in said
    assert "student of b" in said and "2, 16 fits each of 10 steps at most, local" in said
    assert not (tmp_path / "run").exists()


def test_distillation_on_a_table_has_all_arms_and_finished_draws_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path)
    focus(features(tmp_path))
    report = tmp_path / "run" / "report"
    found = json.loads((report / "focus.json").read_text())
    assert list(found["arms"]) == [
        "no_kd",
        "unimodal",
        "crossmodal",
        "multimodal",
        "all_channels",
        "general",
        "specific",
        "random",
    ]
    assert found["roles"] == {
        "student": ["b"],
        "unimodal": ["b"],
        "crossmodal": ["a"],
        "multimodal": ["a", "b"],
    }
    first, second = found["records"]
    assert (first["num_train"], first["num_test"]) == (72, 24)
    assert len(first["saliency"]) == 8 and first["saliency"] != second["saliency"]
    assert {one.stem for one in (report / "figures").glob("*.png")} == {"arms", "saliency"}
    assert "</html>" in (report / "index.html").read_text()

    def never(_job: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(distilling_study, "measure_draw", never)
    focus(features(tmp_path))
    assert json.loads((report / "focus.json").read_text())["records"] == found["records"]
    with pytest.raises(AssertionError, match="measured again"):
        focus(features(tmp_path, "focus.rho=0.9"))
    written = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(written.replace("c1,g0", "c0,g0"))
    with pytest.raises(AssertionError, match="measured again"):
        focus(features(tmp_path))


def test_tasks_of_ray_find_what_this_process_finds_and_none_is_waited_for_in_vain(
    tmp_path: Path,
) -> None:
    def fails_or_waits(given: str) -> None:
        if not given:
            raise ConfigError("this one cannot work")
        for _ in range(1200):  # of short naps, between which a task can be ended
            time.sleep(0.1)
        Path(given).touch()

    here = composed(*GAUSSIAN, f"root={tmp_path}/here")
    assert here[0].scaling.launch == "local"
    focus(here)
    tasks = (*GAUSSIAN, f"root={tmp_path}/there", "scaling.launch=tasks")
    jobs = composed(*tasks, "scaling.gpus_per_worker=1")
    assert jobs[0].scaling.launch == "tasks"
    with session_of(jobs[0]).connected():
        focus(jobs)
        alone, beside = (
            json.loads((tmp_path / name / "report" / "focus.json").read_text())["records"]
            for name in ("here", "there")
        )
        assert alone == beside
        with pytest.raises(ConfigError, match=r"lower scaling\.cpus_per_worker"):
            focus(composed(*tasks, "scaling.cpus_per_worker=1000"))
        table(tmp_path)
        with pytest.raises(ConfigError, match=r"and 1000 GPUs do not fit"):
            focus(features(tmp_path, "scaling.launch=tasks", "scaling.gpus_per_worker=1000"))
        left = str(tmp_path / "left")
        kinds = {"num_gpus": 0.0, "report": lambda *_: None}
        with pytest.raises(ConfigError, match="this one cannot work"):
            run_tasks(fails_or_waits, ["", left], num_cpus=1, **kinds)
        all_cpus = ray.cluster_resources()["CPU"]  # those of what was cancelled too
        assert run_tasks(lambda one: one, [left], num_cpus=all_cpus, **kinds) == [left]
        assert not Path(left).exists()


def test_channels_of_a_multimodal_teacher_may_be_the_features_themselves(tmp_path: Path) -> None:
    table(tmp_path)
    more = ("focus.select_from=multimodal", "focus.layer=encoders.a.normaliser", "data_seeds=1")
    focus(features(tmp_path, *more, "fit.ema_decay=0.9", "tracking.enabled=false"))
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "left aside by this job: fit.ema_decay." in page
    found = json.loads((tmp_path / "run" / "report" / "focus.json").read_text())
    assert len(found["records"][0]["saliency"]) == 3


def test_students_who_learn_true_labels_alone_are_the_same_whoever_teaches(tmp_path: Path) -> None:
    table(tmp_path)
    focus(features(tmp_path, "focus.rho=1", "data_seeds=1", "fit.num_steps=60"))
    found = json.loads((tmp_path / "run" / "report" / "focus.json").read_text())
    (record,) = found["records"]
    assert len({one["test"] for one in record["students"].values()}) == 1
    assert len({one["test"] for one in record["teachers"].values()}) > 1


def test_the_synthetic_study_is_nothing_to_expand() -> None:
    with pytest.raises(ConfigError, match=r"jobs/focus\.py"):
        expand(composed(*GAUSSIAN))


def test_a_misspelt_key_is_one_line_that_names_it(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "jobs" / "focus.py"), "focus.kepd=0.4"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert ended.returncode == 2
    assert "did you mean focus.kept?" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
