"""How a teacher computes: its precision, torch.compile, and the order of its weights in memory."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from mke_ray.errors import ConfigError
from mke_ray.models.teachers import ManyTeacher, Teacher

PRECISIONS = ("float32", "bfloat16")

_FORMATS = ((nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d))


@dataclass(frozen=True, slots=True)
class Computing:
    """Switches of a teacher; logits differ in their last digits with any but the defaults.

    Args:
        precision: ``float32``, or ``bfloat16`` for autocast around ``predict``.
        compile: Compile the teacher's ``network`` by torch.compile.
        channels_last: Keep the weights of its convolutions channels last.
    """

    precision: str = "float32"
    compile: bool = False
    channels_last: bool = False

    @property
    def spec(self) -> dict[str, Any]:
        """The switches that are not at their defaults."""
        default = asdict(Computing())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def check(self, teacher: Teacher | ManyTeacher, *, key: str) -> None:
        """Refuse switches that a teacher has no use for, before anything starts.

        Args:
            teacher: The teacher.
            key: Where it stands in the configuration.

        Raises:
            ConfigError: The precision is unknown, or the teacher shows no network.
        """
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"labelling.precision={self.precision!r}; choose one of {list(PRECISIONS)}"
            )
        wanted = [name for name in ("compile", "channels_last") if getattr(self, name)]
        if wanted and not isinstance(getattr(teacher, "network", None), nn.Module):
            raise ConfigError(
                f"labelling.{wanted[0]}=true needs a teacher with an attribute network of type "
                f"torch.nn.Module, and {key} ({type(teacher).__name__}) has none; give it one, or "
                f"set labelling.{wanted[0]}=false"
            )

    def prepare(self, teacher: Teacher | ManyTeacher) -> None:
        """Change the network of a teacher that ``check`` let through, in place."""
        if not (self.compile or self.channels_last):
            return
        network: nn.Module = getattr(teacher, "network")  # noqa: B009 - not part of the protocol
        if self.channels_last:
            _put_channels_last(network)
        if self.compile:
            # One kernel for every number of samples: automatic shapes would let the logits of a
            # unit depend on the units before it. (Module.compile leaves containers uncompiled.)
            network.forward = torch.compile(network.forward, dynamic=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Compute in the precision, on whatever device, for a block."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.precision != "float32":
                for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
                    dtype = getattr(torch, self.precision)
                    stack.enter_context(torch.autocast(device, dtype=dtype))
            yield


def _put_channels_last(network: nn.Module) -> None:
    """Reorder the weights of the convolutions."""
    for module in network.modules():
        for kind, memory_format in _FORMATS:
            if isinstance(module, kind):
                module.weight.data = module.weight.data.contiguous(memory_format=memory_format)
