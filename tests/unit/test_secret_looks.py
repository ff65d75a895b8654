"""What counts as a secret, by its name or its look."""

from dataclasses import asdict

import pytest
from composed import composed

from mke_ray.config_help import dotted_keys
from mke_ray.config_predict import PredictConfig
from mke_ray.config_schema import JobConfig
from mke_ray.config_serve import ServeConfig
from mke_ray.config_upkeep import CollectConfig, ReportConfig
from mke_ray.secret_looks import has_secret_look, has_secret_name, has_secret_variable


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "RAY_AUTH_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "WANDB_API_KEY",
        "secretKey",
        "apiKey",
        "account_key",
        "PGPASSWORD",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "storage.options.secret",
        "client_secret",
        "AZURE_SAS",
        "DB_PASS",
        "PGPASS",
        "SLACK_WEBHOOK",
        "token",
        "tokenOfTheHub",
        "serve.token",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert has_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "tokens",
        "num_tokens",
        "tokenizers",
        "key",
        "columns.key",
        "NCCL_DEBUG",
        "RAY_AUTH_MODE",
        "MLFLOW_TRACKING_USERNAME",
        "key_column",
        "monkey",
        "keyboard",
        "passes",
        "unit_size",
        "pad_token",
        "cls_token",
        "token_dim",
        "token_ids",
        "token_file",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "RAY_AUTH_TOKEN_PATH",
        "compass",
    ],
)
def test_names_of_other_things_are_left_alone(name: str) -> None:
    assert not has_secret_name(name)


@pytest.mark.parametrize(
    "value",
    [
        "AKIAPLANTEDPLANTED00",
        "ghp_" + "a" * 36,
        "hf_" + "A1" * 15,
        "sk-" + "x" * 30,
        "xoxb-" + "1" * 12,
        "glpat-" + "x1" * 10,
        "key=sk-proj-" + "x" * 30,
        "https://hooks.slack.com/services/T0/B0/x",
        "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=planted==;EndpointSuffix=x",
        "Endpoint=sb://x.example.com/;SharedAccessKeyName=me;SharedAccessKey=planted=",
        "-----BEGIN RSA PRIVATE KEY-----",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIi.x",
        "s3://me:pw@bucket/x",
        "https://h/x?X-Amz-Signature=abc",
        "https://h/x?a=1&sig=abc",
    ],
)
def test_the_look_of_secrets_is_known(value: str) -> None:
    assert has_secret_look(value)


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/akia",
        "[1, 2]",
        "sk-learn",
        "hf_hub",
        "https://h/x?a=1",
        "a" * 64,
        "root=/data/sk-image-segmentation-v1",
        "task-of-recognizing-many-things",
    ],
)
def test_the_look_of_other_texts_is_left_alone(value: str) -> None:
    assert not has_secret_look(value)


@pytest.mark.parametrize(
    "name", ["OPENAI_KEY", "AZURE_STORAGE_KEY", "B2_KEY", "OPENAI_KEY_2", "HF_TOKEN"]
)
def test_a_variable_that_is_called_a_key_is_a_secret(name: str) -> None:
    assert has_secret_variable(name)


def test_our_own_keys_are_shown() -> None:
    (job,) = composed()
    schemas = (JobConfig(), PredictConfig(), ServeConfig(), ReportConfig(), CollectConfig())
    known = {*dotted_keys(asdict(job)), *(key for one in schemas for key in asdict(one))}
    assert len(known) > 200
    assert not [key for key in sorted(known) if has_secret_name(key)]
    assert not has_secret_variable("keyboard") and not has_secret_variable("MONKEY")
