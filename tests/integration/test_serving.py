"""The API on a real Ray Serve: batches over requests, replicas that outlive what they are sent."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests
from conftest import free_ports
from served_students import clip, export

from mke_ray.errors import ConfigError
from mke_ray.serve.access import Access, access_of
from mke_ray.serve.deploy import Batching, Replicas, Service, start, stop
from mke_ray.serve.limits import ServeLimits

TOKEN = "a-token-of-the-tests-0123456789"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
WAIT_S = 120.0


@pytest.fixture(scope="module")
def address(ray_session, tmp_path_factory):
    """Serve a student with a token, on loopback."""
    folder = tmp_path_factory.mktemp("serving")
    service = Service(
        student=export(folder / "student"),
        access=access_of(None, {"MKE_RAY_SERVE_TOKEN": TOKEN}),
        limits=ServeLimits(num_at_once=4, decode_s=60.0, request_s=WAIT_S),
        batching=Batching(size=4, wait_s=0.05),
        replicas=Replicas(num_decoders=1),
    )
    (port,) = free_ports(1)
    start(service, host="127.0.0.1", port=port)
    yield f"http://127.0.0.1:{port}"
    stop()


def ask(address, content, **more):
    return requests.post(
        f"{address}/v1/predict",
        files={"clip": ("c", content)},
        headers=HEADERS,
        timeout=WAIT_S,
        **more,
    )


def test_a_clip_is_answered_only_with_the_token(address):
    answer = ask(address, clip())
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"][0]["status"] == "ok"
    assert requests.get(f"{address}/v1/student", timeout=WAIT_S).status_code == 401
    assert requests.get(f"{address}/v1/health", timeout=WAIT_S).json() == {"status": "ready"}


def test_requests_at_once_get_the_answer_of_one_alone_or_are_told_to_come_again(address):
    alone = ask(address, clip()).json()["items"][0]["probabilities"]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask(address, clip()), range(24)))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 429, 503}
    assert 200 in statuses
    for answer in answers:
        if answer.status_code == 200:
            assert answer.json()["items"][0]["probabilities"] == pytest.approx(alone, abs=1e-5)
        else:
            assert answer.headers.get("retry-after") or answer.status_code == 503


def test_a_decoder_that_is_killed_takes_no_replica_with_it(address):
    card = requests.get(f"{address}/v1/student", headers=HEADERS, timeout=WAIT_S).json()
    killed = 0
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or ())
        if "mke_ray.labels.decode_child" in line and _is_ours(process):
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
    assert killed
    time.sleep(0.5)
    answer = ask(address, clip())
    assert answer.status_code == 200, answer.text
    assert answer.json()["student"] == card["digest"]


def _is_ours(process: psutil.Process) -> bool:
    """Tell whether a process was started, over any number of others, by this one."""
    return any(one.pid == os.getpid() for one in process.parents())


def test_a_second_job_leaves_what_is_served_there_alone(address, tmp_path):
    with pytest.raises(ConfigError, match="runs on this Ray already"):
        start(Service(student=str(tmp_path)), host="127.0.0.1", port=1)
    assert requests.get(f"{address}/v1/health", timeout=WAIT_S).status_code == 200


def test_nobody_serves_other_machines_without_a_token(tmp_path):
    service = Service(student=str(tmp_path), access=Access())
    with pytest.raises(ConfigError, match=r"host=0\.0\.0\.0.*MKE_RAY_SERVE_TOKEN"):
        start(service, host="0.0.0.0", port=1)
