"""Trackers: they copy a run to where people watch theirs."""

# The option, which is also the name of the package it needs and of its module here -> the class in that module.
TRACKERS = {"tensorboard": "TensorBoard", "mlflow": "MLflow"}
