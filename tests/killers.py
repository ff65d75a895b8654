"""A source whose samples kill, stall or bloat the process that reads them, each in its own way."""

import ctypes
import hashlib
import itertools
import os
import signal
import sys
import time

from label_fakes import FakeReader, FakeSource

from mke_ray.data.sources import Decoded
from mke_ray.schema import DecodeSpec, ManifestRow


def _segfault() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    os.abort()


def _exit() -> None:
    os._exit(3)


def _leave() -> None:
    sys.exit(1)


def _divide() -> None:
    raise ZeroDivisionError("a frame rate of zero")


def _spin_with_gil() -> None:
    sum(itertools.repeat(0))  # one call into C that never looks at anything else again


def _spin_without_gil() -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)


def _eat_memory() -> None:
    kept = []
    while True:
        kept.append(b"x" * (64 << 20))


def _ask_for_too_much() -> None:
    bytearray(1 << 60)


def _wait() -> None:
    time.sleep(3600)


def _die_from_outside() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


KILLERS = {
    "segfault": _segfault,
    "abort": _abort,
    "exit": _exit,
    "leave": _leave,
    "divide": _divide,
    "spin_with_gil": _spin_with_gil,
    "spin_without_gil": _spin_without_gil,
    "eat_memory": _eat_memory,
    "ask_for_too_much": _ask_for_too_much,
    "wait": _wait,
    "die_from_outside": _die_from_outside,
}


class KillerSource(FakeSource):
    """A fake source that also knows the ways of ``KILLERS``, and ``damage``.

    A sample of the way ``damage`` is read well, and the next one in the same process crashes.
    """

    def reader(self, spec: DecodeSpec) -> "KillerReader":
        return KillerReader(self)


class KillerReader(FakeReader):
    def __init__(self, source: FakeSource) -> None:
        super().__init__(source)
        self._is_damaged = False

    def read(self, row: ManifestRow) -> Decoded:
        if self._is_damaged:
            _segfault()
        decoded = super().read(row)
        how = self._source.broken.get(int(row.key))
        self._is_damaged = how == "damage"
        if how in KILLERS:
            KILLERS[how]()
        return decoded


def killer_spec(num_samples: int, **more) -> dict:
    return {"_target_": "killers.KillerSource", "num_samples": num_samples, **more}
