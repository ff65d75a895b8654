"""Remove samples from every store of a run, by uri or sample id."""

from mke_ray.config import run_job
from mke_ray.config_upkeep import ForgetConfig

if __name__ == "__main__":
    run_job("mke_ray.expansion.forget.forget", __file__, schema=ForgetConfig, config_name="forget")
