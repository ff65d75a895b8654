"""No secret is in a file, and nothing is open that somebody did not open."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_files import CLUSTER, documents, written_files
from composed import REPOSITORY

SHAPES = re.compile(
    r"AKIA[0-9A-Z]{16}|-----BEGIN|gh[pousr]_\w{20}|xox[abp]-|eyJ[\w-]{10,}\.|[0-9a-f]{40}"
)
SECRET = re.compile(r"password|secret|token|credential|access_key|private_key", re.IGNORECASE)
# A variable in a list, of Compose or behind --env of Docker.
VARIABLE = re.compile(r"^(?:--env[= ]|-e )?(\w+)=(.*)$")
# What names a secret, or says how one is asked for, and is none itself.
NAMES = {
    "secretName": "mke-ray-token",
    "secretRef": {"name": "mke-ray-mlflow", "optional": True},
    "ssh_private_key": "~/.ssh/mke-ray.pem",
    "~/.ray/auth_token": "~/.ray/auth_token",
    "HttpTokens": "required",
    "automountServiceAccountToken": False,
}


def secrets_of(value: Any) -> list[tuple[str, Any]]:
    """Return every key of a document that could hold a secret, with what it holds."""
    if isinstance(value, list):
        return [one for each in value for one in secrets_of(each)]
    if isinstance(value, str):
        return [pair for pair in VARIABLE.findall(value) if SECRET.search(pair[0])]
    if not isinstance(value, dict):
        return []
    own = [(key, below) for key, below in value.items() if SECRET.search(str(key))]
    if "value" in value and SECRET.search(str(value.get("name"))):
        own.append((value["name"], value["value"]))
    return own + [one for below in value.values() for one in secrets_of(below)]


def is_reference(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\$\{\w+:(-|\?[^}]*)\}", value) is not None


@pytest.mark.parametrize("path", written_files(), ids=lambda one: str(one.relative_to(CLUSTER)))
def test_a_file_holds_nothing_that_looks_like_a_secret(path: Path) -> None:
    assert SHAPES.search(path.read_text()) is None
    if path.suffix in (".yaml", ".yml"):
        for key, value in secrets_of(documents(path)):
            assert is_reference(value) or NAMES.get(key) == value, key


def test_a_secret_that_is_written_down_is_found() -> None:
    found = secrets_of(yaml.safe_load("env: {POSTGRES_PASSWORD: hunter2, A: ['${B:?}']}"))
    assert found == [("POSTGRES_PASSWORD", "hunter2")]
    listed = "a: [PASSWORD=hunter2, --env API_TOKEN=x, --env=SECRET=y, {name: TOKEN, value: z}]"
    names = ("PASSWORD", "API_TOKEN", "SECRET", "TOKEN")
    assert secrets_of(yaml.safe_load(listed)) == list(zip(names, ("hunter2", *"xyz"), strict=True))
    assert secrets_of(["--env RAY_AUTH_MODE=token", "--port=6379"]) == []
    assert not is_reference("hunter2") and is_reference("${POSTGRES_PASSWORD:?fill in .env}")
    assert not is_reference("${POSTGRES_PASSWORD:-hunter2}")


def test_no_manifest_is_a_secret_and_git_takes_no_env_file() -> None:
    for path in (CLUSTER / "kubernetes").glob("*.yaml"):
        assert all(one["kind"] != "Secret" for one in documents(path))
    assert ".env" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_what_a_person_has_to_fill_in_is_named_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "cluster.md").read_text()
    to_fill = [one for one in written_files() if "REPLACE" in one.read_text()]
    assert to_fill
    for path in to_fill:
        assert str(path.relative_to(REPOSITORY)) in page
