"""The line of a job is checked before a cluster shows it."""

import pytest
from composed import REPOSITORY

from mke_ray.errors import ConfigError
from mke_ray.submission import line as lines

FILES = {"jobs/expand.py", "conf/config.yaml", "mine/teacher/own.yaml"}
FILES |= {"jobs/report.py", "jobs/serve.py", "jobs/predict.py", "small/student/student.json"}
FILES |= {"conf/experiment/mechanism.yaml"}
JOB = ["jobs/expand.py", "root=s3://bucket/runs/1"]


def job_line(told: list[str], files: set[str], folder: object = REPOSITORY) -> str:
    return lines.job_line(told, files, str(folder))


def test_a_line_is_quoted_for_the_shell_that_runs_it() -> None:
    told = [*JOB, "source.classes=[dog,rain]", "+x={a: 'b c'}"]
    line = job_line(told, FILES)
    assert line.startswith(
        "python jobs/expand.py root=s3://bucket/runs/1 'source.classes=[dog,rain]'"
    )
    assert job_line(["python", *told], FILES) == line


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("storage.options={key: AKIAPLANTEDPLANTED00, client_kwargs: {}}", "storage.options"),
        ("+source.storage_options={key: me, secret: planted}", "secret"),
        ("storage.options={'aws_secret_access_key':planted}", "aws_secret_access_key"),
        (
            "+ray.env_vars.MLFLOW_TRACKING_PASSWORD=planted",
            r"ray\.env_vars\.MLFLOW_TRACKING_PASSWORD",
        ),
        ("+ray.env_vars.OPENAI_KEY=planted", "OPENAI_KEY"),
        ("ray.env_vars={B2_KEY: planted}", "B2_KEY"),
        ("tracking.uri=https://me:planted@host", r"tracking\.uri"),
        ("source.root=https://host/x?sig=planted", r"source\.root"),
    ],
)
def test_a_secret_in_the_line_is_named_by_its_key_alone(word: str, key: str) -> None:
    with pytest.raises(
        ConfigError, match=f"{key} carries what is likely to be a secret"
    ) as refused:
        job_line([*JOB, word], FILES)
    assert "planted" not in str(refused.value).lower()


@pytest.mark.parametrize(
    "word",
    [
        "source.columns.key=id",
        "decode.plot={kind: tokens, tokenizer: DIR}",
        "source.files={video: 'clips/{key}.mp4'}",
        "ray.autoscaling=true",
        "+student.encoder.pad_token=0",
        "source.root=/data/sk-image-segmentation-v1",
    ],
)
def test_what_is_no_secret_goes_through(word: str) -> None:
    assert job_line([*JOB, word], FILES)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([], "what is to run"),
        (["jobs/nothing.py", "root=/a"], r"jobs/nothing\.py is not among"),
        (["jobs/expand.py"], "root is not given"),
        (["jobs/expand.py", "root=~/runs"], "root=~/runs is in the home of whoever runs"),
        (["jobs/predict.py", "student.path=s3://b/s"], "root is not given"),
        (["jobs/report.py", "roots=[s3://b/1,outputs/2]"], "roots=outputs/2 is below"),
        (["jobs/report.py", "roots=[s3://b/1,/a/2]"], "out is not given"),
        (["jobs/report.py", "roots=[/a/1,/a/2]", "out=compared"], "out=compared is below"),
        (["jobs/serve.py", "folder=outputs/student"], "folder=outputs/student is below"),
        (["jobs/expand.py", "experiment=mechanism"], r"root=outputs/\$\{name\} is below"),
        (["jobs/expand.py", "root=outputs/x"], "root=outputs/x is below the working folder"),
        ([*JOB, "--config-dir", "/home/me/conf"], "--config-dir /home/me/conf does not travel"),
        ([*JOB, "--config-dir=../conf"], r"--config-dir \.\./conf does not travel"),
        ([*JOB, "--config-dir"], "does not travel"),
    ],
)
def test_a_line_that_cannot_work_is_refused_here(told: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        job_line(told, FILES)


def test_configuration_below_the_working_folder_travels() -> None:
    assert job_line([*JOB, "--config-dir", "mine"], FILES).endswith("--config-dir mine")


@pytest.mark.parametrize(
    "told",
    [
        ["jobs/report.py", "roots=[s3://b/1,'s3://b/2']", "out=s3://b/compared"],
        ["jobs/report.py", "roots=[s3://b/1]"],
        ["jobs/report.py", "roots=s3://b/1"],
        ["jobs/serve.py", "folder=s3://b/runs/1/student"],
        ["jobs/serve.py", "folder=small/student"],
        ["jobs/predict.py", "student.path=s3://b/s", "root='/shared/answers'"],
        ["jobs/expand.py", "root=${oc.env:RUNS}/1"],
        ["jobs/expand.py", "--config-dir", "mine", "+mine=all"],
    ],
)
def test_every_job_names_what_lasts_by_its_own_keys(told: list[str]) -> None:
    assert job_line(told, FILES)


@pytest.mark.parametrize("root", ["s3://bucket/runs/1  # of the team", '"/shared/runs"', "out"])
def test_the_root_of_an_experiment_that_travels_counts(tmp_path, root: str) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "own.yaml").write_text(f"x: 1\nroot: {root}\n")
    told, files = ["jobs/expand.py", "+experiment=own"], {*FILES, "conf/experiment/own.yaml"}
    if root == "out":
        with pytest.raises(ConfigError, match="root=out is below"):
            job_line(told, files, tmp_path)
    else:
        assert job_line(told, files, tmp_path)
