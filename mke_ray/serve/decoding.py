"""Decoding what was sent, in helper processes that may be killed without harm to the replica."""

import asyncio
import hashlib
import os
import queue
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import numpy as np

from mke_ray.data.codec import decode_modality
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.isolation import IsolatedDecoder
from mke_ray.labels.rows import StoredRow
from mke_ray.schema import DecodeSpec, ManifestRow
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.spool import Spool
from mke_ray.serve.uploads import file_of

_SOURCE = "mke_ray.serve.uploads.UploadSource"


@dataclass(frozen=True, slots=True)
class Sent:
    """One sample as it was sent.

    Args:
        files: Content by field, a modality or ``clip``.
        start_s: Start of the span in seconds, None for the whole.
        end_s: End of the span.
    """

    files: Mapping[str, bytes] = field(repr=False)
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class DecodedSample:
    """What was read of one sample.

    Args:
        arrays: Per modality that is there its array, as it would be stored.
        missing: Per modality that is not there, the reason.
        error: Why nothing of it can be used, "" where something can.
    """

    arrays: Mapping[str, np.ndarray]
    missing: Mapping[str, str]
    error: str = ""


class DecoderPool:
    """Helper processes, each reading one sample at a time; one that dies is started anew.

    Arrays go through the codec of the stores, so that an answer is that of the labelling pass.

    Args:
        decode: What is read of every modality.
        limits: What one sample may take.
        num_processes: Samples that are decoded at once.
    """

    def __init__(self, decode: DecodeSpec, limits: ServeLimits, num_processes: int) -> None:
        self._decode = decode
        self._spool = Spool()
        self._threads = ThreadPoolExecutor(num_processes, thread_name_prefix="decode")
        self._free: queue.SimpleQueue[IsolatedDecoder] = queue.SimpleQueue()
        source = {"_target_": _SOURCE, "folder": self._spool.folder, "limits": asdict(limits)}
        of_sample = SampleLimits(limits.decode_s, limits.decode_bytes)
        for _ in range(num_processes):
            self._free.put(IsolatedDecoder(source, decode, limits=of_sample))

    def warm_up(self) -> None:
        """Start every process, which proves that this machine starts them.

        Raises:
            ConfigError: It does not.
        """
        nothing = Sent({})
        started = [self._threads.submit(self._read, nothing) for _ in range(self._free.qsize())]
        for one in started:
            one.result()

    async def decode(self, sent: Sent) -> DecodedSample:
        """Return what is in a sample, whatever it does to its reader."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, sent)

    def close(self) -> None:
        """End the processes and remove what waits for them."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        while not self._free.empty():
            self._free.get().close()
        self._spool.close()

    def _read(self, sent: Sent) -> DecodedSample:
        """Lay a sample's files down for a process, and take what it makes of them."""
        key = secrets.token_hex(16)
        folder = os.path.join(self._spool.folder, key)
        decoder = self._free.get()
        try:
            os.mkdir(folder, mode=0o700)
            for name, content in sent.files.items():
                with open(os.path.join(folder, file_of(self._decode, name)), "wb") as file:
                    file.write(content)
            (stored,) = decoder.read([_row_of(key, sent)])
        finally:
            self._free.put(decoder)
            shutil.rmtree(folder, ignore_errors=True)
        return self._sample_of(stored)

    def _sample_of(self, stored: StoredRow) -> DecodedSample:
        arrays = {m: decode_modality(one, self._decode[m]) for m, one in stored.pieces.items()}
        return DecodedSample(arrays, stored.missing, "" if arrays else stored.error or "unreadable")


def _row_of(key: str, sent: Sent) -> ManifestRow:
    """Return the row of a sample; its id is one of its content, since chance depends on it."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(sent.files):
        digest.update(name.encode() + b"\0" + sent.files[name])
    number = int.from_bytes(digest.digest(), "big", signed=True)
    size = sum(map(len, sent.files.values()))
    return ManifestRow(number, "", key, size, "", sent.start_s, sent.end_s, key, "unlabeled", None)
