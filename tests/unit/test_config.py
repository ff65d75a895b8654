"""The door to Hydra: real configurations compose, and bad ones are refused with their key."""

import subprocess
import sys
from pathlib import Path

import pytest
from composed import composed

from mke_ray.config import JobConfig, build, check_targets
from mke_ray.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


def run_expand(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "expand.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_into_a_typed_job(experiment: str) -> None:
    (job,) = composed(f"experiment={experiment}")
    assert job.name == experiment
    assert job.root == f"outputs/{experiment}/seed-{job.data_seed}"
    assert job.source["root"].startswith(job.root)


@pytest.mark.parametrize("fusion", ["concat", "gated", "attention", "film"])
def test_the_fusion_group_reaches_the_student(fusion: str) -> None:
    (job,) = composed(f"fusion={fusion}")
    assert job.student.fusion["type"] == fusion


def test_draws_of_the_data_have_their_own_seed_and_folder() -> None:
    first, second = composed("experiment=two_moon", "data_seeds=2")
    assert (first.data_seed, second.data_seed) == (0, 1)
    assert (first.source["data_seed"], second.source["data_seed"]) == (0, 1)
    assert first.root != second.root
    assert second.source["root"].startswith(second.root)


def test_a_target_outside_the_trusted_packages_is_refused_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"source\._target_=os\.system.*allow_targets=\[os\]"):
        composed("source._target_=os.system")


def test_a_prefix_is_not_mistaken_for_a_trusted_package() -> None:
    with pytest.raises(ConfigError, match="torch_evil"):
        check_targets({"a": [{"_target_": "torch_evil.nn.Linear"}]}, [])
    check_targets({"a": [{"_target_": "mine.Net"}]}, ["mine"])


def test_a_class_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"mke_ray\.objectives\.Nothing"):
        build({"_target_": "mke_ray.objectives.Nothing"})


def test_an_argument_that_does_not_fit_is_named() -> None:
    with pytest.raises(ConfigError, match="wrong_key"):
        build({"_target_": "mke_ray.schema.AudioSpec", "wrong_key": 3})


def test_extra_arguments_win_and_the_type_is_checked() -> None:
    spec = {"_target_": "mke_ray.schema.AudioSpec", "sample_rate_hz": 1, "seconds": 2.0}
    assert build(spec, sample_rate_hz=8000).num_samples == 16000
    with pytest.raises(ConfigError, match="is not a JobConfig"):
        build(spec, JobConfig)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("sede=3", "sede"),
        ("seed=abc", "seed"),
        ("scaling.num_worker=3", "scaling.num_worker"),
        ("source=nope", "source/nope"),
        ("source=videos", "source.root"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_that_names_the_key(
    argument: str, said: str, tmp_path: Path
) -> None:
    ended = run_expand(argument, folder=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_shows_groups_keys_and_examples(tmp_path: Path) -> None:
    ended = run_expand("--help", folder=tmp_path)
    assert ended.returncode == 0
    for word in ("experiment: demo", "num_workers: 2", "dry_run: false", "source=videos"):
        assert word in ended.stdout
