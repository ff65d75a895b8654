"""A running cluster that takes jobs: submits one, follows it, stops it."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError, RpcError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from mke_ray.errors import ConfigError, StoreError
from mke_ray.submission.access import check_address, token_trouble

_POLL_S = 0.5
_LIVING = (JobStatus.PENDING, JobStatus.RUNNING)
_NO_ANSWER = (ConnectionError, RuntimeError, requests.RequestException, RpcError)


class JobCluster:
    """Jobs of a cluster, through the server on its head.

    Args:
        address: URL of the dashboard.

    Raises:
        ConfigError: That is no URL, nobody answers there, or the token is not the right one.
    """

    def __init__(self, address: str) -> None:
        check_address(address)
        self._address = address
        try:
            self._client = JobSubmissionClient(address)
            self._client.list_jobs()
        except AuthenticationError as error:
            raise ConfigError(f"--address {address}: {token_trouble(os.environ)}") from error
        except _NO_ANSWER as error:
            raise ConfigError(
                f"--address {address}: no cluster takes jobs there ({_first_line(error)}); start "
                "one (cluster/local_head.sh), forward its port, and export RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN_PATH"
            ) from error

    def submit(self, line: str, runtime_env: Mapping[str, Any]) -> str:
        """Submit a line unless it runs already, and return the name of the job.

        Args:
            line: The line.
            runtime_env: What the job takes along.

        Raises:
            StoreError: The same line runs.
            ConfigError: The cluster does not take it.
        """
        if running := self.living(line):
            job = running[0].submission_id
            raise StoreError(
                f"{job} runs this line already; follow it with --follow, or end it with --stop, "
                "before the same line"
            )
        with self._answering("does not take the job"):
            return self._client.submit_job(entrypoint=line, runtime_env=dict(runtime_env))

    def living(self, line: str) -> list[JobDetails]:
        """Return the jobs that wait or run with a line, the newest first.

        Raises:
            ConfigError: The cluster does not say.
        """
        with self._answering("does not say what runs"):
            jobs = self._client.list_jobs()
        found = [
            one
            for one in jobs
            if one.entrypoint == line and one.status in _LIVING and one.submission_id
        ]
        return sorted(found, key=lambda one: -(one.start_time or 0))

    def follow(self, job: str, write: Callable[[str], object]) -> JobStatus | None:
        """Write what a job says until it ends, and return how; None where the connection was lost.

        Ctrl-C raises ``KeyboardInterrupt`` here and leaves the job alone.
        """
        try:
            asyncio.run(self._tail(job, write))
            return self._wait(job, patience_s=None)
        except (*_NO_ANSWER, OSError, aiohttp.ClientError, AuthenticationError):
            return None

    def stop(self, job: str, *, patience_s: float) -> JobStatus:
        """Ask a job to end, and return how far that came.

        Args:
            job: Its name.
            patience_s: How long it is waited for.

        Raises:
            ConfigError: The cluster does not take the order, or does not say what became of it.
        """
        with self._answering(f"does not end {job}"):
            self._client.stop_job(job)
        with self._answering(f"was told to end {job}, and does not say whether it did"):
            return self._wait(job, patience_s=patience_s)

    @contextlib.contextmanager
    def _answering(self, failing: str) -> Iterator[None]:
        """Let a cluster that refuses, or that is gone, be an error of this project.

        Raises:
            ConfigError: It says what failed and why.
        """
        try:
            yield
        except AuthenticationError as error:
            raise ConfigError(
                f"the cluster at {self._address} {failing}: {token_trouble(os.environ)}"
            ) from error
        except _NO_ANSWER as error:
            raise ConfigError(
                f"the cluster at {self._address} {failing}: {_first_line(error)}"
            ) from error

    async def _tail(self, job: str, write: Callable[[str], object]) -> None:
        async for text in self._client.tail_job_logs(job):
            write(text)

    def _wait(self, job: str, *, patience_s: float | None) -> JobStatus:
        """Wait until a job ended, and return its status."""
        until_s = None if patience_s is None else time.monotonic() + patience_s
        while (status := self._client.get_job_status(job)) in _LIVING:
            if until_s is not None and time.monotonic() > until_s:
                break
            time.sleep(_POLL_S)
        return status


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
