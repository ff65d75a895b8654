"""The fast client of S3 beside s3fs, on a real server: the same objects, errors and ways out."""

import logging
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials

from mke_ray import object_client
from mke_ray.object_access import ClientOrFilesystem
from mke_ray.object_client import ObjectClient, OutOfScopeError, UnableError
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


def refused_of(root: Root, monkeypatch) -> ClientOrFilesystem:
    """Return a client that the server does not let in, beside a file system that it does."""
    wrong = {"access_key_id": "nobody", "secret_access_key": "nothing"}
    monkeypatch.setattr(object_client, "_credentials", lambda _: wrong)
    return ClientOrFilesystem(root.filesystem())


def test_a_root_asks_the_client_and_s3fs_nothing(root, monkeypatch):
    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("s3fs was asked")

    root.filesystem().connect()
    monkeypatch.setattr(root.filesystem(), "_call_s3", unwanted)
    root.write("one", b"content")
    assert root.create("two", b"content") and not root.create("two", b"other")
    assert root.read("one") == b"content" and root.read_range("two", 0, 3) == b"con"
    assert root.exists("one")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_both_clients_mean_the_same_object_by_a_name(root, s3fs_root, name):
    client = ObjectClient(root.filesystem())
    client.write(root.path(name), b"ours")
    assert s3fs_root.read(name) == b"ours"
    s3fs_root.write(name, b"theirs")
    assert client.read(root.path(name)) == b"theirs"


@pytest.mark.parametrize("name", ["a//b", "/a", "a/"])
def test_a_name_that_the_client_cannot_spell_is_left_to_s3fs(root, name):
    path = f"{root.path()}/{name}"
    with pytest.raises(OutOfScopeError, match="empty part"):
        ObjectClient(root.filesystem()).read(path)


def test_a_name_with_an_empty_part_reaches_its_object(root):
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
    client, times = ObjectClient(filesystem), []
    settings = client._settings({})["credential_provider"]
    for _ in range(3):
        times.append(settings()["expires_at"])
        assert client.read(root.path("one")) == b"content"
    assert asked == [0.1, 60]
    # More than the 5 minutes before the end at which obstore asks anew for every request.
    assert times[0] > datetime.now(UTC) + timedelta(minutes=5)


@pytest.mark.parametrize(
    "variable",
    ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN", "AWS_REGION"],
)
def test_the_environment_says_nothing_that_s3fs_did_not_hear(
    root, s3_environment, monkeypatch, variable
):
    options = {
        "endpoint_url": s3_environment["AWS_ENDPOINT_URL"],
        "region": "us-east-1",
        "key": s3_environment["AWS_ACCESS_KEY_ID"],
        "secret": s3_environment["AWS_SECRET_ACCESS_KEY"],
    }
    root.write("one", b"content")
    given = open_root(root.uri, options)
    given.filesystem().connect()
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    client = ObjectClient(given.filesystem())
    assert client.read(root.path("one")) == b"content"
    assert not client.create(root.path("one"), b"other")


def test_a_client_that_is_refused_what_s3fs_gets_is_left_alone_for_a_while(
    root, monkeypatch, caplog
):
    root.write("one", b"content")
    path, access = root.path("one"), refused_of(root, monkeypatch)
    asked = []

    def read(client: ObjectClient) -> bytes:
        asked.append(client)
        return client.read(path)

    def from_s3fs() -> bytes:
        return root.filesystem().cat_file(path)

    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert access.asked(read, from_s3fs) == b"content"
    assert len(asked) == 3
    assert "had to be asked by s3fs" in caplog.text and "for 300 s" in caplog.text
    monkeypatch.undo()
    access._again_s = 0.0  # the time is over, and the credentials are right now
    assert access.asked(read, from_s3fs) == b"content"
    assert len(asked) == 4


def test_a_client_is_not_blamed_for_what_s3fs_does_not_get_either(root, monkeypatch):
    path, access = root.path("one"), refused_of(root, monkeypatch)
    asked = []

    def read(client: ObjectClient) -> bytes:
        asked.append(client)
        return client.read(path)

    def refused() -> bytes:
        raise PermissionError(path)

    for _ in range(5):
        with pytest.raises(PermissionError):
            access.asked(read, refused)
    assert len(asked) == 5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and a fork are what is tested
def test_a_forked_child_leaves_everything_to_s3fs(root):
    code = f"""
import os
from mke_ray.object_access import ClientOrFilesystem
from mke_ray.storage import open_root

root = open_root({root.uri!r})
root.write("one", b"content")
assert root.read("one") == b"content"
child = os.fork()
if child == 0:
    unwanted = lambda client: os._exit(3)
    access = ClientOrFilesystem(root.filesystem())
    os._exit(0 if access.asked(unwanted, lambda: "s3fs") == "s3fs" else 4)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert root.read("one") == b"content"
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
