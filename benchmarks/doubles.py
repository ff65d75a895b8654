"""How well copies of a clip are told from other clips, what that costs, and how memory grows.

    python benchmarks/doubles.py --clips 40
    python benchmarks/doubles.py --memory 100000 200000

The first prints the distances between demo clips and the same clips encoded again, between takes
(the same moving background under another digit and another sound) and between different clips,
and how many of each count as copies. The second fills stores with random signatures and prints
the largest memory of a process that looks through one. The figures are in docs/doubles.md.
"""

# N clips, P pairs.

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.demo import plan_clips
from mke_ray.data.demo_audio import render_sound
from mke_ray.data.demo_video import render_frames
from mke_ray.data.demo_writer import ClipPlan, ClipWriter, encode_mp4
from mke_ray.data.likeness import Signatures, copies, picture_distance, sound_distance
from mke_ray.data.manifest import write_manifest
from mke_ray.data.media import decode_clip
from mke_ray.data.signatures import signature
from mke_ray.data.sources import Progress, Reader, SourceRow
from mke_ray.labels.double_index import ReferenceIndex
from mke_ray.labels.doubles import mark_doubles
from mke_ray.labels.plan import samples_store
from mke_ray.schema import (
    AudioSpec,
    DecodeSpec,
    LabelSpace,
    VideoSpec,
    decode_spec_to_dict,
    samples_schema,
)
from mke_ray.storage import Root, open_root

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from encoded_again import Again, encode_again  # pyright: ignore[reportMissingImports]

SPEC = {"video": VideoSpec(8, 48, 48), "audio": AudioSpec(8000, 2.0)}
WAYS = {
    "same settings": Again(),
    "64 x 64": Again(size=(64, 64)),
    "crf 38": Again(crf=38),
    "10 fps": Again(rate_hz=10),
    "gain -12 dB": Again(gain=0.25),
    "0.2 s cut off": Again(trim_s=0.2),
    "stereo, 44.1 kHz": Again(layout="stereo", sound_rate_hz=44100),
    "aac 24 kbit/s": Again(sound_bits=24_000, sound_rate_hz=16_000),
    "all of it": Again((80, 80), 34, 12, 0.5, 0.2, "stereo", 22_050, 48_000),
}


class Clips:
    """Signatures of clips, with the time that they took."""

    def __init__(self) -> None:
        self.decode_s = 0.0
        self.signature_s = 0.0

    def sign(self, contents: Sequence[bytes]) -> dict[str, Signatures]:
        """Return the signatures of some files."""
        columns: dict[str, list[bytes]] = {name: [] for name in SPEC}
        for content in contents:
            start_s = time.process_time()
            decoded = decode_clip(content, SPEC)
            middle_s = time.process_time()
            for name, spec in SPEC.items():
                columns[name].append(signature(decoded.arrays[name], spec))
            self.decode_s += middle_s - start_s
            self.signature_s += time.process_time() - middle_s
        return {name: Signatures.parse(column, name) for name, column in columns.items()}


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--memory", type=int, nargs="+", help="sizes of the unlabeled set")
    parser.add_argument("--fill-and-search", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill_and_search:
        print_memory(options.fill_and_search)
    elif options.memory:
        print("unlabeled  MB before  MB after  seconds")
        for number in options.memory:
            command = [sys.executable, __file__, "--fill-and-search", str(number)]
            subprocess.run(command, check=True)
    else:
        print_distances(options.clips)


def print_distances(num_clips: int) -> None:
    """Print how unlike copies, takes and different clips are."""
    counts = {"labelled": 10, "unlabeled": num_clips, "probe": 10, "test": 10}
    plans = [p for p in plan_clips(counts, num_broken=0, data_seed=0) if p.split == "unlabeled"]
    writer = ClipWriter(Root(""), 0, 0.0)
    contents = [writer.render(plan) for plan in plans]
    clips = Clips()
    originals = clips.sign(contents)
    again = {}
    every_N = np.arange(num_clips)
    print("share of differing bits: least, 5%, median, 95%, largest; pairs that count as copies by")
    print(f"{'':<18} {'pictures':<30} {'sound':<36} both  pictures   sound")
    for name, how in WAYS.items():
        again[name] = clips.sign([encode_again(content, how) for content in contents])
        print_row(name, originals, again[name], (every_N, every_N))
    takes = clips.sign([take_of(writer, plan, plans[n - 7]) for n, plan in enumerate(plans)])
    print_row("another take", originals, takes, (every_N, every_N))
    one_P, other_P = np.nonzero(~np.eye(num_clips, dtype=bool))
    print_row("another clip", originals, again["all of it"], (one_P, other_P))
    found = [len(ReferenceIndex(originals).find(some).query_P) for some in again.values()]
    print(f"found by bands: {sum(found)} of {len(WAYS) * num_clips} copies")
    share = clips.signature_s / clips.decode_s
    print(f"signatures take {share:.1%} of the time that decoding takes")


def print_row(
    name: str,
    mine: dict[str, Signatures],
    other: dict[str, Signatures],
    pairs: tuple[np.ndarray, np.ndarray],
) -> None:
    """Print the distances of some pairs, and how many of them count as copies."""
    words = {m: (mine[m].words_NK[pairs[0]], other[m].words_NK[pairs[1]]) for m in SPEC}
    cells = [
        " ".join(f"{value:5.3f}" for value in np.quantile(distance_P, [0.0, 0.05, 0.5, 0.95, 1.0]))
        for distance_P in (picture_distance(*words["video"]), sound_distance(*words["audio"]))
    ]
    shares = [
        np.isfinite(copies({m: mine[m] for m in some}, {m: other[m] for m in some}, pairs)).mean()
        for some in (("video", "audio"), ("video",), ("audio",))
    ]
    counted = "  ".join(f"{share:6.1%}" for share in shares)
    print(f"{name:<18} {cells[0]}   {cells[1]}   copies {counted}")


def take_of(writer: ClipWriter, plan: ClipPlan, other: ClipPlan) -> bytes:
    """Return a clip with one clip's background and the digit of another, to another sound."""
    duration_s = float(np.random.default_rng([writer.data_seed, plan.index, 1]).uniform(2.0, 4.0))
    frames = render_frames(
        np.frombuffer(other.pixels, np.uint8).reshape(8, 8),
        severity=writer.severities(plan.index)[0],
        duration_s=duration_s,
        rng=np.random.default_rng([writer.data_seed, plan.index, 2]),
    )
    sound = render_sound(
        str(other.digit),
        severity=0.5,
        duration_s=duration_s,
        rng=np.random.default_rng([writer.data_seed, plan.index, 9]),
    )
    return encode_mp4(frames, sound)


class RandomSource:
    """Rows of a large unlabeled set and small reference sets."""

    def __init__(self, num_unlabeled: int) -> None:
        self.counts = {"test": 1000, "probe": 1000, "labelled": 1000, "unlabeled": num_unlabeled}

    @property
    def label_space(self) -> LabelSpace:
        """Two classes."""
        return LabelSpace(("no", "yes"))

    def identity(self) -> dict[str, Any]:
        """Return what there is."""
        return {"source": "random", "counts": self.counts}

    def prepare(self, progress: Progress | None = None) -> None:
        """Do nothing."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield the rows."""
        for split, count in self.counts.items():
            for number in range(count):
                yield SourceRow(f"{split}/{number}", 1, "1", None, None, "g", split, (0,))

    def reader(self, spec: DecodeSpec) -> Reader:
        """Refuse: the samples are made up."""
        raise NotImplementedError


def print_memory(num_unlabeled: int) -> None:
    """Fill a store with random signatures, look through it, and print the largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        fill = f"import doubles; doubles.fill({folder!r}, {num_unlabeled})"
        subprocess.run([sys.executable, "-c", fill], check=True, cwd=Path(__file__).parent)
        root = open_root(folder)
        samples = samples_store(root, decode_spec_to_dict(SPEC))
        manifest = write_manifest(
            root.child("manifest"), RandomSource(num_unlabeled), unit_size=512
        )
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        start_s = time.perf_counter()
        _, found = mark_doubles(root, samples, manifest)
        spent_s = time.perf_counter() - start_s
        after_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{num_unlabeled:9,}  {before_mb:9.0f}  {after_mb:8.0f}  {spent_s:7.1f}  {found.counts}")


def fill(folder: str, num_unlabeled: int) -> None:
    """Write manifest and samples with random signatures, every thousandth one of a test sample."""
    root, schema = open_root(folder), samples_schema(SPEC)
    samples = samples_store(root, decode_spec_to_dict(SPEC))
    manifest = write_manifest(root.child("manifest"), RandomSource(num_unlabeled), unit_size=512)
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        numbers = [int(row.key.rsplit("/", 1)[1]) for row in rows]
        is_copy = [ref.split == "unlabeled" and number % 1000 == 0 for number in numbers]
        seeds = [
            [0, number // 1000 % 1000] if copied else [len(ref.split), number]
            for number, copied in zip(numbers, is_copy, strict=True)
        ]
        seeds = [[0, n] for n in numbers] if ref.split == "test" else seeds
        columns: dict[str, list] = {
            "sample_id": [row.sample_id for row in rows],
            "status": ["ok"] * len(rows),
            "error": [None] * len(rows),
        }
        for name, num_bytes in {"video": 8 * 9, "audio": 8 + 4 * 24}.items():
            columns[name] = [None] * len(rows)
            columns[f"{name}_status"] = ["ok"] * len(rows)
            columns[f"{name}_signature"] = [
                np.random.default_rng(seed).bytes(num_bytes) for seed in seeds
            ]
        samples.commit(ref.unit, pa.table(columns, schema=schema), {"split": ref.split})
    samples.write_index(samples.committed())


if __name__ == "__main__":
    main()
