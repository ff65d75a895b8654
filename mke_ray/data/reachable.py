"""Whether a source can be reached, found out within seconds and said in one line."""

import errno
import os
from typing import Any

import tenacity
from botocore import exceptions as botocore_exceptions

from mke_ray.errors import ConfigError
from mke_ray.filesystems import is_s3
from mke_ray.secret_looks import without_secrets
from mke_ray.storage import Root

_CONNECT_S = 5
_READ_S = 10
_PATIENCE_S = 6.0
_BUSY_STATUS = (429, 500, 502, 503, 504)

_CODES = {
    "NoSuchBucket": "there is no such bucket; correct the name, or {endpoint}",
    "InvalidBucketName": "that is no name of a bucket; correct it",
    "PermanentRedirect": "the bucket is in another region; set {section}.region to it",
    "AuthorizationHeaderMalformed": "the region is another one; set {section}.region to it",
    "IllegalLocationConstraintException": "the region is another one; set {section}.region to it",
    "InvalidAccessKeyId": "the store does not know the access key; {credentials}",
    "SignatureDoesNotMatch": "the secret does not fit the access key; {credentials}",
    "ExpiredToken": "the credentials have expired; {credentials}",
    "RequestTimeTooSkewed": "the clock of this machine is wrong; set it",
}
_DENIED = (
    "permission denied; {credentials}, or let them list the bucket and read it (s3:ListBucket, "
    "s3:GetObject)"
)
_NO_CREDENTIALS = "there are no credentials; {credentials}, or set {section}.anonymous=true"
_NO_ANSWER = "no answer; check the network, and {endpoint}"


def check_given(given: str | None, has_to: str) -> None:
    """Refuse a source of published files whose root is not named.

    Args:
        given: ``source.root``.
        has_to: What it has to hold or be, for a person.

    Raises:
        ConfigError: It is not set.
    """
    if not given:
        raise ConfigError(f"source.root is not set; it has to {has_to}")


def check_file(root: Root, name: str, *, key: str, given: str | None, has_to: str) -> None:
    """Refuse the root of published files without one of them.

    Args:
        root: The root.
        name: Name of the file.
        key: Configuration key that names it, or what it is, for a person.
        given: ``source.root`` as it was given.
        has_to: What the root has to hold or be, for a person.

    Raises:
        ConfigError: The file does not exist or cannot be reached.
    """
    if not is_there(root, name, key="source.root"):
        raise ConfigError(
            f"{key}={name} is not in source.root={given}; correct the name, relative to "
            f"source.root, or put the file there: it has to {has_to}"
        )


def check_root(root: Root, *, given: str | None, holds: str) -> None:
    """Refuse the root of a source that is not there.

    Args:
        root: The root.
        given: ``source.root`` as it was given.
        holds: What it should hold, for a person.

    Raises:
        ConfigError: It does not exist, is empty or cannot be reached.
    """
    if not is_there(root, "", key="source.root"):
        raise ConfigError(
            f"source.root={given} does not exist or is empty; "
            f"set it to the folder or bucket that holds the {holds}"
        )


def check_table(root: Root, name: str, *, given: str) -> None:
    """Refuse the table of a source that is not there.

    Args:
        root: Root of the table.
        name: Name of the table below it.
        given: ``source.table`` as it was given.

    Raises:
        ConfigError: It does not exist or cannot be reached.
    """
    is_full = given.startswith("/") or "://" in given
    if is_there(root, name, key="source.table" if is_full else "source.root"):
        return
    if is_full:
        raise ConfigError(f"source.table={given} is not there; name a CSV or Parquet file")
    raise ConfigError(
        f"source.table={given} is not in {root.uri}; name a CSV or Parquet file relative to "
        "source.root, or set it to null to take the classes from the folders"
    )


def is_there(root: Root, name: str, *, key: str) -> bool:
    """Return whether a file exists, or anything below a folder.

    Only a store that is busy is asked again, for some seconds; what is wrong for good is said at
    once.

    Args:
        root: Root of the source.
        name: A file, or "" for the root itself.
        key: Configuration key of the root, such as ``source.root``, for the error.

    Raises:
        ConfigError: The store does not answer, has no such bucket, wants other credentials or has
            no such options; it names the key and the way out.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_busy),
        wait=tenacity.wait_exponential_jitter(initial=0.5, max=4.0, jitter=0.5),
        stop=tenacity.stop_after_delay(_PATIENCE_S),
        reraise=True,
    )
    try:
        return retrying(_is_there, root, name)
    except (OSError, TypeError, ValueError, botocore_exceptions.BotoCoreError) as error:
        raise ConfigError(f"{key}={root.uri}: {_why(error, key)}") from error


def _is_there(root: Root, name: str) -> bool:
    """Ask once for a file, or for anything below a folder."""
    if is_s3(root.filesystem()):
        return _is_in_s3(root, name)
    if root.is_local and not name and os.path.isdir(root.path()):
        with os.scandir(root.path()) as entries:
            return any(entries)
    return bool(root.filesystem().exists(root.path(name)))


def _is_busy(error: BaseException) -> bool:
    """Return whether a store answered that it has too much to do, or in no time."""
    if isinstance(error, TimeoutError | botocore_exceptions.ReadTimeoutError):
        return True
    if isinstance(error, OSError) and error.errno == errno.EBUSY:
        return True
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _BUSY_STATUS


def _is_in_s3(root: Root, name: str) -> bool:
    """Ask once for a file, or for one key below a folder."""
    client = _impatient(root.filesystem())
    bucket, path, _ = client.split_path(root.path(name))
    if name:
        try:
            client.call_s3("head_object", Bucket=bucket, Key=path)
        except FileNotFoundError:
            client.call_s3("list_objects_v2", Bucket=bucket, Prefix=path, MaxKeys=1)
            return False
        return True
    prefix = f"{path}/" if path else ""
    answer = client.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return bool(answer.get("Contents"))


def _impatient(filesystem: Any) -> Any:
    """Return a client of the same store that tries once."""
    config = {
        **filesystem.config_kwargs,
        "connect_timeout": _CONNECT_S,
        "read_timeout": _READ_S,
        "retries": {"max_attempts": 0},
    }
    options = {**filesystem.storage_options, "config_kwargs": config, "skip_instance_cache": True}
    client = type(filesystem)(**options)
    client.retries = 1
    return client


def _why(error: BaseException, key: str) -> str:
    """Return what is wrong and the way out, in one line."""
    section = key.rsplit(".", 1)[0]
    template = _template(error)
    if template is None:
        said = without_secrets(" ".join(str(error).split()))
        return f"{said}; check {section}.root, {section}.endpoint_url and {section}.storage_options"
    return template.format(
        section=section,
        endpoint=f"set {section}.endpoint_url (or AWS_ENDPOINT_URL) to the right store",
        credentials=(
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or key and secret in "
            f"{section}.storage_options"
        ),
    )


def _template(error: BaseException) -> str | None:
    """Return the sentence for an error that has one."""
    response = getattr(error.__cause__, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    if code in _CODES:
        return _CODES[code]
    if isinstance(error, PermissionError):
        return _DENIED
    if isinstance(
        error,
        botocore_exceptions.NoCredentialsError | botocore_exceptions.PartialCredentialsError,
    ):
        return _NO_CREDENTIALS
    if isinstance(
        error,
        TimeoutError
        | ConnectionError
        | botocore_exceptions.ConnectionError
        | botocore_exceptions.HTTPClientError,
    ):
        return _NO_ANSWER
    return None
