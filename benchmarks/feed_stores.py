"""Stores of made clips for measuring the feed: raw frames or JPEG, sound beside them."""

# T frames, H height, W width, N sound samples.

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mke_ray.data.codec import encode_modality
from mke_ray.data.manifest import Manifest, write_manifest
from mke_ray.data.sources import Reader, SourceRow
from mke_ray.labels.store import UnitStore
from mke_ray.schema import (
    LABELS_SCHEMA,
    AudioSpec,
    DecodeSpec,
    FrameCodec,
    LabelSpace,
    ManifestRow,
    SoundCodec,
    VideoSpec,
    decode_spec_to_dict,
    samples_schema,
)
from mke_ray.storage import Root

CLASSES = ("zero", "one", "two")
_DIFFERENT = 64


@dataclass
class MadeClips:
    """Clips that differ in their pixels and their sound.

    Args:
        num_clips: How many.
    """

    num_clips: int
    label_space: LabelSpace = field(default_factory=lambda: LabelSpace(CLASSES))

    def identity(self) -> dict[str, Any]:
        """Return what tells one source from another."""
        return {"source": "made clips", "num_clips": self.num_clips}

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Do nothing."""

    def rows(self, after: str | None = None) -> Iterator[SourceRow]:
        """Yield one row per clip."""
        for number in range(self.num_clips):
            key, label = f"clip/{number}", (number % len(CLASSES),)
            yield SourceRow(key, -1, "", None, None, f"group-{number}", "unlabeled", label)

    def reader(self, spec: DecodeSpec) -> Reader:
        """Read nothing: what is stored is made beside."""
        raise NotImplementedError


def clip_spec(codec: str, *, num_frames: int = 8, size: int = 64) -> DecodeSpec:
    """Return how clips are stored: RGB frames and one second of sound.

    Args:
        codec: ``raw`` or ``jpeg``.
        num_frames: Frames T of a clip.
        size: Height and width of a frame.
    """
    video = VideoSpec(num_frames, size, size, codec=FrameCodec(codec))
    return {"video": video, "audio": AudioSpec(16_000, 1.0, codec=SoundCodec.PCM)}


def store_clips(root: Root, num_clips: int, decode: DecodeSpec, *, unit_size: int = 32) -> Manifest:
    """Write the manifest, the samples and labels of clips.

    Args:
        root: Root of the run; samples are in ``samples/s``, labels in ``labels/t``.
        num_clips: How many clips.
        decode: How they are stored.
        unit_size: Rows of a unit.
    """
    manifest = write_manifest(root.child("manifest"), MadeClips(num_clips), unit_size=unit_size)
    spec = {"decode": decode_spec_to_dict(decode)}
    schema = samples_schema(decode)
    samples = UnitStore.open_or_create(root.child("samples", "s"), spec=spec, schema=schema)
    labels = UnitStore.open_or_create(
        root.child("labels", "t"), spec={"modality": "video"}, schema=LABELS_SCHEMA
    )
    pieces = [_pieces(number, decode) for number in range(min(num_clips, _DIFFERENT))]
    for ref in manifest.unit_refs():
        rows = manifest.read_unit(ref)
        samples.commit(ref.unit, _samples_table(rows, decode, pieces), {"split": ref.split})
        labels.commit(ref.unit, _labels_table(rows), {"split": ref.split})
    for store in (samples, labels):
        store.write_index(store.committed())
    return manifest


def _pieces(number: int, decode: DecodeSpec) -> dict[str, list[bytes]]:
    """Return what is stored of one clip: smooth moving colours with some noise, and a tone."""
    rng = np.random.default_rng(number)
    video, audio = decode["video"], decode["audio"]
    assert isinstance(video, VideoSpec) and isinstance(audio, AudioSpec)
    axes = np.meshgrid(
        np.arange(video.num_frames),
        np.linspace(0, 6, video.height),
        np.linspace(0, 6, video.width),
        indexing="ij",
    )
    waves = [np.sin(axes[0] / 3 + axes[1] * a + axes[2] * b) for a, b in rng.uniform(0, 2, (3, 2))]
    frames_THWC = 127 + 90 * np.stack(waves, axis=-1) + rng.normal(0, 6, (*axes[0].shape, 3))
    sound_N = 0.5 * np.sin(np.arange(audio.num_samples) * rng.uniform(0.01, 0.5))
    return {
        "video": encode_modality(frames_THWC.clip(0, 255).astype(np.uint8), video),
        "audio": encode_modality(sound_N.astype(np.float32), audio),
    }


def _samples_table(
    rows: list[ManifestRow], decode: DecodeSpec, pieces: list[dict[str, list[bytes]]]
) -> pa.Table:
    """Return the samples of a unit."""
    columns: dict[str, list[Any]] = {
        "sample_id": [row.sample_id for row in rows],
        "status": ["ok"] * len(rows),
        "error": [None] * len(rows),
    }
    for name in decode:
        columns[name] = [pieces[int(row.key.split("/")[1]) % len(pieces)][name] for row in rows]
        columns[f"{name}_status"] = ["ok"] * len(rows)
        columns[f"{name}_signature"] = [None] * len(rows)
    return pa.table(columns, schema=samples_schema(decode))


def _labels_table(rows: list[ManifestRow]) -> pa.Table:
    """Return the labels of a unit."""
    logits = [np.eye(len(CLASSES), dtype=np.float32)[(row.labels or (0,))[0]] for row in rows]
    columns = {
        "sample_id": [row.sample_id for row in rows],
        "status": ["ok"] * len(rows),
        "logits": logits,
    }
    return pa.table(columns, schema=LABELS_SCHEMA)
