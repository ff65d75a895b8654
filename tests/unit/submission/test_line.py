"""The line of a job is checked before a cluster shows it."""

import pytest

from mke_ray.errors import ConfigError
from mke_ray.submission.line import job_line

FILES = {"jobs/expand.py", "conf/config.yaml", "mine/teacher/own.yaml"}
JOB = ["jobs/expand.py", "root=s3://bucket/runs/1"]


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
