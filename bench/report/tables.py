"""Tables with a row a configuration: the grid of report.md, and the page's, which sorts, filters and downloads."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.analysis.comparison import Cell, by_launches, is_within
from bench.analysis.formatting import three_digits, whole
from bench.analysis.guessing import is_uneven
from bench.analysis.labels import family_title, plain_name, records
from bench.analysis.summary import Tables, targets_of

MIB, MILLI, PERCENT = 1 / 2**20, 1e3, 100.0  # factors from bytes, seconds and fractions
RESULTS = "Results"  # the group of columns that comes first, and that the page shows before more are chosen
ALWAYS = (  # of a downloaded CSV
    *(
        "best_of_family",
        "label",
        "config_id",
        "model",
        "dtype",
        "device_name",
        "n",
        "n_timed",
        "n_launches",
        "speed_threads",
        "not_ok",
    ),
)
CHOICES = {"model": "Family", "dtype": "Numeric mode", "device_name": "Device", "world_size": "Processes"}
ONE_THREAD = "With one thread"  # beside more of them
SETTINGS = "Settings"  # the last group, of columns that differ between configurations


@dataclass(frozen=True)
class Column:
    """A column over rows of the summary.

    Attributes:
        key: of the summary's column.
        show: turns a value in the title's unit into text.
        factor: from base units (seconds, bytes, fractions) to the title's unit.
        better: which way is better, "higher" or "lower"; "" where neither is.
        beside: further columns of the summary that say how sure this one is; a CSV gets them too.
        noted: they stand below the value, too: the ends of an interval, or how many seeds reached a target.
        always: kept where nothing was measured: a target that nobody reached is a finding.
    """

    title: str
    key: str
    show: Callable[[float], str] = three_digits
    factor: float = 1.0
    better: str = ""
    beside: tuple[str, ...] = ()
    noted: bool = False
    always: bool = False

    def cell(self, row: dict[str, Any], best: dict[Any, dict[Any, float]]) -> Cell:
        """The value of a row of the summary, marked where it is its device's best."""
        value, note = row[self.key], ""
        if self.noted and not math.isnan(row[self.beside[0]]):
            first, last = (row[key] for key in self.beside)
            note = f"{self.show(first * self.factor)} to {self.show(last * self.factor)}"
            if self.key.startswith("seconds_to_"):
                note = "" if first == last else f"{first} of {last}"
        if math.isnan(value):
            return Cell("–", note)
        is_best = self.better != "" and value == best[row["device_name"]][self.key]
        return Cell("within " * is_within(row, self.key) + self.show(value * self.factor), note, is_best)


@dataclass(frozen=True)
class Grid:
    """A row a configuration that trained, the best on validation first: its name, code and n, then a cell a column.

    `left_out` rows are in summary.csv alone.
    """

    columns: list[Column]
    rows: list[tuple[Cell, list[Cell]]]
    left_out: int = 0
    numbers: list[int] = field(default_factory=list)  # of the rows, in the summary


@dataclass(frozen=True)
class PageTable:
    """What the page's template and script need.

    Attributes:
        groups: titles of the columns' groups, each with its columns' numbers; the configuration's name is column 0.
        choices: boxes to choose one value of a column by: "key", "title" and "options", (value, title) each.
        data: for the script: columns in order, and `values`, a list a column of the summary, in base units and full;
            None is not measured.
    """

    grid: Grid
    groups: dict[str, list[int]]
    choices: list[dict[str, Any]]
    data: dict[str, Any]


def results_grid(tables: Tables, most: int | None = None) -> Grid:
    """What each configuration reached; of more than `most`, the best."""
    return _grid(tables, column_groups(tables).get(RESULTS, []), most)


def page_table(tables: Tables) -> PageTable:
    """One table with everything: results first, then costs and settings."""
    groups, columns, described = dict[str, list[int]](), list[Column](), []
    for title, group in column_groups(tables).items():
        groups[title] = list(range(len(columns) + 1, len(columns) + 1 + len(group)))
        columns += group
        for each in group:
            what = {key: getattr(each, key) for key in ("key", "title", "factor", "better", "beside")}
            described.append(what | {"first": title == RESULTS})
    keys = dict.fromkeys([*ALWAYS, *(key for column in columns for key in (column.key, *column.beside))])
    grid = _grid(tables, columns)
    ordered = tables.summary.loc[grid.numbers]
    values = {key: [_plain(value) for value in ordered[key].tolist()] for key in keys}
    values["named"] = _named(tables, grid, groups.get(RESULTS, []))
    choices = []
    for key, title in CHOICES.items():
        trained = tables.summary["n_trained"] > 0
        known = [str(_plain(value)) for value in tables.summary.loc[trained, key].unique()]
        options = [(value, family_title(value) if key == "model" else value) for value in known]
        choices += [{"key": key, "title": title, "options": options}] if len(known) > 1 else []
    data = {"always": ALWAYS, "columns": described, "values": values}
    return PageTable(grid, groups, choices, data)


def _named(tables: Tables, grid: Grid, results: list[int]) -> list[bool]:
    """The rows to show before all are asked for: each family's best, the best of each result, what was replayed."""
    named = [any(cells[number - 1].best for number in results) for _, cells in grid.rows]
    best = tables.summary.loc[grid.numbers, "best_of_family"].tolist()
    replayed = [bool(tables.run.get("published")) and number == tables.summary.index[0] for number in grid.numbers]
    return [any(each) for each in zip(named, best, replayed, strict=True)]


def column_groups(tables: Tables) -> dict[str, list[Column]]:
    """All columns that hold something, by what they are about; results come first."""
    summary, raced = tables.summary, tables.summary["n_raced"].any()
    groups = {}
    for title, columns in _all_columns(tables.run, is_uneven(tables)).items():
        known = [column for column in columns if column.key in summary]
        known = [each for each in known if (each.always and raced) or summary[each.key].notna().any()]
        groups[title] = [each for each in known if title != SETTINGS or summary[each.key].nunique(dropna=False) > 1]
    if (summary.loc[summary["n_launches"] > 0, "speed_threads"] == 1).all():
        groups[ONE_THREAD] = []  # all speeds are
    return {title: columns for title, columns in groups.items() if columns}


def _all_columns(run: dict[str, Any], uneven: bool) -> dict[str, list[Column]]:
    accuracy: dict[str, Any] = {"show": lambda x: f"{x:.2f}", "factor": PERCENT, "better": "higher"}
    main, times, images = list[Column](), list[Column](), list[Column]()
    headline = run.get("target_accuracy") or max(targets_of(run), default=None)
    for target in targets_of(run):
        seeds = (f"reached_{target:g}", "n_raced")
        title = f"to {100 * target:g}%, s"
        column = Column(title, f"seconds_to_{target:g}", better="lower", beside=seeds, noted=True, always=True)
        (main if target == headline else times).append(column)
        images.append(Column(f"images to {100 * target:g}%", f"images_to_{target:g}", whole, better="lower"))
    goal = f"{100 * headline:g}%" if isinstance(headline, (int, float)) else "target"
    milliseconds = {"step": "step", "data": "data", "forward": "forward", "backward": "backward"}
    milliseconds |= {"optimiser": "optimizer"}
    seconds = {"waiting for data": "data_wait", "compile": "compile", "first step": "first_step", "warm-up": "warm_up"}
    memory = {"parameters": "param", "gradients": "gradient", "optimiser": "optimizer", "activations": "activation"}
    settings = {"patch size": "patch_size", "depth": "depth", "embedding": "embed_dim", "heads": "num_heads"}
    settings |= {"width": "width", "batch size": "batch_size", "processes": "world_size", "epochs": "epochs"}
    settings |= {"threads": "num_threads"}
    return {
        RESULTS: [
            _with_ends("test accuracy, %", "test_accuracy", noted=True, **accuracy),
            *([Column("balanced over classes, %", "test_balanced_accuracy", **accuracy)] if uneven else []),
            _with_ends("images/s", "images_per_second", better="higher", noted=True),
            _with_ends("latency, ms", "latency_p50_seconds", factor=MILLI, better="lower", noted=True),
            *main,
            _with_ends("memory, MiB", "peak_memory_bytes", factor=MIB, better="lower", noted=True),
            Column("parameters", "num_params", whole),
        ],
        "Validation and training": [
            _with_ends("validation, %", "val_accuracy", **accuracy),
            _with_ends("training, s", "train_seconds"),
        ],
        "Calibration": [
            Column("calibration error, %", "calibration_error", **(accuracy | {"better": "lower"})),
            Column("accuracy on the surest 90%, %", "accuracy_at_90_coverage", **accuracy),
            Column("test loss", "test_loss", lambda x: f"{x:.4f}", better="lower"),
            *([] if uneven else [Column("balanced over classes, %", "test_balanced_accuracy", **accuracy)]),
        ],
        "Times to other targets": times,
        "Inference": [
            _with_ends("inference, images/s", "inference_images_per_second", better="higher", noted=True),
            *(Column(f"latency p{p}, ms", f"latency_p{p}_seconds", factor=MILLI) for p in (95, 99)),
        ],
        ONE_THREAD: [
            Column("images/s, one thread", "images_per_second_one_thread", better="higher"),
            Column("inference, images/s, one thread", "inference_images_per_second_one_thread", better="higher"),
            Column("latency p50, ms, one thread", "latency_p50_seconds_one_thread", factor=MILLI, better="lower"),
        ],
        "Images to accuracy": images,
        "Time of a step": [
            _with_ends("stalls, % of training", "stall_share", factor=PERCENT, better="lower"),
            *(Column(f"{title}, ms", f"{key}_seconds", factor=MILLI) for title, key in milliseconds.items()),
            *(Column(f"{title}, s", f"{key}_seconds") for title, key in seconds.items()),
        ],
        "Memory": [Column(f"{title}, MiB", f"{key}_bytes", factor=MIB) for title, key in memory.items()],
        "Work and energy": [
            Column("MFLOPs per image", "num_flops", factor=1e-6),
            Column("GFLOP/s", "flops_per_second", factor=1e-9, better="higher"),
            Column("of matrix-product peak, %", "flops_share", lambda x: f"{x:.1f}", PERCENT, "higher"),
            Column("J per epoch", "joules_per_epoch", better="lower"),
            Column(f"J to {goal}", "joules_to_accuracy", better="lower"),
        ],
        SETTINGS: [
            *(Column(title, key, whole) for title, key in settings.items()),
            Column("share of the data, %", "train_fraction", lambda x: f"{x:.3g}", PERCENT),
            Column("mismatch of the pair, %", "mismatch", lambda x: f"{x:+.2f}", PERCENT),
        ],
    }


def _with_ends(title: str, key: str, **more: Any) -> Column:
    """A column whose values have intervals."""
    return Column(title, key, beside=(f"{key}_low", f"{key}_high"), **more)


def _grid(tables: Tables, columns: list[Column], most: int | None = None) -> Grid:
    """Rows of the summary by validation; of more than `most` each family's best, the Pareto front, and the next."""
    every = tables.summary
    summary = shown = every[(every["n_trained"] > 0) | (every["n"] > 0)].sort_values(
        "val_accuracy", ascending=False, kind="stable"
    )  # test never chooses
    by_device = summary.groupby("device_name")[[column.key for column in columns]]
    best = {"": {}, "higher": by_device.max().to_dict("index"), "lower": by_device.min().to_dict("index")}
    if most is not None and len(summary) > most:
        order = summary.assign(first=summary["best_of_family"] | summary["pareto"])
        order = order.sort_values("first", ascending=False, kind="stable")
        shown = summary[summary.index.isin(order.index[:most])]
    rows = []
    for row in records(shown):
        timed = f"{row['n_timed']} timed" if row["n_timed"] != row["n"] else ""
        if by_launches(row):
            timed = f"{row['n_launches']:g} launch{'es' * (row['n_launches'] != 1)}"
        counts = "; ".join(part for part in (f"n = {row['n']}", timed, row["not_ok"]) if part)
        name = plain_name(row)
        rows.append(
            (Cell(name, f"{row['label']}; {counts}"), [column.cell(row, best[column.better]) for column in columns])
        )
    return Grid(columns, rows, len(summary) - len(shown), shown.index.tolist())


def _plain(value: Any) -> Any:
    """A value as JSON has it: whole numbers without a point, None for what isn't known."""
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
