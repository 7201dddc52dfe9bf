"""Sections of a report: rules and conditions of its numbers, figures that others published, and failed trials."""

import math
import re
from typing import Any
from urllib.parse import quote

from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import percent, points, three_digits, whole
from bench.analysis.labels import records
from bench.analysis.summary import Tables, split_size, targets_of

VERSIONS = {"python": "Python", "torch": "torch", "torchvision": "torchvision"}
PARTS = {"train": "training", "val": "validation", "test": "test"}
PUBLISHED = {  # a published figure -> its title, how it is shown, and the column of evaluations.csv beside it
    "train_loss": ("training loss", three_digits, "train_loss"),
    "val_accuracy": ("validation accuracy", percent, "val_accuracy"),
    # The test split is read once, at the end; until then validation stands beside a published test accuracy.
    "test_accuracy": ("test accuracy", percent, "val_accuracy"),
}
MOST_REASONS = 100  # for which trials failed
MOST_NAMED = 3  # trials of one reason
TRIAL_ID = re.compile(r"[\w.+-]+", re.ASCII)  # anything else names no file of ours
OF_LAUNCHES = (  # rules of speeds that launches measured
    "Speeds come from launches: fresh processes in which all configurations of a device are open and timed by turns in "
    "slices of some 30 ms, in random order. What the machine does to all of them drops out of a ratio. Of a launch "
    "the mean pace of those slices counts in which nothing took the processor, each moved by what probes say of its "
    "cores meanwhile; the raw slices are in throughput.csv and inference.csv. Speeds are geometric means over "
    "launches, and the launch is the unit of their 95% intervals (Student's t, of a level that "
    "held the truth in 95% of cases where it was known).",
    "Configurations are timed with all threads of the machine and with one. All threads lead where their ratios are "
    "known, in the median, to twice the precision asked for, else one; a ratio that is less well known is too noisy to "
    "call, and its figure is none.",
    "Training seconds, and times to accuracy, are images times seconds an image. Seeds tell the images, launches the "
    "seconds. “Within” says that the first evaluation was at the target already.",
    "The share of stalls is what the real training loop loses against the pace of undisturbed steps: waits for data, "
    "garbage collection, pauses of the code.",
)
OF_TIMED_TRIALS = (  # rules of speeds that trials measured
    "Training time is timed in the trial, data movement and augmentation included; evaluation is timed apart, as are "
    "building the model, compilation, warm-up and saving. Of a trial, images/s is the median over timed blocks of at "
    "least 250 ms; the raw blocks are in throughput.csv. Speeds are geometric means over the trials that ran alone.",
    "Inference speed and latency come from passes of their own after training, without gradients: blocks at several "
    "batch sizes (raw in inference.csv), and for latency single images, one after the other.",
    "Speeds and times are compared seed by seed where both configurations have the same seeds, three or more, else by "
    "Welch's t; of one seed, by the intervals over its timed blocks.",
)
RULES = (
    "Training counts data movement and augmentation; evaluation doesn't count. The clock is monotonic and waits for "
    "the device before and after what it times.",
    "How a step splits into data, forward, backward and optimiser comes from a pass that waits for the device after "
    "each part. So the parts may add up to more than a step of timed training, where nothing waits.",
    "Every trial runs in a process of its own, with its own memory peak. Memory is the peak of training above the "
    "floor before it; on a CPU that of the process, on CUDA that of the allocator. Parameters, gradients and the "
    "optimiser's state are counted; activations are the rest of the peak.",
    "FLOPs count every matrix product and convolution, those of attention included, a multiply-add as two. The "
    "matrix-product peak is the best that the same device reached in the same mode with a large product and all "
    "threads, measured in the same run.",
    "Targets are on the validation split, which is evaluated several times an epoch. Times and images to a target are "
    "medians over seeds, in which one that never gets there counts as infinity.",
    "The test split is read once, after training. A family's best is chosen on validation, never on test.",
    "Accuracies are means over seeds, memory is a geometric mean, with 95% intervals (Student's t). Intervals of "
    "accuracy are at least as wide as the number of test images allows: 0.20 points at 99% of 10,000.",
    "Two accuracies are compared image by image where the run kept which test images each trial got right: the "
    "variance over images of the difference, and that of both models' seeds on top. Else they are compared seed by "
    "seed, with the floor of the test images.",
    "A difference is shown where its 95% interval leaves out none. Where the whole interval lies within the smallest "
    "difference that matters, the two are equivalent; otherwise nothing is claimed. Of one seed, memory must differ by "
    "more than 15%, which the allocator alone may make of it.",
    "Trials that were trained side by side count for accuracy, images and memory: no clock of theirs fills a column.",
    "The modes are fp32 with TF32 off; tf32; autocast (amp-) to bf16 or fp16, the latter with scaled gradients; and "
    "bf16 or fp16 throughout. Batch sizes are never lowered in silence.",
    "With a share of the training images, an epoch keeps its number of steps: only the variety of the images shrinks. "
    "The trial's seed draws which ones.",
    "A matched pair has equal parameters within 2%, or equal FLOPs of one image within 5%; its width is solved for, "
    "and what is left of the difference is in the table.",
    "Energy is read from the device's own meter while it trains; where there is none, the columns are empty.",
    "A trial that failed, diverged or ran out of memory or time stays in the tables with its reason, and out of the "
    "averages.",
)


def rules_of(tables: Tables) -> list[str]:
    """How the run's numbers came about."""
    launched, timed = (tables.summary[key] > 0 for key in ("n_launches", "n_timed"))
    found = [*OF_LAUNCHES] if launched.any() else []
    return [*found, *(OF_TIMED_TRIALS if (timed & ~launched).any() else ()), *RULES]


def condition_sets(tables: Tables) -> list[tuple[str, list[tuple[str, str]]]]:
    """A title and rows (name, text) for each run that stands side by side; of a run alone, the title is ""."""
    return [(title, _conditions(run)) for title, run in tables.run.get("runs") or [("", tables.run)]]


def _conditions(run: dict[str, Any]) -> list[tuple[str, str]]:
    """What the numbers hold for; what the run doesn't say is left out."""
    machine, data, split = (run.get(key) or {} for key in ("environment", "dataset", "split"))
    cores = f"{machine['cores']} cores" if machine.get("cores") else ""
    quota = f"CPU quota of {machine['cpu_quota']:g}" if machine.get("cpu_quota") else ""
    size = f"{machine['memory_bytes'] / 2**30:.1f} GiB memory" if machine.get("memory_bytes") else ""
    limit = f"limited to {machine['memory_limit_bytes'] / 2**30:.1f} GiB" if machine.get("memory_limit_bytes") else ""
    versions = [f"{name} {machine[key]}" for key, name in VERSIONS.items() if machine.get(key)]
    commit = str(machine.get("git_commit") or "")
    notes = [str(note) for note in data.get("notes") or []]
    named = _joined([data.get("title") or data.get("name"), data.get("source")])
    named += ":" if data.get("understood") else ""
    shape = [data.get(key) for key in ("image_size", "in_channels", "num_classes")]
    sizes = [f"{whole(split_size(run, part))} {name}" for part, name in PARTS.items() if split_size(run, part) > 0]
    targets = _joined([f"{100 * target:g}%" for target in targets_of(run)])
    stated = {
        "Run": str(run.get("folder") or ""),
        "Hardware": _joined([machine.get("cpu"), cores, quota, size, limit]),
        "Devices": _joined([f"{d.get('device')}: {d.get('name')}" for d in machine.get("devices") or []], "; "),
        "Versions": _joined([*versions, machine.get("os")]),
        "Commit": commit + (" with uncommitted changes" if commit and machine.get("git_dirty") else ""),
        "Command": " ".join(str(word) for word in run.get("command") or []),
        "Suite": _joined([run.get("suite"), run.get("description")], ": "),
        "Data": " ".join([named, *map(str, data.get("understood") or [])]),
        "Images": "{0} × {0} pixels, channels: {1}, classes: {2}".format(*shape) if all(shape) else "",
        "Preparation": " ".join(f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes),
        "Checksum": str(data.get("checksum") or ""),
        "Split": _joined([*sizes, f"seed {split['seed']}" if "seed" in split else ""]),
        "Targets": f"{targets} on validation" if targets else "",
        "Seeds": _joined(run.get("seeds") or []),
        "Started": str(run.get("created_at") or ""),
    }
    for name, settings in (run.get("recipes") or {}).items():
        stated[f"Recipe {name}"] = _joined([f"{key} {_value(value)}" for key, value in (settings or {}).items()])
    return [(name, text) for name, text in stated.items() if text]


def _value(value: Any) -> str:
    """A setting; of one that was swept, all its values."""
    return " | ".join(map(str, value)) if isinstance(value, list) else str(value)


def _joined(parts: list[Any], by: str = ", ") -> str:
    return by.join(str(part) for part in parts if part not in (None, ""))


def published_sheets(tables: Tables) -> list[Sheet]:
    """For each published table: epoch by epoch, its figures and the suite's first configuration's, on every device."""
    first = tables.summary.drop_duplicates("device_name")
    return [
        _published(tables, published, row, f" on {row['device_name']}" if len(first) > 1 else "")
        for published in tables.run.get("published") or []
        for row in records(first[first["n"] > 0])
    ]


def _published(tables: Tables, published: dict[str, Any], row: dict[str, Any], where: str) -> Sheet:
    reached = [point for point in published["points"] if point["epoch"] <= row["epochs"]]
    given = [name for name in PUBLISHED if any(point.get(name) is not None for point in reached)]
    head = ["after epoch"]
    for title, _, beside in (PUBLISHED[name] for name in given):
        head += [f"published: {title}", f"here: {'validation accuracy' if beside == 'val_accuracy' else title}"]
    ended = tables.trials[tables.trials["status"] == "ok"]
    own = ended[(ended["config_id"] == row["config_id"]) & (ended["device_name"] == row["device_name"])]
    seen = tables.evaluations[tables.evaluations["trial_id"].isin(own["trial_id"])]
    table = []
    for point in reached:
        here, cells = seen[(seen["epoch"] - point["epoch"]).abs() < 1e-6], [Cell(f"{point['epoch']:g}")]
        for name in given:
            (_, show, beside), theirs = PUBLISHED[name], point.get(name)
            cells.append(Cell("–" if theirs is None else show(theirs)))
            ends = here[beside].agg(["min", "median", "max"])
            low, middle, high = ("–" if math.isnan(end) else show(end) for end in ends)
            cells.append(Cell(middle, "" if low == high else f"{low} to {high}"))
        table.append(cells)
    said = f"Here: {row['label']}, n = {row['n']} seed{'' if row['n'] == 1 else 's'}, median and range."
    last = published["points"][-1]
    split = "validation" if last.get("test_accuracy") is None else "test"
    theirs = last.get("test_accuracy") or last.get("val_accuracy")
    if theirs is not None and not math.isnan(row["test_accuracy"]) and last["epoch"] == row["epochs"]:
        ours = row["test_accuracy" if split == "test" else "val_accuracy"]
        apart = f"{points(abs(ours - theirs))} {'above' if ours >= theirs else 'below'} the published {percent(theirs)}"
        said += f" After {last['epoch']:g} epochs {percent(ours)} on {split}, {apart}."
    return Sheet(f"{published['title']}{where}", [f"Published: {published['source']}", said], head, table)


def failure_sheet(tables: Tables) -> Sheet | None:
    """A row a status and reason, the most frequent first; None where all trials ended well."""
    failed = tables.trials[tables.trials["status"] != "ok"]
    if failed.empty:
        return None
    reasons = [failed["status"].astype(str), failed["error"].astype(str).str.split().str.join(" ")]
    groups = failed["trial_id"].astype(str).groupby(reasons, sort=False).agg(list)
    groups = groups.sort_values(key=lambda names: -names.map(len), kind="stable")
    rows, shown = [], dict[Any, list[str]](groups.head(MOST_REASONS))
    for (status, error), names in shown.items():
        more = f" and {whole(len(names) - MOST_NAMED)} more" if len(names) > MOST_NAMED else ""
        count = Cell(f"{whole(len(names))} trial{'s' * (len(names) > 1)}", ", ".join(names[:MOST_NAMED]) + more)
        files = (f"{name}.txt" for name in names if TRIAL_ID.fullmatch(name))
        stack = next((file for file in files if (tables.folder / "failures" / file).is_file()), "")  # the first left
        where = Cell(stack, link=f"failures/{quote(stack)}") if stack else Cell("–")
        rows.append([count, Cell(status or "unknown"), Cell(error or "no reason was kept"), where])
    left_out = sum(map(len, groups.iloc[MOST_REASONS:]))
    cut = f"The {MOST_REASONS} most frequent reasons; {whole(left_out)} more trials are in trials.csv."
    kinds = f", {whole(len(groups))} reasons" if 1 < len(groups) < len(failed) else ""
    title = f"{whole(len(failed))} of {whole(len(tables.trials))} trials{kinds}"
    head = ["trials", "status", "reason", "where in the program"]
    return Sheet(title, [cut] if left_out else [], head, rows)
