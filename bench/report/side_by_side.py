"""One report of several runs of one dataset, made on several machines, devices or days.

The joined tables look like those of one run with several devices, so that every figure, table and verdict that goes
by device holds for them; `device_name` tells the runs apart. Settings keep their config_id: what is equal in two runs
is recognised as such.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.analysis.answer import Verdict
from bench.analysis.formatting import listed
from bench.analysis.labels import labelled
from bench.analysis.speeds import DeviceSpeeds
from bench.analysis.summary import Tables, read_tables, summarise, summary_csv, targets_of, with_times
from bench.errors import StoreError
from bench.report.build import write_pages
from bench.system.files import write_atomically

MARKER = "side_by_side.json"  # which runs a report is of; with it, the next one may take the folder's place
NOISE = re.compile(  # in names of devices
    r"\((R|TM|C)\)|\bProcessor\b|\bCPU\b|@ ?[\d.]+ ?GHz|\b\d+-Core\b|\b\d+ ?GB\b|\bHBM\d\w?\b", re.IGNORECASE
)


def write_side_by_side(folders: list[Path], out: Path) -> list[Verdict]:
    """Write summary.csv, plots/, report.md and report.html of several runs into `out`; the answer for each device.

    Raises:
        StoreError: fewer than two runs, one twice, one that isn't a run, runs of different data, or an `out` that
            holds something other than an earlier report of this kind.
    """
    refuse_occupied(out)
    tables = replace(join(_read_all(folders)), folder=out)
    out.mkdir(parents=True, exist_ok=True)
    records = tables.run["runs"]
    runs = [{"name": name, "run": run["folder"], "created_at": run.get("created_at")} for name, run in records]
    write_atomically(out / MARKER, json.dumps({"runs": runs}, indent=2, ensure_ascii=False) + "\n")
    write_atomically(out / "summary.csv", summary_csv(tables.summary))
    return write_pages(tables)


def refuse_occupied(out: Path) -> None:
    """A report of several runs has a folder of its own, never a run's.

    Raises:
        StoreError: `out` is a file, a run, or holds something that no earlier report of this kind left there.
    """
    if (out / "run.json").exists():
        raise StoreError(f"{out}: a run is in this folder; a report of several runs needs another --out")
    used = out.exists() and not (out.is_dir() and all(path.name.startswith(".") for path in out.iterdir()))
    if used and not (out / MARKER).exists():
        raise StoreError(f"{out}: already holds something that isn't a report of several runs; name another --out")


def _read_all(folders: Sequence[Path]) -> list[Tables]:
    if len(folders) < 2:
        raise StoreError("a report with --out puts runs side by side; name two or more")
    places = [folder.resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise StoreError(f"{twice}: the same run is named twice")
    return [replace(read_tables(folder), folder=place) for folder, place in zip(folders, places, strict=True)]


def join(runs: Sequence[Tables]) -> Tables:
    """Several runs' tables as one. The record has what they share, and each one's own in `runs`: (name, record).

    Raises:
        StoreError: the runs aren't of the same images.
    """
    _refuse_other_data(runs)
    tails = _tails([tables.folder for tables in runs])
    records, parts, plan = [], [], []
    devices, correct = dict[str, DeviceSpeeds](), dict[str, NDArray[np.bool_]]()
    for tables, names, tail in zip(runs, _device_names(runs, tails), tails, strict=True):
        records.append((listed(list(names.values())) or tail, tables.run | {"folder": tail}))
        trials = tables.trials.drop(columns="label").assign(device_name=tables.trials["device_name"].map(names))
        frames = (trials, tables.evaluations, tables.inference)
        parts.append([frame.assign(trial_id=f"{tail}: " + frame["trial_id"]) for frame in frames])
        devices |= {names[name]: device for name, device in tables.devices.items() if name in names}
        correct |= {f"{tail}: {trial_id}": right for trial_id, right in tables.correct.items()}
        plan += [f"{tail}: {trial_id}" for trial_id in tables.run.get("plan") or tables.trials["trial_id"]]
    run = _merged(records) | {"plan": plan}
    trials, evaluations, inference = (  # empty ones are left out, since their columns have no types yet
        pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        for frames in zip(*parts, strict=True)
    )
    trials, evaluations = with_times(labelled(trials), evaluations, targets_of(run), devices)
    summary = summarise(trials, run, devices)
    return Tables(Path(), run, trials, evaluations, summary, inference, devices, correct)


def _refuse_other_data(runs: Sequence[Tables]) -> None:
    """Accuracies on other images can't stand on one axis, and nothing else would be left to compare: two reports."""
    facts = {
        "data": ("dataset", "name"),
        "contents of the data (checksum)": ("dataset", "checksum"),
        "number of test images": ("split", "test"),
    }
    for what, (part, key) in facts.items():
        known = [(tables.folder, (tables.run.get(part) or {}).get(key)) for tables in runs]
        known = [(folder, value) for folder, value in known if value is not None]
        for folder, value in known[1:]:
            first, own = known[0]
            if value != own:
                raise StoreError(
                    f"{folder}: its {what} is {value}, that of {first} is {own}; only runs on the same images stand "
                    "side by side, so report on these apart"
                )


def _device_names(runs: Sequence[Tables], tails: list[str]) -> list[dict[str, str]]:
    """For each run, what its devices are called: short where that is enough, else with the date, else the folder."""
    dates = [str(tables.run.get("created_at") or "")[:10] for tables in runs]
    days: dict[str, list[str]] = {}  # by device
    for tables, date in zip(runs, dates, strict=True):
        for name in tables.trials["device_name"].unique():
            days.setdefault(name, []).append(date)
    short = {name: " ".join(NOISE.sub(" ", name).split()) or name for name in days}
    if len(set(short.values())) < len(short):  # two devices that differ in the noise alone
        short = {name: name for name in short}
    called = []
    for tables, date, tail in zip(runs, dates, tails, strict=True):
        own = list(tables.trials["device_name"].unique())
        marks = [date if date and len(set(days[name])) == len(days[name]) else tail for name in own]
        pairs = zip(own, marks, strict=True)
        called.append({name: f"{short[name]} ({mark})" if len(days[name]) > 1 else short[name] for name, mark in pairs})
    return called


def _tails(folders: Sequence[Path]) -> list[str]:
    """The ends of the folders' paths, as short as tells all of them apart."""
    for length in range(1, max(len(folder.parts) for folder in folders) + 1):
        tails = ["/".join(folder.parts[-length:]) for folder in folders]
        if len(set(tails)) == len(tails):
            return tails
    return [f"run {number}" for number in range(1, len(folders) + 1)]


def _merged(records: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """The record of the joined run: what all share, unions of targets and seeds, and every run's own under `runs`."""
    runs = [run for _, run in records]
    first = runs[0]
    shared = {key: value for key, value in first.items() if all(run.get(key) == value for run in runs)}
    left_out = [f"{name}: {run['left_out']}" for name, run in records if run.get("left_out")]
    return shared | {
        "runs": records,
        "suite": listed(list(dict.fromkeys(str(run["suite"]) for run in runs if run.get("suite")))),
        "dataset": first.get("dataset"),
        "split": first.get("split"),
        "targets": sorted({target for run in runs for target in targets_of(run)}),
        "target_accuracy": next((run["target_accuracy"] for run in runs if run.get("target_accuracy")), None),
        "seeds": sorted({seed for run in runs for seed in run.get("seeds") or []}),
        "left_out": "; ".join(left_out),
        "interrupted": any(run.get("interrupted") for run in runs),
        "notes": _differences(runs),
    }


def _differences(runs: list[dict[str, Any]]) -> list[str]:
    """What else than the device is different, and may be behind a difference; sentences for the report's warnings."""
    machines, lines = [run.get("environment") or {} for run in runs], []
    for what, key, length in (("versions of torch", "torch", None), ("commits of this program", "git_commit", 12)):
        known = list(dict.fromkeys(str(machine[key])[:length] for machine in machines if machine.get(key)))
        if len(known) > 1:
            differ = f"The runs were made with different {what} ({listed(known)})"
            lines.append(f"{differ}; not all that differs is the device's.")
    if any(machine.get("git_dirty") for machine in machines):
        lines.append("Of one run or more, the program had uncommitted changes.")
    if any(run.get("split") != runs[0].get("split") for run in runs):
        lines.append("The runs split training from validation differently; accuracies on validation aren't alike.")
    return lines
