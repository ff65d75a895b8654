"""What the plans of the labelling pass reach of a big teacher's own rate.

    PYTHONPATH=benchmarks python benchmarks/label_gpu.py --plans local,fused,split
    PYTHONPATH=benchmarks python benchmarks/label_gpu.py --tiny --device cpu --clips 48

Per teacher (ViT-B/16 and AST in size, random weights): samples/s of the teacher alone on whole
units in memory, then of the pass, from videos (240p, 10 s, with sound) and from samples that are
stored, each with its ratio to the teacher alone and the mean use of the GPU. Rates are of the
units after the first quarter, so that starts do not count. Beside them the rate of decoding alone
on all cores: from videos the slower of both is the limit. The plan ``local`` needs no Ray: it is
one process, with units ahead; ``fused`` and ``split`` start a local Ray, and share the cores and
the GPU between --actors (of ``split`` the decoders; its teacher is one). --precision and --compile
are the switches of the pass, and hold for the teacher alone too. It needs transformers, which the
package itself does not.
"""

import argparse
import contextlib
import functools
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from big_teachers import CLASSES, RATE_HZ, BigTeacher, decode_spec

from mke_ray.config import build
from mke_ray.data.codec import empty_modality
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.media import decode_clip
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.labelling import LocalRunner, Runner, run_pass
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.labels.unit_report import UnitReport
from mke_ray.labels.worker import WorkItem, WorkPlan
from mke_ray.models.computing import Computing
from mke_ray.schema import decode_spec_from_dict
from mke_ray.storage import open_root

NUM_DISTINCT = 8
SHARE_OF_START = 0.25
VIDEO_RATE_HZ = 25


@dataclass(slots=True)
class Timed:
    """A runner that remembers when each unit ended.

    Args:
        runner: What does the work.
        ends: Seconds and samples of every unit.
    """

    runner: Runner
    ends: list[tuple[float, int]] = field(default_factory=list)

    def run(self, plan: WorkPlan, refs: Sequence[WorkItem]) -> Iterator[UnitReport]:
        """Work on the units."""
        for report in self.runner.run(plan, refs):
            self.ends.append((time.perf_counter(), report.counts.samples))
            yield report

    def rate(self) -> float:
        """Return samples per second after the start."""
        start = max(int(len(self.ends) * SHARE_OF_START), 1)
        num_samples = sum(number for _, number in self.ends[start:])
        return num_samples / (self.ends[-1][0] - self.ends[start - 1][0])


@dataclass(frozen=True, slots=True)
class Bench:
    """Videos, their manifest, and a folder in which every pass gets stores of its own."""

    options: argparse.Namespace
    folder: Path
    videos: str
    manifest: Manifest
    computing: Computing

    def plan(self, kind: str, name: str, folder: Path) -> LabelPlan:
        """Return the plan of a pass with one teacher."""
        options = self.options
        device = {"device": options.device, "is_tiny": options.tiny}
        plan = make_plan(
            open_root(str(folder)),
            manifest=self.manifest,
            source={
                "_target_": "mke_ray.data.videos.VideosSource",
                "root": self.videos,
                "classes": CLASSES,
            },
            decode=decode_spec(kind, num_frames=options.frames, is_tiny=options.tiny),
            teachers=[{"_target_": "big_teachers.BigTeacher", "kind": kind, **device}],
            computing=self.computing,
        )
        num_workers = 1 if name == "local" else options.actors
        return replace(
            plan,
            num_threads=max(options.threads // num_workers, 1),
            teacher_threads=options.threads if name == "split" else None,
            units_ahead=options.units_ahead,
            limits=SampleLimits(),
        )


def main() -> None:
    """Print a table per teacher."""
    options = parsed()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="mke-gpu-") as temporary:
        bench = make_bench(options, Path(temporary))
        print(f"{torch.__version__}, {device_name(options.device)}, {options.threads} threads")
        for kind in options.teachers.split(","):
            alone = teacher_alone(bench, kind)
            decode_alone(bench, kind)
            for name in options.plans.split(","):
                with contextlib.ExitStack() as stack:
                    compare(bench, kind, name, alone, make_runner(name, options, stack))


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--plans", default="local", help="local, fused, split, joined by commas")
    parser.add_argument("--teachers", default="vit,ast")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=2048)
    parser.add_argument("--unit-size", type=int, default=32)
    parser.add_argument("--units-ahead", type=int, default=1)
    parser.add_argument("--actors", type=int, default=1, help="of fused, and decoders of split")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--frames", type=int, default=4, help="frames per clip")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="tiny teachers and clips, for a CPU")
    return parser.parse_args()


def make_bench(options: argparse.Namespace, folder: Path) -> Bench:
    """Write the videos and their manifest."""
    unlabeled = folder / "videos" / "unlabeled"
    unlabeled.mkdir(parents=True)
    for number in range(options.clips):
        name = unlabeled / f"{number:06d}.mp4"
        if number < NUM_DISTINCT:
            name.write_bytes(make_clip(number, is_tiny=options.tiny))
        else:
            name.hardlink_to(unlabeled / f"{number % NUM_DISTINCT:06d}.mp4")
    videos = str(folder / "videos")
    source = {"_target_": "mke_ray.data.videos.VideosSource", "root": videos, "classes": CLASSES}
    manifest = write_manifest(
        open_root(str(folder / "manifest")), build(source), unit_size=options.unit_size
    )
    computing = Computing(options.precision, options.compile)
    return Bench(options, folder, videos, manifest, computing)


def make_clip(number: int, *, is_tiny: bool) -> bytes:
    """Return an mp4 with a texture that moves and a chord."""
    draw = np.random.default_rng(number)
    width, height, seconds = (64, 48, 1) if is_tiny else (320, 240, 10)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video: Any = container.add_stream("libx264", rate=VIDEO_RATE_HZ)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio: Any = container.add_stream("aac", rate=RATE_HZ)
        texture = draw.integers(0, 255, (2 * height // 8, 2 * width // 8, 3), dtype=np.uint8)
        texture = texture.repeat(8, axis=0).repeat(8, axis=1)
        for step in range(seconds * VIDEO_RATE_HZ):
            picture = texture[step % height :, step % width :][:height, :width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(video.encode(frame))
        times = np.arange(seconds * RATE_HZ) / RATE_HZ
        chord = sum(np.sin(2 * np.pi * hz * times) for hz in draw.uniform(100, 2000, 3)) / 4
        sound = av.AudioFrame.from_ndarray(
            np.asarray(chord, np.float32)[None], format="fltp", layout="mono"
        )
        sound.sample_rate = RATE_HZ
        for stream, last in ((audio, audio.encode(sound)), (video, []), (audio, [])):
            container.mux(last or stream.encode(None))
    return file.getvalue()


def teacher_alone(bench: Bench, kind: str) -> float:
    """Return and print the rate of a teacher on units in memory."""
    options = bench.options
    teacher = BigTeacher(kind, device=options.device, is_tiny=options.tiny)
    bench.computing.prepare(teacher)
    spec = decode_spec_from_dict(decode_spec(kind, num_frames=options.frames, is_tiny=options.tiny))
    one = empty_modality(spec[teacher.modality])
    unit_BX = np.stack([one + number for number in range(options.unit_size)]).astype(one.dtype)
    times = []
    for _ in range(3 + max(options.clips // options.unit_size, 3)):
        start_s = time.perf_counter()
        with bench.computing.running():
            teacher.predict(unit_BX)
        times.append(time.perf_counter() - start_s)
    rate = options.unit_size / statistics.mean(times[3:])  # the first ones warm up
    print(f"{kind}: teacher alone {rate:,.1f} samples/s")
    return rate


def decode_alone(bench: Bench, kind: str) -> None:
    """Print the rate at which all cores decode clips that are in memory, a process per core."""
    options = bench.options
    paths = sorted(Path(bench.videos, "unlabeled").iterdir())
    contents = [path.read_bytes() for path in paths[:NUM_DISTINCT]]
    spec = decode_spec(kind, num_frames=options.frames, is_tiny=options.tiny)
    work = functools.partial(decode_one, spec)
    num_clips = 32 * options.threads
    with multiprocessing.get_context("spawn").Pool(options.threads) as pool:
        pool.map(work, contents * options.threads)  # every process has begun
        start_s = time.perf_counter()
        pool.map(work, (contents * num_clips)[:num_clips])
        rate = num_clips / (time.perf_counter() - start_s)
    print(f"{kind}: decoding alone {rate:,.1f} samples/s on {options.threads} cores")


def decode_one(spec: dict[str, Any], content: bytes) -> int:
    """Decode a clip."""
    return len(decode_clip(content, decode_spec_from_dict(spec)).arrays)


def compare(bench: Bench, kind: str, name: str, alone: float, runner: Runner) -> None:
    """Print the rates of one plan, from videos and from what these left stored."""
    folder = Path(tempfile.mkdtemp(dir=bench.folder))
    for source in ("video", "stored"):
        plan = bench.plan(kind, name, folder)
        timed = Timed(runner)
        with used_gpu(bench.options.device) as used:
            report = run_pass(plan, plan.manifest.unit_refs(), timed)
        shares = ", ".join(f"{k} {v:.1f} s" for k, v in sorted(report.rates.seconds.items()))
        rate = timed.rate()
        use = f"GPU {statistics.mean(used):.0f}%" if used else "no GPU"
        print(
            f"{kind} {name:<6} from {source:<7} {rate:9,.1f} samples/s, ratio {rate / alone:.2f}, "
            f"{use}, {shares}"
        )
        shutil.rmtree(folder / "labels")
    shutil.rmtree(folder)


def make_runner(name: str, options: argparse.Namespace, stack: contextlib.ExitStack) -> Runner:
    """Return what carries out a plan; Ray is imported and started only where it is needed."""
    if name == "local":
        return LocalRunner()
    # A machine without Ray runs the plan ``local``.
    from mke_ray.labels.capacity import ActorPool  # noqa: PLC0415
    from mke_ray.labels.ray_runner import RayDataRunner  # noqa: PLC0415
    from mke_ray.session import Session  # noqa: PLC0415

    num_gpus = 1.0 if options.device == "cuda" else 0.0
    stack.enter_context(Session(num_cpus=2 * options.threads + 2).connected())
    num, threads = options.actors, options.threads / options.actors
    if name == "fused":
        return RayDataRunner(ActorPool(num, num, threads, num_gpus / num))
    return RayDataRunner(
        ActorPool(num, num, threads),
        teachers=ActorPool(1, 1, options.threads, num_gpus, "labelling.teachers_pool"),
    )


@contextlib.contextmanager
def used_gpu(device: str) -> Iterator[list[float]]:
    """Yield a list that is filled with the use of the GPU in percent, empty without one."""
    used: list[float] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.1):
            used.append(torch.cuda.utilization())

    thread = threading.Thread(target=look, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield used
    finally:
        is_over.set()
        if thread.is_alive():
            thread.join()


def device_name(device: str) -> str:
    """Return what computes."""
    return torch.cuda.get_device_name() if device == "cuda" else device


if __name__ == "__main__":
    main()
