"""Memory and CPU time of this process and of those that it starts, while something runs."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

_LOOK_EVERY_S = 0.5
_MIB = 1 << 20

DRIVER, ACTOR, DECODER, SERVER, OTHER = "driver", "actor", "decode process", "server", "other"
# What the command of a process holds; Ray writes the class of an actor there.
_ROLES = {
    **dict.fromkeys(["UnitActor", "DecodeActor", "LabelActor"], ACTOR),
    "decode_child": DECODER,
    "weed mini": SERVER,
}


@dataclass(slots=True)
class Watched:
    """What was seen, by role.

    Args:
        peaks_mib: Resident memory of the largest process.
        cpu_s: CPU time of all processes.
    """

    peaks_mib: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def own_cpu_s(self) -> float:
        """CPU time of all but the server."""
        return sum(spent_s for role, spent_s in self.cpu_s.items() if role != SERVER)


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch while a block runs; what is yielded is complete when it is over."""
    watch, is_over = _Watch(), threading.Event()
    watch.look()
    thread = threading.Thread(target=watch.run, args=(is_over,))
    thread.start()
    try:
        yield watch.found
    finally:
        is_over.set()
        thread.join()


class _Watch:
    """Looks at the processes again and again; one that ends is seen as it was last."""

    def __init__(self) -> None:
        self.found = Watched()
        self._own = psutil.Process()
        self._roles: dict[psutil.Process, str] = {}
        self._cpu_s: dict[psutil.Process, float] = {self._own: 0.0}

    def run(self, is_over: threading.Event) -> None:
        """Look until it is over, and a last time then."""
        is_last = False
        while not is_last:
            is_last = is_over.wait(_LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Look at all processes once; what was there at the first look counts from then on."""
        is_first = not self._roles
        for one in [self._own, *self._own.children(recursive=True)]:
            try:
                self._see(one, is_first=is_first)
            except psutil.Error:
                continue

    def _see(self, process: psutil.Process, *, is_first: bool) -> None:
        role = DRIVER if process == self._own else _role(process)
        if self._roles.get(process) in (None, OTHER):  # Ray names its workers when they have work
            self._roles[process] = role
        role = self._roles[process]
        times = process.cpu_times()
        spent_s = times.user + times.system
        if not is_first:
            self.found.cpu_s[role] += spent_s - self._cpu_s.get(process, 0.0)
        self._cpu_s[process] = spent_s
        peaks = self.found.peaks_mib
        peaks[role] = max(peaks[role], process.memory_info().rss / _MIB)


def _role(process: psutil.Process) -> str:
    """Return what a process does."""
    command = " ".join(process.cmdline())
    return next((role for part, role in _ROLES.items() if part in command), OTHER)
