"""``scaling.feed=ray`` beside ``local`` in one run: samples/s, CPU of all processes, data wait."""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import ray

from mke_ray.train.feed import Feed
from mke_ray.train.feeding import Ahead
from mke_ray.train.ray_feed import RaySource


@dataclass(frozen=True, slots=True)
class Fed:
    """What one epoch of a feed took.

    Args:
        samples_per_s: Clips by the clock.
        cpu_us: Microseconds of CPU per clip, of this process and all that it started.
        wait: Share of the time in which the loop, which does nothing else, waited.
    """

    samples_per_s: float
    cpu_us: float
    wait: float


@contextlib.contextmanager
def local_ray(num_cpus: int) -> Iterator[None]:
    """Run a Ray of this machine alone, with a folder of its own."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    folder = tempfile.mkdtemp(prefix="mr-", dir="/tmp")  # sockets below it need a short path
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "WARNING"}
    ray.init("local", num_cpus=num_cpus, object_store_memory=1 << 29, _temp_dir=folder, **quiet)
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def compare_pool(codec: str, feeds: dict[str, Feed], num: int, *, cpus: int, times: int) -> None:
    """Print medians of epochs in turns; the first of each starts processes and is left out.

    Args:
        codec: How frames are stored.
        feeds: ``local`` and ``ray``, of the same clips.
        num: Number of clips.
        cpus: CPUs of the pool.
        times: Repetitions.
    """
    with local_ray(cpus):
        feeds["ray"].source = RaySource(feeds["ray"].maker, cpus, Ahead())
        fed: dict[str, list[Fed]] = {name: [] for name in feeds}
        for number in range(times + 1):
            for name, feed in feeds.items():
                one = fed_by(feed, num, number)
                if number:
                    fed[name].append(one)
    print(f"\n{codec}, read again{'samples/s':>14}{'CPU us/clip':>14}{'data wait':>12}")
    for name, some in fed.items():
        speed, cpu_us, wait = (
            statistics.median(getattr(one, what) for one in some)
            for what in ("samples_per_s", "cpu_us", "wait")
        )
        print(f"feed={name:<12}{speed:>14.0f}{cpu_us:>14.0f}{wait:>12.0%}")
    for what in ("samples_per_s", "cpu_us"):
        pairs = zip(fed["ray"], fed["local"], strict=True)
        ratios = sorted(getattr(a, what) / getattr(b, what) for a, b in pairs)
        middle = statistics.median(ratios)
        print(f"ray / local, {what}: {middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def fed_by(feed: Feed, num: int, epoch: int) -> Fed:
    """Return what an epoch of a feed took."""
    before, cpu_s, began = dict(feed.times.seconds), cpu_of_all_s(), time.perf_counter()
    start = epoch * feed.batches_per_epoch
    for _ in feed.batches(start, start + feed.batches_per_epoch):
        pass
    took_s = time.perf_counter() - began
    cpu_s = cpu_of_all_s() - cpu_s
    return Fed(num / took_s, cpu_s / num * 1e6, feed.times.since(before)["wait_s"] / took_s)


def cpu_of_all_s() -> float:
    """Return the CPU seconds of this process and of all that it started and that still run."""
    total = 0.0
    for one in (psutil.Process(), *psutil.Process().children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            taken = one.cpu_times()
            total += taken.user + taken.system
    return total
