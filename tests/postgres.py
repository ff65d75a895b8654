"""A PostgreSQL server of this machine on loopback, for tests of tracking."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DEBIAN = "/usr/lib/postgresql"
_SERVER_USER = "postgres"  # it refuses to be root
_START_TIMEOUT_S = 120.0


def postgres_folder() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``, None where they are not installed."""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path(_DEBIAN).glob("*/bin"), reverse=True)
    return next((one for one in folders if (one / "initdb").exists()), None)


@contextmanager
def running(binaries: Path, port: int) -> Iterator[str]:
    """Run a fresh server, and yield the URI of an empty database.

    Args:
        binaries: Folder of its programs.
        port: Where it listens.
    """
    folder = Path(tempfile.mkdtemp(prefix="mke-pg-", dir="/tmp"))  # its socket needs a short path
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    user = _server_user(folder)
    try:
        _run([binaries / "initdb", "-D", folder / "store", "-U", "mke", "-A", "scram-sha-256",
              f"--pwfile={folder / 'password'}", "--no-sync"], user)  # fmt: skip
        server = subprocess.Popen(
            [binaries / "postgres", "-D", folder / "store", "-p", str(port), "-k", folder,
             "-h", "127.0.0.1", "-c", "fsync=off"],
            user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield _database(f"mke:{password}@127.0.0.1:{port}", server)
        finally:
            server.send_signal(signal.SIGINT)  # which ends connections too
            server.wait(timeout=60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_user(folder: Path) -> str | None:
    """Give the user of a server its folder, and return it; None is the user of this process."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, _SERVER_USER)
    shutil.chown(folder / "password", _SERVER_USER)
    return pwd.getpwnam(_SERVER_USER).pw_name


def _run(command: list[object], user: str | None) -> None:
    """Run a program to its end."""
    done = subprocess.run(
        list(map(str, command)), user=user, cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr[-2000:]}")


def _database(where: str, server: subprocess.Popen[bytes]) -> str:
    """Make a database once the server answers, and return its URI."""
    import psycopg

    until_s = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            with psycopg.connect(f"postgresql://{where}/postgres", autocommit=True) as connection:
                connection.execute("CREATE DATABASE mlflow")
            return f"postgresql://{where}/mlflow"
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > until_s:
                raise
            time.sleep(0.2)
