"""Ask a student about every sample of a source: answers as Parquet files, each sample once."""

from mke_ray.config import run_job
from mke_ray.config_predict import PredictConfig

if __name__ == "__main__":
    run_job("mke_ray.predict.predict", __file__, schema=PredictConfig, config_name="predict")
