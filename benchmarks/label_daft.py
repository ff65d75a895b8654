"""The labelling pass in Daft, to measure ours against; needs ``pip install daft`` somewhere."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from label_clips import UNIT_SIZE, ClipSet
from label_rivals import NUM_WORKERS, decode_some, encode_some, teacher_at

_BATCHES_AT_ONCE = 4


def import_daft(folder: str | None) -> Any | None:
    """Return Daft, None where it is not installed.

    Args:
        folder: Where ``pip install --target`` put it, None for where all packages are.
    """
    here = [str(Path(__file__).parent), *([folder] if folder else [])]
    sys.path += here
    # The processes of Daft find this module and Daft itself by the environment.
    os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:1], *filter(None, sys.path)])
    os.environ |= {"DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0"}
    try:
        return importlib.import_module("daft")
    except ImportError:
        return None


def daft_loop(daft: Any, clips: ClipSet, *, stores: str | None) -> int:
    """Fetch by Daft, decode and label in two processes, and return how many were labelled.

    Args:
        daft: The package.
        clips: The clips.
        stores: Folder that gets Parquet files, None to keep nothing.
    """
    keys = [key for ref in clips.refs for key in clips.keys(ref)]
    uris = [f"{clips.source}/{key}" for key in keys]
    functions = importlib.import_module("daft.functions")
    config = _io_config(daft)
    labeller = _labeller(daft)(clips.teachers[0])
    content = functions.download(daft.col("uri"), max_connections=16, io_config=config)
    frame = daft.from_pydict({"uri": uris}).into_batches(_BATCHES_AT_ONCE * UNIT_SIZE)
    frame = frame.with_column("found", labeller.run(content))
    if stores is None:
        logits = frame.select(daft.col("found").get("logits").alias("logits")).to_pydict()
        return len(logits["logits"])
    found = daft.col("found")
    fields = [found.get(name).alias(name) for name in ("video", "audio", "logits")]
    frame.select("uri", *fields).write_parquet(stores, io_config=config)
    return len(uris)


class Labeller:
    """Decodes, encodes and labels batches of clips.

    Args:
        teacher: Folder of the teacher.
    """

    def __init__(self, teacher: str) -> None:
        self._teacher = teacher_at(teacher)

    def run(self, content: Any) -> list[dict[str, Any]]:
        """Return the pieces and the logits of every clip."""
        decoded = decode_some(content.to_pylist())
        pieces = encode_some(decoded)
        frames = np.stack([arrays["video"] for arrays in decoded])
        logits_BC = self._teacher.predict(frames)
        return [
            {"video": video, "audio": audio, "logits": logits_C.tolist()}
            for video, audio, logits_C in zip(
                pieces["video"], pieces["audio"], logits_BC, strict=True
            )
        ]


def _labeller(daft: Any) -> Any:
    """Return the labeller as Daft's own class of two processes."""
    kinds = daft.DataType
    pieces = kinds.list(kinds.binary())
    returned = kinds.struct(
        {"video": pieces, "audio": pieces, "logits": kinds.list(kinds.float32())}
    )
    run = daft.method.batch(return_dtype=returned, batch_size=UNIT_SIZE)(Labeller.run)
    made = type("DaftLabeller", (Labeller,), {"run": run})
    return daft.cls(max_concurrency=NUM_WORKERS, use_process=True)(made)


def _io_config(daft: Any) -> Any:
    """Return how Daft reaches the server that the environment names."""
    return daft.io.IOConfig(
        s3=daft.io.S3Config(
            endpoint_url=os.environ["AWS_ENDPOINT_URL"],
            key_id=os.environ["AWS_ACCESS_KEY_ID"],
            access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
            region_name=os.environ["AWS_DEFAULT_REGION"],
            use_ssl=False,
            force_virtual_addressing=False,
        )
    )
