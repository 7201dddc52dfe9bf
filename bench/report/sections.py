"""Conditions of a run: what its numbers hold for, and the rules by which they were made."""

import math
import re
from typing import Any
from urllib.parse import quote

import pandas as pd

from bench.analysis import formatting
from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import percent, points, three_digits, whole
from bench.analysis.labels import records
from bench.analysis.summary import Tables, split_size, targets_of

VERSIONS = {"python": "Python", "torch": "torch", "torchvision": "torchvision"}
PARTS = {"train": "training", "val": "validation", "test": "test"}
RULES = (
    "Training time counts training only, data movement and augmentation included. Evaluation is timed apart, as are "
    "building the model, compilation, warm-up and saving.",
    "The clock is monotonic and waits for the device at the edges of a block of steps. Images/s is the median over "
    "timed blocks of at least 250 ms; the raw blocks are in throughput.csv.",
    "Inference speed and latency come from passes of their own after training, without gradients: blocks at several "
    "batch sizes (raw in inference.csv), and for latency single images, one after the other.",
    "How a step splits into data, forward, backward and optimiser comes from another pass, which waits for the device "
    "after each part. So the parts may add up to more than a step of timed training, where nothing waits.",
    "Every trial runs in a process of its own, with its own memory peak. Memory is the peak of training above the "
    "floor before it; on a CPU that of the process, on CUDA that of the allocator. Parameters, gradients and the "
    "optimiser's state are counted; activations are the rest of the peak.",
    "FLOPs count every matrix product and convolution, those of attention included, a multiply-add as two. The "
    "matrix-product peak is the best that the same device reached in the same mode with a large product, measured in "
    "the same run.",
    "Targets are on the validation split. Time to accuracy is read at evaluations several times an epoch; a seed that "
    "never gets there counts as infinity in the median.",
    "The test split is read once, after training. A family's best is chosen on validation, never on test.",
    "Figures are medians over seeds with 95% intervals (Student's t). Intervals of accuracy are at least as wide as "
    "the number of test images allows: 0.20 points at 99% of 10,000.",
    "Two configurations are compared seed by seed where they share three seeds or more (the median of the differences, "
    "or ratios, with a paired t interval), else by Welch's t. So a ratio may differ a little from that of two medians.",
    "Where the interval of a difference contains none, no difference is claimed; between families' best neither where "
    "their own intervals overlap. A ratio without an interval, of one seed, must be beyond a tenth.",
    "Seeds that were trained side by side count for accuracy alone: they fill no column of speed, time or memory.",
    "The modes are fp32 with TF32 off; tf32; autocast (amp-) to bf16 or fp16, the latter with scaled gradients; and "
    "bf16 or fp16 throughout. Batch sizes are never lowered in silence.",
    "With a share of the training images, an epoch keeps its number of steps: only the variety of the images shrinks. "
    "The trial's seed draws which ones.",
    "A matched pair has equal parameters within 2%, or equal FLOPs of one image within 5%; its width is solved for, "
    "and what is left of the difference is in the table.",
    "Energy is read from the device's own meter while it trains; where there is none, the columns are empty.",
    "A trial that failed, diverged or ran out of memory or time stays in the tables with its reason, and out of the "
    "medians.",
)


def condition_sets(tables: Tables) -> list[tuple[str, list[tuple[str, str]]]]:
    """A title and rows (name, text) for each run that stands side by side; of a run alone, the title is ""."""
    runs = tables.run.get("runs") or [("", tables.run)]
    return [
        (title, [*conditions(run), *((f"Recipe {name}", text) for name, text in recipes(run))]) for title, run in runs
    ]


def conditions(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What the numbers hold for; what the run doesn't say is left out."""
    machine, data, split = (run.get(key) or {} for key in ("environment", "dataset", "split"))
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    size = f"{machine['memory_bytes'] / 2**30:.1f} GiB memory" if machine.get("memory_bytes") else ""
    versions = [f"{name} {machine[key]}" for key, name in VERSIONS.items() if machine.get(key)]
    commit = str(machine.get("git_commit") or "")
    shape = [data.get(key) for key in ("image_size", "in_channels", "num_classes")]
    sizes = [
        f"{formatting.whole(split_size(run, part))} {name}" for part, name in PARTS.items() if split_size(run, part) > 0
    ]
    stated = {
        "Run": str(run.get("folder") or ""),
        "Hardware": _joined([machine.get("cpu"), cores, size]),
        "Devices": _joined([f"{d.get('device')}: {d.get('name')}" for d in machine.get("devices") or []], "; "),
        "Versions": _joined([*versions, machine.get("os")]),
        "Commit": commit + (" with uncommitted changes" if commit and machine.get("git_dirty") else ""),
        "Command": " ".join(str(word) for word in run.get("command") or []),
        "Suite": _joined([run.get("suite"), run.get("description")], ": "),
        "Data": _joined([data.get("title") or data.get("name"), data.get("source")]),
        "Images": "{0} × {0} pixels, channels: {1}, classes: {2}".format(*shape) if all(shape) else "",
        "Preparation": " ".join(f"{_capital(str(note)).rstrip('.')}." for note in data.get("notes") or []),
        "Checksum": str(data.get("checksum") or ""),
        "Split": _joined([*sizes, f"seed {split['seed']}" if "seed" in split else ""]),
        "Targets": _joined([f"{100 * target:g}%" for target in targets_of(run)]) + " on validation",
        "Seeds": _joined(run.get("seeds") or []),
        "Started": str(run.get("created_at") or ""),
    }
    return [(name, text) for name, text in stated.items() if text and text != " on validation"]


def recipes(run: dict[str, Any]) -> list[tuple[str, str]]:
    named = run.get("recipes") or {}
    return [
        (name, _joined([f"{key} {value}" for key, value in (settings or {}).items()]))
        for name, settings in named.items()
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _joined(parts: list[Any], by: str = ", ") -> str:
    return by.join(str(part) for part in parts if part not in (None, ""))


# Published figures: what others report for a configuration, beside what it does here.
# a figure of others -> its title, how it is shown, and the column of evaluations.csv that stands beside it
FIGURES = {
    "train_loss": ("training loss", three_digits, "train_loss"),
    "val_accuracy": ("validation accuracy", percent, "val_accuracy"),
    # The test split is read once, at the end; until then validation stands beside a published test accuracy.
    "test_accuracy": ("test accuracy", percent, "val_accuracy"),
}


def published_sheets(tables: Tables) -> list[Sheet]:
    """For each table of others: epoch by epoch, theirs and the suite's first configuration's, on every device."""
    sheets = []
    for published in tables.run.get("published") or []:
        first = tables.summary.drop_duplicates("device_name")
        for row in records(first[first["n"] > 0]):
            several = f" on {row['device_name']}" if len(first) > 1 else ""
            sheets.append(_sheet(tables, published, row, several))
    return sheets


def _sheet(tables: Tables, published: dict[str, Any], row: dict[str, Any], several: str) -> Sheet:
    points_of = [point for point in published["points"] if point["epoch"] <= row["epochs"]]
    given = [name for name in FIGURES if any(point.get(name) is not None for point in points_of)]
    head = ["after epoch"]
    for name in given:
        title, _, beside = FIGURES[name]
        ours = "validation accuracy" if beside == "val_accuracy" else title
        head += [f"published: {title}", f"here: {ours}"]
    table = []
    for point in points_of:
        here = _evaluations(tables, row, point["epoch"])
        cells = [Cell(f"{point['epoch']:g}")]
        for name in given:
            _, show, beside = FIGURES[name]
            theirs = point.get(name)
            cells += [Cell("–" if theirs is None else show(theirs)), _median(here[beside], show)]
        table.append(cells)
    return Sheet(f"{published['title']}{several}", _said(published, row), head, table)


def _said(published: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Whose figures, beside which configuration; and the last of them against the test accuracy here."""
    said = [f"Published: {published['source']}"]
    seeds = f"n = {row['n']} seed{'' if row['n'] == 1 else 's'}"
    here = f"Here: {row['label']}, {seeds}, median and range"
    last = published["points"][-1]
    theirs = last.get("test_accuracy") or last.get("val_accuracy")
    mine, of = row["test_accuracy"], "test"
    if theirs is None or math.isnan(mine) or last["epoch"] != row["epochs"]:
        return [*said, f"{here}."]
    if last.get("test_accuracy") is None:
        mine, of = row["val_accuracy"], "validation"
    gap = mine - theirs
    against = f"{points(abs(gap))} {'above' if gap >= 0 else 'below'} the published {percent(theirs)}"
    return [*said, f"{here}. After {last['epoch']:g} epochs {percent(mine)} on {of}, {against}."]


def _evaluations(tables: Tables, row: dict[str, Any], epoch: float) -> pd.DataFrame:
    """The looks of a configuration's finished trials at the end of an epoch."""
    trials = tables.trials
    own = trials[(trials["config_id"] == row["config_id"]) & (trials["device_name"] == row["device_name"])]
    seen = tables.evaluations[tables.evaluations["trial_id"].isin(own.loc[own["status"] == "ok", "trial_id"])]
    return seen[(seen["epoch"] - epoch).abs() < 1e-6]


def _median(values: pd.Series, show: Any) -> Cell:
    if values.dropna().empty:
        return Cell("–")
    low, high = show(values.min()), show(values.max())
    return Cell(show(values.median()), "" if low == high else f"{low} to {high}")


# Failures: the trials that didn't end well, those with one reason together, and where the program stood.
MOST = 100  # reasons that are shown
NAMED = 3  # trials of one reason
PLAIN = re.compile(r"[\w.+-]+", re.ASCII)  # what a trial's id is made of; anything else is no file of ours


def failure_sheet(tables: Tables) -> Sheet | None:
    """A row a status and reason, the most frequent first; None where all trials ended well."""
    failed = tables.trials[tables.trials["status"] != "ok"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in records(failed[["trial_id", "label", "status", "error"]]):
        groups.setdefault((str(trial["status"]), " ".join(str(trial["error"]).split())), []).append(trial)
    if not groups:
        return None
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    rows = [_row(tables, status, error, own) for (status, error), own in ordered[:MOST]]
    left_out = sum(len(own) for _, own in ordered[MOST:])
    said = [f"The {MOST} most frequent reasons; {whole(left_out)} more trials are in trials.csv."] if left_out else []
    kinds = f", {whole(len(groups))} reasons" if 1 < len(groups) < len(failed) else ""
    title = f"{whole(len(failed))} of {whole(len(tables.trials))} trials{kinds}"
    return Sheet(title, said, ["trials", "status", "reason", "where in the program"], rows)


def _row(tables: Tables, status: str, error: str, own: list[dict[str, Any]]) -> list[Cell]:
    names = [str(trial["trial_id"]) for trial in own]
    more = f" and {whole(len(names) - NAMED)} more" if len(names) > NAMED else ""
    count = Cell(f"{whole(len(own))} trial{'s' * (len(own) > 1)}", ", ".join(names[:NAMED]) + more)
    return [count, Cell(status or "unknown"), Cell(error or "no reason was kept"), _stack(tables, names)]


def _stack(tables: Tables, names: list[str]) -> Cell:
    """A link to the stack of the first trial that left one."""
    for name in names:
        if PLAIN.fullmatch(name) and (tables.folder / "failures" / f"{name}.txt").is_file():
            return Cell(f"{name}.txt", link=f"failures/{quote(name)}.txt")
    return Cell("–")
