"""Trackers, which copy a run to where people watch theirs: option (also its package and its module here) -> class."""

TRACKERS = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
