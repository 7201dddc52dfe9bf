"""Placement: labels beside the points of a scatter plot, clear of each other and of every marker."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bench.analysis.labels import family_title, records
from bench.report.plots.style import FAINT

Box = tuple[float, float, float, float]  # left, bottom, right, top


def place_labels(
    axes: Axes,
    rows: pd.DataFrame,
    colours: dict[str, str],
    metrics: tuple[str, str],
    others: pd.DataFrame | None = None,
    size: float = 8.5,
) -> None:
    """Write each point's patch and depth beside it: in the nearest free place, with a line to it where that is far.

    Args:
        metrics: of the two axes.
        others: points that get no label, and are kept clear of.

    Where nothing is free, a point stays without.
    """
    points_per_pixel = 72 / axes.figure.dpi
    frame = np.asarray(axes.get_window_extent().extents) * points_per_pixel
    points = records(rows)
    crosses = [_cross(axes, point, points_per_pixel, metrics) for point in points]
    more = [] if others is None else [_cross(axes, point, points_per_pixel, metrics) for point in records(others)]
    taken = [box for cross in (*crosses, *more) for box in cross]
    for row, (body, *_) in zip(points, crosses, strict=True):
        text, x, y = _short(row), (body[0] + body[2]) / 2, (body[1] + body[3]) / 2
        width, height = 0.6 * size * len(text), 1.1 * size
        boxes = [(far, _box(x, y, dx, dy, width, height)) for far, dx, dy in _offsets()]
        free = ((far, box) for far, box in boxes if _inside(box, frame) and not any(_overlap(box, b) for b in taken))
        far, box = next(free, (0.0, None))
        if box is None:
            continue
        taken.append(box)
        axes.annotate(
            text,
            (row[metrics[0]], row[metrics[1]]),
            ((box[0] + box[2]) / 2 - x, (box[1] + box[3]) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=size,
            color=colours[row["model"]],
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": FAINT, "shrinkB": 3} if far > 14 else None,
        )


def _cross(axes: Axes, row: dict[str, Any], scale: float, metrics: tuple[str, str]) -> list[Box]:
    """Where a point's marker and its whiskers are, in points of the page."""
    ends = [[row.get(f"{metric}{end}", math.nan) for end in ("_low", "", "_high")] for metric in metrics]
    (left, x, right), (low, y, high) = ([v if v == v else some[1] for v in some] for some in ends)
    corners = axes.transData.transform([(x, y), (left, low), (right, high)]) * scale
    (x, y), (left, low), (right, high) = corners
    return [(x - 4, y - 4, x + 4, y + 4), (left, y - 0.5, right, y + 0.5), (x - 0.5, low, x + 0.5, high)]


def _short(row: dict[str, Any]) -> str:
    """The label without what colour, marker and panel already say."""
    said = {family_title(row["model"]), row["dtype"], row["device"]}
    return " ".join(word for word in row["label"].replace(row["device_name"], "").split() if word not in said)


def _offsets() -> Iterator[tuple[float, float, float]]:
    """Distance and direction, the nearest and most readable places first."""
    for far in (6.0, 9.0, 13.0, 19.0, 27.0, 37.0, 49.0):
        for angle in (45, 315, 135, 225, 0, 180, 90, 270):
            yield far, far * math.cos(math.radians(angle)), far * math.sin(math.radians(angle))


def _box(x: float, y: float, dx: float, dy: float, width: float, height: float) -> Box:
    """Edges of a text that leaves the point (x, y) towards (dx, dy)."""
    left = x + dx - (0 if dx > 0.1 else width if dx < -0.1 else width / 2)
    bottom = y + dy - (0 if dy > 0.1 else height if dy < -0.1 else height / 2)
    return left, bottom, left + width, bottom + height


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _inside(box: Box, frame: Any) -> bool:
    return box[0] > frame[0] and box[1] > frame[1] and box[2] < frame[2] and box[3] < frame[3]
