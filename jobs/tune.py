"""Search fusion, loss, noise or any other keys on the stores of a run."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.search.whole.search", __file__)
