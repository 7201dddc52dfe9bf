"""run.json: what a run writes of itself (suite, machine, versions, command), and what a resume reads of it."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.config.plan import Plan
from bench.config.suite_file import SUITES_FOLDER, SuiteText, find_suite
from bench.errors import StoreError, SuiteError
from bench.store.tables import read_run
from bench.system.cgroup import cpu_quota, memory_limit
from bench.system.environment import cpu_name, git_state, usable_cores
from bench.system.redaction import redacted, redacted_command, redacted_in
from bench.trial import Trial

# Keys of a suite that a reader of the tables has to know: how speeds were measured, and which differences matter.
OF_SPEEDS = ("timing", "speed_precision", "speed_seconds", "equivalent_speed", "equivalent_accuracy")


class Contents(BaseModel):
    """The dataset that a run was begun with: digest of its files."""

    model_config = ConfigDict(extra="ignore", strict=True)

    checksum: str | None = None


class Begun(BaseModel):
    """The part of run.json that a resume goes by.

    Attributes:
        source: the suite, by name or whole path.
        options: KEY=VALUEs that were set.
        plan: trial_ids.
        tune: settings of each family's recipe that were to be tried.
        tuned: "whole": the options hold what was found; "cut": the budget ended it; "": not yet.
        command: so far, for the record.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    source: str | None = None
    options: list[str] = []
    plan: list[str] = []
    tune: int = 0
    tuned: str = ""
    data_dir: str | None = None
    dataset: Contents = Contents()
    command: list[str] = []
    created_at: str | None = None


def read_begun(folder: Path) -> Begun:
    """What run.json of `folder` says.

    Raises: StoreError: no run, another version, or something in it that isn't of its kind.
    """
    try:
        return Begun.model_validate(read_run(folder))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{folder / 'run.json'}: {place}: {first['msg'].lower()}; it was changed since") from None


def describe_environment() -> dict[str, Any]:
    """The machine and the software, for run.json."""
    from bench.system.device import available_devices, open_device

    memory, (commit, dirty) = None, git_state()
    with suppress(AttributeError, ValueError, OSError):  # Windows
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = {"cpu_quota": cpu_quota(), "memory_limit_bytes": memory_limit()}  # of a container
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "pandas")},
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_bytes": memory,
        **{name: limit for name, limit in limits.items() if limit is not None},
        "git_commit": commit,
        "git_dirty": dirty,
        "devices": [{"device": name, "name": open_device(name).name} for name in available_devices()],
    }


def make_record(
    plan: Plan, text: SuiteText, suite: str | None, begun: Begun | None, data_dir: Path | None
) -> dict[str, Any]:
    """The contents of run.json, redacted: what people wrote freely is there without the secrets in it.

    Args:
        suite: as the person named it; None where a resumed run named none.
        begun: what the run that goes on says of itself; None for a new one.

    Raises: SuiteError: a model's settings hold a secret.
    """
    refuse_secrets(plan)
    spec = plan.spec
    source, path = begun.source if begun else None, find_suite(suite) if suite else None
    if path:  # as a later resume finds it, from whichever folder
        source = path.stem if path.parent == SUITES_FOLDER else redacted(str(path.resolve()))
    before = [*map(redacted, begun.command), ";"] if begun else []
    return {
        "suite": plan.name,
        "source": source,
        "options": redacted_in(text.options),
        "description": redacted(plan.suite.description),
        "content": redacted_in(plan.content),
        "created_at": (begun and begun.created_at) or datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [*before, "run_bench.py", *redacted_command(sys.argv[1:])],
        "data_dir": redacted(str(data_dir.resolve())) if data_dir else None,
        "dataset": {
            "name": spec.name,
            "title": redacted(spec.title),
            "checksum": spec.checksum,
            "image_size": spec.image_size,
            "in_channels": spec.in_channels,
            "num_classes": spec.num_classes,
            "class_names": list(spec.class_names),
            "understood": redacted_in(getattr(spec, "understood", ())),
            "notes": redacted_in(getattr(spec, "notes", ())),
        },
        "split": {
            "train": spec.num_train - spec.num_val,
            "val": spec.num_val,
            "test": spec.num_test,
            "seed": plan.suite.split_seed,
        },
        **{key: getattr(plan.suite, key) for key in OF_SPEEDS},
        "published": redacted_in([each.model_dump() for each in plan.suite.published]),
        "seeds": sorted({trial.seed for trial in plan.trials}),
        "targets": list(plan.trials[0].targets),
        "target_accuracy": plan.trials[0].target_accuracy,
        "recipes": _training_of(plan.trials),
        "environment": describe_environment(),
        "plan": [trial.trial_id for trial in plan.trials],
        "left_out": None,
        "interrupted": False,
    }


def refuse_secrets(plan: Plan) -> None:
    """A trial's settings tell what was run, in every table and on every page: a secret among them can't be hidden.

    Raises: SuiteError: one of them holds what looks like a secret, or is the value of a variable that does.
    """
    for model, settings in {json.dumps([t.model, t.settings]): (t.model, t.settings) for t in plan.trials}.values():
        shown = json.loads(json.dumps(settings))  # lists for tuples, as redaction makes them
        hidden = [key for key, value in redacted_in(shown).items() if value != shown[key]]
        if hidden:
            raise SuiteError(
                f"{plan.name}: setting '{hidden[0]}' of {model} holds what looks like a secret, and settings are "
                "written into every table; let the model's code read it from a variable of the environment"
            )


def _training_of(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """Family and recipe -> settings as the trials have them, whatever a suite or an option changed; of several, a list.

    A family that trains at the recipe of its own name is called by it: "vit", else "vit, recipe cnn".
    """
    found: dict[str, dict[str, list[Any]]] = {}
    for trial in trials:
        own = found.setdefault(trial.model if trial.recipe == trial.model else f"{trial.model}, {trial.recipe}", {})
        for key, value in trial.training.model_dump().items():
            if value not in (values := own.setdefault(key, [])):
                values.append(value)
    return {
        recipe: {key: values[0] if len(values) == 1 else values for key, values in own.items()}
        for recipe, own in found.items()
    }
