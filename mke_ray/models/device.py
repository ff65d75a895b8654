"""The device that a network computes on, proven to compute before it is used."""

import torch

from mke_ray.errors import ConfigError


def checked_device(name: str) -> torch.device:
    """Return a device of this process by its name.

    Raises:
        ConfigError: There is no such device, or it computes nothing.
    """
    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # torch without CUDA fails an assertion
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"device={name} cannot compute in this process: {reason}; set labelling.num_gpus=0 "
            "(or device=cpu of your own teacher), or use nodes and a torch with CUDA"
        ) from error
    return torch.device(name)
