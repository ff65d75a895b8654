"""The fast client of S3 beside s3fs, on a real server: the same objects, errors and ways out."""

import logging
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials

from mke_ray import object_client
from mke_ray.object_client import Faster, ObjectClient, UnableError
from mke_ray.storage import Root, open_root

pytestmark = pytest.mark.s3

ODD_NAMES = ["a b", "ü/ö.mp4", "a%20b", "a#b?c=d", "a+b&c", "x*[1]", "a\\b", "q\"u'", "{x}^`|<>"]
UNKNOWN_OPTION = {"default_block_size": 1 << 20}


@pytest.fixture
def root(s3_server) -> Root:
    return open_root(s3_server.uri(uuid.uuid4().hex))


@pytest.fixture
def s3fs_root(root) -> Root:
    """The same folder by s3fs alone."""
    return open_root(root.uri, UNKNOWN_OPTION)


def refused_of(root: Root, monkeypatch) -> Faster:
    """Return a client that the server does not let in, beside a file system that it does."""
    wrong = {"access_key_id": "nobody", "secret_access_key": "nothing"}
    monkeypatch.setattr(object_client, "_credentials", lambda _: wrong)
    return Faster(root.filesystem())


@pytest.mark.parametrize("name", ODD_NAMES)
def test_both_clients_mean_the_same_object_by_a_name(root, s3fs_root, name):
    client = ObjectClient(root.filesystem())
    client.write(root.path(name), b"ours")
    assert s3fs_root.read(name) == b"ours"
    s3fs_root.write(name, b"theirs")
    assert client.read(root.path(name)) == b"theirs"


def test_a_name_that_the_client_cannot_spell_is_left_to_s3fs(root):
    with pytest.raises(UnableError, match="empty path segment"):
        ObjectClient(root.filesystem()).read(root.path("a//b"))
    root.write("a//b", b"content")
    assert root.read("a//b") == b"content"


@pytest.mark.parametrize("bounds", [(0, 10), (90, 100), (90, 200)])
def test_ranges_are_those_of_s3fs(root, s3fs_root, bounds):
    root.write("hundred", bytes(range(100)))
    client = ObjectClient(root.filesystem())
    expected = s3fs_root.read_range("hundred", *bounds)
    assert client.read_range(root.path("hundred"), *bounds) == expected


@pytest.mark.parametrize("bounds", [(100, 200), (5, 5)])
def test_an_empty_range_is_the_error_of_s3fs(root, bounds):
    root.write("hundred", bytes(range(100)))
    with pytest.raises(OSError, match="not satisfiable"):
        root.read_range("hundred", *bounds)


def test_of_many_that_create_an_object_at_once_one_is_told_so(root):
    client, barrier = ObjectClient(root.filesystem()), threading.Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        return client.create(root.path("claimed"), str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert root.read("claimed") == str(won.index(True)).encode()


def test_a_missing_object_is_named(root):
    with pytest.raises(FileNotFoundError, match="absent/one"):
        ObjectClient(root.filesystem()).read(root.path("absent/one"))


def test_a_missing_bucket_is_the_error_of_s3fs():
    root = open_root("s3://no-such-bucket-of-ours/x")
    with pytest.raises(UnableError, match="NoSuchBucket"):
        ObjectClient(root.filesystem()).read(root.path("one"))
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        root.read("one")


def test_options_without_a_counterpart_leave_everything_to_s3fs(s3fs_root):
    with pytest.raises(UnableError, match="default_block_size"):
        ObjectClient(s3fs_root.filesystem())
    s3fs_root.write("one", b"content")
    assert s3fs_root.read("one") == b"content"


def test_keys_given_as_options_are_used(root, s3_environment):
    keys = {
        "key": s3_environment["AWS_ACCESS_KEY_ID"],
        "secret": s3_environment["AWS_SECRET_ACCESS_KEY"],
    }
    root.write("one", b"content")
    given = open_root(root.uri, keys)
    assert ObjectClient(given.filesystem()).read(root.path("one")) == b"content"
    wrong = open_root(root.uri, {**keys, "secret": "wrong"})
    with pytest.raises(UnableError, match="SignatureDoesNotMatch"):
        ObjectClient(wrong.filesystem()).read(root.path("one"))
    with pytest.raises(PermissionError):
        wrong.read("one")


def test_credentials_that_end_are_asked_for_again(root, s3_environment, monkeypatch):
    root.write("one", b"content")
    filesystem = root.filesystem()
    filesystem.connect()
    asked = []

    def metadata(minutes: float) -> dict[str, Any]:
        asked.append(minutes)
        ends = datetime.now(UTC) + timedelta(minutes=minutes)
        return {
            "access_key": s3_environment["AWS_ACCESS_KEY_ID"],
            "secret_key": s3_environment["AWS_SECRET_ACCESS_KEY"],
            "token": None,
            "expiry_time": ends.isoformat(),
        }

    async def renew() -> dict[str, Any]:
        return metadata(60)

    async def found() -> AioRefreshableCredentials:
        return AioRefreshableCredentials.create_from_metadata(metadata(0.1), renew, "a role")

    monkeypatch.setattr(filesystem.session, "get_credentials", found)
    monkeypatch.setattr(object_client, "_ASKED_AGAIN", timedelta(0))
    client = ObjectClient(filesystem)
    assert client.read(root.path("one")) == b"content"
    assert client.read(root.path("one")) == b"content"
    assert asked == [0.1, 60]


def test_a_client_that_is_refused_what_s3fs_gets_is_not_asked_any_more(root, monkeypatch, caplog):
    root.write("one", b"content")
    path, faster = root.path("one"), refused_of(root, monkeypatch)
    asked = []

    def read(client: ObjectClient) -> bytes:
        asked.append(client)
        return client.read(path)

    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert faster.asked(read, lambda: root.filesystem().cat_file(path)) == b"content"
    assert len(asked) == 3
    assert "which is slower" in caplog.text


def test_a_client_is_not_blamed_for_what_s3fs_does_not_get_either(root, monkeypatch):
    root.write("one", b"content")
    path, faster = root.path("one"), refused_of(root, monkeypatch)

    def refused() -> bytes:
        raise PermissionError(path)

    for _ in range(5):
        with pytest.raises(PermissionError):
            faster.asked(lambda client: client.read(path), refused)
    with pytest.raises(UnableError):  # it is asked still
        faster.asked(lambda client: client.read(path), _none)


def _none() -> bytes:
    raise UnableError("asked")
