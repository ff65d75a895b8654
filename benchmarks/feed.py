"""What the feed costs beside a memory-mapped array, beside other loaders, and in memory.

    OMP_NUM_THREADS=1 python benchmarks/feed.py --clips 1024 --repetitions 3
    OMP_NUM_THREADS=1 python benchmarks/feed.py --rivals FOLDER
    OMP_NUM_THREADS=1 python benchmarks/feed.py --clips 1024 --repetitions 5 --pool 1

Clips of 8 frames of 64 by 64 pixels and a second of sound, stored raw or as JPEG, in batches of 64.
``kept`` has room for all units, ``read again`` for three windows of 4 units, so that every epoch
fetches and decodes anew. The floor of raw frames, and of all that is kept, is gathering the same
batches from memory-mapped arrays; of JPEG that is read again, decoding the same bytes, at hand in
memory, with the same library in one thread. A ratio is CPU seconds of the floor over those of the
feed, in turns in one run: 1 means that the feed is free. FOLDER holds packages of other loaders
(``pip install --target FOLDER --no-deps webdataset torchdata``). Peak memory is of processes that
read all clips, once with ten times as many.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from feed_stores import clip_spec, store_clips

from mke_ray.data.codec import decode_modality, stored_shape
from mke_ray.labels.probe import ProbeDivision
from mke_ray.schema import DecodeSpec
from mke_ray.storage import Root, open_root
from mke_ray.train.assemble import open_reader
from mke_ray.train.feed import Feed
from mke_ray.train.feeding import Ahead
from mke_ray.train.fits import FitSpec, RowSelection
from mke_ray.train.plan import RowPlan
from mke_ray.train.usable import usable_entries

_BATCH = 64
_WINDOW = 4
_UNIT = 32
_CLIP_BYTES = 8 * 64 * 64 * 3 + 4 * 16_000
_THREE_WINDOWS = 3 * _WINDOW * _UNIT * _CLIP_BYTES


@dataclass(frozen=True, slots=True)
class Took:
    """What one pass over all clips took, per clip.

    Args:
        cpu_us: Microseconds of CPU.
        wall_us: Microseconds by the clock.
    """

    cpu_us: float
    wall_us: float


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=1024)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rivals")
    parser.add_argument("--pool", type=int, help="CPUs; measures only feed=ray beside feed=local")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(options.peak[0], int(options.peak[1]))
        return
    if options.rivals:
        sys.path.append(options.rivals)
    for codec in ("raw", "jpeg"):
        with tempfile.TemporaryDirectory() as folder:
            root = open_root(str(Path(folder, "run")))
            store_clips(root, options.clips, clip_spec(codec), unit_size=_UNIT)
            if options.pool:
                compare_with_pool(codec, root, options)
            else:
                compare(codec, root, Path(folder), options)
    if not options.pool:
        compare_peaks(options.clips)


def compare_with_pool(codec: str, root: Root, options: argparse.Namespace) -> None:
    """Print what a pool of Ray costs beside threads, with units read again."""
    from feed_pool import compare_pool  # noqa: PLC0415  # ray.data takes seconds

    num_bytes = _THREE_WINDOWS * options.pool  # of which each task of the pool has its part
    names = {"local": _THREE_WINDOWS, "ray": num_bytes}
    feeds = {name: make_feed(root, size, options.threads) for name, size in names.items()}
    compare_pool(codec, feeds, options.clips, cpus=options.pool, times=options.repetitions)


def compare(codec: str, root: Root, folder: Path, options: argparse.Namespace) -> None:
    """Print the costs of all ways to the batches of one store."""
    decode, num = clip_spec(codec), options.clips
    kept, again = (
        make_feed(root, 4 << 30, options.threads),
        make_feed(root, _THREE_WINDOWS, options.threads),
    )
    pieces = pieces_of(kept, decode)
    arrays = mapped_arrays(folder, pieces, decode)
    ways: dict[str, Callable[[], Iterable[object]]] = {
        "memory-mapped": lambda: gathered(arrays, num),
        "feed, kept": lambda: epoch_of(kept),
        "feed, read again": lambda: epoch_of(again),
    }
    if codec != "raw":
        ways["decoding alone"] = lambda: decoded(pieces, decode)
        ways |= rival_ways(folder, pieces, decode)
    took: dict[str, list[Took]] = {name: [] for name in ways}
    for number in range(options.repetitions + 1):  # the first time fills what is kept
        for name, way in ways.items():
            one = measured(way(), num)
            if number:
                took[name].append(one)
    report(codec, took)


def report(codec: str, took: dict[str, list[Took]]) -> None:
    """Print medians, and the ratios of the floors to the feed."""
    print(f"\n{codec} frames{'CPU us/clip':>36}{'clock us/clip':>16}")
    for name, some in took.items():
        cpu_us = statistics.median(one.cpu_us for one in some)
        wall_us = statistics.median(one.wall_us for one in some)
        print(f"{name:<31}{cpu_us:>16.1f}{wall_us:>16.1f}")
    floor = "memory-mapped" if codec == "raw" else "decoding alone"
    for name, beside in (("feed, kept", "memory-mapped"), ("feed, read again", floor)):
        pairs = zip(took[beside], took[name], strict=True)
        ratios = [a.cpu_us / b.cpu_us for a, b in pairs]
        low, high = min(ratios), max(ratios)
        middle = statistics.median(ratios)
        print(f"{beside} / {name}: min {low:.2f}  median {middle:.2f}  max {high:.2f}")


def measured(items: Iterable[object], num: int) -> Took:
    """Go through items and return what that took per clip."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for _ in items:
        pass
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    return Took(cpu_s / num * 1e6, wall_s / num * 1e6)


def make_feed(root: Root, cache_bytes: int, num_threads: int) -> Feed:
    """Return the feed of all clips of a run."""
    rows = (RowSelection("unlabeled", "pseudo"),)
    spec = FitSpec(
        name="feed",
        arm="mke",
        samples="s",
        labels="t",
        student={"encoders": {"video": {}, "audio": {}}},
        objective={},
        rows=rows,
        optimizer={},
        num_steps=1,
    )
    reader = open_reader(spec, root, cache_bytes=cache_bytes)
    entries = usable_entries(reader, rows, ProbeDivision())
    plan = RowPlan(entries, global_batch=_BATCH, window_units=_WINDOW)
    return Feed(reader, plan, selections=rows, ahead=Ahead(num_threads))


def epoch_of(feed: Feed) -> Iterator[object]:
    """Yield the batches of one epoch, another one each time."""
    start = getattr(feed, "next_cursor", 0)
    feed.next_cursor = start + feed.batches_per_epoch  # type: ignore[attr-defined]
    return feed.batches(start, start + feed.batches_per_epoch)


def pieces_of(feed: Feed, decode: DecodeSpec) -> list[dict[str, list[bytes]]]:
    """Return what is stored of every clip."""
    samples = feed.maker.reader.samples
    tables = [samples.read(unit, columns=list(decode)) for unit in sorted(samples.committed())]
    return [row for table in tables for row in table.to_pylist()]


def mapped_arrays(
    folder: Path, pieces: list[dict[str, list[bytes]]], decode: DecodeSpec
) -> dict[str, np.ndarray]:
    """Write the decoded clips as arrays, and return these mapped into memory."""
    arrays = {}
    for name, spec in decode.items():
        first = decode_modality(pieces[0][name], spec)
        shape = (len(pieces), *stored_shape(spec))
        path = folder / f"{name}.npy"
        written = np.lib.format.open_memmap(path, "w+", first.dtype, shape)
        for number, one in enumerate(pieces):
            written[number] = decode_modality(one[name], spec)
        written.flush()
        arrays[name] = np.load(path, mmap_mode="r")
    return arrays


def gathered(arrays: dict[str, np.ndarray], num: int) -> Iterator[object]:
    """Yield shuffled batches of arrays, each in the order of memory."""
    order = np.random.default_rng(0).permutation(num)
    for start in range(0, num, _BATCH):
        rows = np.sort(order[start : start + _BATCH])
        yield {name: torch.from_numpy(array[rows]) for name, array in arrays.items()}


def decoded(pieces: list[dict[str, list[bytes]]], decode: DecodeSpec) -> Iterator[object]:
    """Yield batches decoded from bytes in memory."""
    for start in range(0, len(pieces), _BATCH):
        some = pieces[start : start + _BATCH]
        yield {
            name: torch.from_numpy(np.stack([decode_modality(one[name], spec) for one in some]))
            for name, spec in decode.items()
        }


def rival_ways(
    folder: Path, pieces: list[dict[str, list[bytes]]], decode: DecodeSpec
) -> dict[str, Callable[[], Iterable[object]]]:
    """Return the loaders that are installed, each in this process on the same bytes."""
    ways: dict[str, Callable[[], Iterable[object]]] = {}
    try:
        import webdataset  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
    except ImportError:
        print("webdataset is not installed")
    else:
        shards = tar_shards(folder, pieces)

        def by_webdataset() -> Iterable[object]:
            shuffled = webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(
                _WINDOW * _UNIT
            )
            return shuffled.map(lambda one: from_tar(one, decode)).batched(_BATCH)

        ways["webdataset"] = by_webdataset
    try:
        from torchdata.stateful_dataloader import (  # noqa: PLC0415  # pyright: ignore[reportMissingImports]
            StatefulDataLoader,
        )
    except ImportError:
        print("torchdata is not installed")
    else:
        clips = _Clips(pieces, decode)
        ways["torchdata, bytes in memory"] = lambda: StatefulDataLoader(
            clips, batch_size=_BATCH, shuffle=True
        )
    return ways


class _Clips(torch.utils.data.Dataset):
    """Clips by number, decoded from bytes in memory."""

    def __init__(self, pieces: list[dict[str, list[bytes]]], decode: DecodeSpec) -> None:
        self._pieces = pieces
        self._decode = decode

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, number: int) -> dict[str, np.ndarray]:
        one = self._pieces[number]
        return {name: decode_modality(one[name], spec) for name, spec in self._decode.items()}


def tar_shards(folder: Path, pieces: list[dict[str, list[bytes]]]) -> list[str]:
    """Write clips as shards of 256, one member per frame and for the sound."""
    paths = []
    for start in range(0, len(pieces), 256):
        path = folder / f"clips-{start:06d}.tar"
        with tarfile.open(path, "w") as shard:
            for number, one in enumerate(pieces[start : start + 256], start):
                for name, parts in one.items():
                    for place, content in enumerate(parts):
                        member = tarfile.TarInfo(f"{number:06d}.{name}{place}")
                        member.size = len(content)
                        shard.addfile(member, io.BytesIO(content))
        paths.append(str(path))
    return paths


def from_tar(one: dict[str, bytes], decode: DecodeSpec) -> tuple[np.ndarray, ...]:
    """Decode the members of one clip."""
    parts = {name: sorted(key for key in one if key.startswith(name)) for name in decode}
    return tuple(
        decode_modality([one[key] for key in parts[name]], spec) for name, spec in decode.items()
    )


def compare_peaks(num: int) -> None:
    """Print peak memory of processes that read some clips and ten times as many."""
    peaks = []
    for many in (num, 10 * num):
        with tempfile.TemporaryDirectory() as folder:
            store_clips(open_root(folder), many, clip_spec("jpeg"), unit_size=_UNIT)
            command = [sys.executable, __file__, "--peak", folder, str(_THREE_WINDOWS)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout.split()[-1]))
        print(f"peak memory of the feed of {many} clips: {peaks[-1]:.0f} MiB above its start")
    print(f"ten times the data: {peaks[1] / peaks[0]:.2f}")


def print_peak(folder: str, cache_bytes: int) -> None:
    """Print by how much memory grew while all clips were read."""
    before_mib = memory_mib("VmRSS")
    for _ in epoch_of(make_feed(open_root(folder), cache_bytes, 1)):
        pass
    print(memory_mib("VmHWM") - before_mib)


def memory_mib(kind: str) -> float:
    """Return the memory of this process in MiB: ``VmRSS`` now, ``VmHWM`` at most since it began."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


if __name__ == "__main__":
    main()
