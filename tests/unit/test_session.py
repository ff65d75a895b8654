"""The connection to Ray where there is none: one line with the key and the way out."""

import os
import socket
import subprocess

import pytest
import ray

from mke_ray import session
from mke_ray.errors import ConfigError
from mke_ray.session import Session


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(session, "_LISTEN_S", 0.5)
    monkeypatch.setattr(session, "_PAUSE_S", 0.1)
    for name in ("RAY_ADDRESS", *session._QUIET, "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("RAY_ADDRESS", "")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.fixture
def silent_port():
    """A port that nobody else gets and where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def message_of(one):
    with pytest.raises(ConfigError) as caught, one.connected():
        pytest.fail("connected")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nobody_listens_is_named_with_the_way_out(silent_port, scheme):
    address = f"{scheme}127.0.0.1:{silent_port}"
    said = message_of(Session(address=address))
    assert said.startswith(f"ray.address={address}: no cluster could be joined there")
    assert "RAY_ADDRESS unset" in said


def test_a_host_that_does_not_exist_is_named(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere.invalid:6379")
    assert "ray.address=nowhere.invalid:6379" in message_of(Session())


def test_a_cluster_that_starts_a_little_later_is_joined(silent_port, monkeypatch):
    joined, tries = [], []
    connect = socket.create_connection

    def late(place, timeout):
        tries.append(place)
        if len(tries) == 1:
            raise ConnectionRefusedError
        with socket.create_server(("127.0.0.1", 0)) as server:
            return connect(server.getsockname(), timeout)

    monkeypatch.setattr(socket, "create_connection", late)
    monkeypatch.setattr(ray, "init", lambda **options: joined.append(options["address"]))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with Session(address=f"127.0.0.1:{silent_port}").connected():
        assert joined == [f"127.0.0.1:{silent_port}"]


def test_what_is_no_address_is_named(monkeypatch):
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ValueError("no\nport")))
    assert "ray.address=head" in message_of(Session(address="head"))


@pytest.mark.parametrize("error", [Exception("timed out\nduring startup"), RuntimeError("no GCS")])
def test_a_local_ray_that_does_not_start_in_time_is_one_line(monkeypatch, error):
    def init(**_):
        raise error

    monkeypatch.setattr(ray, "init", init)
    said = message_of(Session(num_cpus=7))
    assert "did not start" in said and "ray.num_cpus=7" in said and "ray.address" in said


def test_a_local_ray_that_is_late_is_started_again_and_leaves_nothing_of_its_first_start(
    monkeypatch, caplog
):
    started = []

    def init(**options):
        started.append(subprocess.Popen(["sleep", "600"]))
        assert options["address"] == "local"
        if len(started) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with Session().connected():
        assert "started again" in caplog.text
        assert [one.poll() is None for one in started] == [False, True]
    started[1].kill()
    started[1].wait()


def test_an_error_of_our_own_is_not_taken_for_rays(monkeypatch):
    def init(**_):
        raise AssertionError("a bug")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(AssertionError), Session().connected():
        pytest.fail("connected")


@pytest.mark.parametrize("name", ["OPENAI_KEY", "HF_TOKEN"])
def test_a_secret_among_the_variables_of_workers_is_refused_by_its_name(name):
    with pytest.raises(ConfigError, match=rf"ray\.env_vars\.{name} is likely to be a secret"):
        Session(env_vars={name: "planted"})
    assert Session(env_vars={"AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token"}).env_vars
