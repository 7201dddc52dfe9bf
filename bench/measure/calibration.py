"""Calibration: whether a model is right as often as it is sure. Shapes: confidences and right (N,), of its answers."""

import math

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 1_000
COVERAGE = 0.9  # share of the images that the model answers, where it may leave out those it is least sure of


def expected_calibration_error(confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Mean distance between confidence and accuracy over bins of equally many images; 0 to 1.

    Few bins hide errors and many add noise of their own, so there are as many as accuracy still rises with
    confidence from each bin to the next: Roelofs et al. 2022, "Mitigating Bias in Calibration Error Estimation",
    section 4.3, ECE_sweep, with absolute distances, and no more than MOST_BINS.
    """
    order = np.argsort(confidences, kind="stable")
    sure, hits = confidences[order].astype(np.float64), right[order].astype(np.float64)
    found = abs(sure.mean() - hits.mean())
    for bins in range(2, min(len(sure), MOST_BINS) + 1):
        edges = np.arange(bins) * len(sure) // bins
        counts = np.diff(edges, append=len(sure))
        accuracies = np.add.reduceat(hits, edges) / counts
        if (np.diff(accuracies) < 0).any():
            break
        found = float(np.abs(np.add.reduceat(sure, edges) / counts - accuracies) @ counts / len(sure))
    return float(found)


def accuracy_at_coverage(confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Accuracy on the COVERAGE of the images that the model is most sure of; of equally sure ones, the first."""
    kept = np.argsort(-confidences, kind="stable")[: math.ceil(COVERAGE * len(right))]
    return float(right[kept].mean())
