"""List the unlabeled samples whose labels would settle a verdict, or teach most."""

from mke_ray.config import run_job

if __name__ == "__main__":
    run_job("mke_ray.ask.job.ask", __file__)
