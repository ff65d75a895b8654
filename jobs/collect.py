"""Delete the stores of a run that nobody has referred to for some time."""

from mke_ray.config import run_job
from mke_ray.config_upkeep import CollectConfig

if __name__ == "__main__":
    run_job(
        "mke_ray.expansion.collect.collect", __file__, schema=CollectConfig, config_name="collect"
    )
