"""Keys of an S3 bucket, asked for page by page and never held as a whole."""

import functools
import os
from collections.abc import Iterator
from typing import Any

from aiobotocore.session import AioSession

from mke_ray.data.key_ranges import NUM_THREADS, Entry, Page, list_in_order
from mke_ray.retries import retried
from mke_ray.storage import Root


def list_s3(
    root: Root, folder: str, after: str = "", *, num_threads: int = NUM_THREADS
) -> Iterator[Entry]:
    """Yield the objects below a folder in the order of the store.

    Args:
        root: Root in a bucket of S3.
        folder: Name of a folder below it, "" for all of it.
        after: Name below the root to begin behind, "" for the first one.
        num_threads: Requests at once, 0 for one after the other.

    Returns:
        The objects; their keys are relative to the root.
    """
    filesystem = _listing_client(root)
    bucket, base, _ = filesystem.split_path(root.path())
    base = f"{base}/" if base else ""
    prefix = f"{base}{folder}/" if folder else base

    def list_page(behind: str) -> Page:
        return _list_page(filesystem, bucket, prefix, behind)

    begin = f"{base}{after}" if after else ""
    for entry in list_in_order(list_page, begin, num_threads=num_threads):
        yield Entry(entry.key[len(base) :], entry.size, entry.etag)


def _list_page(filesystem: Any, bucket: str, prefix: str, after: str) -> Page:
    """Return the objects behind a key, at least one unless there are none."""
    asked: dict[str, Any] = {"StartAfter": after} if after else {}
    while True:
        answer = retried(
            functools.partial(
                filesystem.call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix, **asked
            ),
            f"listing s3://{bucket}/{prefix}",
        )
        is_last = not answer.get("IsTruncated")
        found = [
            Entry(one["Key"], int(one["Size"]), str(one.get("ETag", "")).strip('"'))
            for one in answer.get("Contents", ())
        ]
        if found or is_last:
            return Page(found, is_last)
        asked = {"ContinuationToken": answer["NextContinuationToken"]}


def _listing_client(root: Root) -> Any:
    """Return a client of the root's store that leaves times unread, which costs most of a page."""
    filesystem: Any = root.filesystem()
    return _client_without_times(type(filesystem), filesystem, os.getpid())


@functools.lru_cache(maxsize=32)
def _client_without_times(kind: Any, filesystem: Any, process_id: int) -> Any:
    """Return one client per store and process."""
    del process_id
    session = AioSession(**filesystem.kwargs)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    options = {**filesystem.storage_options, "session": session, "skip_instance_cache": True}
    return kind(**options)
