"""Opens the file system of a URI: fsspec's own, or pyarrow's where that one is not installed."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import fsspec
from fsspec.implementations.arrow import ArrowFSWrapper
from pyarrow import ArrowException
from pyarrow import fs as arrow_fs
from s3fs import S3FileSystem

from mke_ray.errors import ConfigError
from mke_ray.secret_looks import without_secrets

COMMON_OPTIONS = ("endpoint_url", "region", "anonymous")
S3 = ("s3", "s3a")
GOOGLE = ("gs", "gcs")
AZURE = ("az", "abfs", "abfss")

_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs"} | dict.fromkeys([*AZURE, "adl"], "adlfs")
_GOOGLE_RETRY = timedelta(seconds=30)  # pyarrow's own default is a quarter of an hour
_IPV6 = re.compile(r"\[[0-9a-fA-F:.]+\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ARROW_QUERY = re.compile(r"[?&](endpoint_override|region|scheme|anonymous|allow_bucket_\w+)=")


def protocol_of(uri: str) -> str:
    """Return the protocol of a URI, ``file`` for a path without one."""
    return uri.split("://", maxsplit=1)[0].lower() if "://" in uri else "file"


def check_uri(uri: str, *, key: str) -> None:
    """Refuse a URI that carries a secret or options, since URIs are stored, shown and extended.

    Args:
        uri: The URI.
        key: Configuration key or place it comes from, for the error.

    Raises:
        ConfigError: It names the key and the way out; the secret is hidden.
    """
    if without_secrets(uri) != uri:
        raise ConfigError(
            f"{key}={without_secrets(uri)} carries a secret, and URIs are stored and shown; put "
            "it into the environment, or into storage_options, which are not"
        )
    if protocol_of(uri) in (*S3, *GOOGLE) and (found := _ARROW_QUERY.search(uri)):
        raise ConfigError(
            f"{key}={uri} has the option {found[1]!r} in the URI; give it as endpoint_url, region "
            "or anonymous beside it"
        )


def check_plain(uri: str, *, key: str) -> None:
    """Refuse what fsspec would take for a chain of file systems, and what no path may hold.

    Args:
        uri: Local path or URI.
        key: Configuration key it comes from, for the error.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if not uri.strip() or _CONTROL.search(uri) or "::" in _IPV6.sub("", uri):
        raise ConfigError(
            f"{key}={uri!r} is no plain path or URI: it is empty, has control characters, or '::' "
            "between file systems; name a folder, or one URI such as s3://bucket/name"
        )


def open_filesystem(uri: str, options: Mapping[str, Any]) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URI and the path on it.

    Args:
        uri: Absolute local path or URI.
        options: Options of the file system, and those of ``COMMON_OPTIONS``, which mean the same
            for every store and are translated here.

    Raises:
        ConfigError: Nothing installed serves the protocol, or an option means nothing to it.
    """
    protocol = protocol_of(uri)
    own = {name: value for name, value in options.items() if name not in COMMON_OPTIONS}
    common = {
        name: options[name] for name in COMMON_OPTIONS if options.get(name) not in (None, "", False)
    }
    try:
        fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        return _open_with_pyarrow(uri, own, common, str(error))
    translated = _translated(protocol, own, common)
    if protocol in (*S3, *GOOGLE, *AZURE):
        translated.setdefault("use_listings_cache", False)  # other workers write all the time
    try:
        filesystem, path = fsspec.core.url_to_fs(uri, **translated)
    except (ValueError, ImportError, OSError) as error:
        raise _no_filesystem(protocol, without_secrets(str(error))) from error
    return filesystem, str(path)


def is_s3(filesystem: fsspec.AbstractFileSystem) -> TypeGuard[S3FileSystem]:
    """Return whether a file system is S3's of fsspec, whose pages can be asked for."""
    return isinstance(filesystem, S3FileSystem)


def _translated(protocol: str, own: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """Return the options under the names that the file system of fsspec gives them."""
    writers: dict[str, Callable[[Any], dict[str, Any]]] = {}
    if protocol in S3:
        client = own.get("client_kwargs") or {}
        writers = {
            "endpoint_url": lambda url: {"endpoint_url": url},
            "region": lambda region: {"client_kwargs": {**client, "region_name": region}},
            "anonymous": lambda _: {"anon": True},
        }
    elif protocol in GOOGLE:
        writers = {
            "endpoint_url": lambda url: {"endpoint_url": url},
            "anonymous": lambda _: {"token": "anon"},
        }
    elif protocol in AZURE:
        writers = {"anonymous": lambda _: {"anon": True}}
    return _written(protocol, own, common, writers)


def _written(
    protocol: str,
    own: dict[str, Any],
    common: dict[str, Any],
    writers: Mapping[str, Callable[[Any], dict[str, Any]]],
) -> dict[str, Any]:
    """Return the own options with the common ones under their own names."""
    translated = dict(own)
    for name, value in common.items():
        if name not in writers:
            raise ConfigError(
                f"{name}={value} means nothing to {protocol}://, which has "
                f"{sorted(writers) or 'none of these options'}; remove it, or give what the file "
                "system has instead in storage_options"
            )
        translated |= writers[name](value)
    return translated


def _open_with_pyarrow(
    uri: str, own: dict[str, Any], common: dict[str, Any], why: str
) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return pyarrow's file system of a URI in fsspec's clothes; it reads, but makes no stores."""
    protocol = protocol_of(uri)
    path = uri.split("://", maxsplit=1)[1]
    try:
        if protocol in GOOGLE:
            filesystem = _google(own, common)
        elif protocol in AZURE:
            filesystem, path = _azure(uri, own, common)
        else:
            _written(protocol, own, common, {})
            filesystem, path = arrow_fs.FileSystem.from_uri(uri)
    except (ArrowException, TypeError, ValueError, OSError) as error:
        raise _no_filesystem(protocol, without_secrets(f"{why}; pyarrow: {error}")) from error
    return ArrowFSWrapper(filesystem), path


def _google(own: dict[str, Any], common: dict[str, Any]) -> arrow_fs.FileSystem:
    writers: dict[str, Callable[[Any], dict[str, Any]]] = {
        "endpoint_url": lambda url: {
            "scheme": urlsplit(url).scheme,
            "endpoint_override": urlsplit(url).netloc,
        },
        "anonymous": lambda _: {"anonymous": True},
    }
    options = {"retry_time_limit": _GOOGLE_RETRY, **own}
    return arrow_fs.GcsFileSystem(**_written("gs", options, common, writers))


def _azure(
    uri: str, own: dict[str, Any], common: dict[str, Any]
) -> tuple[arrow_fs.FileSystem, str]:
    """Return the file system of ``az://container/x`` or ``abfs://container@account.host/x``."""
    where = urlsplit(uri)
    container, _, host = where.netloc.rpartition("@") if "@" in where.netloc else ("", "", "")
    account = own.pop("account_name", None) or host.split(".")[0]
    account = account or os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
    if not account:
        raise ConfigError(
            f"{uri}: the storage account is unknown; set AZURE_STORAGE_ACCOUNT_NAME, or "
            "account_name in storage_options"
        )
    writers: dict[str, Callable[[Any], dict[str, Any]]] = {
        "endpoint_url": lambda url: {
            "blob_storage_scheme": urlsplit(url).scheme,
            "blob_storage_authority": urlsplit(url).netloc,
        }
    }
    options = _written("az, served by pyarrow since adlfs is not installed", own, common, writers)
    path = f"{container or where.netloc}{where.path}"
    return arrow_fs.AzureFileSystem(account, **options), path


def _no_filesystem(protocol: str, why: str) -> ConfigError:
    """Return the error that names the package which serves a protocol."""
    package = _PACKAGES.get(protocol)
    way_out = f"pip install {package}" if package else "install the package that it names"
    return ConfigError(f"{protocol}:// cannot be opened: {why}; {way_out}, or check the spelling")
