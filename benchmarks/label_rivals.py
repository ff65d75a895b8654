"""What the labelling pass is measured against: a plain loop, process pools, decoding alone."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from label_clips import UNIT_SIZE, ClipSet, decode_spec

from mke_ray.batching import batched
from mke_ray.data.ahead import map_ahead
from mke_ray.data.codec import encode_modality
from mke_ray.data.media import decode_clip
from mke_ray.labels.files import table_to_bytes
from mke_ray.models.teachers import StudentTeacher
from mke_ray.storage import open_root

NUM_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a pool works; the defaults are the fastest of those that were tried.

    Args:
        num_fetch_threads: Clips fetched side by side in each process, ahead of decoding.
        num_chunks: Chunks per process; fetching ahead ends with a chunk.
        batch: Clips that the teacher gets at once.
        does_encode: Encode what was decoded, as the stores hold it.
        stores: Folder that gets a plain Parquet file per batch, None for nothing.
    """

    num_fetch_threads: int = 4
    num_chunks: int = 2
    batch: int = UNIT_SIZE
    does_encode: bool = True
    stores: str | None = None


VARIANTS = {
    "as it is": Tuning(),
    "fetch by 1 thread": Tuning(num_fetch_threads=1),
    "fetch by 2 threads": Tuning(num_fetch_threads=2),
    "fetch by 16 threads": Tuning(num_fetch_threads=16),
    "1 chunk per process": Tuning(num_chunks=1),
    "8 chunks per process": Tuning(num_chunks=8),
    "teacher gets 8": Tuning(batch=8),
    "teacher gets 128": Tuning(batch=128),
}


def plain_loop(clips: ClipSet) -> None:
    """Fetch, decode, encode and label unit by unit in this process, and keep nothing."""
    teacher_at.cache_clear()  # the pass loads its teacher too
    for ref in clips.refs:
        for _ in _labelled(clips.source, clips.teachers[0], Tuning(), clips.keys(ref)):
            pass


def pool_loop(clips: ClipSet, tuning: Tuning) -> int:
    """Fetch, decode and label in processes that stay, and return how many clips were labelled."""
    keys = [key for ref in clips.refs for key in clips.keys(ref)]
    size = -(-len(keys) // (tuning.num_chunks * NUM_WORKERS))
    size += -size % tuning.batch  # whole batches
    work = functools.partial(_run_chunk, clips.source, clips.teachers[0], tuning)
    prepare = functools.partial(teacher_at, clips.teachers[0])
    with _pool(prepare) as pool:
        chunks = [keys[begin : begin + size] for begin in range(0, len(keys), size)]
        return sum(pool.imap_unordered(work, chunks))


def decode_loop(files: Sequence[Path], num_clips: int) -> int:
    """Decode clips that lie in the memory of each of as many processes as there are cores.

    Args:
        files: Distinct clips.
        num_clips: How many to decode, in turns.
    """
    prepare = functools.partial(contents_of, tuple(files))
    num_cores = multiprocessing.cpu_count()
    with _pool(prepare, num_processes=num_cores) as pool:
        work = functools.partial(_decode_some, tuple(files))
        numbers = [list(some) for some in batched(range(num_clips), UNIT_SIZE)]
        return sum(pool.imap_unordered(work, numbers))


def decode_some(contents: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
    """Return the arrays of some clips."""
    spec = decode_spec()
    return [decode_clip(content, spec).arrays for content in contents]


def encode_some(decoded: Sequence[dict[str, np.ndarray]]) -> dict[str, list[list[bytes]]]:
    """Return per modality the pieces of some clips as the stores hold them."""
    spec = decode_spec()
    return {
        name: [encode_modality(arrays[name], one) for arrays in decoded]
        for name, one in spec.items()
    }


@functools.cache
def teacher_at(path: str) -> StudentTeacher:
    """Return the teacher, loaded once per process."""
    torch.set_num_threads(1)
    return StudentTeacher(path)


@functools.cache
def contents_of(files: tuple[Path, ...]) -> list[bytes]:
    """Return the contents of some files, read once per process."""
    return [file.read_bytes() for file in files]


def _pool(prepare: Callable[[], Any], *, num_processes: int = NUM_WORKERS) -> Any:
    """Return processes that prepare themselves before they get any work."""
    context = multiprocessing.get_context("spawn")
    return context.Pool(num_processes, initializer=_prepare, initargs=(prepare,))


def _prepare(prepare: Callable[[], Any]) -> None:
    prepare()


def _run_chunk(source: str, teacher: str, tuning: Tuning, keys: Sequence[str]) -> int:
    """Label some clips, and write what was found beside the next batch where it is kept."""
    number, written = 0, None
    with ThreadPoolExecutor(1) as writer:
        for names, pieces, logits_BC in _labelled(source, teacher, tuning, keys):
            number += len(names)
            if tuning.stores is not None:
                if written is not None:
                    written.result()
                written = _write(writer, tuning.stores, names, pieces, logits_BC)
        if written is not None:
            written.result()
    return number


def _labelled(
    source: str, teacher: str, tuning: Tuning, keys: Sequence[str]
) -> Iterator[tuple[list[str], dict[str, list[list[bytes]]], np.ndarray]]:
    """Yield names, pieces and logits batch by batch; clips are fetched ahead of all else."""
    root = open_root(source)
    fetched = map_ahead(root.read, keys, num_threads=tuning.num_fetch_threads)
    for names in batched(keys, tuning.batch):
        contents = [next(fetched) for _ in names]
        decoded = decode_some(contents)
        pieces = encode_some(decoded) if tuning.does_encode else {}
        frames = np.stack([arrays["video"] for arrays in decoded])
        yield list(names), pieces, teacher_at(teacher).predict(frames)


def _write(
    writer: ThreadPoolExecutor,
    stores: str,
    names: list[str],
    pieces: dict[str, list[list[bytes]]],
    logits_BC: np.ndarray,
) -> Future[None]:
    """Write a plain Parquet file in another thread."""
    table = pa.table(
        {
            "key": names,
            **{name: pa.array(one, pa.list_(pa.binary())) for name, one in pieces.items()},
            "logits": pa.array(list(logits_BC), pa.list_(pa.float32())),
        }
    )
    name = names[0].replace("/", "-") + ".parquet"
    return writer.submit(lambda: open_root(stores).write(name, table_to_bytes(table)))


def _decode_some(files: tuple[Path, ...], numbers: Sequence[int]) -> int:
    """Decode some clips of memory."""
    contents = contents_of(files)
    return len(decode_some([contents[number % len(contents)] for number in numbers]))
