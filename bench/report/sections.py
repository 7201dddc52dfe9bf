"""Sections of a report: rules and conditions of its numbers, figures that others published, and failed trials."""

import re
from typing import Any
from urllib.parse import quote

from bench.analysis import formatting
from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import whole
from bench.analysis.summary import Tables, split_size, targets_of

VERSIONS = {"python": "Python", "torch": "torch", "torchvision": "torchvision"}
PARTS = {"train": "training", "val": "validation", "test": "test"}
MOST_REASONS = 100  # for which trials failed
MOST_NAMED = 3  # trials of one reason
TRIAL_ID = re.compile(r"[\w.+-]+", re.ASCII)  # anything else names no file of ours
OF_LAUNCHES = (
    "Speeds: fresh processes (launches) time all configurations by turns, in slices of some 30 ms in random order, so "
    "what slows the machine slows all of them, and their ratios stay. Undisturbed slices count. Means and 95% "
    "intervals are over launches; times are images times seconds an image. A ratio known to less than twice the "
    "precision aimed at is “too noisy to call”, unless it is twice as far from 1 as its interval is wide."
)
OF_TIMED_TRIALS = (
    "Speeds: each trial ran alone and was timed in blocks of 250 ms or more, evaluation left out; means and 95% "
    "intervals are over seeds, of a single seed over its blocks."
)
RULES = (
    "Accuracy: mean over seeds on test images that are read once, at the end; a family's best is chosen on validation. "
    "Two models are compared image by image, with the seeds' spread on top.",
    "A winner is named only where the 95% interval excludes “no difference”; “equivalent” means that all of the "
    "interval lies within the smallest difference that matters, “inconclusive” neither.",
    "Memory: the peak of training above the floor before it, in a process of its own; on a CPU that of the process, "
    "after steps that load what libraries need, on CUDA that of the allocator.",
    "FLOPs count each multiply-add as two, attention included. A matched pair has equal parameters within 2% or equal "
    "FLOPs within 5%.",
    "Trials that failed, diverged or ran out of memory or time stay in the tables with their reason, and out of the "
    "means. Targets are on validation; a time to one is a median over seeds, “within” where the first evaluation was "
    "there.",
)


def rules_of(tables: Tables) -> list[str]:
    """How the run's numbers came about, in short."""
    launched, timed = (tables.summary[key] > 0 for key in ("n_launches", "n_timed"))
    found = [OF_LAUNCHES] if launched.any() else []
    return [*found, *([OF_TIMED_TRIALS] if (timed & ~launched).any() else ()), *RULES]


def citation(tables: Tables) -> str:
    """How to name the run elsewhere."""
    machine = tables.run.get("environment") or {}
    facts = [
        f"suite {tables.run['suite']}" if tables.run.get("suite") else "",
        f"revision {str(machine.get('git_commit'))[:12]}" if machine.get("git_commit") else "",
        str(tables.run.get("created_at") or "")[:10],
        formatting.listed(list(tables.summary["device_name"].unique())),
    ]
    return f"vit-cnn-bench, {', '.join(filter(None, facts))}."


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
        "Command": _as_typed([str(word) for word in run.get("command") or []]),
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


def _as_typed(words: list[str]) -> str:
    return " ".join(["python", *words] if words and words[0].endswith(".py") else words)


def _value(value: Any) -> str:
    """A setting; of one that was swept, all its values."""
    return (
        " | ".join(map(_value, value)) if isinstance(value, list) else str(value) if value not in (None, {}) else "none"
    )


def _joined(parts: list[Any], by: str = ", ") -> str:
    return by.join(str(part) for part in parts if part not in (None, ""))


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
