"""The connection to Ray: the cluster that is there, or a local one that is closed and quiet."""

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from mke_ray.errors import ConfigError

_QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_WORKER_ENV = {"OMP_NUM_THREADS": "1"}


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

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Connect to Ray for a block; a connection that was there already is left alone.

        Raises:
            ConfigError: There is no cluster at the address.
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
        address = self.address or os.environ.get("RAY_ADDRESS")
        is_local = address in (None, "", "local")
        try:
            ray.init(
                address="local" if is_local else address,
                runtime_env={"env_vars": {**_WORKER_ENV, **self.env_vars}},
                log_to_driver=self.verbose,
                logging_level=logging.INFO if self.verbose else logging.ERROR,
                **(self._local_options() if is_local else {}),
            )
        except ConnectionError as error:
            raise ConfigError(
                f"ray.address={address}: no cluster answers there ({error}); start one, or leave "
                "ray.address null and RAY_ADDRESS unset for a local Ray"
            ) from error

    def _local_options(self) -> dict[str, Any]:
        """Return the options of a local Ray, which only this process may talk to.

        Ray protects a local cluster by a token of its own accord; the token is one of this run
        and is not written to the user's home.
        """
        if not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
            logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        num_cpus = self.num_cpus or max(4, 2 * (os.cpu_count() or 1))
        return {"num_cpus": num_cpus, "include_dashboard": self.include_dashboard}
