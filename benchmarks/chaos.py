"""Exactly once under fire: a pass on real clips in S3 while its processes are killed at random.

    OMP_NUM_THREADS=1 python benchmarks/chaos.py --kills 100 --seed 0

A Ray cluster of two nodes beside its head labels the clips with two teachers. Every few seconds
one of these happens, in random order and each as often as any other: SIGKILL of a decode process,
of an actor, of a node (its raylet), of the driver; an actor that is held by SIGSTOP for seconds
and wakes late; S3 that gives no answer for seconds; S3 that is killed and comes back. The driver
is started again until the pass ends, and the next pass begins on a root of its own until there
were enough kills. Then every row of every store is compared with an undisturbed pass. Ends with 1
if a row is lost, there twice, or of another teacher.
"""

import argparse
import contextlib
import logging
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# Ray reads these when it is imported.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from chaos_pass import NUM_ACTORS, Lost, examine, reference, source_spec
from local_s3 import BUCKET, LocalServer, local_s3
from ray.cluster_utils import Cluster

from mke_ray.config import build

HERE = Path(__file__).parent
CPUS_PER_NODE = 2
CLIPS = f"s3://{BUCKET}/clips"

_NODE_TRIES = 5
_logger = logging.getLogger("chaos")


@dataclass(slots=True)
class Chaos:
    """The pass under fire, and what can be done to it.

    Args:
        cluster: The Ray cluster.
        server: The S3 server.
        clips: How many unlabeled clips.
        delay_s: How long a teacher takes for a unit.
        chance: What decides.
        driver: The driver that runs now.
        starts: How many drivers were started.
        done: How often each kind happened.
    """

    cluster: Cluster
    server: LocalServer
    clips: int
    delay_s: float
    chance: random.Random
    driver: subprocess.Popen[bytes] | None = None
    starts: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def kinds(self) -> dict[str, Callable[[], bool]]:
        """Return what can happen; each returns whether it did."""
        return {
            "decode process": lambda: self._kill(self._decoders()),
            "actor": lambda: self._kill(self._actors()),
            "node": self._kill_node,
            "driver": self._kill_driver,
            "sleeping actor": lambda: self._hold(self._actors()),
            "silent S3": self._silence_s3,
            "killed S3": self._kill_s3,
        }

    def start_driver(self, uri: str) -> None:
        """Start the driver of a pass."""
        self.starts += 1
        where = [self.cluster.address, uri, CLIPS, str(self.clips), str(self.delay_s)]
        path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
        with Path(self.server.folder, "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, str(HERE / "chaos_pass.py"), *where],
                env=os.environ | {"PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )

    def end(self) -> None:
        """End what may still run."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
            self.driver.wait()

    def is_working(self) -> bool:
        """Return whether there are actors: before, there is nothing to disturb but the start."""
        return bool(self._actors())

    def _processes(self) -> Iterator[psutil.Process]:
        """Yield the processes of the nodes that do the work."""
        for node in list(self.cluster.worker_nodes):
            for raylet in node.all_processes["raylet"]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield from psutil.Process(raylet.process.pid).children(recursive=True)

    def _actors(self) -> list[psutil.Process]:
        return [one for one in self._processes() if "ray::MapWorker" in _command(one)]

    def _decoders(self) -> list[psutil.Process]:
        return [one for one in self._processes() if "decode_child" in _command(one)]

    def _kill(self, processes: list[psutil.Process]) -> bool:
        """Kill one of some processes."""
        if not processes:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            self.chance.choice(processes).send_signal(signal.SIGKILL)
        return True

    def _hold(self, processes: list[psutil.Process]) -> bool:
        """Hold one of some processes for seconds."""
        if not processes:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            held = self.chance.choice(processes)
            held.send_signal(signal.SIGSTOP)
            time.sleep(self.chance.uniform(1.0, 6.0))
            held.send_signal(signal.SIGCONT)
        return True

    def _kill_node(self) -> bool:
        """Kill the raylet of a node, and start another node."""
        node = self.chance.choice(sorted(self.cluster.worker_nodes, key=lambda one: one.unique_id))
        node.kill_raylet()
        self.cluster.remove_node(node, allow_graceful=False)
        _add_node(self.cluster)
        return True

    def _kill_driver(self) -> bool:
        """Kill the driver."""
        assert self.driver is not None
        self.driver.send_signal(signal.SIGKILL)
        self.driver.wait()
        return True

    def _silence_s3(self) -> bool:
        """Hold the S3 server for seconds."""
        assert self.server.process is not None
        self.server.process.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(1.0, 6.0))
        self.server.process.send_signal(signal.SIGCONT)
        return True

    def _kill_s3(self) -> bool:
        """Kill the S3 server, and start it again on the same folder and ports."""
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()
        time.sleep(self.chance.uniform(0.5, 3.0))
        self.server.start()
        return True


def main() -> int:
    """Print what was lost; return 1 if anything was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=160, help="unlabeled clips of a pass")
    parser.add_argument("--delay", type=float, default=0.4, help="seconds of a teacher per unit")
    parser.add_argument("--pause", type=float, default=3.0, help="most seconds between kills")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(message)s")
    _logger.setLevel(logging.INFO)
    start_s = time.monotonic()
    with local_s3() as server, _cluster() as cluster:
        build(source_spec(CLIPS, options.clips)).prepare()
        chaos = Chaos(cluster, server, options.clips, options.delay, random.Random(options.seed))
        try:
            lost, num_passes = disturb(chaos, options.kills, options.pause)
        finally:
            chaos.end()
    kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(chaos.done.items()))
    print(f"{chaos.done.total()} kills in {time.monotonic() - start_s:.0f} s: {kinds}")
    print(f"{num_passes} passes over {options.clips} clips, {chaos.starts} starts of a driver")
    print(
        f"{lost.lost} rows lost, {lost.twice} twice, {lost.mixed} mixed, "
        f"{lost.problems} other problems, {lost.orphans} orphans"
    )
    return int(bool(lost.lost or lost.twice or lost.mixed or lost.problems))


def disturb(chaos: Chaos, num_kills: int, pause_s: float) -> tuple[Lost, int]:
    """Carry out passes until there were enough kills, and return what was lost in how many."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = reference(folder, CLIPS, chaos.clips)
    lost, num_passes, deck = Lost(), 0, _Deck(chaos, num_kills)
    while deck.num_left:
        uri = f"s3://{BUCKET}/chaos-{num_passes}"
        run_to_its_end(chaos, deck, uri, pause_s)
        found = examine(uri, CLIPS, chaos.clips, wanted)
        lost, num_passes = lost + found, num_passes + 1
        _logger.info("pass %d: %s", num_passes, found)
    return lost, num_passes


def run_to_its_end(chaos: Chaos, deck: "_Deck", uri: str, pause_s: float) -> None:
    """Start the driver of a pass until one ends well, and disturb it meanwhile."""
    chaos.start_driver(uri)
    while True:
        assert chaos.driver is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            chaos.driver.wait(chaos.chance.uniform(0.1, pause_s))
        if chaos.driver.poll() == 0:
            return
        if chaos.driver.poll() is not None:
            _logger.info("the driver ended with %s and is started again", chaos.driver.poll())
            chaos.start_driver(uri)
        elif deck.num_left and chaos.is_working():
            deck.play()


class _Deck:
    """What is to happen: every kind once, shuffled, then again."""

    def __init__(self, chaos: Chaos, num_kills: int) -> None:
        self._chaos = chaos
        self._cards: list[str] = []
        self.num_left = num_kills

    def play(self) -> None:
        """Let the next thing happen."""
        kinds = self._chaos.kinds()
        if not self._cards:
            self._cards = sorted(kinds)
            self._chaos.chance.shuffle(self._cards)
        if kinds[self._cards[-1]]():
            kind = self._cards.pop()
            self._chaos.done[kind] += 1
            self.num_left -= 1
            _logger.info("%s, %d left", kind, self.num_left)


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    """Run a Ray cluster of a head that does no work and two nodes."""
    folder = tempfile.mkdtemp(prefix="mc-", dir="/tmp")  # sockets need a short path
    os.environ["RAY_TMPDIR"] = folder
    path = os.pathsep.join([str(HERE), *filter(None, sys.path)])
    os.environ["PYTHONPATH"] = path
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(NUM_ACTORS):
            _add_node(cluster)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def _add_node(cluster: Cluster) -> None:
    """Add a node; Ray raises a bare Exception where it does not start in time."""
    for _ in range(_NODE_TRIES):
        try:
            cluster.add_node(num_cpus=CPUS_PER_NODE)
        except Exception as error:  # noqa: BLE001 - Ray raises Exception itself
            _logger.info("a node did not start: %s", error)
        else:
            return
    raise RuntimeError(f"no node started in {_NODE_TRIES} tries; is this machine too busy?")


def _command(process: psutil.Process) -> str:
    """Return the command line of a process, "" where it is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


if __name__ == "__main__":
    sys.exit(main())
