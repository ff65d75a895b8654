"""What the client of S3 makes of answers that a real server seldom gives."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from s3fs import S3FileSystem

from mke_ray.object_client import ObjectClient, OutOfScopeError, UnableError
from mke_ray.storage import open_root

CUT_OFF = 0
PATH = "bucket/run/one"


@contextmanager
def answering(status: int) -> Iterator[tuple[ObjectClient, list[str]]]:
    """Yield a client of a server that answers everything alike, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length", 0)))
            if status == CUT_OFF:
                self.close_connection = True
                self.connection.close()
                return
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PUT = do_HEAD = do

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        root = open_root(
            "s3://bucket/run",
            {"endpoint_url": url, "region": "us-east-1", "key": "us", "secret": "ours"},
        )
        yield ObjectClient(root.filesystem()), asked
        server.shutdown()


def test_another_put_on_its_way_is_no_answer_to_a_create():
    with answering(409) as (client, _), pytest.raises(UnableError, match="409"):
        client.create(PATH, b"ours")


def test_an_object_that_is_there_is_an_answer_to_a_create():
    with answering(412) as (client, asked):
        assert not client.create(PATH, b"ours")
        assert asked == ["PUT /bucket/run/one"]


def test_a_create_whose_answer_is_lost_is_no_answer():
    with answering(CUT_OFF) as (client, asked):
        with pytest.raises(UnableError):
            client.create(PATH, b"ours")
        assert asked == ["PUT /bucket/run/one"]  # it is not repeated here


@pytest.mark.parametrize("status", [301, 403, 404, 500, 503])
def test_a_put_that_fails_is_never_a_missing_object(status):
    with answering(status) as (client, _):
        with pytest.raises(UnableError):
            client.write(PATH, b"ours")
        with pytest.raises(UnableError):
            client.create(PATH, b"ours")


@pytest.mark.parametrize("status", [301, 403, 500, 503, CUT_OFF])
def test_a_look_that_fails_says_neither_yes_nor_no(status):
    with answering(status) as (client, _):
        for look in (client.exists, client.read):
            with pytest.raises(UnableError):
                look(PATH)


def test_what_is_missing_is_missing():
    with answering(404) as (client, _):
        assert not client.exists(PATH)
        with pytest.raises(FileNotFoundError, match=PATH):
            client.read(PATH)


def test_a_content_too_large_for_one_put_is_left_to_the_file_system(monkeypatch):
    monkeypatch.setattr("mke_ray.object_client._MAX_PUT_BYTES", 3)
    with answering(200) as (client, asked):
        for put in (client.write, client.create):
            with pytest.raises(OutOfScopeError, match="4 bytes"):
                put(PATH, b"four")
        assert not asked


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and a fork are what is tested
def test_a_forked_child_is_told_that_its_threads_stayed_behind():
    """Not only where the client was asked by way of a root: any thread of it is one too many."""
    with answering(404) as (client, asked):
        assert not client.exists(PATH)
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # where it is not told, it hangs
            os._exit(_num_told(client))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        assert len(asked) == 1


def _num_told(client: ObjectClient) -> int:
    """Return how often a client and one made anew say that they are not for this process."""
    told = 0
    for ask in (lambda: client.exists(PATH), lambda: ObjectClient(S3FileSystem())):
        try:
            ask()
        except OutOfScopeError:
            told += 1
    return told
