"""What to do about a device whose memory is full, said in the error."""

import contextlib
from collections.abc import Iterator

import torch

from mke_ray.errors import DeviceMemoryError


@contextlib.contextmanager
def advice_on_memory(num_rows: int) -> Iterator[None]:
    """Say which keys help when the memory of a GPU is full.

    Args:
        num_rows: Rows of this rank in one pass.

    Raises:
        DeviceMemoryError: It was.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = max(num_rows // 2, 1)
        first = f"set scaling.micro_batch={smaller} (a pass has {num_rows} rows of a worker now)"
        raise DeviceMemoryError(
            f"the GPU's memory is full: {first if num_rows > 1 else 'a pass has one row already'}; "
            "engine.checkpoint_activations=true, engine=zero3 or engine=fsdp2, and fewer or "
            f"smaller arrays in views need less, too. {error}"
        ) from error
