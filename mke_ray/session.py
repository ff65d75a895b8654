"""The connection to Ray: the cluster that is there, or a local one that is closed and quiet."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import psutil
import ray
import ray.exceptions

from mke_ray.config_schema import RayConfig
from mke_ray.errors import ConfigError
from mke_ray.secret_looks import has_secret_look, has_secret_variable

_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_LOG = logging.getLogger(__name__)
_STARTS = 3
_END_S = 10.0
_LISTEN_S = 10.0
_PAUSE_S = 1.0
_MAX_LETTERS = 300
_START_ERRORS = (OSError, RuntimeError, ValueError, ray.exceptions.RayError)
_WORKER_ENV = {"OMP_NUM_THREADS": "1"}
_OF_NODES = ("autoscaling", "cluster_file")  # what is asked of nodes, not of Ray


@dataclass(frozen=True, slots=True)
class Session:
    """How to reach Ray.

    Args:
        address: Cluster to join; None joins RAY_ADDRESS or starts a local Ray.
        num_cpus: Logical CPUs of a local Ray; None takes twice the cores, at least four, since an
            actor that waits still holds its CPU.
        include_dashboard: Start the dashboard of a local Ray.
        env_vars: Environment variables of every worker.
        verbose: Let Ray and its workers talk.
    """

    address: str | None = None
    num_cpus: int | None = None
    include_dashboard: bool = False
    env_vars: Mapping[str, str] = field(default_factory=dict)
    verbose: bool = False

    def __post_init__(self) -> None:
        """Refuse secrets among the variables: Ray keeps those where all who see it can read them.

        Raises:
            ConfigError: A variable is likely to be one.
        """
        for name, value in self.env_vars.items():
            if has_secret_variable(name) or has_secret_look(value):
                raise ConfigError(
                    f"ray.env_vars.{name} is likely to be a secret, and Ray shows what it gives to "
                    "workers; set it in the environment of the nodes instead (workers of a local "
                    "Ray have that of this process)"
                )

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to Ray for a block; a connection that was there already is left alone.

        Raises:
            ConfigError: There is no cluster at the address, or a local Ray does not start.
        """
        if ray.is_initialized():
            yield
            return
        self._connect()
        try:
            yield
        finally:
            ray.shutdown()

    def _connect(self) -> None:
        """Join a cluster or start a local Ray."""
        for name, value in ({} if self.verbose else _QUIET).items():
            os.environ.setdefault(name, value)
        told_to_end = signal.getsignal(signal.SIGTERM)
        address = self.address or os.environ.get("RAY_ADDRESS")
        is_local = address in (None, "", "local")
        if not is_local:
            _check_somebody_listens(address)
        options = {
            "address": "local" if is_local else address,
            "runtime_env": {"env_vars": {**_WORKER_ENV, **self.env_vars}},
            "log_to_driver": self.verbose,
            "logging_level": logging.INFO if self.verbose else logging.ERROR,
            **(self._local_options() if is_local else {}),
        }
        try:
            _started(options) if is_local else ray.init(**options)
        except Exception as error:
            # Ray raises Exception itself where a node does not start in time, so no narrower class
            # can be named; whatever is neither that nor an error of starting goes on.
            if not _is_late(error) and not isinstance(error, _START_ERRORS):
                raise
            said = " ".join(str(error).split())
            why = self._why_not_started(said) if is_local else _why_not_joined(address, said)
            raise ConfigError(why) from error
        if callable(told_to_end) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, told_to_end)  # Ray has put its own in its place

    def _why_not_started(self, said: str) -> str:
        """Return what to do about a local Ray that did not start."""
        return (
            f"Ray did not start on this machine ({said[:_MAX_LETTERS]}); ray.num_cpus="
            f"{self._num_cpus()} processes may be too many for it, or it is busy: set a smaller "
            "ray.num_cpus, see that ray.env_vars fits, start again when there is memory and time, "
            "or join a running cluster with ray.address"
        )

    def _local_options(self) -> dict[str, Any]:
        """Return the options of a local Ray, which only this process may talk to.

        Ray protects a local cluster by a token of its own accord; the token is one of this run
        and is not written to the user's home.
        """
        if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        return {"num_cpus": self._num_cpus(), "include_dashboard": self.include_dashboard}

    def _num_cpus(self) -> int:
        """Return the logical CPUs of a local Ray."""
        return self.num_cpus or max(4, 2 * (os.cpu_count() or 1))


def _started(options: Mapping[str, Any]) -> None:
    """Start a local Ray; once more where this machine was too busy for the 30 s that Ray waits."""
    for tries_left in range(_STARTS - 1, -1, -1):
        before = set(psutil.Process().children())
        try:
            ray.init(**options)
        except Exception as error:  # the class itself is what Ray raises for a late node
            if not tries_left or not _is_late(error):
                raise
            _LOG.warning("Ray did not start in time and is started again: this machine is busy")
        else:
            return
        _end([one for one in psutil.Process().children() if one not in before])


def _is_late(error: Exception) -> bool:
    """Return whether an error is Ray's word for a node that did not start in time."""
    return type(error) is Exception


def _end(processes: list[psutil.Process]) -> None:
    """End what a start that failed left; Ray itself ends it with the driver only."""
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.terminate()
    _, alive = psutil.wait_procs(processes, timeout=_END_S)
    for one in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(alive, timeout=_END_S)


class OnRay(Protocol):
    """A job that says where Ray runs."""

    ray: RayConfig
    verbose: bool


def session_of(job: OnRay) -> Session:
    """Return how a job reaches Ray."""
    keys = {name: value for name, value in asdict(job.ray).items() if name not in _OF_NODES}
    return Session(**keys, verbose=job.verbose)


def _check_somebody_listens(address: str) -> None:
    """Look whether an address answers at all: Ray itself tries one that does not for minutes.

    Raises:
        ConfigError: Nobody does.
    """
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not port.isdecimal():
        return  # Ray knows what it means, or says that it does not
    deadline_s = time.monotonic() + _LISTEN_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTEN_S).close()
        except (OSError, OverflowError) as error:
            if time.monotonic() + _PAUSE_S > deadline_s:
                raise ConfigError(_why_not_joined(address, str(error))) from error
            time.sleep(_PAUSE_S)
        else:
            return


def _why_not_joined(address: str, said: str) -> str:
    """Return what to do about a cluster that does not answer."""
    return (
        f"ray.address={address}: no cluster could be joined there ({said[:_MAX_LETTERS]}); start "
        "one, correct ray.address or RAY_ADDRESS, see that versions, token and ray.env_vars fit, "
        "or leave ray.address null and RAY_ADDRESS unset for a local Ray"
    )
