"""The teacher that a user brings, checked before anything starts."""

import pickle

from safetensors import SafetensorError

from mke_ray.config import build
from mke_ray.config_schema import TeacherConfig
from mke_ray.errors import ConfigError, StoreError
from mke_ray.models.teachers import Teacher, check_needs
from mke_ray.schema import DecodeSpec, LabelSpace

_WAY_OUT = "teacher.train=true with a network of ours"
_MAX_LETTERS = 300
_MEMBERS = ("modality", "needs", "predict", "fingerprint")
# What loading weights raises that are not there, damaged or of another network.
_LOAD_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    ValueError,
    pickle.UnpicklingError,
    SafetensorError,
)


def check_own_teacher(config: TeacherConfig, decode: DecodeSpec, label_space: LabelSpace) -> None:
    """Build the user's teacher, with its weights, and refuse one that does not fit the run.

    Args:
        config: The section ``teacher``.
        decode: What is stored of every modality.
        label_space: The classes of the source.

    Raises:
        ConfigError: It cannot be built, or reads another modality than the configuration says.
        StoreError: It needs more than is stored, or has other classes than the source.
    """
    built = _loaded(config)
    if built.modality != config.modality:
        raise ConfigError(
            f"teacher.modality={config.modality}, but teacher.network reads "
            f"{built.modality!r}; set teacher.modality={built.modality}"
        )
    check_needs(built, decode)
    space = getattr(built, "label_space", label_space)
    if space.classes != label_space.classes:
        raise StoreError(
            f"the teacher has the classes {list(space.classes)}, the source "
            f"{list(label_space.classes)}; they have to be the same, in the same order"
        )


def _loaded(config: TeacherConfig) -> Teacher:
    """Build the teacher, and ask what its weights are: one that loads them late does so then.

    Raises:
        ConfigError: There is no such class, or its arguments or its weights do not fit.
    """
    try:
        built: Teacher = build(config.network)
        if missing := [name for name in _MEMBERS if not hasattr(built, name)]:
            raise ConfigError(
                f"{type(built).__name__} is not a Teacher: it has no {', '.join(missing)}"
            )
        built.fingerprint()
    except ConfigError as error:
        raise ConfigError(f"teacher.network: {error}; correct it, or set {_WAY_OUT}") from error
    except _LOAD_ERRORS as error:
        said = " ".join(str(error).split())[:_MAX_LETTERS]
        raise ConfigError(
            f"teacher.network: {config.network.get('_target_')} cannot be built: "
            f"{type(error).__name__}: {said}; look at its arguments and its weights, or set "
            f"{_WAY_OUT}"
        ) from error
    return built
