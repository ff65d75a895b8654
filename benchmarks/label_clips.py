"""Clips, their manifest and two small teachers, for benchmarks of the labelling pass."""

# T frames, H height, W width.

import dataclasses
import io
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import yaml

from mke_ray.data.demo import CLASSES, plan_clips
from mke_ray.data.demo_audio import render_sound
from mke_ray.data.demo_video import render_frames
from mke_ray.data.demo_writer import ClipWriter, write_clips
from mke_ray.data.manifest import Manifest, UnitRef, write_manifest
from mke_ray.data.videos import VideosSource
from mke_ray.labels.decode_process import SampleLimits
from mke_ray.labels.plan import LabelPlan, make_plan
from mke_ray.models.student import build_student
from mke_ray.models.weights import save_student
from mke_ray.schema import DecodeSpec, LabelSpace, decode_spec_from_dict
from mke_ray.storage import open_root

CONF = Path(__file__).parents[1] / "conf"
UNIT_SIZE = 32
NUM_DISTINCT = 256

_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class ClipSet:
    """Clips that lie somewhere, and where passes over them put their stores.

    Args:
        source: Root of the clips.
        stores: Folder below which every pass gets a root of its own.
        teachers: Folders of the teachers; a pass takes the first unless told otherwise.
        manifest: The manifest of the clips.
        refs: Its units.
    """

    source: str
    stores: str
    teachers: tuple[str, ...]
    manifest: Manifest
    refs: tuple[UnitRef, ...]

    @property
    def num_clips(self) -> int:
        """How many clips there are."""
        return sum(ref.num_rows for ref in self.refs)

    def keys(self, ref: UnitRef) -> list[str]:
        """Return the names of a unit's clips below the root."""
        return [row.key for row in self.manifest.read_unit(ref)]

    def new_root(self) -> str:
        """Return a folder that nobody used yet."""
        return f"{self.stores}/{os.getpid()}-{next(_numbers)}"

    def plan(self, root: str, *, teacher: int = 0, is_isolated: bool = True) -> LabelPlan:
        """Return the plan of a pass.

        Args:
            root: Where its stores are.
            teacher: Which teacher labels.
            is_isolated: Read samples in a process of their own, and a unit ahead of the teacher,
                as jobs do by default.
        """
        plan = make_plan(
            open_root(root),
            manifest=self.manifest,
            source={
                "_target_": "mke_ray.data.videos.VideosSource",
                "root": self.source,
                "classes": list(CLASSES),
            },
            decode=load("decode/demo.yaml"),
            teachers=[teacher_spec(self.teachers[teacher])],
        )
        if not is_isolated:
            return plan
        return dataclasses.replace(plan, limits=SampleLimits(), units_ahead=1)


def clip_set(source: str, stores: str, *, teachers: Sequence[str]) -> ClipSet:
    """Return the clips below ``source/unlabeled``, listed.

    Args:
        source: Their root.
        stores: Folder of the stores.
        teachers: Folders of the teachers.
    """
    root = open_root(f"{stores}/manifest-{next(_numbers)}")
    manifest = write_manifest(root, VideosSource(source, CLASSES), unit_size=UNIT_SIZE)
    return ClipSet(source, stores, tuple(teachers), manifest, tuple(manifest.unit_refs()))


def write_demo_clips(folder: Path, number: int) -> list[Path]:
    """Write clips of the demo, none of them broken, and return their files."""
    counts = {"labelled": 1, "unlabeled": number, "probe": 1, "test": 1}
    plans = plan_clips(counts, num_broken=0, data_seed=0)
    wanted = [
        dataclasses.replace(one, key=f"unlabeled/{one.index:06d}.mp4")
        for one in plans
        if one.split == "unlabeled"
    ]
    writer = ClipWriter(open_root(str(folder)), 0, 0.0)
    write_clips(writer, wanted, num_processes=os.cpu_count() or 1, progress=lambda _: None)
    return sorted(folder.glob("unlabeled/*.mp4"))


def write_240p_clips(folder: Path, number: int, *, seconds: float) -> list[Path]:
    """Write clips of 320x240 pixels at 25 Hz with sound, encoded as most videos are.

    Args:
        folder: Where to.
        number: How many.
        seconds: Length of each.
    """
    below = folder / "unlabeled"
    below.mkdir(parents=True)
    for index in range(number):
        (below / f"{index:06d}.mp4").write_bytes(_encode_240p(index, seconds))
    return sorted(below.glob("*.mp4"))


def write_teachers(folder: Path, number: int) -> list[str]:
    """Write small nets for the video that were never trained, and return their folders."""
    encoders = {"video": load("student/demo.yaml")["encoders"]["video"]}
    spec = {"encoders": encoders, "fusion": {"type": "concat"}, "head_hidden": [], "dropout": 0.0}
    folders = [folder / f"teacher-{seed}" for seed in range(number)]
    for seed, one in enumerate(folders):
        torch.manual_seed(seed)
        student = build_student(spec, len(CLASSES)).eval()
        save_student(one, student, spec=spec, label_space=LabelSpace(CLASSES))
    return [str(one) for one in folders]


def teacher_spec(path: str) -> dict[str, Any]:
    """Return what a teacher is built from."""
    return {"_target_": "mke_ray.models.teachers.StudentTeacher", "path": path}


def decode_spec() -> DecodeSpec:
    """Return what is stored of every clip."""
    return decode_spec_from_dict(load("decode/demo.yaml"))


def load(name: str) -> dict[str, Any]:
    """Return one file of the configuration."""
    return yaml.safe_load((CONF / name).read_text())


def _encode_240p(index: int, seconds: float) -> bytes:
    """Return one clip: frames and sound of the demo, enlarged, by x264 as it is by default."""
    rng = np.random.default_rng([240, index])
    digit_88 = rng.integers(0, 17, (8, 8)).astype(np.uint8)
    frames = render_frames(digit_88, severity=0.3, duration_s=seconds, rng=rng)
    sound = render_sound(str(index % 10), severity=0.3, duration_s=seconds, rng=rng)
    planes = [frames.luma_THW, *frames.chroma]
    num_frames = round(25 * seconds)
    large = [
        _enlarged(one, num_frames, size) for one, size in zip(planes, (240, 120, 120), strict=True)
    ]
    pictures = np.concatenate([one.reshape(num_frames, -1) for one in large], axis=1)
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        audio = container.add_stream("aac", rate=sound.rate_hz, layout="mono")
        for picture in pictures.reshape(num_frames, 360, 320):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        container.mux(video.encode(None))
        heard = av.AudioFrame.from_ndarray(sound.sound_N[None], format="fltp", layout="mono")
        heard.sample_rate = sound.rate_hz
        container.mux(audio.encode(heard))
        container.mux(audio.encode(None))
    return file.getvalue()


def _enlarged(plane_THW: np.ndarray, num_frames: int, height: int) -> np.ndarray:
    """Return a plane at another rate and size, each pixel repeated."""
    sizes = (num_frames, height, height * 4 // 3)
    times, rows, columns = (
        np.arange(wanted) * found // wanted
        for wanted, found in zip(sizes, plane_THW.shape, strict=True)
    )
    return plane_THW[times][:, rows][:, :, columns]
