"""The canvas: how every figure looks. Colours, markers, scales, legends, titles, labels that keep clear of each other.

A family has one colour everywhere (safe for colour-blind readers), a numeric mode one marker. Nothing goes through
pyplot, so no figure outlives its caller. Accuracies are drawn on a scale of log error: 90, 99 and 99.9% are equally
far apart, so that neither a solved task nor a net that learned nothing squeezes the rest together.
"""

import functools
import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.analysis.labels import family_title
from bench.analysis.summary import Tables

INK, FAINT = "#333333", "#8a8a8a"
FAMILY_COLOURS = {"vit": "#0072B2", "cnn": "#D55E00"}
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#6A4C93")  # for families that come later
MARKERS = {"fp32": "o", "amp-bf16": "s", "amp-fp16": "^", "tf32": "D", "bf16": "P", "fp16": "X"}
STYLE: Any = {  # of everything that tells the eye something; whatever else a person has set is left alone
    "axes.axisbelow": True,
    "axes.edgecolor": "#cccccc",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # which comes with matplotlib, so a picture looks alike on every machine
    "font.size": 10,
    "grid.color": "#e8e8e8",
    "grid.linestyle": "-",
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "white",
    "patch.force_edgecolor": True,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.parse_math": False,  # a name with two dollars is no formula
    "svg.hashsalt": "vit-cnn-bench",
    "text.color": INK,
    "xtick.bottom": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
}
TITLE_INCHES = 0.66  # kept free above the axes
DPI = 150
WIDTH = 10.5  # inches, of every figure, so that they stand flush and their letters are equally large
MOST_ROWS = 30  # a picture with more lines than this is a wall: the best are drawn, and the title says so

Draw = Callable[[Tables], Figure | None]


def styled(draw: Draw) -> Draw:
    """Draw in the house style, without touching anyone else's settings."""

    @functools.wraps(draw)
    def in_style(tables: Tables) -> Figure | None:
        with matplotlib.rc_context(STYLE):
            return draw(tables)

    return in_style


def save(figure: Figure, suffix: str) -> bytes:
    """The figure as a "png" or "svg" file; the same figure always gives the same bytes."""
    data = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format=suffix, dpi=DPI, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    return data.getvalue()


def family_colours(models: pd.Series) -> dict[str, str]:
    """A colour for each family; those without one of their own take the next, in the order of their names."""
    others = sorted({str(model) for model in models} - FAMILY_COLOURS.keys())
    return FAMILY_COLOURS | {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(others)}


def _order(dtype: str) -> int:
    return [*MARKERS, dtype].index(dtype)


def marker_of(dtype: str) -> str:
    return MARKERS.get(dtype, "v")


def measured(summary: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return summary[(summary["n"] > 0) & summary[list(columns)].notna().all(axis=1)]


def leading(rows: pd.DataFrame, first: "pd.Series[bool]") -> pd.DataFrame:
    """As many as can be told apart: those of `first`, then each family's best on validation in turn."""
    ordered = rows.assign(first=first).sort_values(["first", "val_accuracy"], ascending=False)
    turn = ordered.groupby(["first", "model"], sort=False).cumcount()
    ordered = ordered.assign(turn=turn.where(~ordered["first"], -1)).sort_values("turn", kind="stable")
    return rows.loc[ordered.index[:MOST_ROWS]].sort_index()


def count_seeds(rows: pd.DataFrame, column: str = "n_seen") -> str:
    few, many = int(rows[column].min()), int(rows[column].max())
    return f"n = {many} seed{'s' * (many > 1)}" if few == many else f"n = {few} to {many} seeds"


def accuracy_axis(
    axes: Axes, medians: pd.Series, lows: pd.Series | None = None, highs: pd.Series | None = None
) -> None:
    """Accuracy on a scale of log error, with ticks where people look for them.

    Wide intervals widen the axis by a third of what the medians span, no more; beyond that they leave the frame.
    """
    low, high = (_log_error(end) for end in (medians.min(), medians.max()))
    room = max((high - low) / 3, 0.08)
    if lows is not None and highs is not None:
        low, high = max(low - room, _log_error(lows.min())), min(high + room, _log_error(highs.max()))
    pad = max(0.06 * (high - low), 0.02)
    bottom, top = _accuracy(max(low - pad, 0.0)), _accuracy(high + pad)
    axes.set_yscale("function", functions=(_log_error, _accuracy))
    axes.set_ylim(bottom, top)
    nice = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
    ticks = [tick for tick in nice if bottom <= tick <= top]
    if len(ticks) < 4:
        ticks = [tick for tick in MaxNLocator(6).tick_values(bottom, top) if bottom <= tick <= top]
    set_ticks(axes.yaxis, ticks, lambda y: f"{100 * y:.6g}")


def _log_error(accuracy: Any) -> Any:
    return -np.log10(np.clip(1 - np.asarray(accuracy, dtype=float), 1e-4, None))


def _accuracy(log_error: Any) -> Any:
    return 1 - 10.0 ** -np.asarray(log_error)


def log_axis(axes: Axes, label: str, low: float, high: float, which: str = "x", margin: float = 1.3) -> None:
    """A logarithmic axis ("x" or "y") from `low` to `high` and a margin, with plain numbers."""
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low / margin, high * margin), f"{which}label": label})
    low, high = low / margin, high * margin
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    else:  # less than a factor of two or so: as good as linear
        ticks = [tick for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]
    set_ticks(axes.xaxis if which == "x" else axes.yaxis, ticks, _thousands)


def _thousands(x: float) -> str:
    return next((f"{x / size:g}{letter}" for size, letter in ((1e6, "M"), (1e3, "k")) if x >= size), f"{x:g}")


def set_ticks(axis: Axis, ticks: list[float], show: Callable[[float], str]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))


def name_rows(axes: Axes, rows: pd.DataFrame, colours: dict[str, str]) -> None:
    axes.set_yticks(range(len(rows)), list(rows["label"]), fontsize=9)
    for text, model in zip(axes.get_yticklabels(), rows["model"], strict=True):
        text.set_color(colours[model])


def faint_curves(axes: Axes, points: pd.DataFrame, columns: tuple[str, str], colours: dict[str, str]) -> None:
    """A thin curve for each configuration, in its family's colour; of many, as pixels, or the SVG would be huge."""
    for model, rows in points.groupby("model", sort=False):
        ends = np.flatnonzero(np.diff(rows["config_id"].factorize()[0])) + 1
        curves = np.split(rows[list(columns)].to_numpy(float), ends)
        shade, many = colours[str(model)], len(curves) > MOST_ROWS
        alpha = max(0.06, 0.3 * MOST_ROWS / len(curves)) if many else 0.3
        axes.add_collection(LineCollection(curves, colors=shade, lw=0.8, alpha=alpha, zorder=1.5, rasterized=many))


def legend(figure: Figure, summary: pd.DataFrame, *more: Line2D) -> None:
    """Family by colour, numeric mode by marker, in one line below the axes."""
    colours, modes = family_colours(summary["model"]), sorted(set(summary["dtype"]), key=_order)
    handles = [
        Line2D([], [], ls="", marker="o", ms=8, color=colours[model], label=family_title(model))
        for model in dict.fromkeys(summary["model"])
    ]
    handles += [Line2D([], [], ls="", marker=marker_of(m), ms=6, mfc="none", mec=INK, label=m) for m in modes]
    handles += more
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.3, columnspacing=1.4)


def title(figure: Figure, text: str, said: str) -> None:
    """Title and, smaller, what is drawn; then fix the layout, so that saving neither lays out nor measures again."""
    inch, left = 1 / figure.get_figheight(), 0.12 / figure.get_figwidth()
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - TITLE_INCHES * inch))
    engine.execute(figure)
    figure.set_layout_engine(None)
    figure.text(left, 1 - 0.24 * inch, text, va="center", fontsize=13, fontweight="bold")
    figure.text(left, 1 - 0.47 * inch, said, va="center", fontsize=9, color=FAINT)


# Lettering: names of people's own classes in pictures: literally, short enough, in fonts that have their letters.
# For letters that the usual font hasn't got; those that aren't installed are passed over.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC"),
    *("Hiragino Sans", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Georgian", "Noto Sans Armenian"),
)
LITERAL: dict[str, Any] = {"parse_math": False}  # for every text that holds a name: a "$" is a dollar


@contextmanager
def house_style(names: Sequence[str]) -> Iterator[None]:
    """Draw and save in the house style; with fallback fonts where names need them, since each costs time by the text.

    A letter that no font has is a box and no warning.
    """
    families = _families() if _codes(names) - _letters(1) else ("sans-serif",)
    with matplotlib.rc_context({**STYLE, "font.family": list(families)}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(missing from font|does not support)", category=UserWarning)
        yield


def shortened(name: str, letters: int) -> str:
    """On one line, and of at most so many letters, an ellipsis for the middle: names often differ at their ends."""
    name = " ".join(name.split())
    end = (letters - 1) // 3
    return name if len(name) <= letters else f"{name[: letters - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def class_labels(names: Sequence[str], letters: int) -> list[str]:
    """Names as a picture shows them; a class whose name no font can draw goes by its number."""
    return [
        shortened(name, letters) if name.strip() and _codes([name]) <= _letters() else f"class {index}"
        for index, name in enumerate(names)
    ]


def _codes(names: Sequence[str]) -> set[int]:
    """The code points that are drawn of them; blanks aren't."""
    return {ord(letter) for name in names for letter in "".join(name.split())}


@functools.cache
def _families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("sans-serif", *(name for name in FALLBACKS if name in installed))


@functools.cache
def _letters(fonts: int | None = None) -> frozenset[int]:
    """All code points that the first so many fonts have between them."""
    with matplotlib.rc_context(STYLE):
        families = [font_manager.FontProperties(family=[family]) for family in _families()[:fonts]]
        paths = [font_manager.findfont(family) for family in families]
    return frozenset(code for path in paths for code in FT2Font(path).get_charmap())
