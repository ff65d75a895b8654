"""A relay in front of a server, which may be slow, drop connections, or be cut."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

_CHUNK = 1 << 16


class Relay:
    """Hands on bytes between clients and a server.

    Args:
        port: Where the server listens on loopback.

    Attributes:
        delay_s: How long each connection waits before its first byte.
        num_drops: How many more connections are closed at once.
        is_cut: Whether nothing goes through any more.
    """

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.delay_s = 0.0
        self.num_drops = 0
        self.is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        """Close all connections, and every one that comes."""
        self.is_cut = True
        self.drop()

    def drop(self) -> None:
        """Close all connections."""
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        """Serve whoever connects."""
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Hand on the bytes of one connection."""
        if self.is_cut or self.num_drops > 0:
            self.num_drops -= 1
            client.close()
            return
        time.sleep(self.delay_s)
        server = socket.create_connection(self._server)
        self._open += [client, server]
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Hand on bytes until one side ends."""
    with contextlib.suppress(OSError):
        while content := source.recv(_CHUNK):
            target.sendall(content)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def relay_to(port: int) -> Iterator[Relay]:
    """Yield a relay to a port of loopback."""
    relay = Relay(port)
    try:
        yield relay
    finally:
        relay.close()
