"""How every figure looks: colours, markers, fonts, scales, legends, titles, names beside rows.

A family has one colour everywhere (safe for colour-blind readers), a numeric mode one marker. Nothing goes through
pyplot, so no figure outlives its caller. Accuracies are drawn on a scale of log error: 90, 99 and 99.9% are equally
far apart, so that neither a solved task nor a net that learned nothing squeezes the rest together.
"""

import functools
import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.analysis.labels import family_title

INK, FAINT, PLAIN = "#333333", "#8a8a8a", "#c9ced4"
SHADES = ("#3b2a5c", "#7a5da8", "#b29ad0", "#dfd6eb")  # of one colour that no family has, so that parts aren't families
FAMILY_COLOURS = {"vit": "#0072B2", "cnn": "#D55E00"}
MORE_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#B8860B", "#6A4C93")  # for families that come later
FAMILY_MARKERS = "oD^sPX"
MARKERS = {"fp32": "o", "amp-bf16": "s", "amp-fp16": "^", "tf32": "D", "bf16": "P", "fp16": "X"}
STYLE: Any = {  # the rest is matplotlib's own, whatever a person has set
    "axes.axisbelow": True,
    "axes.edgecolor": "#cccccc",
    "axes.facecolor": "white",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # which comes with matplotlib, so a figure looks alike on every machine
    "font.size": 10,
    "grid.color": "#e8e8e8",
    "grid.linestyle": "-",
    "lines.solid_capstyle": "round",
    "patch.edgecolor": "white",
    "patch.force_edgecolor": True,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "vit-cnn-bench",
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollars is no formula
    "xtick.bottom": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "ytick.left": False,
}
TITLE_INCHES = 0.66  # kept free above the axes
WIDTH = 10.5  # inches, of every figure, so that they stand flush and their letters are equally large
MOST_ROWS = 30  # more can't be read: the best are drawn, and the title says so
# For letters that the usual font hasn't got; those that aren't installed are passed over.
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC"),
    *("Hiragino Sans", "Malgun Gothic", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari"),
    *("Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Sans Georgian", "Noto Sans Armenian"),
)


@contextmanager
def house_style(names: Sequence[str] = ()) -> Iterator[None]:
    """Draw and save in the house style, without touching anyone else's settings.

    Where `names` need them, with fallback fonts, since each costs time by the text. A letter that no font has is a
    box and no warning.
    """
    families = _families() if _codes(names) - _letters(1) else ("sans-serif",)
    with _style(families), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(missing from font|does not support)", category=UserWarning)
        yield


@contextmanager
def _style(families: Sequence[str] = ("sans-serif",)) -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**STYLE, "font.family": [*families]})
        yield


def save(figure: Figure, suffix: str) -> bytes:
    """The figure as a "png" or "svg" file; the same figure always gives the same bytes."""
    data = io.BytesIO()
    with _style(matplotlib.rcParams["font.family"]):
        figure.savefig(data, format=suffix, metadata={"Date": None} if suffix == "svg" else {"Software": None})
    return data.getvalue()


def canvas(height: float, rows: int = 1, columns: int = 1, **shared: Any) -> tuple[Figure, Any]:
    """A figure of so many inches, and its axes (rows, columns)."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **shared)


def title(figure: Figure, text: str, subtitle: str) -> Figure:
    """The figure with its title and, smaller, what is drawn; laid out here, so that saving needn't measure again."""
    inch, left = 1 / figure.get_figheight(), 0.12 / figure.get_figwidth()
    engine = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - TITLE_INCHES * inch))
    engine.execute(figure)
    figure.set_layout_engine(None)
    figure.text(left, 1 - 0.24 * inch, text, va="center", fontsize=13, fontweight="bold")
    figure.text(left, 1 - 0.47 * inch, subtitle, va="center", fontsize=9, color=FAINT)
    return figure


def family_colours(models: Iterable[object]) -> dict[str, str]:
    """A colour for each family; those without one of their own take the next, in the order of their names."""
    others = sorted({str(model) for model in models} - FAMILY_COLOURS.keys())
    return FAMILY_COLOURS | {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(others)}


def markers(rows: pd.DataFrame, colours: dict[str, str]) -> Callable[[str, str], str]:
    """A marker for a family's numeric mode: of its mode where these vary, else of its family, to be told in grey."""
    modes, families = rows.loc[rows["n"] > 0, "dtype"].nunique(), list(colours)
    return lambda model, dtype: (
        MARKERS.get(dtype, "v") if modes > 1 else FAMILY_MARKERS[families.index(model) % len(FAMILY_MARKERS)]
    )


def measured(summary: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return summary[(summary["n"] > 0) & summary[list(columns)].notna().all(axis=1)]


def whiskers(rows: pd.DataFrame, metric: str) -> "np.ndarray[Any, Any]":
    """Lengths of intervals down and up, (2, rows); 0 where one isn't known."""
    ends = np.array([rows.get(f"{metric}_{end}", rows[metric]) for end in ("low", "high")], dtype=float)
    return np.nan_to_num(np.clip([[-1], [1]] * (ends - rows[metric].to_numpy(float)), 0, None))


def leading(rows: pd.DataFrame, first: "pd.Series[bool]") -> pd.DataFrame:
    """As many as can be told apart: those of `first`, then each family's best on validation in turn."""
    ordered = rows.assign(first=first).sort_values(["first", "val_accuracy"], ascending=False)
    turn = ordered.groupby(["first", "model"], sort=False).cumcount()
    ordered = ordered.assign(turn=turn.where(~ordered["first"], -1)).sort_values("turn", kind="stable")
    return rows.loc[ordered.index[:MOST_ROWS]].sort_index()


def count_seeds(rows: pd.DataFrame, column: str = "n_seen") -> str:
    few, many = int(rows[column].min()), int(rows[column].max())
    return f"n = {many} seed{'s' * (many > 1)}" if few == many else f"n = {few} to {many} seeds"


def count_timings(rows: pd.DataFrame) -> str:
    """What stands behind speeds: launches, or trials that were timed alone."""
    launched = rows[rows["n_launches"] > 0]
    few, many = (int(launched["n_launches"].agg(which)) for which in ("min", "max")) if len(launched) else (0, 0)
    said = [f"{few} to {many} launches" if few < many else f"{many} launch{'es' * (many > 1)}"] if many else []
    timed = rows[(rows["n_timed"] > 0) & ~(rows["n_launches"] > 0)]
    return " or ".join([*said, *([count_seeds(timed, "n_timed")] if len(timed) else [])])


def speeds_note(rows: pd.DataFrame) -> str:
    """For a subtitle that counts seeds: where the speeds come from, if that isn't the seeds."""
    return f"; speeds: {count_timings(rows)}" if (rows["n_launches"] > 0).any() else ""


def accuracy_axis(
    axes: Axes, middles: pd.Series, lows: pd.Series | None = None, highs: pd.Series | None = None
) -> None:
    """Accuracy on a scale of log error, with ticks where people look for them.

    Wide intervals widen the axis by a third of what the middles span, no more; beyond that they leave the frame.
    """
    low, high = _log_error([middles.min(), middles.max()])
    if lows is not None and highs is not None:
        room = max((high - low) / 3, 0.08)
        low, high = max(low - room, _log_error(lows.min())), min(high + room, _log_error(highs.max()))
    pad = max(0.06 * (high - low), 0.02)
    bottom, top = _accuracy(max(low - pad, 0.0)), _accuracy(high + pad)
    axes.set_yscale("function", functions=(_log_error, _accuracy))
    axes.set_ylim(bottom, top)
    nice = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
    set_ticks(axes.yaxis, _ticks(bottom, top, [nice], 4, MaxNLocator(6)), lambda y: f"{100 * y:.6g}")


def _ticks(low: float, high: float, choices: Iterable[Iterable[float]], least: int, even: MaxNLocator) -> list[float]:
    """Of the first choice that has at least so many between `low` and `high`; even ones where none has."""
    for ticks in (*choices, even.tick_values(low, high)):
        within = [tick for tick in ticks if low <= tick <= high]
        if len(within) >= least:
            break
    return within


def _log_error(accuracy: Any) -> Any:
    return -np.log10(np.clip(1 - np.asarray(accuracy, dtype=float), 1e-4, None))


def _accuracy(log_error: Any) -> Any:
    return 1 - 10.0 ** -np.asarray(log_error)


def log_axis(axes: Axes, label: str, low: float, high: float, which: str = "x", margin: float = 1.3) -> None:
    """A logarithmic axis ("x" or "y") from `low` to `high` and a margin, with plain numbers."""
    low, high = low / margin, high * margin
    axes.set(**{f"{which}scale": "log", f"{which}lim": (low, high), f"{which}label": label})
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0))
    choices = [[step * 10.0**decade for decade in decades for step in some] for some in steps]
    # within less than a factor of two or so, it is as good as linear
    ticks = _ticks(low, high, choices, 3, MaxNLocator(4))
    set_ticks(axes.xaxis if which == "x" else axes.yaxis, ticks, _thousands)


def _thousands(x: float) -> str:
    return next((f"{x / size:g}{letter}" for size, letter in ((1e6, "M"), (1e3, "k")) if x >= size), f"{x:g}")


def size_axis(axes: Axes, sizes: Sequence[float], label: str, margin: float = 1.2) -> None:
    """A logarithmic x axis with a tick for each size, such as batch sizes or numbers of processes."""
    axes.set(xscale="log", xlim=(sizes[0] / margin, sizes[-1] * margin), xlabel=label)
    set_ticks(axes.xaxis, sizes, lambda size: f"{size:g}")


def set_ticks(axis: Axis, ticks: Sequence[float], show: Callable[[float], str]) -> None:
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: show(value)))


def name_rows(axes: Axes, labels: Sequence[str], colours: Sequence[str] = ()) -> None:
    """A row for each label, the first on top, named at the left edge."""
    axes.set_yticks(range(len(labels)), labels, fontsize=9)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    for text, colour in zip(axes.get_yticklabels(), colours, strict=False):
        text.set_color(colour)


def note(axes: Axes, text: str, at: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """A few letters beside a point, `shift` points (1/72 inch) away; the layout needn't measure them."""
    plain: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
    plain |= {"in_layout": False}
    axes.annotate(text, at, shift, **(plain | style))


def faint_curves(axes: Axes, points: pd.DataFrame, columns: tuple[str, str], colours: dict[str, str]) -> None:
    """A thin curve for each configuration, in its family's colour; of many, as pixels, or the SVG would be huge."""
    for model, rows in points.sort_values(["config_id", columns[0]]).groupby("model", sort=False):
        ends = np.flatnonzero(np.diff(rows["config_id"].factorize()[0])) + 1
        curves = np.split(rows[list(columns)].to_numpy(float), ends)
        shade, many = colours[str(model)], len(curves) > MOST_ROWS
        alpha = max(0.06, 0.3 * MOST_ROWS / len(curves)) if many else 0.3
        axes.add_collection(LineCollection(curves, colors=shade, lw=0.8, alpha=alpha, zorder=1.5, rasterized=many))


def legend(figure: Figure, rows: pd.DataFrame, colours: dict[str, str], *more: Line2D) -> None:
    """Family by colour, numeric mode by marker, in one line below the axes."""
    modes = sorted(set(rows.loc[rows["n"] > 0, "dtype"]), key=lambda dtype: [*MARKERS, dtype].index(dtype))
    marker, several = markers(rows, colours), len(modes) > 1
    shapes = [dot(mode, INK, marker=MARKERS.get(mode, "v"), ms=6, mfc="none") for mode in modes if several]
    families = family_handles(rows["model"], colours)
    for handle, model in zip(families, dict.fromkeys(rows["model"]), strict=True):
        handle.set_marker("o" if several else marker(str(model), ""))
    legend_below(figure, [*families, *shapes, *more], columnspacing=1.4)


def family_handles(models: Iterable[str], colours: dict[str, str]) -> list[Line2D]:
    """For a legend: a dot in the colour of each family."""
    return [dot(family_title(model), colours[model], ms=8) for model in dict.fromkeys(models)]


def readable_on(colour: Any) -> str:
    """Black or white, whichever stands out more on a colour (WCAG's relative luminance)."""
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def dot(label: str, colour: str, **how: Any) -> Line2D:
    """A marker for a legend."""
    plain: dict[str, Any] = {"ls": "", "marker": "o", "ms": 7, "color": colour, "mec": colour}
    return Line2D([], [], label=label, **(plain | how))


def legend_below(figure: Figure, handles: Sequence[Any], **style: Any) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **({"handletextpad": 0.3} | style))


def shortened(name: str, letters: int) -> str:
    """On one line, and of at most so many letters, an ellipsis for the middle: names often differ at their ends."""
    name = " ".join(name.split())
    end = (letters - 1) // 3
    return name if len(name) <= letters else f"{name[: letters - 1 - end].rstrip()}…{name[-end:].lstrip()}"


def class_labels(names: Sequence[str], letters: int) -> list[str]:
    """Names of classes as a figure shows them; one that no font can draw goes by its number."""
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
    with _style():
        families = [font_manager.FontProperties(family=[family]) for family in _families()[:fonts]]
        paths = [font_manager.findfont(family) for family in families]
    return frozenset(code for path in paths for code in FT2Font(path).get_charmap())
