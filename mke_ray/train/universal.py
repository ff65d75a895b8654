"""Checkpoints of ZeRO for another number of ranks: DeepSpeed's universal form, made once a node."""

import argparse
import contextlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mke_ray.train.engine import from_rank_zero

CONVERTIBLE_OPTIMIZERS = ("adamw",)


def is_convertible(optimizer: Mapping[str, Any]) -> bool:
    """Return whether DeepSpeed can convert the state of an optimizer.

    It knows the two moments of Adam alone; of momentum it drops the state or fails.

    Args:
        optimizer: ``type`` and arguments of the optimizer.
    """
    return optimizer.get("type") in CONVERTIBLE_OPTIMIZERS


@contextlib.contextmanager
def universal_checkpoint(folder: Path, tag: str) -> Iterator[Path]:
    """Yield a folder with the universal form of a checkpoint; every rank must enter and leave.

    The first rank of every node converts into a temporary folder of its own node, since nodes need
    share no disk; the others wait.

    Args:
        folder: Folder of a checkpoint that DeepSpeed saved.
        tag: Its tag.
    """
    node, is_first = os.environ.get("NODE_RANK", "0"), os.environ.get("LOCAL_RANK", "0") == "0"
    name = from_rank_zero(f"mke_ray-universal-{uuid.uuid4().hex}")
    converted = Path(tempfile.gettempdir(), f"{name}-{node}")
    try:
        if is_first:
            convert(folder / tag, converted / tag)
        dist.barrier()
        yield converted
        dist.barrier()
    finally:
        if is_first:
            shutil.rmtree(converted, ignore_errors=True)


def convert(source: Path, target: Path) -> None:
    """Convert one checkpoint, as DeepSpeed's own command line does.

    Args:
        source: Folder with the files of all ranks.
        target: Folder that does not exist yet.
    """
    from deepspeed.checkpoint import ds_to_universal  # noqa: PLC0415 - seconds, and rarely used

    options = argparse.Namespace(
        input_folder=str(source),
        output_folder=str(target),
        num_extract_workers=1,  # more would be processes that import torch again
        num_merge_workers=1,
        keep_temp_folder=False,
        strict=True,
        inject_missing_state=True,
    )
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ds_to_universal.main(options)
