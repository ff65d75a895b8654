"""The section ``preflight`` of the configuration: checked, and in the words of a dry run."""

from mke_ray.config_preflight import OFF, PREFLIGHT_MODES, PreflightConfig
from mke_ray.config_schema import JobConfig
from mke_ray.errors import ConfigError

_WIDTH = 16


def check_preflight(keys: PreflightConfig) -> None:
    """Check the section ``preflight``.

    Args:
        keys: The section.

    Raises:
        ConfigError: It names the key and the way out.
    """
    if keys.mode not in PREFLIGHT_MODES:
        raise ConfigError(
            f"preflight.mode={keys.mode!r}; choose one of {[*PREFLIGHT_MODES]} (in YAML off is a "
            "word only in quotes), or give preflight=warn on the command line"
        )
    for name in ("samples", "epochs"):
        if getattr(keys, name) < 1:
            raise ConfigError(f"preflight.{name}={getattr(keys, name)} must be at least 1")
    if not -1.0 < keys.worth < 1.0:
        raise ConfigError(f"preflight.worth={keys.worth} is a share: give 0.01 for one point")
    if not 0.5 < keys.certainty < 1.0:
        raise ConfigError(
            f"preflight.certainty={keys.certainty} must be above 0.5 and below 1; 0.8 is usual"
        )


def preflight_lines(job: JobConfig, *, num_unlabeled: int, is_whole: bool) -> list[str]:
    """Say in a dry run what the pre-flight will look at, nothing where nobody asks.

    Args:
        job: The configuration.
        num_unlabeled: Unlabeled samples that were listed.
        is_whole: Whether these are all.
    """
    keys = job.preflight
    if keys.mode == OFF or not job.expansion.enabled:
        return []
    looks_at_all = is_whole and num_unlabeled <= keys.samples
    of = "all unlabeled samples" if looks_at_all else f"about {keys.samples:,} unlabeled samples"
    then = "goes on whatever it finds" if keys.mode == "warn" else "ends the job on a no-go"
    cost = ", for one more student: its witnesses are those of round 1" if looks_at_all else ""
    return [f"{'pre-flight':{_WIDTH}}looks at {of}{cost}; preflight={keys.mode} {then}"]
