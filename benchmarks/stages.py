"""Stages that are measured one after the other, each in a process of its own with its own peak."""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence

Measured = dict[str, dict[str, float]]


def measure_all(file: str, stages: Iterable[str], *, size: str, number: int) -> Measured:
    """Run every stage of a benchmark on the same folder.

    Args:
        file: The benchmark; with ``--stage`` and ``--folder`` it prints what ``measure`` returns.
        stages: Their names, in order.
        size: Option that takes the number.
        number: How many rows or keys.
    """
    with tempfile.TemporaryDirectory(prefix="mke-stages-") as folder:
        command = [sys.executable, file, size, str(number), "--folder", folder]
        return {
            stage: json.loads(subprocess.check_output([*command, "--stage", stage]))
            for stage in stages
        }


def measure(work: Callable[[], None]) -> dict[str, float]:
    """Return the seconds of some work and the peak of this process's memory."""
    start_s = time.perf_counter()
    work()
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - start_s, "peak_mib": peak_kib / 1024}


def show(sizes: Sequence[int], found: Sequence[Measured], *, counted: str) -> None:
    """Print a line per stage with both sizes and the ratio of their peaks."""
    for stage in found[0]:
        cells = [
            f"{size:>9,} {counted} {one[stage]['peak_mib']:6.0f} MiB {one[stage]['seconds']:7.1f} s"
            for size, one in zip(sizes, found, strict=True)
        ]
        ratio = found[1][stage]["peak_mib"] / found[0][stage]["peak_mib"]
        print(f"{stage:<10} {'  '.join(cells)}  memory ratio {ratio:.2f}")
