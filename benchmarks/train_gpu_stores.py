"""Stores of clips that no video belongs to, for ``train_gpu.py``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import encode_modality
from mke_ray.data.manifest import write_manifest
from mke_ray.data.sources import Reader, SourceRow
from mke_ray.labels.store import UnitStore
from mke_ray.schema import (
    LABELS_SCHEMA,
    DecodeSpec,
    LabelSpace,
    Status,
    decode_spec_from_dict,
    samples_schema,
)
from mke_ray.storage import Root

CLASSES = tuple(f"class {number}" for number in range(10))
NUM_DISTINCT = 8
UNIT_SIZE = 32


@dataclass(frozen=True, slots=True)
class Clips:
    """Rows of clips that exist in stores alone.

    Args:
        number: How many there are.
        label_space: Their classes.
    """

    number: int
    label_space: LabelSpace = field(default_factory=lambda: LabelSpace(CLASSES))

    def identity(self) -> dict[str, Any]:
        """Return what the rows follow from."""
        return {"source": "train_gpu", "number": self.number}

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Do nothing."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield all rows."""
        for one in range(self.number):
            yield SourceRow(str(one), -1, "", None, None, str(one), "unlabeled", None)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Refuse: nothing is read but from stores."""
        raise NotImplementedError


def write_stores(root: Root, *, num_clips: int, num_frames: int, codec: str, is_tiny: bool) -> None:
    """Write a manifest, samples and labels; a few clips again and again.

    Args:
        root: Root of the run.
        num_clips: Rows.
        num_frames: Frames of a clip.
        codec: Codec of frames.
        is_tiny: Whether clips are those of the tiny networks.
    """
    side = 32 if is_tiny else 224
    seconds = 1.0 if is_tiny else 10.24
    video = {"kind": "video", "num_frames": num_frames, "height": side, "width": side}
    audio = {"kind": "audio", "sample_rate_hz": 16_000, "seconds": seconds}
    plain = {"video": {**video, "codec": codec}, "audio": audio}
    decode = decode_spec_from_dict(plain)
    manifest = write_manifest(root.child("manifest"), Clips(num_clips), unit_size=UNIT_SIZE)
    samples = UnitStore.open_or_create(
        root.child("samples", "s"), spec={"decode": plain}, schema=samples_schema(decode)
    )
    labels = UnitStore.open_or_create(
        root.child("labels", "t"), spec={"modality": "video"}, schema=LABELS_SCHEMA
    )
    distinct = [encoded_clip(number, decode) for number in range(NUM_DISTINCT)]
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        clips = [distinct[number % NUM_DISTINCT] for number in range(len(rows))]
        samples.commit(ref.unit, samples_table(rows, clips, decode), {"split": ref.split})
        labels.commit(ref.unit, labels_table(rows), {"split": ref.split})
    for store in (samples, labels):
        store.write_index(store.committed())


def encoded_clip(number: int, decode: DecodeSpec) -> dict[str, Any]:
    """Return a clip as it is stored: blocks of colour, and noise."""
    draw = np.random.default_rng(number)
    plain: Any = decode["video"]
    shape = (plain.num_frames, plain.height // 8, plain.width // 8, 3)
    blocks: Any = draw.integers(0, 255, shape, dtype=np.uint8)
    frames = blocks.repeat(8, axis=1).repeat(8, axis=2)
    sound: Any = decode["audio"]
    noise = draw.normal(0, 0.1, size=(round(sound.seconds * sound.sample_rate_hz),))
    arrays = {"video": frames, "audio": noise.astype(np.float32)}
    return {name: encode_modality(one, decode[name]) for name, one in arrays.items()}


def samples_table(
    rows: list[Any], clips: list[dict[str, Any]], decode: Mapping[str, Any]
) -> pa.Table:
    """Return a unit of samples."""
    columns: dict[str, list[Any]] = {
        "sample_id": [one.sample_id for one in rows],
        "status": [str(Status.OK)] * len(rows),
        "error": [None] * len(rows),
    }
    for name in decode:
        columns[name] = [one[name] for one in clips]
        columns[f"{name}_status"] = ["ok"] * len(rows)
        columns[f"{name}_signature"] = [None] * len(rows)
    return pa.table(columns, schema=samples_schema(decode))


def labels_table(rows: list[Any]) -> pa.Table:
    """Return a unit of labels."""
    draws = [np.random.default_rng(abs(one.sample_id)) for one in rows]
    columns = {
        "sample_id": [one.sample_id for one in rows],
        "status": [str(Status.OK)] * len(rows),
        "logits": [one.normal(size=len(CLASSES)).astype(np.float32) for one in draws],
    }
    return pa.table(columns, schema=LABELS_SCHEMA)
