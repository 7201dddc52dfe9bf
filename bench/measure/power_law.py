"""The law error = a * x**-b + c, fitted to a few sizes: its exponent, what it foretells, and one law over another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.measure.stats import Interval, students_t

FEWEST = 5  # sizes: three make the curve, and what two or more leave of it tells how sure it is


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law; intervals are Student's t over what the points leave of it, on logarithms of the error.

    Attributes:
        exponent, floor: b and c; a floor of 0 where the points don't bend towards one, and then it isn't estimated.
        middle, height: natural logarithms: of an x among the points, and of a * x**-b there.
        root: (2 or 3, n); times its transpose, the covariance of (height, exponent, floor), without a floor that isn't
            estimated. A covariance itself would lose its digits where a law bends sharply.
        variance: of the error's logarithm in a point of weight 1.
        n: how many points.
    """

    exponent: float
    floor: float
    middle: float
    height: float
    root: NDArray[Any]
    variance: float
    n: int

    def exponent_interval(self) -> Interval:
        half = students_t(self.degrees) * float(np.linalg.norm(self.root[1]))
        return Interval(self.exponent - half, self.exponent, self.exponent + half, self.n)

    def at(self, x: float, weight: float = math.inf) -> Interval:
        """The error at x; with a `weight`, what one more point of that weight may be (its prediction interval)."""
        return self._factors(x, students_t(self.degrees) * math.sqrt(self._variance_at(x) + self.variance / weight))

    def over(self, other: "PowerLaw", x: float) -> Interval:
        """Ratio of this law's error to another's at x; degrees of freedom as Welch and Satterthwaite's."""
        parts = [(each._variance_at(x), each.degrees) for each in (self, other)]
        total = sum(part for part, _ in parts)
        known = sum((part / (total or 1.0)) ** 2 / degrees for part, degrees in parts)
        half = students_t(1 / known) * math.sqrt(total) if known else 0.0
        low, middle, high, n = self._factors(x, half)
        by = other.at(x).amount
        return Interval(low / by, middle / by, high / by, min(n, other.n))

    @property
    def degrees(self) -> int:
        return self.n - len(self.root)

    def _factors(self, x: float, half: float) -> Interval:
        middle = math.exp(self.height - self.exponent * (math.log(x) - self.middle)) + self.floor
        factor = math.exp(min(half, 700.0))  # e to the 710 is no float
        return Interval(middle / factor, middle, middle * factor, self.n)

    def _variance_at(self, x: float) -> float:
        slopes = _slopes(np.array([self.height, self.exponent, self.floor]), np.array([math.log(x) - self.middle]))
        return float(((slopes[0, : len(self.root)] @ self.root) ** 2).sum())


def fit_power_law(x: Sequence[float], errors: Sequence[float], weights: Sequence[float]) -> PowerLaw:
    """The law through positive errors at several x, by weighted least squares on their logarithms.

    Gauss and Newton's method, and the covariance that belongs to it (Seber and Wild, "Nonlinear Regression", 1989).

    Raises:
        ValueError: fewer than FEWEST points, or fewer than three different x.
    """
    from scipy.optimize import least_squares

    if len(x) < FEWEST or len({*x}) < 3:
        raise ValueError(f"a law needs {FEWEST} points or more, at three x or more")
    weight, logs = np.asarray(weights, dtype=float), np.log(errors)
    places = np.log(x)
    middle = float(np.average(places, weights=weight))
    across, root = places - middle, np.sqrt(weight)

    def left(found: NDArray[Any]) -> NDArray[Any]:
        return root * (np.log(np.maximum(np.exp(found[0] - found[1] * across) + found[2], 1e-12)) - logs)

    def slopes(found: NDArray[Any]) -> NDArray[Any]:
        return root[:, None] * _slopes(found, across)

    slope, height = np.polyfit(across, logs, 1, w=root)
    found = np.array([height, -slope, 0.0])
    start = np.array([height, -1.5 * slope, 0.5 * min(errors)])
    size = 2
    with np.errstate(all="ignore"):  # on its way it may try anything
        bent = least_squares(left, start, slopes, method="lm", x_scale=[1.0, 1.0, min(errors)])
        known = np.isfinite(bent.jac).all() and np.linalg.matrix_rank(bent.jac) == 3
    if bent.success and known and bent.x[1] > 0 and bent.x[2] > 0:
        found, size = bent.x, 3
    own = slopes(found)[:, :size]
    variance = float((left(found) ** 2).sum()) / (len(x) - size)
    height, exponent, floor = map(float, found)
    return PowerLaw(exponent, floor, middle, height, math.sqrt(variance) * np.linalg.pinv(own), variance, len(x))


def _slopes(found: NDArray[Any], across: NDArray[Any]) -> NDArray[Any]:
    """Derivatives of the error's logarithm by (height, exponent, floor) at places (n,): (n, 3)."""
    power = np.exp(found[0] - found[1] * across)
    return np.stack([power, -across * power, np.ones_like(across)], axis=1) / (power + found[2])[:, None]
