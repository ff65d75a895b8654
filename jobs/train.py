"""Train the students of the arms asked for from the stores of a run."""

from mke_ray.config import run_job
from mke_ray.expansion import train

if __name__ == "__main__":
    run_job(train, __file__)
