"""How a machine hears that it will be taken back, from the metadata service of its cloud."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cluster.drain_node import CLOUDS, Cloud, wait_for_notice


class Rude(BaseHTTPRequestHandler):
    """Closes the connection before or in the middle of an answer."""

    def do_PUT(self) -> None:
        """Say nothing at all."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"FAL")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Metadata(BaseHTTPRequestHandler):
    """Answers as the clouds do; the notice comes at the third time of asking."""

    asked: list[str]

    def do_PUT(self) -> None:
        known = self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "60"
        self._answer(200 if known and self.path == "/latest/api/token" else 400, "session")

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        is_told = len(self.asked) >= 3
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers["X-aws-ec2-metadata-token"] != "session":
                return self._answer(401, "")
            return self._answer(200 if is_told else 404, '{"action": "terminate"}')
        if self.headers["Metadata-Flavor"] != "Google":
            return self._answer(403, "")
        return self._answer(200, "TRUE" if is_told else "FALSE")

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def metadata_url() -> Iterator[str]:
    Metadata.asked = []
    with served(Metadata) as url:
        yield url


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_a_machine_asks_its_cloud_until_it_is_told(name: str, metadata_url: str) -> None:
    own = CLOUDS[name]
    wait_for_notice(Cloud(metadata_url, own.is_told, own.deadline_s), ask_every_s=0.0)
    assert len(Metadata.asked) == 3


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_a_service_that_does_not_answer_is_no_notice(name: str) -> None:
    assert not CLOUDS[name].is_told("http://127.0.0.1:9")


@pytest.mark.parametrize("name", sorted(CLOUDS))
def test_a_service_that_hangs_up_is_no_notice_and_no_end_of_asking(name: str) -> None:
    with served(Rude) as url:
        assert not CLOUDS[name].is_told(url)


def test_a_cloud_gives_a_node_less_time_than_it_has_itself() -> None:
    assert CLOUDS["aws"].deadline_s < 120 and CLOUDS["gcp"].deadline_s < 30
