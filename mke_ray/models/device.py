"""The device that a network computes on, proven to compute before it is used."""

import torch

from mke_ray.errors import ConfigError

_LABELLING = "set labelling.num_gpus=0 (or device=cpu of your own teacher)"


def checked_device(name: str, *, way_out: str = _LABELLING) -> torch.device:
    """Return a device of this process by its name.

    Args:
        name: Name of the device, as torch has it.
        way_out: What to set where a CPU is to compute.

    Raises:
        ConfigError: There is no such device, or it computes nothing.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA fails an assertion
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"device={name} cannot compute in this process: {reason}; {way_out}, or use nodes and "
            "a torch with CUDA"
        ) from error
    return torch.device(name)


def training_device(gpus_per_worker: float) -> torch.device:
    """Return the device of a process that trains alone.

    Args:
        gpus_per_worker: GPUs that are asked for, or a share of one; with 0 a CPU computes.

    Raises:
        ConfigError: A GPU is asked for, and none computes in this process.
    """
    if gpus_per_worker <= 0:
        return torch.device("cpu")
    way_out = f"scaling.gpus_per_worker={gpus_per_worker:g} asks for it: set 0"
    return checked_device("cuda", way_out=way_out)
