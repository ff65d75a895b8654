"""A student on new samples: over a whole source, and as a file of another format."""

from mke_ray.predict.exporting import export
from mke_ray.predict.prediction import predict

__all__ = ["export", "predict"]
