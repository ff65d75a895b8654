"""``jobs/serve.py``: from its configuration to replicas that answer."""

import logging
from collections.abc import Sequence

from mke_ray.config import check_targets, find_class
from mke_ray.config_serve import ServeConfig
from mke_ray.errors import ConfigError
from mke_ray.serve.access import access_of, check_bind
from mke_ray.serve.deploy import Batching, Replicas, Service, start, stay
from mke_ray.serve.limits import ServeLimits
from mke_ray.session import Session

logger = logging.getLogger(__name__)


def serve(jobs: Sequence[ServeConfig]) -> None:
    """Serve a student until the process is told to stop.

    Raises:
        ConfigError: The configuration cannot be served.
        StoreError: There is no student.
    """
    (job,) = jobs
    service = service_of(job)
    check_bind(job.host, service.access)
    service.uris()
    card = service.load().card() if job.num_gpus == 0 else None  # the driver may have no GPU
    if card is not None:
        logger.info("%s reads %s: %s", job.folder, sorted(card["modalities"]), card["verdict"])
    if job.dry_run:
        logger.info("everything is there; nothing was started")
        return
    ray = Session(address=job.ray_address, num_cpus=_num_cpus(job), verbose=job.verbose)
    if not job.verbose:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
    with ray.connected():
        start(service, host=job.host, port=job.port)
        at = f"http://{job.host}:{job.port}"
        logger.info(
            "serving at %s/v1/predict, described by %s/openapi.json; Ctrl-C ends it", at, at
        )
        stay()


def service_of(job: ServeConfig) -> Service:
    """Return what a configuration serves.

    Raises:
        ConfigError: A class is not trusted, the token is short, or a number makes no sense.
    """
    for key in ("batch_size", "num_replicas", "num_decoders", "max_items", "max_at_once"):
        if getattr(job, key) < 1:
            raise ConfigError(f"{key}={getattr(job, key)}; give 1 at least")
    named = {"classes": [{"_target_": name} for name in job.classes]}
    check_targets(named, job.allow_targets)
    return Service(
        student=job.folder,
        classes={name: find_class(name) for name in job.classes},
        decode=job.modalities or None,
        options=dict(job.options),
        uri_prefixes=tuple(job.uri_prefixes),
        uri_options=dict(job.uri_options),
        access=access_of(job.token_file),
        limits=ServeLimits(
            body_bytes=round(job.max_body_mb * 2**20),
            file_bytes=round(job.max_file_mb * 2**20),
            num_items=job.max_items,
            duration_s=job.max_duration_s,
            decode_s=job.decode_timeout_s,
            decode_bytes=round(job.decode_memory_gb * 2**30),
            request_s=job.request_timeout_s,
            num_at_once=job.max_at_once,
        ),
        batching=Batching(job.batch_size, job.batch_wait_s),
        replicas=Replicas(
            num=job.num_replicas,
            num_cpus=job.num_cpus,
            num_gpus=job.num_gpus,
            num_decoders=job.num_decoders,
            num_queued=job.max_queued,
            pool=job.pool,
        ),
    )


def _num_cpus(job: ServeConfig) -> int | None:
    """Return the logical CPUs that a local Ray needs, None where it joins a cluster."""
    return None if job.ray_address else round(job.num_replicas * job.num_cpus) + 2
