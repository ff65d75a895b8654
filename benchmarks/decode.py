"""What decoding costs: our reader against bare PyAV, decord and torchcodec on the same clips.

    OMP_NUM_THREADS=1 python benchmarks/decode.py --repetitions 5

Task: 8 uniform frames of 112 x 112 pixels, and with them 16 kHz mono sound of the whole clip, from
bytes in memory, in one thread. The clips are made here by x264 (preset medium, 24 and 30 Hz, groups
of 250, 60 and 30 pictures) with AAC sound: 240p, 360p and 720p, of which a mix of 70, 20 and 10
percent is weighed together. A rate is clips per CPU-second. A ratio is the time of another reader
over ours, of the same repetition, all readers in an order drawn anew each time; above 1 ours is
faster. Readers that do not load are left out with the reason. Frames are compared with those of
bare PyAV, which decodes every frame, by the share of frames that are the same ones.
"""

import argparse
import functools
import importlib
import io
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from mke_ray.data.media import decode_clip
from mke_ray.errors import ConfigError
from mke_ray.schema import AudioSpec, DecodeSpec, VideoSpec

NUM_FRAMES, SIZE = 8, 112
RATE_HZ = 16000
SECONDS = 8.0

# (name, height, width, constant rate factor, share of the mix)
CLASSES = (("240p", 240, 426, 23, 0.7), ("360p", 360, 640, 23, 0.2), ("720p", 720, 1280, 23, 0.1))
KINDS = ((30, 250), (30, 60), (24, 30))  # frames per second, group of pictures

Arrays = tuple[np.ndarray, np.ndarray | None]
ReadClip = Callable[[bytes, bool], Arrays]


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of the benchmark."""

    name: str
    share: float
    content: bytes


def main() -> None:
    """Print rates and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", help="keep the clips there for another run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        clips = make_clips(Path(options.folder or temporary))
    readers = load_readers(clips[0])
    for sound in (True, False):
        print("\nframes and sound" if sound else "\nframes only")
        compare(clips, readers, sound=sound, repetitions=options.repetitions)


def compare(
    clips: Sequence[Clip], readers: dict[str, ReadClip], *, sound: bool, repetitions: int
) -> None:
    """Print how long each reader takes, in turns, and how many of its frames are right."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    names = list(readers)
    for _ in range(repetitions):
        spent = dict.fromkeys(names, 0.0)
        for clip in clips:
            random.shuffle(names)
            for name in names:
                spent[name] += clip.share * cpu_s(readers[name], clip.content, sound)
        for name, one in spent.items():
            seconds[name].append(one)
    for name, read in readers.items():
        ratios = [
            theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)
        ]
        rate = 1.0 / statistics.median(seconds[name])
        exact = statistics.mean(same_frames(read, clip) for clip in clips)
        print(f"{name:<16} {rate:6.2f} clips/s/core   ratio {spread(ratios)}   exact {exact:.0%}")


def cpu_s(read: ReadClip, content: bytes, sound: bool) -> float:
    """Return the CPU-seconds of one clip."""
    begin_s = time.process_time()
    read(content, sound)
    return time.process_time() - begin_s


def same_frames(read: ReadClip, clip: Clip) -> float:
    """Return the share of frames that are nearer to the right frame than to its neighbours."""
    wanted, every = sequential(clip.content)
    found_THWC = read(clip.content, False)[0].astype(np.float32)
    hits = []
    for place, found_HWC in zip(wanted, found_THWC, strict=True):
        near = range(max(place - 1, 0), min(place + 2, len(every)))
        distances = {one: np.abs(small(every[one]) - found_HWC).mean() for one in near}
        hits.append(min(distances, key=lambda one: distances[one]) == place)
    return sum(hits) / len(hits)


@functools.cache
def sequential(content: bytes) -> tuple[list[int], list[av.VideoFrame]]:
    """Return which frames are wanted, and all frames, decoded one after the other."""
    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        begins = np.array([frame.time for frame in frames])
    end_s = begins[-1] + float(begins[-1] - begins[-2])
    times = (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES * end_s
    return [int(one) for one in np.searchsorted(begins, times + 1e-6, side="right") - 1], frames


def small(frame: av.VideoFrame) -> np.ndarray:
    """Return a frame in the size of the task."""
    scaled = frame.reformat(SIZE, SIZE, "rgb24", interpolation="AREA", threads=1)
    return scaled.to_ndarray().astype(np.float32)


def load_readers(clip: Clip) -> dict[str, ReadClip]:
    """Return the readers that work here, each run once."""
    candidates: dict[str, ReadClip] = {
        "ours": functools.partial(read_ours, "pyav"),
        "bare PyAV": read_pyav,
        "decord": read_decord,
        "decord+PyAV": functools.partial(read_decord, own_sound=False),
        "torchcodec": read_torchcodec,
        "ours (decord)": functools.partial(read_ours, "decord"),
        "ours (torchcodec)": functools.partial(read_ours, "torchcodec"),
    }
    readers = {}
    for name, read in candidates.items():
        try:
            read(clip.content, True)
        except (ImportError, OSError, RuntimeError, ConfigError) as error:
            print(f"{name} left out: {str(error).splitlines()[0]}")
        else:
            readers[name] = read
    return readers


def read_ours(backend: str, content: bytes, sound: bool) -> Arrays:
    """Read with mke_ray."""
    spec: DecodeSpec = {"video": VideoSpec(NUM_FRAMES, SIZE, SIZE, backend=backend)}
    if sound:
        spec["audio"] = AudioSpec(RATE_HZ, SECONDS)
    arrays = decode_clip(content, spec).arrays
    return arrays["video"], arrays.get("audio")


def read_pyav(content: bytes, sound: bool) -> Arrays:
    """Decode every frame with PyAV, keep the wanted ones, then decode the sound."""
    with av.open(io.BytesIO(content), "r") as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "NONE", 1
        number = stream.frames
        wanted = ((np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES * number).astype(int)
        pictures = [
            frame.reformat(SIZE, SIZE, "rgb24", threads=1).to_ndarray()
            for place, frame in enumerate(container.decode(stream))
            if place in wanted
        ]
    return np.stack(pictures), pyav_sound(content) if sound else None


def pyav_sound(content: bytes) -> np.ndarray:
    """Return the sound as PyAV's own resampler gives it."""
    with av.open(io.BytesIO(content), "r") as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        blocks = [
            out.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for out in resampler.resample(frame)
        ]
        blocks += [out.to_ndarray()[0] for out in resampler.resample(None)]
    return np.concatenate(blocks)


def read_decord(content: bytes, sound: bool, *, own_sound: bool = True) -> Arrays:
    """Read with decord, frames scaled while they are decoded."""
    decord = importlib.import_module("decord")
    context = decord.cpu(0)
    reader = decord.VideoReader(
        io.BytesIO(content), ctx=context, width=SIZE, height=SIZE, num_threads=1
    )
    wanted = ((np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES * len(reader)).astype(int)
    frames = reader.get_batch(wanted).asnumpy()
    if not sound:
        return frames, None
    if not own_sound:
        return frames, pyav_sound(content)
    heard = decord.AudioReader(io.BytesIO(content), ctx=context, sample_rate=RATE_HZ, mono=True)
    return frames, heard[:].asnumpy()[0]


def read_torchcodec(content: bytes, sound: bool) -> Arrays:
    """Read with torchcodec, frames scaled while they are decoded."""
    decoders = importlib.import_module("torchcodec.decoders")
    resize = importlib.import_module("torchcodec.transforms").Resize((SIZE, SIZE))
    decoder = decoders.VideoDecoder(
        content, dimension_order="NHWC", num_ffmpeg_threads=1, transforms=[resize]
    )
    number = decoder.metadata.num_frames or 0
    wanted = ((np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES * number).astype(int).tolist()
    frames = decoder.get_frames_at(wanted).data.numpy()
    if not sound:
        return frames, None
    heard = decoders.AudioDecoder(content, sample_rate=RATE_HZ, num_channels=1).get_all_samples()
    return frames, heard.data.numpy()[0]


def make_clips(folder: Path) -> list[Clip]:
    """Return the clips, made where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = []
    for name, height, width, quality, share in CLASSES:
        for rate_hz, group in KINDS:
            path = folder / f"{name}-{group}.mp4"
            if not path.exists():
                path.write_bytes(encode(height, width, rate_hz, group=group, quality=quality))
            clips.append(Clip(path.stem, share / len(KINDS), path.read_bytes()))
    return clips


def encode(height: int, width: int, rate_hz: int, *, group: int, quality: int) -> bytes:
    """Return an MP4 file of moving texture and grain with a sine as its sound."""
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        video = container.add_stream("libx264", rate=rate_hz)
        video.height, video.width, video.pix_fmt = height, width, "yuv420p"
        video.options = {"preset": "medium", "g": str(group), "crf": str(quality), "threads": "1"}
        audio = container.add_stream("aac", rate=44100, layout="stereo")
        for picture in pictures(height, width, round(SECONDS * rate_hz)):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        time_N = np.arange(round(SECONDS * 44100)) / 44100
        wave_N = (0.4 * np.sin(2 * np.pi * 440 * time_N)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(np.stack([wave_N, wave_N]), "fltp", "stereo")
        sound.sample_rate = 44100
        for frame in (sound, None):
            container.mux(audio.encode(frame))
    return file.getvalue()


def pictures(height: int, width: int, number: int) -> Iterator[np.ndarray]:
    """Yield frames: a texture that pans and turns in parts, and a little grain."""
    rng = np.random.default_rng(0)
    coarse = rng.random((height // 16 + 8, width // 16 + 40, 3))
    texture = coarse.repeat(16, axis=0).repeat(16, axis=1)
    texture = (texture + np.roll(texture, 7, axis=0) + np.roll(texture, 5, axis=1)) / 3
    for k in range(number):
        left = int(120 + 100 * np.sin(k / 40))
        top = int(40 + 30 * np.cos(k / 55))
        picture = texture[top : top + height, left : left + width] * 200
        size = height // 4
        x = int((width - size) * (0.5 + 0.5 * np.sin(k / 15)))
        picture[height // 3 : height // 3 + size, x : x + size] = (texture[:size, :size] * 255)[
            ::-1
        ]
        picture += rng.normal(0, 4, (height, width, 1))
        yield np.clip(picture, 0, 255).astype(np.uint8)


def spread(values: Sequence[float]) -> str:
    """Return least, median and greatest."""
    least, middle, greatest = min(values), statistics.median(values), max(values)
    return f"min {least:.3f}  median {middle:.3f}  max {greatest:.3f}"


if __name__ == "__main__":
    main()
