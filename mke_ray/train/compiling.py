"""torch.compile of the network that is trained."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from mke_ray.errors import ConfigError

COMPILE_KEYS = ("mode", "backend", "dynamic", "fullgraph")
_COMPILERS = ("g++", "clang++", "c++")


def check_compile(setting: Any, *, use_gpu: bool) -> None:
    """Refuse what cannot be compiled.

    Args:
        setting: ``engine.compile``.
        use_gpu: Whether workers have a GPU.

    Raises:
        ConfigError: A key is unknown, or code for a CPU is wanted and there is no C++ compiler.
    """
    if not setting:
        return
    if setting is not True and not isinstance(setting, Mapping):
        raise ConfigError(
            f"engine.compile={setting!r}; give true, false, or a mapping like "
            "{mode: reduce-overhead}"
        )
    options = options_of(setting)
    for key in options:
        if key not in COMPILE_KEYS:
            raise ConfigError(f"engine.compile.{key} is no such key; choose of {COMPILE_KEYS}")
    needs_compiler = options.get("backend", "inductor") == "inductor" and not use_gpu
    names = [os.environ["CXX"]] if os.environ.get("CXX") else _COMPILERS
    if needs_compiler and not any(shutil.which(one) for one in names):
        raise ConfigError(
            f"engine.compile needs a C++ compiler where workers have no GPU, and none of "
            f"{list(names)} is on the PATH; install one (g++), or set engine.compile=false"
        )


def compile_network(network: nn.Module, setting: Any) -> None:
    """Compile a network in place, so that its weights keep their names.

    Args:
        network: The network.
        setting: ``engine.compile``.
    """
    if setting:
        network.compile(**options_of(setting))


def options_of(setting: Any) -> dict[str, Any]:
    """Return the arguments of ``torch.compile``."""
    return {} if setting is True else dict(setting)
