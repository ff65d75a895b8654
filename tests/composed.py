"""Real configurations for tests, composed as the command line would."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from mke_ray.config import jobs_from, register_schema
from mke_ray.config_schema import JobConfig
from mke_ray.config_values import with_winner

REPOSITORY = Path(__file__).resolve().parents[1]


def composed(*overrides: str) -> list[JobConfig]:
    """Return the jobs that some overrides stand for."""
    register_schema()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=list(overrides))
        return jobs_from(with_winner(cfg, overrides))
