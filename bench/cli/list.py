"""What there is to choose from, and what a plan would do: the tables of `list` and `--dry-run`."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench.config.suite_file import find_suite, read_suite, suite_names
from bench.data.catalog import DATASETS
from bench.data.download import cached_folder, is_here
from bench.data.spec import said_of
from bench.errors import UserError, nearest
from bench.execution.progress import duration

if TYPE_CHECKING:
    from bench.config.plan import Plan
    from bench.trial import Trial

MOST_LINES = 50  # of a plan that a person looks at


def show(what: str | None, data_dir: Path | None = None) -> None:
    """Print one of LISTS, or all of them. Raises: UserError: there is no list of that name."""
    if what is not None and what not in LISTS:
        raise UserError(f"list: unknown kind '{what}'; {nearest(what, LISTS)}")
    console = Console(markup=False, emoji=False)
    for name in LISTS if what is None else [what]:
        console.print(LISTS[name](data_dir), soft_wrap=not console.is_terminal)


def show_plan(plan: "Plan", estimates: dict[str, float], at_once: int = 1, tuning_seconds: float = 0.0) -> None:
    """A line a configuration, seeds counted; what can't run here with the reason.

    Args:
        estimates: trial_id -> seconds.
        at_once: how many trials run side by side, where they do.
        tuning_seconds: that settings of recipes are tried for, before.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in plan.trials:
        groups.setdefault(trial.config_id, []).append(trial)
    paired = any(trial.match for trial in plan.trials)
    matched_to = ["matched to"] if paired else []
    table = _table("configuration", "device", "parameters", *matched_to, "epochs", "seeds", "a trial takes about")
    names = _names([rows[0] for rows in groups.values()])
    for name, (trial, *others) in islice(zip(names, groups.values(), strict=True), MOST_LINES):
        note = plan.skipped.get(trial.trial_id)
        cost = f"skipped: {note}" if note else duration(estimates[trial.trial_id])
        params = f"{plan.num_params[trial.config_id]:,}"
        pair = [f"{groups[trial.match.to][0].label} ({trial.match.by})" if trial.match else ""] if paired else []
        table.add_row(name, trial.device, params, *pair, str(trial.training.epochs), str(1 + len(others)), cost)
    console = Console(markup=False, emoji=False)
    for line in said_of(plan.spec):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(table)
    if len(groups) > MOST_LINES:
        console.print(f"… and {len(groups) - MOST_LINES:,} more configurations; --json has them all", highlight=False)
    if plan.suite.tune:
        tried = f"{plan.suite.tune} settings of each family's recipe are tried"
        console.print(f"Before that, {tried}, about {duration(tuning_seconds)} of the total.", highlight=False)
    total = duration(tuning_seconds + _total(plan, estimates, at_once))
    of_first = {t.trial_id: estimates[t.trial_id] for t in plan.trials if t.seed == plan.trials[0].seed}
    first = duration(tuning_seconds + _total(plan, of_first, at_once, len(of_first) < len(plan.trials)))
    console.print(
        f"{plan.name} on {plan.spec.title}: {len(plan.trials):,} trials, about {total}; "
        f"the first whole round of the grid about {first}. Nothing was run.",
        highlight=False,
    )


def plan_as_json(
    plan: "Plan", estimates: dict[str, float], at_once: int = 1, tuning_seconds: float = 0.0
) -> dict[str, Any]:
    return {
        "suite": plan.name,
        "dataset": plan.spec.name,
        "tune": plan.suite.tune,
        "estimated_seconds": tuning_seconds + _total(plan, estimates, at_once),
        "trials": [
            {
                "trial_id": trial.trial_id,
                "num_params": plan.num_params[trial.config_id],
                "estimated_seconds": estimates[trial.trial_id],
                "skipped": plan.skipped.get(trial.trial_id),
                **trial.model_dump(mode="json"),
            }
            for trial in plan.trials
        ],
    }


def _total(plan: "Plan", estimates: dict[str, float], at_once: int, more_to_come: bool = False) -> float:
    from bench.execution.estimate import estimate_run  # loads torch, which nothing else here needs
    from bench.execution.speed_rounds import FIRST_SPEEDS

    run = {trial_id: seconds for trial_id, seconds in estimates.items() if trial_id not in plan.skipped}
    return estimate_run(plan, run, at_once, FIRST_SPEEDS if more_to_come else 1.0)


def _names(trials: Sequence["Trial"]) -> list[str]:
    """Labels, with key=value of whatever differs among configurations of one label; whom they are matched to aside."""
    alike: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for trial in trials:
        alike.setdefault((trial.label, trial.model), []).append(_flat(trial))
    apart = {
        kind: {key for flat in flats for key in flat if flat[key] != flats[0].get(key)}
        | {key for key in flats[0] if any(key not in flat for flat in flats)}
        for kind, flats in alike.items()
    }
    names = []
    for trial in trials:
        own, keys = _flat(trial), apart[trial.label, trial.model]
        names.append(" ".join([trial.label, *(f"{key}={value}" for key, value in own.items() if key in keys)]))
    return names


def _flat(trial: "Trial") -> dict[str, Any]:
    axes = trial.model_dump(exclude={"settings", "training", "match", "targets"})
    return axes | trial.training.model_dump() | trial.settings


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _suites(data_dir: Path | None) -> Table:
    table = _table("suite", "dataset", "what it is")
    for name in suite_names():
        content = read_suite(find_suite(name)).content
        own = content["dataset"]
        table.add_row(name, own["path"] if isinstance(own, dict) else own, content["description"])
    return table


def _models(data_dir: Path | None) -> Table:
    from models import MODELS

    table = _table("model", "setting", "default", "meaning")
    for name, (config_class, _) in MODELS.items():
        for index, (key, setting) in enumerate(config_class.model_fields.items()):
            table.add_row("" if index else name, key, str(setting.default), setting.description or "")
    for form, meaning in OTHER_MODELS.items():
        table.add_row(form, "…", "", meaning)
    return table


def _datasets(data_dir: Path | None) -> Table:
    table = _table("dataset", "images", "train / val / test", "classes", "here?")
    for name, spec in DATASETS.items():
        size = f"{spec.image_size}x{spec.image_size}x{spec.in_channels}"
        split = f"{spec.num_train - spec.num_val:,} / {spec.num_val:,} / {spec.num_test:,}"
        given = data_dir is not None and is_here(name, data_dir)
        here = f"yes, {data_dir if given else cached_folder(name)}" if given or is_here(name) else "fetched when needed"
        table.add_row(name, size, split, str(spec.num_classes), here)
    return table


def _devices(data_dir: Path | None) -> Table:
    from bench.system.device import available_devices, open_device

    table = _table("device", "name", "")
    for index, name in enumerate(available_devices()):
        table.add_row(name, open_device(name).name, "" if index else "auto takes this")
    return table


def _dtypes(data_dir: Path | None) -> Table:
    from bench.system.device import available_devices, open_device
    from bench.system.precision import DTYPES

    devices = [open_device(name) for name in available_devices()]
    table = _table("dtype", *(f"on {device.torch_device}" for device in devices))
    for name in DTYPES:
        table.add_row(name, *(device.lacks(name) or "yes" for device in devices))
    return table


OTHER_MODELS = {
    "timm:NAME": "a model of timm (pip install timm), untrained; its keyword arguments are settings",
    "torchvision:NAME": "a classifier of torchvision, untrained; its keyword arguments are settings",
    "package.module:factory": "your own function or class, from this folder too; its keyword arguments are settings",
}

LISTS: dict[str, Callable[[Path | None], Table]] = {
    "suites": _suites,
    "models": _models,
    "datasets": _datasets,
    "devices": _devices,
    "dtypes": _dtypes,
}
