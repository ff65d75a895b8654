"""Demo clips as real mp4 files (h264 and aac), some of them broken in ways that occur."""

# T frames, H height, W width, N sound samples.

import io
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from mke_ray.data.child_process import end_with_parent
from mke_ray.data.demo_audio import Sound, render_sound
from mke_ray.data.demo_video import Frames, render_frames
from mke_ray.storage import Root

BROKEN_KINDS = ("truncated", "empty", "no_audio", "no_video", "not_media")

_SHORTEST_S, _LONGEST_S = 2.0, 4.0
_CHUNK_CLIPS = 4
_Plan = TypeVar("_Plan")
_Plan_contra = TypeVar("_Plan_contra", contravariant=True)
_ERROR_PAGE = b"<?xml version='1.0'?><Error><Code>SlowDown</Code></Error>\n"


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """What one file of the demo is to hold; with the seed it determines every byte.

    Args:
        index: Number of the clip, from which its random numbers are drawn.
        key: Path below the root.
        digit: The digit that is shown and dialled.
        pixels: The handwritten image, 64 values from 0 to 16.
        group: Name of the handwritten image.
        split: Role of the clip.
        broken: How the file is broken, one of ``BROKEN_KINDS``, or "".
        sound: The key that is dialled where it is not the digit: another digit, ``*`` or ``#``.
    """

    index: int
    key: str
    digit: int
    pixels: bytes
    group: str
    split: str
    broken: str = ""
    sound: str = ""


class WritesClips(Protocol[_Plan_contra]):
    """What writes clips; it is sent to processes."""

    def write(self, plans: Sequence[_Plan_contra], /) -> int:
        """Write some clips and return their number."""
        ...


@dataclass(frozen=True, slots=True)
class ClipWriter:
    """Writes demo clips; cheap to send to processes.

    Args:
        root: Where the files go.
        data_seed: Seed of the data set.
        dependence: Correlation of the severities of picture and sound, 0 to 1.
    """

    root: Root
    data_seed: int
    dependence: float

    def write(self, plans: Sequence[ClipPlan]) -> int:
        """Write some clips and return their number."""
        for plan in plans:
            self.root.write(plan.key, self.render(plan))
        return len(plans)

    def render(self, plan: ClipPlan) -> bytes:
        """Return the content of one file."""
        if plan.broken == "empty":
            return b""
        if plan.broken == "not_media":
            return _ERROR_PAGE
        severity_video, severity_audio = self.severities(plan.index)
        duration_s = float(self._rng(plan.index, 1).uniform(_SHORTEST_S, _LONGEST_S))
        frames = render_frames(
            np.frombuffer(plan.pixels, np.uint8).reshape(8, 8),
            severity=severity_video,
            duration_s=duration_s,
            rng=self._rng(plan.index, 2),
        )
        sound = render_sound(
            plan.sound or str(plan.digit),
            severity=severity_audio,
            duration_s=duration_s,
            rng=self._rng(plan.index, 3),
        )
        content = encode_mp4(
            None if plan.broken == "no_video" else frames,
            None if plan.broken == "no_audio" else sound,
        )
        return content[: len(content) * 3 // 5] if plan.broken == "truncated" else content

    def severities(self, index: int) -> tuple[float, float]:
        """Return how bad picture and sound of a clip are, each uniform in [0, 1].

        They are joined by a Gaussian copula, so that either one's distribution is the same at
        any dependence.
        """
        shared, own = self._rng(index, 0).normal(size=2)
        mixed = self.dependence * shared + math.sqrt(1.0 - self.dependence**2) * own
        return _normal_cdf(shared), _normal_cdf(mixed)

    def _rng(self, index: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.data_seed, index, stream])


def write_clips(
    writer: WritesClips[_Plan],
    plans: Sequence[_Plan],
    *,
    num_processes: int,
    progress: Callable[[int], None],
) -> None:
    """Write clips in parallel processes, which end when this one does.

    Args:
        writer: What writes them.
        plans: The clips.
        num_processes: Processes; with 1, or few clips, this one does it.
        progress: Called with the number of clips written since the last call.
    """
    chunks = [plans[i : i + _CHUNK_CLIPS] for i in range(0, len(plans), _CHUNK_CLIPS)]
    if min(num_processes, len(chunks) // 4) <= 1:
        for chunk in chunks:
            progress(writer.write(chunk))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        num_processes, mp_context=context, initializer=end_with_parent
    ) as pool:
        for num_written in pool.map(writer.write, chunks):
            progress(num_written)


def encode_mp4(frames: Frames | None, sound: Sound | None) -> bytes:
    """Return an mp4 file with a video track, an audio track, or both."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        encoders = []
        if frames is not None:
            encoders.append((_video_stream(container, frames), _pictures(frames)))
        if sound is not None:
            options = {"aac_coder": "fast"}
            audio = container.add_stream("aac", rate=sound.rate_hz, layout="mono", options=options)
            encoders.append((audio, [_audio_frame(sound)]))
        for stream, decoded in encoders:  # all streams exist before the first packet
            for frame in [*decoded, None]:
                container.mux(stream.encode(frame))
    return file.getvalue()


def _video_stream(container: OutputContainer, frames: Frames) -> VideoStream:
    options = {"preset": "ultrafast", "crf": "26"}
    stream = container.add_stream("libx264", rate=frames.rate_hz, options=options)
    stream.height, stream.width = frames.luma_THW.shape[1:]
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = 1
    return stream


def _pictures(frames: Frames) -> Iterator[av.VideoFrame]:
    num_frames, height, width = frames.luma_THW.shape
    planes = [frames.luma_THW, *frames.chroma]
    flat = np.concatenate([plane.reshape(num_frames, -1) for plane in planes], axis=1)
    for picture in flat.reshape(num_frames, height * 3 // 2, width):
        yield av.VideoFrame.from_ndarray(picture, format="yuv420p")


def _audio_frame(sound: Sound) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(sound.sound_N[None], format="fltp", layout="mono")
    frame.sample_rate = sound.rate_hz
    return frame


def _normal_cdf(value: float) -> float:
    return 0.5 * (1.0 + math.erf(value / math.sqrt(2.0)))
