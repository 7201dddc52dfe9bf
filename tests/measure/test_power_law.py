"""Power laws: exact ones come out to the last digits, and what can't be fitted is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.power_law import FEWEST, fit_power_law

SIZES = [1e3, 3e3, 1e4, 3e4, 1e5, 3e5]


def test_a_law_without_noise_is_found_to_the_last_digits() -> None:
    law = fit_power_law(SIZES, [4 * x**-0.6 + 0.01 for x in SIZES], [3] * 6)
    assert law.exponent_interval()[:3] == pytest.approx([0.6] * 3, abs=1e-5)
    assert law.floor == pytest.approx(0.01, abs=1e-6)
    assert law.at(1e6, weight=3)[:3] == pytest.approx([4 * 1e6**-0.6 + 0.01] * 3, rel=1e-5)


def test_a_law_that_bends_the_other_way_has_no_floor_and_is_a_line() -> None:
    errors = [4 * x**-0.3 - 0.05 for x in SIZES]
    law = fit_power_law(SIZES, errors, [1] * 6)
    slope, height = np.polyfit(np.log(SIZES), np.log(errors), 1)
    assert law.floor == 0
    assert (law.exponent, law.degrees, law.n) == (pytest.approx(-slope), 4, 6)
    assert law.at(5e3).amount == pytest.approx(math.exp(height + slope * math.log(5e3)))


def test_a_point_of_more_weight_draws_the_law_to_itself() -> None:
    errors = [0.2, 0.14, 0.11, 0.07, 0.03, 0.025]
    plain, heavy = (fit_power_law(SIZES, errors, [1, 1, 1, 1, weight, 1]) for weight in (1, 100))
    assert abs(heavy.at(1e5).amount - 0.03) < abs(plain.at(1e5).amount - 0.03)


def test_one_more_point_is_less_sure_than_the_law_and_far_away_less_than_near() -> None:
    law = fit_power_law(SIZES, [0.2, 0.14, 0.11, 0.07, 0.05, 0.03], [1] * 6)
    widths = [each.high / each.low for each in (law.at(1e4), law.at(1e6), law.at(1e6, weight=1))]
    assert widths == sorted(widths)
    assert law.over(law, 1e4).amount == 1


@given(st.lists(st.floats(5e-5, 1.0), min_size=FEWEST, max_size=8))
def test_whatever_the_errors_there_is_a_law_with_an_interval(errors: list[float]) -> None:
    sizes = np.geomspace(1e3, 1e5, len(errors)).tolist()
    law = fit_power_law(sizes, errors, [1] * len(errors))
    for low, middle, high, _ in (law.exponent_interval(), law.at(3e5, weight=1), law.over(law, 1e3)):
        assert low <= middle <= high


@pytest.mark.parametrize("sizes", [SIZES[: FEWEST - 1], [1e3, 1e3, 1e3, 1e4, 1e4]])
def test_too_few_points_are_refused(sizes: list[float]) -> None:
    with pytest.raises(ValueError, match="a law needs 5 points"):
        fit_power_law(sizes, [0.1] * len(sizes), [1] * len(sizes))
