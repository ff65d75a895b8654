"""Peak memory of driver and actors of the labelling pass at several numbers of samples."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from label_clips import NUM_DISTINCT, ClipSet, clip_set, write_demo_clips, write_teachers
from label_rivals import NUM_WORKERS
from label_watch import ACTOR, DECODER, DRIVER, watched
from local_s3 import BUCKET, local_s3

from mke_ray.labels.capacity import ActorPool
from mke_ray.labels.labelling import run_pass
from mke_ray.labels.ray_runner import RayDataRunner
from mke_ray.session import Session


def compare(sizes: Sequence[int]) -> None:
    """Print the peaks at every size, each measured in a process of its own, and their ratios."""
    with tempfile.TemporaryDirectory() as temporary, local_s3() as server:
        folder = Path(temporary)
        files = write_demo_clips(folder / "demo", min(NUM_DISTINCT, sizes[0]))
        write_teachers(folder, 1)
        found = []
        for size in sizes:
            server.fill(f"clips-{size}", size, [file.read_bytes() for file in files])
            command = [sys.executable, str(Path(__file__).with_name("label.py"))]
            command += ["--stage", str(size), "--folder", str(folder)]
            found.append(json.loads(subprocess.check_output(command).splitlines()[-1]))
            peaks = "  ".join(f"{name} {peak:6.0f} MiB" for name, peak in found[-1].items())
            print(f"{size:>7,} samples  {peaks}", flush=True)
    for name in found[0]:
        ratios = ", ".join(f"{one[name] / found[0][name]:.3f}" for one in found[1:])
        print(f"{name:<22} peak over that of {sizes[0]:,} samples: {ratios}")


def run_stage(prefix: str, folder: str) -> None:
    """Run a pass and print the peaks of its processes as JSON.

    Args:
        prefix: Number of clips in the bucket that is there.
        folder: Holds the teacher.
    """
    teachers = [str(Path(folder, "teacher-0"))]
    source = f"s3://{BUCKET}/clips-{prefix}"
    clips = clip_set(source, f"s3://{BUCKET}/stores", teachers=teachers)
    with Session().connected():
        print(json.dumps(_peaks_mib(clips)))


def _peaks_mib(clips: ClipSet) -> dict[str, float]:
    """Return the peaks of a pass by role."""
    runner = RayDataRunner(ActorPool(min_actors=NUM_WORKERS, max_actors=NUM_WORKERS))
    with watched() as seen:
        report = run_pass(clips.plan(clips.new_root()), clips.refs, runner)
    if report.counts.ok != clips.num_clips:
        raise RuntimeError(f"{report.counts} of {clips.num_clips} clips")
    return {role: seen.peaks_mib[role] for role in (DRIVER, ACTOR, DECODER)}
