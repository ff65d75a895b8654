"""A SeaweedFS on loopback for benchmarks, and buckets of any number of keys in minutes.

A few objects are put by S3. Their records are taken out of the server's metadata, written down
again in turns under as many names as are asked for, and given back to the server, which takes
thousands a second where puts take a hundred. To a client they are objects like others; those of
one record share their bytes.
"""

import importlib
import os
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import s3fs

ROOT = Path(__file__).parents[1]
BUCKET = "mke-ray-tests"
KEYS_PER_FOLDER = 10_000

# The server says that it is done when its last few records are still on their way.
_NUM_LAST = 200
_OBJECT = "object"
_FOLDER, _ENTRY, _NAME = 0x0A, 0x12, 0x0A  # tags of the fields of a record


@dataclass(slots=True)
class LocalServer:
    """A running server.

    Args:
        master: Port of its master.
        filer: Port of its filer.
        command: What starts it.
        folder: What it writes to.
        process: It, as it runs now.
    """

    master: int
    filer: int
    command: Sequence[str]
    folder: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it says."""
        return Path(self.folder, "weed.log")

    def start(self) -> subprocess.Popen[bytes]:
        """Start it on its folder and ports."""
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                self.command, stdout=file, stderr=subprocess.STDOUT, cwd=self.folder
            )
        return self.process

    def shell(self, line: str) -> None:
        """Carry out one line of the server's own shell."""
        weed = str(Path(sys.executable).parent / "weed")
        where = [f"-master=127.0.0.1:{self.master}", f"-filer=127.0.0.1:{self.filer}"]
        ended = subprocess.run(
            [weed, "shell", *where], input=line + "\n", text=True, check=True, capture_output=True
        )
        said = ended.stdout + ended.stderr
        if "error" in said.lower():  # the shell ends with 0 whatever happened
            raise RuntimeError(f"{line}: {said[-2000:]}")

    def fill(self, prefix: str, num_keys: int, contents: Sequence[bytes] = (b"x",)) -> None:
        """Put objects below ``prefix/unlabeled``, in folders of equal size.

        Args:
            prefix: Folder of the bucket.
            num_keys: How many objects.
            contents: What they hold, in turns.
        """
        filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
        for number, content in enumerate(contents[:num_keys]):
            filesystem.pipe_file(f"{BUCKET}/{prefix}/first/{_OBJECT}-{number:06d}", content)
        with tempfile.TemporaryDirectory(prefix="mke-fill-") as folder:
            saved, filled = Path(folder, "saved.meta"), Path(folder, "filled.meta")
            self.shell(f"fs.meta.save -o {saved} /buckets/{BUCKET}/{prefix}")
            with filled.open("wb") as file:
                _write_records(file, _records(saved.read_bytes()), num_keys)
            self.shell(f"fs.meta.load -v=false -concurrency=8 {filled}")


@contextmanager
def local_s3() -> Iterator[LocalServer]:
    """Run a server while something is measured; the environment names it."""
    conftest = _conftest()
    folder, port = tempfile.mkdtemp(prefix="mke-s3-"), conftest.free_ports(1)[0]
    ports = conftest.free_ports(4)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = LocalServer(ports[0], ports[1], conftest.weed_command(folder, port, ports), folder)
    try:
        conftest.wait_for_s3(os.environ["AWS_ENDPOINT_URL"], server.start(), server.log)
        yield server
    finally:
        if server.process is not None:
            server.process.terminate()
            server.process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _conftest() -> ModuleType:
    """Return what the tests start their server with, and leave Ray as the environment has it."""
    sys.path.insert(0, str(ROOT / "tests"))
    before = dict(os.environ)
    conftest = importlib.import_module("conftest")
    for name in [name for name in os.environ if name.startswith("RAY_AUTH_")]:
        del os.environ[name]  # Ray may be imported already, and reads them then
    os.environ |= {name: text for name, text in before.items() if name.startswith("RAY_AUTH_")}
    return conftest


@dataclass(frozen=True, slots=True)
class _Record:
    """One entry of the metadata: its folder, its name, and the rest as it came."""

    folder: bytes
    name: bytes
    rest: bytes

    def named(self, folder: bytes, name: str) -> bytes:
        """Return the record of an entry that differs in its place alone."""
        entry = _field(_NAME, name.encode()) + self.rest
        content = _field(_FOLDER, folder) + _field(_ENTRY, entry)
        return struct.pack(">I", len(content)) + content


def _records(content: bytes) -> dict[bytes, _Record]:
    """Return the records of a saved file by name."""
    found, begin = {}, 0
    while begin < len(content):
        (size,) = struct.unpack_from(">I", content, begin)
        folder, entry = _first_field(content[begin + 4 : begin + 4 + size])
        name, rest = _first_field(_first_field(entry)[0])
        found[name] = _Record(folder, name, rest)
        begin += 4 + size
    return found


def _first_field(content: bytes) -> tuple[bytes, bytes]:
    """Return the value of the first field and what follows it."""
    size, begin = _varint(content, 1)
    return content[begin : begin + size], content[begin + size :]


def _varint(content: bytes, begin: int) -> tuple[int, int]:
    """Return the number that begins there and where it ends."""
    value = shift = 0
    while True:
        byte = content[begin]
        value |= (byte & 0x7F) << shift
        begin, shift = begin + 1, shift + 7
        if byte < 0x80:
            return value, begin


def _field(tag: int, content: bytes) -> bytes:
    """Return a field of known length."""
    size, encoded = len(content), bytearray([tag])
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + content


def _write_records(file: BinaryIO, found: dict[bytes, _Record], num_keys: int) -> None:
    """Write the folders, the objects, and some objects elsewhere that may get lost."""
    like_folder = found[b"first"]
    likes = [found[name] for name in sorted(found) if name.startswith(_OBJECT.encode())]
    top = like_folder.folder
    file.write(like_folder.named(top, "unlabeled"))
    for begin in range(0, num_keys, KEYS_PER_FOLDER):
        name = f"folder-{begin // KEYS_PER_FOLDER:05d}"
        file.write(like_folder.named(top + b"/unlabeled", name))
        below = top + b"/unlabeled/" + name.encode()
        for number in range(begin, min(begin + KEYS_PER_FOLDER, num_keys)):
            like = likes[number % len(likes)]
            file.write(like.named(below, f"clip-{number:09d}.mp4"))
    for number in range(_NUM_LAST):
        file.write(likes[0].named(top + b"/last", f"object-{number}"))
