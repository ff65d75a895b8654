"""Whom to ask for an object of S3: the fast client, or s3fs where that one is of no use."""

import logging
import os
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from botocore.exceptions import BotoCoreError
from s3fs import S3FileSystem

from mke_ray.object_client import ObjectClient, OutOfScopeError, UnableError

_MAX_REFUSED, _MAX_FAILED = 3, 10
_PAUSE_S = 300.0
_REFUSED = re.compile(r"status code: (?!408|429)[34]\d\d|redirect")

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


class ClientOrFilesystem:
    """A client beside a file system, asked first as long as it is of use.

    Args:
        filesystem: The file system.
    """

    def __init__(self, filesystem: S3FileSystem) -> None:
        self._filesystem = filesystem
        self._client: ObjectClient | None = None
        self._num_refused = self._num_failed = 0
        self._again_s = 0.0
        self._has_warned = False

    def asked(
        self, ask: Callable[[ObjectClient], _Result], otherwise: Callable[[], _Result]
    ) -> _Result:
        """Return the answer of the client, or of the file system where it has none.

        A client that fails again and again with what the file system can do is not asked for
        some minutes, sooner if the store refuses it.

        Args:
            ask: Asks the client.
            otherwise: Asks the file system.
        """
        client = self._ready()
        if client is None:
            return otherwise()
        try:
            answer = ask(client)
        except OutOfScopeError:
            return otherwise()
        except UnableError as error:
            answer = otherwise()
            self._count(error)
            return answer
        self._num_refused = self._num_failed = 0
        return answer

    def _ready(self) -> ObjectClient | None:
        """Return the client, None while it is not to be asked."""
        if time.monotonic() < self._again_s:
            return None
        if self._client is None:
            try:
                self._client = ObjectClient(self._filesystem)
            except OutOfScopeError as error:
                self._again_s = float("inf")
                _logger.info("S3 is read by s3fs alone: %s", error)
            except (UnableError, BotoCoreError, OSError) as error:
                self._pause(error)
        return self._client

    def _count(self, error: UnableError) -> None:
        """Count what only the file system could do."""
        if not self._has_warned:
            self._has_warned = True
            _logger.warning("S3 had to be asked by s3fs, which is slower: %s", _first_line(error))
        self._num_failed += 1
        self._num_refused += bool(_REFUSED.search(str(error)))
        if self._num_refused >= _MAX_REFUSED or self._num_failed >= _MAX_FAILED:
            self._pause(error)

    def _pause(self, error: Exception) -> None:
        """Leave everything to the file system for a while; then look for credentials anew."""
        self._client, self._num_refused, self._num_failed = None, 0, 0
        self._again_s = time.monotonic() + _PAUSE_S
        _logger.warning(
            "S3 is asked by s3fs for %.0f s, which is slower: %s", _PAUSE_S, _first_line(error)
        )


def client_beside(filesystem: S3FileSystem) -> ClientOrFilesystem:
    """Return the client beside a file system; one per process."""
    return _client_beside(filesystem, os.getpid())


@lru_cache(maxsize=64)
def _client_beside(filesystem: S3FileSystem, process_id: int) -> ClientOrFilesystem:
    del process_id
    return ClientOrFilesystem(filesystem)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
