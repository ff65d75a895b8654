"""The API on Ray Serve: replicas that decode and predict, and requests that share batches."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ray import serve
from ray.serve.config import HTTPOptions, ProxyLocation
from ray.util import list_named_actors

from mke_ray.errors import ConfigError
from mke_ray.serve.access import Access, check_bind
from mke_ray.serve.addresses import AllowedUris
from mke_ray.serve.app import Parts, Predict, build_app
from mke_ray.serve.decoding import DecodedSample, DecoderPool
from mke_ray.serve.guard import Guard
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.served import ServedStudent, load_served

APP_NAME = "mke_ray_student"

_CONTROLLER = {"namespace": "serve", "name": "SERVE_CONTROLLER_ACTOR"}  # Serve is there if it is
_SPARE_REQUESTS = 16  # those beyond the limit, which the replica itself tells to come again

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batching:
    """How samples of different requests share a batch.

    Args:
        size: Samples of a batch at most; 1 makes none.
        wait_s: How long the first sample of a batch waits for others.
    """

    size: int = 16
    wait_s: float = 0.005


@dataclass(frozen=True, slots=True)
class Replicas:
    """What the replicas are, and what each has of its node.

    Args:
        num: How many.
        num_cpus: CPUs of each.
        num_gpus: GPUs of each, fractions allowed; above 0 the student computes there.
        num_decoders: Helper processes of each, so samples that it decodes at once.
        num_queued: Requests that wait for a replica before more are refused.
        pool: Label ``pool`` of the nodes that they may be on; None takes any.
    """

    num: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    num_decoders: int = 2
    num_queued: int = 64
    pool: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that a replica is built from.

    Args:
        student: Folder of the exported student.
        classes: The user's own encoders and fusions by ``_target_``.
        decode: Plain decode specification; None takes that which the student was saved with.
        options: Options of the file system of the student's folder.
        uri_prefixes: Folders whose files a request may name.
        uri_options: Options of their file systems.
        access: Who may ask.
        limits: What requests may take.
        batching: How samples share batches.
        replicas: What the replicas are.
    """

    student: str
    classes: Mapping[str, type] = field(default_factory=dict)
    decode: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    uri_prefixes: Sequence[str] = ()
    uri_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    access: Access = field(default_factory=Access)
    limits: ServeLimits = field(default_factory=ServeLimits)
    batching: Batching = field(default_factory=Batching)
    replicas: Replicas = field(default_factory=Replicas)

    def load(self) -> ServedStudent:
        """Return the student on the device of a replica."""
        device = "cuda" if self.replicas.num_gpus > 0 else "cpu"
        return load_served(
            self.student,
            device=device,
            classes=self.classes,
            decode=self.decode,
            options=self.options,
        )

    def uris(self) -> AllowedUris:
        """Return what finds the files that requests name."""
        return AllowedUris(self.uri_prefixes, self.limits.file_bytes, self.uri_options)

    def replica(self) -> Guard:
        """Return the API of one replica, all of whose helper processes run."""
        torch.set_num_threads(max(1, int(self.replicas.num_cpus)))
        student = self.load()
        decoders = DecoderPool(student.decode, self.limits, self.replicas.num_decoders)
        decoders.warm_up()
        predict = _batched(student, self.batching)
        return build_app(Parts(student, decoders, predict, self.uris(), self.access, self.limits))


def start(service: Service, *, host: str, port: int) -> None:
    """Serve on the Ray that this process is connected to, until ``stop``.

    Args:
        service: What is served.
        host: Address to listen at.
        port: Port.

    Raises:
        ConfigError: It would listen to other machines, and there is no token; or Serve is there
            already.
    """
    check_bind(host, service.access)
    _check_is_ours()
    is_alone = service.replicas.num == 1
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(stop)
        serve.start(
            proxy_location=ProxyLocation.HeadOnly if is_alone else ProxyLocation.EveryNode,
            http_options=HTTPOptions(
                host=host, port=port, request_timeout_s=2 * service.limits.request_s
            ),
        )
        serve.run(_application(service), name=APP_NAME, route_prefix="/")
        on_failure.pop_all()


def stop() -> None:
    """Take the replicas down, and Serve itself unless others serve on it meanwhile."""
    served = set(serve.status().applications)
    if APP_NAME in served:
        serve.delete(APP_NAME)
    if others := sorted(served - {APP_NAME}):
        _logger.warning("Ray Serve is left running, since it serves %s too", ", ".join(others))
        return
    serve.shutdown()


def stay() -> None:
    """Wait for a signal to stop, then take the replicas down."""
    is_over = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: is_over.set())
    is_over.wait()
    stop()


def _check_is_ours() -> None:
    """Refuse a Ray on which Serve runs, whose address and port are not those that are asked for.

    Raises:
        ConfigError: It does.
    """
    if _CONTROLLER in list_named_actors(all_namespaces=True):
        raise ConfigError(
            "Ray Serve runs on this Ray already, at an address that host and port do not change, "
            "so that others might reach a student without a token. Give ray_address of another "
            "cluster (ray_address=local starts one here), or end what is served there: "
            "serve status shows it, serve shutdown ends all of it"
        )


def _application(service: Service) -> serve.Application:
    replicas = service.replicas
    options: dict[str, Any] = {"num_cpus": replicas.num_cpus, "num_gpus": replicas.num_gpus}
    if replicas.pool is not None:
        options["label_selector"] = {"pool": replicas.pool}

    def build() -> Guard:
        return service.replica()

    ingress: Any = serve.ingress(build)()
    return serve.deployment(
        name="student",
        num_replicas=replicas.num,
        ray_actor_options=options,
        max_ongoing_requests=service.limits.num_at_once + _SPARE_REQUESTS,
        max_queued_requests=replicas.num_queued,
    )(ingress).bind()


def _batched(student: ServedStudent, batching: Batching) -> Predict:
    """Return what asks the student, with the samples of all requests that are there.

    The student has a thread of its own: a store that hangs holds threads that all others share.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="student")

    @serve.batch(max_batch_size=batching.size, batch_wait_timeout_s=batching.wait_s)
    async def predict(samples: list[DecodedSample]) -> list[np.ndarray]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, student.predict, samples)

    return predict
