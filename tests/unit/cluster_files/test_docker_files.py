"""The image and the Compose files: by their parsers, and what a person could get wrong in them."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cluster_files import CLUSTER, COMPOSE, document
from composed import REPOSITORY
from dockerfile_parse import DockerfileParser

# Of the fields of the Compose specification those that are used, with what stands below them.
SERVICE = {
    "image",
    "command",
    "environment",
    "volumes",
    "ports",
    "networks",
    "network_mode",
    "depends_on",
    "healthcheck",
    "restart",
    "read_only",
    "tmpfs",
    "cap_drop",
    "security_opt",
}
HEALTHCHECK = {"test", "interval", "timeout", "retries"}
PIP = 'pip() { echo "pip $*"; }\n'
REFERENCE = re.compile(r"\$\{(\w+)(:?[?-])?([^}]*)\}")
every_compose = pytest.mark.parametrize("path", COMPOSE, ids=lambda one: one.parent.name)


def instructions() -> list[tuple[str, str]]:
    with (CLUSTER / "Dockerfile").open("rb") as file:
        parsed = DockerfileParser(fileobj=file).structure
    return [(one["instruction"], one["value"]) for one in parsed if one["instruction"] != "COMMENT"]


def values_of(instruction: str) -> list[str]:
    return [value for name, value in instructions() if name == instruction]


def installed(**arguments: str) -> subprocess.CompletedProcess[str]:
    """Run what the image installs, with a pip that says what it is asked."""
    (script,) = [one for one in values_of("RUN") if "pip install" in one]
    given = {"DEVICE": "cuda", "TORCH_INDEX_URL": "", "EXTRAS": "cluster", "PATH": "/bin:/usr/bin"}
    return subprocess.run(
        ["sh", "-c", PIP + script],
        env=given | arguments,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_image_is_of_instructions_that_docker_knows_and_ends_as_nobody_special() -> None:
    names = [name for name, _ in instructions()]
    assert set(names) == {"ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    assert values_of("USER") == ["1000"] and names.index("USER") > names.index("ENV")
    assert "useradd --create-home --uid 1000" in " ".join(values_of("RUN"))
    assert "RAY_AUTH_MODE=token" in " ".join(values_of("ENV"))


def test_every_script_of_the_image_is_one_that_a_shell_can_parse() -> None:
    for script in values_of("RUN"):
        checked = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
        assert checked.returncode == 0


def test_the_image_for_gpus_has_the_versions_that_are_tested() -> None:
    done = installed()
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    assert "--constraint constraints.txt" in line and line.endswith(".[cluster]")


def test_the_image_for_cpus_takes_torch_from_the_index_that_is_given() -> None:
    done = installed(DEVICE="cpu", TORCH_INDEX_URL="https://torch.invalid/cpu")
    torch, others = done.stdout.splitlines()
    assert "--no-deps --index-url https://torch.invalid/cpu torch" in torch
    assert "--index-url" not in others and "--no-deps" not in others
    assert all("--constraint constraints.txt" in line for line in (torch, others))


def test_an_image_that_could_not_be_what_was_asked_for_is_not_built() -> None:
    without = installed(DEVICE="cpu")
    assert without.returncode != 0 and "--build-arg TORCH_INDEX_URL" in without.stderr
    unknown = installed(DEVICE="tpu")
    assert unknown.returncode != 0 and "choose cpu or cuda" in unknown.stderr
    assert without.stdout == unknown.stdout == ""


def test_what_the_image_copies_is_there_and_sent_to_the_builder() -> None:
    ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = [word for one in values_of("COPY") for word in one.split()[:-1] if word[:2] != "--"]
    assert {one.removeprefix("./") for one in copied} == sent
    assert all((REPOSITORY / one).exists() for one in sent)
    assert "*" in ignored and "**/.env" in ignored


def test_the_extras_of_the_image_are_extras_of_the_package() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (line,) = [one for one in values_of("ARG") if one.startswith("EXTRAS=")]
    wanted = set(line.removeprefix("EXTRAS=").split(","))
    assert wanted <= set(project["optional-dependencies"])
    constrained = (REPOSITORY / "constraints.txt").read_text().lower()
    for extra in ("cluster", "server"):
        for one in project["optional-dependencies"][extra]:
            name = re.split(r"[\[><=]", one)[0].lower()
            assert f"\n{name}==" in constrained


@every_compose
def test_a_compose_file_has_no_field_that_the_specification_does_not(path: Path) -> None:
    compose = document(path)
    assert set(compose) <= {"name", "services", "volumes", "networks"}
    networks, volumes = set(compose.get("networks", {})), set(compose["volumes"])
    for service in compose["services"].values():
        assert set(service) <= SERVICE
        assert set(service.get("healthcheck", {})) <= HEALTHCHECK
        assert set(service.get("networks", [])) <= networks
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for one in service["volumes"]:
            source = one.split(":")[0]
            assert source in volumes or source == "/tmp/ray" or (path.parent / source).exists()


@every_compose
def test_nothing_listens_beyond_loopback(path: Path) -> None:
    for name, service in document(path)["services"].items():
        assert all(one.startswith("127.0.0.1:") for one in service.get("ports", []))
        if service.get("network_mode") == "host":
            told = [*service.get("command", []), *service.get("environment", {}).values()]
            assert any("127.0.0.1" in one for one in told), name
        assert "no-new-privileges:true" in service["security_opt"]


@every_compose
def test_every_value_from_outside_is_in_the_example_and_secrets_have_no_other(path: Path) -> None:
    given = REFERENCE.findall(path.read_text())
    example = (path.parent / "env.example").read_text()
    names = set(re.findall(r"^(?:# )?(\w+)=", example, re.MULTILINE))
    assert {name for name, _, _ in given} == names
    for name, how, rest in given:
        if re.search("PASSWORD|SECRET_KEY|IMAGE|ARTIFACTS", name):
            assert (how, rest) == (":?", "fill in .env"), name
    filled = dict(re.findall(r"^(\w+)=(.+)$", example, re.MULTILINE))
    assert set(filled) <= {"MLFLOW_ALLOWED_HOSTS"}


@every_compose
def test_no_variable_is_empty_unless_its_reader_takes_that_for_none(path: Path) -> None:
    for service in document(path)["services"].values():
        empty = {
            name
            for name, value in service.get("environment", {}).items()
            if value == "" or str(value).endswith(":-}")
        }
        assert empty <= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_the_mlflow_server_is_told_what_its_command_knows() -> None:
    from mlflow.cli import server

    program, command, *options = document(COMPOSE[0])["services"]["mlflow"]["command"]
    assert (program, command) == ("mlflow", "server")
    known = {name for one in server.params for name in one.opts}
    assert {one.split("=")[0] for one in options} <= known
    assert "--app-name=basic-auth" in options
    uri = next(one for one in options if one.startswith("--backend-store-uri="))
    assert uri.endswith("postgresql+psycopg://mlflow@postgres/mlflow")  # no password for ps to see


def test_mlflow_gives_nobody_a_right_and_takes_its_password_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow.server.auth.config import read_auth_config

    environment: dict[str, Any] = document(COMPOSE[0])["services"]["mlflow"]["environment"]
    assert "MLFLOW_AUTH_ADMIN_PASSWORD" in environment
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(CLUSTER / "mlflow" / "basic_auth.ini"))
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", "")
    config = read_auth_config()
    assert config.default_permission == "NO_PERMISSIONS"
    assert config.admin_password is None  # without one the server does not start
    assert config.grant_default_workspace_access is False


def test_the_dashboard_that_grafana_is_given_is_json() -> None:
    (source,) = [
        one.split(":")[0]
        for one in document(COMPOSE[1])["services"]["grafana"]["volumes"]
        if "labelling.json" in one
    ]
    assert json.loads((COMPOSE[1].parent / source).read_text())["panels"]
