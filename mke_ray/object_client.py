"""Objects of S3 read and put by a client written in Rust, at a tenth of the CPU time of s3fs.

It takes endpoint, region and credentials from the s3fs file system beside it. That one lists,
deletes, and does whatever this client cannot: what fails here is asked of it before it is an error.
"""

import errno
import logging
import os
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import obstore
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError
from fsspec.asyn import sync
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store
from s3fs import S3FileSystem

_OPTIONS = {"endpoint_url", "anon", "key", "secret", "token", "profile", "client_kwargs"}
_OPTIONS |= {"use_listings_cache"}
_CLIENT_KWARGS = {"region_name", "endpoint_url"}
_DEFAULT_REGION = "us-east-1"

_CLIENT_OPTIONS = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "1h"}
_NO_RETRIES: Any = {"max_retries": 0}  # the caller's patience decides
_ASKED_AGAIN = timedelta(minutes=5)  # botocore renews credentials long before they end
_MAX_PUT_BYTES = 256 << 20

_MAX_UNABLE = 3
_REFUSED = re.compile(r"status code: (?!408|429)[34]\d\d")
_CONFLICT = "status code: 409"
_NO_BUCKET = "NoSuchBucket"

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


class UnableError(Exception):
    """The client cannot do something that the file system may be able to do."""


class ObjectClient:
    """Reads and puts the objects of what an s3fs file system reaches.

    Args:
        filesystem: The file system.

    Raises:
        UnableError: It has settings that this client does not know.
    """

    def __init__(self, filesystem: S3FileSystem) -> None:
        self._settings = _settings(filesystem)
        self._stores: dict[str, S3Store] = {}
        self._lock = threading.Lock()

    def read(self, path: str) -> bytes:
        """Return the bytes of an object.

        Raises:
            FileNotFoundError: There is none.
            UnableError: Anything else went wrong.
        """
        return self._asked(path, lambda store, key: obstore.get(store, key).bytes().to_bytes())

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Return the bytes of an object from a position up to another, fewer at its end.

        Raises:
            FileNotFoundError: There is none.
            UnableError: Anything else went wrong; also where nothing lies in the range.
        """
        return self._asked(
            path,
            lambda store, key: obstore.get_range(store, key, start=begin, end=end).to_bytes(),
        )

    def exists(self, path: str) -> bool:
        """Return whether there is an object.

        Raises:
            UnableError: Anything went wrong.
        """
        try:
            self._asked(path, obstore.head)
        except FileNotFoundError:
            return False
        return True

    def write(self, path: str, content: bytes) -> None:
        """Put an object, whether there is one or not.

        Raises:
            UnableError: It was not put, or the answer was lost.
        """
        _check_size(content)
        self._asked(path, lambda store, key: obstore.put(store, key, content, use_multipart=False))

    def create(self, path: str, content: bytes) -> bool:
        """Put an object by a conditional put, and return whether there was none.

        Raises:
            UnableError: It was not put, or the answer was lost.
        """
        _check_size(content)
        try:
            self._asked(path, lambda store, key: obstore.put(store, key, content, mode="create"))
        except FileExistsError:
            return False
        return True

    def _asked(self, path: str, ask: Callable[[S3Store, str], _Result]) -> _Result:
        """Ask for an object, and return the answer in the words of a file system."""
        bucket, _, key = path.partition("/")
        try:
            return ask(self._store(bucket), key)
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise UnableError(str(error)) from error
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from None
        except (AlreadyExistsError, PreconditionError) as error:
            if _CONFLICT in str(error):  # another put is on its way, and may yet fail
                raise UnableError(str(error)) from error
            raise FileExistsError(errno.EEXIST, "there is an object", path) from None
        except (BaseError, OSError, ValueError) as error:  # a key that it cannot spell, too
            raise UnableError(str(error)) from error

    def _store(self, bucket: str) -> S3Store:
        """Return what asks for the objects of a bucket; it keeps its connections."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = S3Store(
                    bucket, retry_config=_NO_RETRIES, **self._settings(bucket)
                )
            return self._stores[bucket]


class Faster:
    """A client beside a file system, asked first as long as it is of use.

    Args:
        filesystem: The file system.
    """

    def __init__(self, filesystem: S3FileSystem) -> None:
        self._client: ObjectClient | None = None
        self._num_unable = 0
        try:
            self._client = ObjectClient(filesystem)
        except (UnableError, BotoCoreError, OSError) as error:
            _logger.info("S3 is read by s3fs alone: %s", error)

    def asked(
        self, ask: Callable[[ObjectClient], _Result], otherwise: Callable[[], _Result]
    ) -> _Result:
        """Return the answer of the client, or of the file system where it has none.

        A client that a store refuses again and again what it gives to the file system is not
        asked any more; what went wrong on the way says nothing of the client.
        """
        if self._client is None:
            return otherwise()
        try:
            answer = ask(self._client)
        except UnableError as error:
            answer = otherwise()
            if _REFUSED.search(str(error)):
                self._count(error)
            return answer
        self._num_unable = 0
        return answer

    def _count(self, error: UnableError) -> None:
        """Count what was refused to the client alone."""
        self._num_unable += 1
        if self._num_unable >= _MAX_UNABLE:
            self._client = None
            reason = str(error).partition("\n")[0]
            _logger.warning("S3 is read by s3fs from now on, which is slower: %s", reason)


def faster(filesystem: S3FileSystem) -> Faster:
    """Return the client beside a file system; one per process."""
    return _faster(filesystem, os.getpid())


@lru_cache(maxsize=64)
def _faster(filesystem: S3FileSystem, process_id: int) -> Faster:
    del process_id
    return Faster(filesystem)


def _check_size(content: bytes) -> None:
    """Leave to the file system what has to be put in parts.

    Raises:
        UnableError: It is too large.
    """
    if len(content) > _MAX_PUT_BYTES:
        raise UnableError(f"{len(content)} bytes are too many for one put")


def _settings(filesystem: S3FileSystem) -> Callable[[str], dict[str, Any]]:
    """Return what gives the settings of a bucket's store, as s3fs and botocore resolved them.

    Raises:
        UnableError: There are settings that have no counterpart, or no credentials.
    """
    options = filesystem.storage_options
    unknown = {name for name, value in options.items() if value} - _OPTIONS
    unknown |= set(options.get("client_kwargs") or {}) - _CLIENT_KWARGS
    if unknown:
        raise UnableError(f"its client does not know the options {sorted(unknown)}")
    filesystem.connect()
    client: Any = filesystem.s3
    meta = client.meta
    region = meta.region_name if meta.region_name not in (None, "aws-global") else _DEFAULT_REGION
    is_aws = meta.endpoint_url in (f"https://s3.{region}.amazonaws.com", "https://s3.amazonaws.com")
    common: dict[str, Any] = {"region": region, **_credentials(filesystem)}
    common["client_options"] = _CLIENT_OPTIONS | _security(filesystem, meta.endpoint_url)

    def settings(bucket: str) -> dict[str, Any]:
        if is_aws and "." not in bucket:
            return {**common, "virtual_hosted_style_request": True}
        return {**common, "endpoint": meta.endpoint_url, "virtual_hosted_style_request": False}

    return settings


def _security(filesystem: S3FileSystem, endpoint_url: str) -> dict[str, Any]:
    """Return how the other end is known."""
    if endpoint_url.startswith("http://"):
        return {"allow_http": True}
    session: Any = filesystem.session
    bundle = session.get_config_variable("ca_bundle")
    return {"root_certificate": Path(bundle).read_bytes()} if bundle else {}


def _credentials(filesystem: S3FileSystem) -> dict[str, Any]:
    """Return the credentials of a file system, or what gives them anew when they end.

    Raises:
        UnableError: It has none.
    """
    if filesystem.anon:
        return {"skip_signature": True}

    if filesystem.key and filesystem.secret:
        given = {"access_key_id": filesystem.key, "secret_access_key": filesystem.secret}
        return {**given, "session_token": filesystem.token} if filesystem.token else given
    session: Any = filesystem.session
    found: Any = sync(filesystem.loop, session.get_credentials)
    if found is None:
        raise UnableError("s3fs found no credentials")
    is_renewed = isinstance(found, RefreshableCredentials)

    def current() -> dict[str, Any]:
        keys: Any = sync(filesystem.loop, found.get_frozen_credentials)
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + _ASKED_AGAIN if is_renewed else None,
        }

    return {"credential_provider": current}
