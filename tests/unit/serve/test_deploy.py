"""Which Ray Serve a student may be served by, and what its end takes down; Serve is not started."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from mke_ray.errors import ConfigError
from mke_ray.serve import deploy


class Serve:
    """Notes what is asked of Ray Serve."""

    def __init__(self, applications=(), error=None):
        self.applications, self.error, self.asked = list(applications), error, []

    def status(self):
        return SimpleNamespace(applications=dict.fromkeys(self.applications))

    def start(self, **_):
        self.asked.append("start")

    def run(self, _, name, **__):
        self.asked.append("run")
        self.applications.append(name)
        if self.error:
            raise self.error

    def delete(self, name):
        self.asked.append("delete")
        self.applications.remove(name)

    def batch(self, **_):
        return lambda function: function

    def shutdown(self):
        self.asked.append("shutdown")


def use(monkeypatch, serve, *, actors=()):
    monkeypatch.setattr(deploy, "serve", serve)
    monkeypatch.setattr(deploy, "list_named_actors", lambda all_namespaces: list(actors))
    monkeypatch.setattr(deploy, "_application", lambda service: service)
    return serve


def start():
    deploy.start(deploy.Service(student="student"), host="127.0.0.1", port=1)


def test_a_ray_on_which_serve_runs_is_refused_and_left_alone(monkeypatch):
    controller = {"namespace": "serve", "name": "SERVE_CONTROLLER_ACTOR"}
    serve = use(monkeypatch, Serve(["theirs"]), actors=[controller])
    with pytest.raises(ConfigError, match=r"runs on this Ray already.*ray_address"):
        start()
    assert not serve.asked


def test_other_actors_of_the_cluster_are_no_reason(monkeypatch):
    other = {"namespace": "theirs", "name": "SERVE_CONTROLLER_ACTOR"}
    serve = use(monkeypatch, Serve(), actors=[other])
    start()
    assert serve.asked == ["start", "run"]


def test_a_start_that_fails_leaves_no_serve_behind(monkeypatch):
    serve = use(monkeypatch, Serve(error=RuntimeError("no replica")))
    with pytest.raises(RuntimeError, match="no replica"):
        start()
    assert serve.asked == ["start", "run", "delete", "shutdown"]


@pytest.mark.parametrize(("others", "asked"), [((), ["delete", "shutdown"]), (("b",), ["delete"])])
def test_the_end_takes_down_what_is_its_own(monkeypatch, others, asked):
    serve = use(monkeypatch, Serve([deploy.APP_NAME, *others]))
    deploy.stop()
    assert serve.asked == asked
    assert serve.applications == list(others)


def test_the_controller_is_called_as_ray_calls_it():
    constants = pytest.importorskip("ray.serve._private.constants")
    assert deploy._CONTROLLER == {
        "namespace": constants.SERVE_NAMESPACE,
        "name": constants.SERVE_CONTROLLER_NAME,
    }


def test_a_store_that_hangs_does_not_hold_up_the_student(monkeypatch):
    use(monkeypatch, Serve())
    student = SimpleNamespace(predict=lambda samples: [one + 1 for one in samples])
    predict = deploy._batched(student, deploy.Batching(size=2))
    gate = threading.Event()

    async def ask():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        hung = asyncio.create_task(asyncio.to_thread(gate.wait))
        await asyncio.sleep(0)
        try:
            return await asyncio.wait_for(predict([1]), 60)
        finally:
            gate.set()
            await hung

    assert asyncio.run(ask()) == [2]
