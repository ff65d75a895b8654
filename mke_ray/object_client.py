"""Objects of S3 read and put by a client written in Rust, at a tenth to a sixth of s3fs's CPU time.

It takes endpoint, region and credentials from the s3fs file system beside it. That one lists,
deletes, and does whatever this client cannot: what fails here is asked of it before it is an error.
"""

import errno
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from botocore.credentials import RefreshableCredentials
from fsspec.asyn import sync
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import S3Store
from s3fs import S3FileSystem

_OPTIONS = {"endpoint_url", "anon", "key", "secret", "token", "profile", "client_kwargs"}
_OPTIONS |= {"use_listings_cache"}
_CLIENT_KWARGS = {"region_name", "endpoint_url"}
_DEFAULT_REGION = "us-east-1"

# The time of a read begins anew with every piece, that of a put with the request: a large one, on
# a slow line, needs its own.
_QUICK: dict[str, Any] = {"connect_timeout": "5s", "read_timeout": "15s", "timeout": "1h"}
_LARGE: dict[str, Any] = {"connect_timeout": "5s", "timeout": "5m"}
_LARGE_BYTES = 1 << 20
_MAX_PUT_BYTES = 64 << 20
# The environment must not say otherwise than s3fs, nor retry: the caller's patience decides.
_ALWAYS: dict[str, Any] = {
    "conditional_put": "etag",
    "retry_config": {"max_retries": 0},
    "virtual_hosted_style_request": False,
}
# obstore asks anew for what ends within 5 minutes; botocore renews long before the end.
_ASKED_AGAIN = timedelta(minutes=6)

_CONFLICT = "status code: 409"
_NO_BUCKET = "NoSuchBucket"
_ERRORS = (BaseError, OSError, ValueError, NotImplementedError, OverflowError)

_Result = TypeVar("_Result")
_is_started = False
_is_forked = False


class UnableError(Exception):
    """The client cannot do something that the file system may be able to do."""


class OutOfScopeError(UnableError):
    """The client was not made for it, so that nothing is wrong with it."""


class ObjectClient:
    """Reads and puts the objects of what an s3fs file system reaches.

    Args:
        filesystem: The file system.

    Raises:
        OutOfScopeError: It has settings that this client does not know, or this process was forked
            from one that had a client.
        UnableError: It has no credentials.
    """

    def __init__(self, filesystem: S3FileSystem) -> None:
        global _is_started  # noqa: PLW0603 - of the process
        _check_has_threads()
        _is_started = True
        self._settings = _settings(filesystem)
        self._stores: dict[tuple[str, bool], S3Store] = {}
        self._lock = threading.Lock()

    def read(self, path: str) -> bytes:
        """Return the bytes of an object.

        Raises:
            FileNotFoundError: There is none.
            UnableError: Anything else went wrong.
        """
        return self._read(path, lambda store, key: obstore.get(store, key).bytes().to_bytes())

    def read_range(self, path: str, begin: int, end: int) -> bytes:
        """Return the bytes of an object from a position up to another, fewer at its end.

        Raises:
            FileNotFoundError: There is none.
            UnableError: Anything else went wrong; also where nothing lies in the range.
        """
        return self._read(
            path,
            lambda store, key: obstore.get_range(store, key, start=begin, end=end).to_bytes(),
        )

    def exists(self, path: str) -> bool:
        """Return whether there is an object.

        Raises:
            UnableError: Anything went wrong.
        """
        try:
            self._read(path, obstore.head)
        except FileNotFoundError:
            return False
        return True

    def write(self, path: str, content: bytes) -> None:
        """Put an object, whether there is one or not.

        Raises:
            UnableError: It was not put, or the answer was lost.
        """
        self._put(path, content, mode="overwrite")

    def create(self, path: str, content: bytes) -> bool:
        """Put an object by a conditional put, and return whether there was none.

        Raises:
            UnableError: It was not put, or the answer was lost.
        """
        try:
            self._put(path, content, mode="create")
        except (AlreadyExistsError, PreconditionError) as error:
            if _CONFLICT in str(error):  # another put is on its way, and may yet fail
                raise UnableError(str(error)) from error
            return False
        return True

    def _read(self, path: str, ask: Callable[[S3Store, str], _Result]) -> _Result:
        """Ask for an object, and return the answer in the words of a file system."""
        store, key = self._place(path, is_large=False)
        try:
            return ask(store, key)
        except FileNotFoundError as error:
            if _NO_BUCKET in str(error):
                raise UnableError(str(error)) from error
            raise FileNotFoundError(errno.ENOENT, "no such object", path) from None
        except _ERRORS as error:
            raise UnableError(str(error)) from error

    def _put(self, path: str, content: bytes, *, mode: Any) -> None:
        """Put an object by one request.

        Raises:
            AlreadyExistsError: There is one, and the mode minds.
        """
        if len(content) > _MAX_PUT_BYTES:
            raise OutOfScopeError(f"{len(content)} bytes are too many for one put")
        store, key = self._place(path, is_large=len(content) > _LARGE_BYTES)
        try:
            obstore.put(store, key, content, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            raise
        except _ERRORS as error:
            raise UnableError(str(error)) from error

    def _place(self, path: str, *, is_large: bool) -> tuple[S3Store, str]:
        """Return what asks for the objects of a bucket, and the key of one.

        Raises:
            OutOfScopeError: The key cannot be spelled: slashes around it would be lost. Or this
                process is a child of the one that made the client.
        """
        _check_has_threads()
        bucket, _, key = path.partition("/")
        if not key or key != key.strip("/") or "//" in key:
            raise OutOfScopeError(f"{key!r} has an empty part")
        with self._lock:
            if (bucket, is_large) not in self._stores:
                settings = self._settings(_LARGE if is_large else _QUICK)
                self._stores[bucket, is_large] = S3Store(bucket, **settings)
            return self._stores[bucket, is_large], key


def _settings(filesystem: S3FileSystem) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what gives the settings of a store, as s3fs and botocore resolved them.

    Raises:
        OutOfScopeError: There are settings that have no counterpart.
        UnableError: There are no credentials.
    """
    options = filesystem.storage_options
    unknown = {name for name, value in options.items() if value} - _OPTIONS
    unknown |= set(options.get("client_kwargs") or {}) - _CLIENT_KWARGS
    if unknown:
        raise OutOfScopeError(f"its client does not know the options {sorted(unknown)}")
    filesystem.connect()
    client: Any = filesystem.s3
    region, url = client.meta.region_name, client.meta.endpoint_url
    resolved = {
        **_ALWAYS,
        "aws_endpoint_url_s3": url,  # the one that no variable of the environment overrides
        "region": region if region not in (None, "aws-global") else _DEFAULT_REGION,
        **_credentials(filesystem),
    }
    security = _security(filesystem, url)
    return lambda timeouts: {**resolved, "client_options": {**timeouts, **security}}


def _security(filesystem: S3FileSystem, endpoint_url: str) -> dict[str, Any]:
    """Return how the other end is known."""
    if endpoint_url.startswith("http://"):
        return {"allow_http": True}
    session: Any = filesystem.session
    bundle = session.get_config_variable("ca_bundle")
    return {"root_certificate": Path(bundle).read_bytes()} if bundle else {}


def _credentials(filesystem: S3FileSystem) -> dict[str, Any]:
    """Return what gives the credentials of a file system, and gives them anew when they end.

    Raises:
        UnableError: It has none.
    """
    if filesystem.anon:
        return {"skip_signature": True}
    given = (filesystem.key, filesystem.secret, filesystem.token)
    session: Any = filesystem.session
    found: Any = None
    if not all(given[:2]):
        found = sync(filesystem.loop, session.get_credentials)
        if found is None:
            raise UnableError("s3fs found no credentials")
    is_renewed = isinstance(found, RefreshableCredentials)

    def current() -> dict[str, Any]:
        frozen: Any = None if found is None else sync(filesystem.loop, found.get_frozen_credentials)
        keys = given if frozen is None else tuple(frozen)
        return {
            "access_key_id": keys[0],
            "secret_access_key": keys[1],
            "token": keys[2],
            "expires_at": datetime.now(UTC) + _ASKED_AGAIN if is_renewed else None,
        }

    return {"skip_signature": False, "credential_provider": current}


def _check_has_threads() -> None:
    """Check that the threads of the client, if it ever had any, are in this process.

    Raises:
        OutOfScopeError: They stayed behind when it was forked, so that any request would hang.
    """
    if _is_forked:
        raise OutOfScopeError("its threads were not forked with this process")


def _note_fork() -> None:
    global _is_forked  # noqa: PLW0603 - of the process
    _is_forked = _is_forked or _is_started


os.register_at_fork(after_in_child=_note_fork)
