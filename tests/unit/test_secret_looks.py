"""What counts as a secret, by its name or its look."""

import pytest

from mke_ray.secret_looks import has_secret_look, has_secret_name


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
    "value", ["s3://bucket/akia", "[1, 2]", "sk-learn", "hf_hub", "https://h/x?a=1", "a" * 64]
)
def test_the_look_of_other_texts_is_left_alone(value: str) -> None:
    assert not has_secret_look(value)
