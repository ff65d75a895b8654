"""The errors a user of mke_ray can meet, one class per situation."""

MISSING_FILE = "missing_file"  # the reason of a sample whose file the source does not have


class MkeRayError(Exception):
    """Parent of every error that mke_ray raises on purpose."""


class ConfigError(MkeRayError):
    """The configuration asks for something that does not exist or does not fit together."""


class MediaError(MkeRayError):
    """One sample cannot be read; its row stays, with this reason.

    Args:
        reason: Short machine-readable reason, for example ``"truncated"``.
        detail: What was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["MediaError"], tuple[str, str]]:
        """Pickle by both arguments, so that the error crosses processes whole."""
        return (MediaError, (self.reason, self.detail))


class StoreError(MkeRayError):
    """A store is unfinished, damaged, held by another driver, or was made from something else."""


class TrainingError(MkeRayError):
    """Training cannot go on, for example because a loss is not finite."""


class DeviceMemoryError(MkeRayError):
    """The memory of a GPU is full; unlike a ``TrainingError`` it may be that of one rank alone."""
