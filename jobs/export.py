"""Write an exported student as a file that other runtimes read: ONNX, or torch.export."""

from mke_ray.config import run_job
from mke_ray.config_predict import ExportConfig

if __name__ == "__main__":
    run_job("mke_ray.predict.export", __file__, schema=ExportConfig, config_name="export")
