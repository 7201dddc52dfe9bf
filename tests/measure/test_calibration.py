"""Calibration against plain loops, the definition, and what is known of made-up models."""

import math

import numpy as np
import pytest
from independent import calibration_error

from bench.measure.calibration import MOST_BINS, accuracy_at_coverage, expected_calibration_error


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0], ids=["timid", "honest", "boastful"])
def test_the_error_is_that_of_placalibration_error(seed: int, exponent: float) -> None:
    draws = np.random.default_rng(seed)
    confidences = draws.uniform(0.1, 1.0, 400).astype(np.float32)
    right = draws.random(400) < confidences**exponent
    told = expected_calibration_error(confidences, right)
    assert told == pytest.approx(calibration_error(confidences.tolist(), right.tolist()), abs=1e-9)


def test_a_model_that_is_right_as_often_as_it_is_sure_has_next_to_none_and_another_its_distance() -> None:
    draws = np.random.default_rng(0)
    confidences = draws.uniform(0.2, 0.8, 20_000)
    assert expected_calibration_error(confidences, draws.random(20_000) < confidences) < 0.015
    assert expected_calibration_error(confidences, draws.random(20_000) < confidences + 0.1) == pytest.approx(
        0.1, abs=0.01
    )


@pytest.mark.parametrize("hit", [True, False])
def test_a_model_that_is_always_right_or_never_has_the_distance_of_its_mean(hit: bool) -> None:
    confidences = np.linspace(0.5, 0.9, 2 * MOST_BINS)
    told = expected_calibration_error(confidences, np.full(len(confidences), hit))
    assert told == pytest.approx(0.3 if hit else 0.7)
    assert expected_calibration_error(np.array([0.75]), np.array([hit])) == pytest.approx(0.25 if hit else 0.75)


def test_the_surest_nine_tenths_leave_out_the_mistakes_that_the_model_doubted() -> None:
    confidences, right = np.linspace(1.0, 0.1, 20), np.full(20, True)
    right[[0, 18, 19]] = False  # the surest, and the two that it was least sure of
    assert accuracy_at_coverage(confidences, right) == 17 / 18
    order = np.random.default_rng(0).permutation(20)
    assert accuracy_at_coverage(confidences[order], right[order]) == 17 / 18
    for images in (1, 9, 11):  # never fewer than nine tenths
        kept = math.ceil(0.9 * images)
        assert (
            accuracy_at_coverage(np.linspace(0, 1, images), np.arange(images) > 0) == (kept - (kept == images)) / kept
        )
