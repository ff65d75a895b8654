"""Train the students of the arms asked for from the stores of a run."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.expansion.train", __file__)
