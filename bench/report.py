"""The report: a run as `report.html` (one file that needs nothing else) and `report.md`, made from the store alone."""

import base64
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from bench import units
from bench.canvas import save
from bench.doubts import unfinished
from bench.plots import PLOTS
from bench.store import write_atomically
from bench.summary import Tables, family_title, records, split_size, targets_of, write_summary
from bench.units import three_digits
from bench.verdict import Verdict, decide

LARGEST_SVG = 400_000  # bytes; a picture with more in it goes into the HTML as PNG
FAILURES_SHOWN = 100

CAPTIONS = {
    "accuracy_against_throughput": "Up is more accurate, right is faster. Nothing beats a point on the Pareto front on "
    "both. Accuracy is spaced by the logarithm of the error.",
    "time_to_accuracy": "Training time until validation accuracy first reaches each target; further left is sooner.",
    "learning_curves": "The same training against the clock and against epochs: what is quick by epoch may be slow by "
    "the clock.",
    "patch_depth_heatmaps": "What patch size and depth bring and cost: a smaller patch makes more tokens, so training "
    "is slower and takes more memory.",
    "memory": "Peak memory that training adds; shorter is better.",
}

RULES = (
    "Training time counts training only, data movement and augmentation included. Evaluation is timed apart, as are "
    "building the model, warm-up and saving.",
    "The clock is monotonic and waits for the device at the edges of a block of steps. Images/s is the median over "
    "timed blocks of at least 250 ms; the raw blocks are in throughput.csv.",
    "Every trial runs in a process of its own, with its own memory peak. Memory is the peak of training above the "
    "floor before it; on a CPU that of the process, on CUDA that of the allocator.",
    "Targets are on the validation split. Time to accuracy is read at evaluations several times an epoch; a seed that "
    "never gets there counts as infinity in the median.",
    "The test split is read once, after training. A family's best is chosen on validation, never on test.",
    "Figures are medians over seeds with 95% intervals (Student's t). Intervals of accuracy are at least as wide as "
    "the number of test images allows: 0.20 points at 99% of 10,000.",
    "Where two intervals overlap, or the interval of the difference contains none, no difference is claimed.",
    "The modes are fp32 with TF32 off, and autocast (amp-) to bf16 or fp16. Batch sizes are never lowered in silence.",
    "A trial that failed, diverged or ran out of memory or time stays in the tables with its reason, and out of the "
    "medians.",
)


@dataclass(frozen=True)
class Picture:
    name: str
    title: str
    caption: str
    alt: str
    source: str  # data URI


@dataclass(frozen=True)
class Cell:
    """What stands in the table: a figure, its interval below it, and what it is sorted by."""

    text: str
    interval: str = ""
    sort: float | str = ""
    best: bool = False


@dataclass(frozen=True)
class Column:
    title: str
    key: str
    show: Callable[[float], str]
    better: str = ""  # higher, lower
    note: Callable[[dict[str, Any]], str] = lambda row: ""


def write_report(folder: Path) -> list[Verdict]:
    """Write summary.csv, plots/, report.md and report.html into a run's folder; return the answer for each device.

    Raises:
        StoreError: the folder isn't a run.
    """
    tables = write_summary(folder)
    verdicts = decide(tables)
    page = {
        "run": tables.run,
        "title": _title(tables),
        "context": _context(tables),
        "unfinished": unfinished(tables),
        "verdicts": verdicts,
        "warnings": list(dict.fromkeys(text for verdict in verdicts for text in verdict.warnings if text)),
        "pictures": _draw(tables),
        "columns": _columns(tables),
        "rows": _rows(tables),
        "failures": _failures(tables),
        "conditions": _conditions(tables.run),
        "recipes": _recipes(tables.run),
        "rules": RULES,
    }
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["md"] = markdown_text
    for name in ("report.md", "report.html"):
        write_atomically(folder / name, templates.get_template(f"{name}.j2").render(page))
    return verdicts


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is: in a table, in a list, whatever names and errors hold."""
    return re.sub(r"([\\`*_\[\]<>|~#$&])", r"\\\1", " ".join(str(text).split()))


def _title(tables: Tables) -> str:
    dataset = tables.run.get("dataset") or {}
    families = [family_title(str(model)) for model in dict.fromkeys(tables.summary["model"])]
    asked = units.listed(families or ["Benchmark"], "or")
    mark = "?" if len(families) > 1 else ""
    return f"{asked} on {dataset.get('title') or dataset.get('name') or 'unnamed data'}{mark}"


def _context(tables: Tables) -> str:
    """One line: suite, devices, trials, seeds, date."""
    ok, seeds = int((tables.trials["status"] == "ok").sum()), tables.trials["seed"].nunique()
    planned = len(tables.run.get("plan") or []) or len(tables.trials)
    parts = [
        f"suite {tables.run['suite']}" if tables.run.get("suite") else "",
        units.listed(list(dict.fromkeys(tables.summary["device_name"]))),
        f"{ok} of {planned} trials ok",
        f"{seeds} seed{'' if seeds == 1 else 's'}",
        str(tables.run.get("created_at") or "")[:10],
    ]
    return " · ".join(part for part in parts if part)


def _draw(tables: Tables) -> list[Picture]:
    """Draw every plot that has something to show into plots/, and take away what an earlier report left there."""
    folder = tables.folder / "plots"
    folder.mkdir(exist_ok=True)
    pictures = []
    for name, draw in PLOTS.items():
        files = {suffix: folder / f"{name}.{suffix}" for suffix in ("png", "svg")}
        figure = draw(tables)
        if figure is None:
            for path in files.values():
                path.unlink(missing_ok=True)
            continue
        data = {suffix: save(figure, suffix) for suffix in files}
        for suffix, path in files.items():
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(data[suffix])
            temporary.replace(path)
        kind, content = ("svg+xml", data["svg"]) if len(data["svg"]) <= LARGEST_SVG else ("png", data["png"])
        title = name.replace("_", " ").capitalize()
        alt = f"{title}. {CAPTIONS[name]} The table of configurations holds the numbers."
        source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
        pictures.append(Picture(name, title, CAPTIONS[name], alt, source))
    return pictures


def _columns(tables: Tables) -> list[Column]:
    """The table's columns; one that nothing was measured for is left out."""
    times = [
        Column(f"to {100 * target:g}%, s", f"seconds_to_{target:g}", three_digits, "lower", _reached(target))
        for target in targets_of(tables.run)
    ]
    columns = [
        Column(
            "test accuracy, %", "test_accuracy", lambda x: f"{100 * x:.2f}", "higher", _interval("test_accuracy", 100)
        ),
        Column("validation, %", "val_accuracy", lambda x: f"{100 * x:.2f}", "higher"),
        Column("images/s", "images_per_second", three_digits, "higher", _interval("images_per_second", 1)),
        *times,
        Column("memory, MiB", "peak_memory_bytes", lambda x: three_digits(x / 2**20), "lower"),
        Column("training, s", "train_seconds", three_digits),
        Column("parameters", "num_params", lambda x: f"{x:,.0f}"),
        Column("MFLOP per image", "num_flops", lambda x: three_digits(x / 1e6)),
    ]
    return [column for column in columns if column in times or tables.summary[column.key].notna().any()]


def _rows(tables: Tables) -> list[tuple[Cell, list[Cell]]]:
    """A row a configuration: its name and n, then a cell a column; the best on each device is marked."""
    columns = _columns(tables)
    by_device = tables.summary.groupby("device_name")
    ends = {"higher": by_device[[c.key for c in columns]].max(), "lower": by_device[[c.key for c in columns]].min()}
    table = []
    for row in records(tables.summary):
        cells = []
        for column in columns:
            value, note = row[column.key], column.note(row)
            if math.isnan(value):
                cells.append(Cell("–", note))
                continue
            best = column.better != "" and value == ends[column.better].loc[row["device_name"], column.key]
            cells.append(Cell(column.show(value), note, value, best))
        n = f"n = {row['n']}" + (f"; {row['not_ok']}" if row["not_ok"] else "")
        table.append((Cell(row["label"], n, row["label"]), cells))
    return table


def _interval(key: str, factor: float) -> Callable[[dict[str, Any]], str]:
    def note(row: dict[str, Any]) -> str:
        low, high = row[f"{key}_low"] * factor, row[f"{key}_high"] * factor
        show = three_digits if factor == 1 else lambda x: f"{x:.2f}"
        return "" if math.isnan(low) else f"{show(low)} to {show(high)}"

    return note


def _reached(target: float) -> Callable[[dict[str, Any]], str]:
    def note(row: dict[str, Any]) -> str:
        reached, of = row[f"reached_{target:g}"], row["n_trained"]
        return "" if reached == of else f"{reached} of {of}"

    return note


def _failures(tables: Tables) -> list[dict[str, Any]]:
    return records(tables.trials[tables.trials["status"] != "ok"].head(FAILURES_SHOWN))


def _conditions(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What the numbers hold for; what the run doesn't say is left out."""
    machine, data, split = (run.get(key) or {} for key in ("environment", "dataset", "split"))
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    size = f"{machine['memory_bytes'] / 2**30:.1f} GiB memory" if machine.get("memory_bytes") else ""
    versions = [f"{name} {machine[key]}" for key, name in VERSIONS.items() if machine.get(key)]
    commit = str(machine.get("git_commit") or "")
    shape = [data.get(key) for key in ("image_size", "in_channels", "num_classes")]
    sizes = [
        f"{units.whole(split_size(run, part))} {name}" for part, name in PARTS.items() if split_size(run, part) > 0
    ]
    stated = {
        "Hardware": _joined([machine.get("cpu"), cores, size]),
        "Devices": _joined([f"{d.get('device')}: {d.get('name')}" for d in machine.get("devices") or []], "; "),
        "Versions": _joined([*versions, machine.get("os")]),
        "Commit": commit + (" with uncommitted changes" if commit and machine.get("git_dirty") else ""),
        "Command": " ".join(str(word) for word in run.get("command") or []),
        "Suite": _joined([run.get("suite"), run.get("description")], ": "),
        "Data": _joined([data.get("title") or data.get("name"), data.get("source")]),
        "Images": "{0} × {0} pixels, channels: {1}, classes: {2}".format(*shape) if all(shape) else "",
        "Checksum": str(data.get("checksum") or ""),
        "Split": _joined([*sizes, f"seed {split['seed']}" if "seed" in split else ""]),
        "Targets": _joined([f"{100 * target:g}%" for target in targets_of(run)]) + " on validation",
        "Seeds": _joined(run.get("seeds") or []),
        "Started": str(run.get("created_at") or ""),
    }
    return [(name, text) for name, text in stated.items() if text and text != " on validation"]


VERSIONS = {"python": "Python", "torch": "torch", "torchvision": "torchvision"}
PARTS = {"train": "training", "val": "validation", "test": "test"}


def _recipes(run: dict[str, Any]) -> list[tuple[str, str]]:
    recipes = run.get("recipes") or {}
    return [
        (name, _joined([f"{key} {value}" for key, value in (settings or {}).items()]))
        for name, settings in recipes.items()
    ]


def _joined(parts: list[Any], by: str = ", ") -> str:
    return by.join(str(part) for part in parts if part not in (None, ""))
