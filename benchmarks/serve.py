"""What serving costs: requests over loopback against the bare student called in batches.

    python benchmarks/serve.py --seconds 20

A student of the demo's size with random weights is served by Ray Serve on this machine. In the same
run, in turn: the bare network on arrays in batches, decoding and the network in one process, and
clients that upload clips (an mp4 of two seconds each) or finished arrays, with and without
batching. Printed: samples per second, the ratio to the bare network, latency, and where the time of
a request goes.
"""

import argparse
import io
import logging
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import ray
import requests
import torch

from mke_ray.models import build_student, save_student
from mke_ray.schema import LabelSpace
from mke_ray.serve.decoding import DecodedSample, DecoderPool, Sent
from mke_ray.serve.deploy import Batching, Service, start, stop
from mke_ray.serve.limits import ServeLimits
from mke_ray.serve.served import load_served

DECODE = {
    "video": {"kind": "video", "num_frames": 8, "height": 48, "width": 48},
    "audio": {"kind": "audio", "sample_rate_hz": 8000, "seconds": 2.0},
}
SPEC = {
    "encoders": {
        "video": {"type": "frames", "channels": [16, 32, 64], "num_features": 64},
        "audio": {
            "type": "log_mel",
            "sample_rate_hz": 8000,
            "num_mels": 64,
            "n_fft": 512,
            "hop": 256,
            "channels": [64, 64],
            "num_features": 64,
        },
    },
    "fusion": {"type": "concat"},
    "head_hidden": [64],
    "dropout": 0.0,
}
BATCH = 16


def export(folder: str) -> None:
    """Write a student of the demo's size."""
    torch.manual_seed(0)
    student = build_student(SPEC, 10)
    arrays = {
        "video": torch.randint(0, 256, (8, 8, 48, 48, 3), dtype=torch.uint8),
        "audio": torch.rand(8, 16_000) - 0.5,
    }
    student.observe(arrays, {name: torch.ones(8, dtype=torch.bool) for name in arrays})
    student.freeze_normalisation()
    space = LabelSpace(tuple(map(str, range(10))))
    save_student(folder, student, spec=SPEC, label_space=space, extra={"decode": DECODE})


def a_clip() -> bytes:
    """Return two seconds of picture and sound, as the demo has them."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        video.width = video.height = 64
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(
                rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        wave = rng.normal(0, 0.1, (1, 32_000)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        sound.sample_rate, sound.pts = 16_000, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return file.getvalue()


def rate_of(work: Callable[[], int], seconds: float) -> float:
    """Return samples per second of some work, after one round that does not count."""
    work()
    started, num = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        num += work()
    return num / (time.perf_counter() - started)


def files_of(content: Sequence[tuple[str, bytes]], num: int) -> list[tuple[str, tuple[str, bytes]]]:
    """Return the parts of a request of some samples."""
    return [(name, (name, one)) for _ in range(num) for name, one in content]


def load(
    url: str, parts: Sequence[tuple[str, tuple[str, bytes]]], *, clients: int, seconds: float
) -> tuple[float, list[float], int]:
    """Return requests per second, latencies of those answered, and how many were not."""
    deadline = time.perf_counter() + seconds

    def one(_: int) -> tuple[list[float], int]:
        session, waited, refused = requests.Session(), [], 0
        while time.perf_counter() < deadline:
            started = time.perf_counter()
            answer = session.post(url, files=parts, timeout=120)
            if answer.status_code == 200:
                waited.append(time.perf_counter() - started)
            else:
                refused += 1
        return waited, refused

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, range(clients)))
    latencies = [one for waited, _ in done for one in waited]
    took_s = time.perf_counter() - started
    return len(latencies) / took_s, latencies, sum(refused for _, refused in done)


def a_port() -> int:
    """Return a free port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def npy(array: np.ndarray) -> bytes:
    """Return an array as a file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def profile(folder: str, clip: bytes) -> DecodedSample:
    """Print what the parts of a request take alone, in milliseconds, and return its sample."""
    student = load_served(folder)
    decoders = DecoderPool(student.decode, ServeLimits(), 1)
    decoders.warm_up()
    sample = decoders._read(Sent({"clip": clip}))
    empty = DecodedSample({}, {"video": "x", "audio": "x"})
    parts = {
        "decode a clip in its process": lambda: decoders._read(Sent({"clip": clip})),
        "the round through the process alone": lambda: decoders._read(Sent({})),
        "network, one sample": lambda: student.predict([sample]),
        f"network, {BATCH} samples, each": lambda: student.predict([sample] * BATCH),
        "answer": lambda: student.answer(student.predict([empty])[0]),
    }
    for name, work in parts.items():
        took = []
        for _ in range(20):
            started = time.perf_counter()
            work()
            took.append(time.perf_counter() - started)
        per = BATCH if "each" in name else 1
        print(f"  {name:38s} {1000 * statistics.median(took) / per:8.2f} ms")
    decoders.close()
    return sample


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--temp", default=None, help="temporary folder of Ray")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        export(folder)
        clip = a_clip()
        print("a request, part by part (median of 20):")
        sample = profile(folder, clip)
        student = load_served(folder)
        bare = rate_of(lambda: len(student.predict([sample] * BATCH)), arguments.seconds / 4)
        print(f"the bare network in batches of {BATCH}: {bare:.1f} samples/s = 1.00")
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=arguments.temp,
        )
        arrays = [(name, npy(one)) for name, one in sample.arrays.items()]
        kinds = {"clips": [("clip", clip)], "arrays": arrays}
        for size in (1, BATCH):
            port = a_port()
            service = Service(
                student=folder,
                batching=Batching(size=size),
                limits=ServeLimits(num_at_once=64, request_s=120.0),
            )
            start(service, host="127.0.0.1", port=port)
            url = f"http://127.0.0.1:{port}/v1/predict"
            for kind, content in kinds.items():
                for num in (1, 8):
                    _say(url, (kind, content, num), size, bare, arguments)
            stop()
        ray.shutdown()


def _say(
    url: str,
    sent: tuple[str, Sequence[tuple[str, bytes]], int],
    size: int,
    bare: float,
    arguments: argparse.Namespace,
) -> None:
    kind, content, num = sent
    parts = files_of(content, num)
    load(url, parts, clients=2, seconds=1.0)
    clients, seconds = arguments.clients, arguments.seconds
    rate, waited, refused = load(url, parts, clients=clients, seconds=seconds)
    low, high = (1000 * float(np.quantile(waited or [0], one)) for one in (0.5, 0.95))
    print(
        f"{kind:6s} {num} a request, batches of {size:2d}: {rate * num:7.1f} samples/s, ratio "
        f"{rate * num / bare:.2f}; {rate:6.1f} requests/s, {low:.0f} ms (95%: {high:.0f}), "
        f"{refused} refused"
    )


if __name__ == "__main__":
    main()
