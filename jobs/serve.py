"""Serve an exported student online: a JSON API on Ray Serve."""

from mke_ray.config import run_job
from mke_ray.config_serve import ServeConfig

if __name__ == "__main__":
    run_job("mke_ray.serve.job.serve", __file__, schema=ServeConfig, config_name="serve")
