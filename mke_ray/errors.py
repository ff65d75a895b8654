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


class DamagedCheckpointError(TrainingError):
    """A checkpoint is not the one that was written; all ranks agree.

    Args:
        found: What is damaged.
        fit: Fingerprint of the fit that it is of, None where that cannot be read either.
        cursor: Steps that it had done, or None.
    """

    def __init__(self, found: str, fit: str | None = None, cursor: int | None = None) -> None:
        super().__init__(
            f"{found}; delete the folder train/ of the root and start the job again: finished fits "
            "are kept, and this one starts anew"
        )
        self.found = found
        self.fit = fit
        self.cursor = cursor

    def __reduce__(
        self,
    ) -> tuple[type["DamagedCheckpointError"], tuple[str, str | None, int | None]]:
        """Pickle by its arguments, so that the error crosses processes whole."""
        return (DamagedCheckpointError, (self.found, self.fit, self.cursor))


class DeviceMemoryError(MkeRayError):
    """The memory of a GPU is full; unlike a ``TrainingError`` it may be that of one rank alone."""
