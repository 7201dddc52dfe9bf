"""Equal tuning budgets: for each family as many settings of its recipe, tried on training and validation images alone.

The first setting is the suite's own; the others are points of a Sobol sequence over `ranges`, so that a smaller budget
is the beginning of a larger one. Successive halving (Jamieson & Talwalkar 2016): all are trained for FIRST_SHARE of
the steps, under schedules as short; the best KEPT of them, and the suite's own, are trained whole, and the best of
these on validation is the recipe that the family is compared with. One configuration stands for its family.
"""

import csv
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.plan import Plan
from bench.config.solver import count_flops
from bench.errors import SuiteError
from bench.execution.base import Executor
from bench.execution.progress import Progress
from bench.execution.sweep import run_sweep
from bench.store.run_folder import RunFolder
from bench.store.tables import RECORD, TUNED, TUNING, TUNING_COLUMNS, read_rows
from bench.system.files import write_atomically
from bench.trial import Training, Trial

FIRST_SHARE, KEPT = 0.25, 0.25  # of the steps; of the settings
SEED = 2**31  # of all settings: one that no suite counts up to
LEARNING_RATES = {"muon": (2e-3, 1e-1), "adamw": (2e-4, 2e-2), "adam": (2e-4, 2e-2), "sgd": (3e-3, 1.0)}
WEIGHT_DECAYS = {"muon": (1e-3, 0.5), "adamw": (1e-3, 0.5), "adam": (1e-7, 1e-3), "sgd": (1e-5, 1e-2)}
MOST_SMOOTHING, MOST_SHIFT = 0.15, 0.1  # label smoothing; translation, as a share of the image's side


def ranges(training: Training, image_size: int) -> dict[str, tuple[float, float]]:
    """What is tried: key of a recipe -> lowest, highest; learning rate and weight decay on a log scale.

    Epochs go no further than the suite's, so no setting trains on more images.
    """
    return {
        "learning_rate": LEARNING_RATES[training.optimizer],
        "weight_decay": WEIGHT_DECAYS[training.optimizer],
        "label_smoothing": (0.0, MOST_SMOOTHING),
        "translation": (0.0, float(round(MOST_SHIFT * image_size))),
        "epochs": (float(math.ceil(training.epochs / 2)), float(training.epochs)),
    }


def settings(training: Training, image_size: int, count: int) -> list[Training]:
    """The suite's own and the first count - 1 points of the sequence."""
    from scipy.stats.qmc import Sobol  # scipy takes a second to load, and few runs tune

    spans = ranges(training, image_size)
    points = Sobol(len(spans), seed=0).random_base2(max(1, math.ceil(math.log2(max(2, count)))))
    found = [training]
    for point in points[: count - 1]:
        at = dict(zip(spans, point.tolist(), strict=True))
        own = {key: _between(*spans[key], at[key], log=key in ("learning_rate", "weight_decay")) for key in spans}
        shift = _whole(spans["translation"], at["translation"])
        augment = {key: value for key, value in training.augment.items() if key != "translation"}
        found.append(
            training.model_copy(
                update={
                    "learning_rate": float(f"{own['learning_rate']:.2g}"),
                    "weight_decay": float(f"{own['weight_decay']:.2g}"),
                    "label_smoothing": round(own["label_smoothing"], 2),
                    "epochs": _whole(spans["epochs"], at["epochs"]),
                    "augment": dict(sorted((augment | ({"translation": float(shift)} if shift else {})).items())),
                }
            )
        )
    return found


def _between(low: float, high: float, share: float, log: bool) -> float:
    return low * (high / low) ** share if log else low + share * (high - low)


def _whole(span: tuple[float, float], share: float) -> int:
    """Each whole number of a span for an equal part of the shares."""
    low, high = (int(end) for end in span)
    return low + min(high - low, int(share * (high - low + 1)))


def check_tunable(plan: Plan) -> None:
    """Raises: SuiteError: one setting is no choice; sweeps of recipes would be undone; or a seed is tuning's own."""
    if plan.suite.tune == 1:
        raise SuiteError("tune: 1 setting is the suite's own recipe; try 2 or more")
    if any(trial.seed == SEED for trial in plan.trials):
        raise SuiteError(f"seeds: tuning trains with {SEED}, and the comparison's have to be others")
    for model in dict.fromkeys(trial.model for trial in plan.trials):
        recipes = {trial.training.model_dump_json() for trial in plan.trials if trial.model == model}
        if len(recipes) > 1:
            raise SuiteError(f"tune: {model} is trained with {len(recipes)} recipes; give it one, tuning finds others")


def representatives(plan: Plan) -> dict[str, Trial]:
    """Family -> the trial that stands for it: of middle FLOPs, on the first device, in the first mode that runs.

    One that was sized to match another only where all of its family were.
    """
    runnable = [trial for trial in plan.trials if trial.trial_id not in plan.skipped]
    found = dict[str, Trial]()
    for model in dict.fromkeys(trial.model for trial in runnable):
        own = [trial for trial in runnable if trial.model == model]
        own = [trial for trial in own if trial.match is None] or own
        how = [(trial.seed, trial.device, trial.dtype, trial.compile) for trial in own]
        alike = [trial for trial, same in zip(own, how, strict=True) if same == how[0]]
        alike = [trial for trial in alike if trial.train_fraction == max(each.train_fraction for each in alike)]
        found[model] = sorted(alike, key=count_flops)[(len(alike) - 1) // 2]
    return found


@dataclass(frozen=True, eq=False)
class Candidate:
    """A setting of a family's recipe, and its two trials."""

    number: int  # 0 is the suite's own
    base: Trial
    training: Training

    def trial(self, share: float) -> Trial:
        training = self.training.model_copy(update={"steps_fraction": share * self.training.steps_fraction})
        how = {"training": training, "seed": SEED, "targets": (), "match": None, "tested": False, "timed": False}
        return self.base.model_copy(update=how)


def candidates(plan: Plan) -> list[Candidate]:
    """All settings of all families, one of each family in turn, so that a stop leaves equal budgets."""
    own = [
        (base, settings(base.training, plan.spec.image_size, plan.suite.tune))
        for base in representatives(plan).values()
    ]
    return [Candidate(number, base, found[number]) for number in range(plan.suite.tune) for base, found in own]


@dataclass(frozen=True)
class Best:
    """What tuning found for a family; validation accuracies are NaN where a training failed."""

    candidate: Candidate
    accuracy: float
    own_accuracy: float

    @property
    def options(self) -> list[str]:
        """KEY=VALUEs that have a suite train all configurations of the family so; none where it is the suite's own."""
        if self.candidate.number == 0:
            return []
        name, training = self.candidate.base.model, self.candidate.training
        keys = ("learning_rate", "weight_decay", "label_smoothing", "epochs", "augment")
        return [f"models.{name}.{key}={json.dumps(getattr(training, key))}" for key in keys]

    @property
    def said(self) -> str:
        """One line for a person."""
        name, own = self.candidate.base.model, self.own_accuracy
        reached = "which failed" if math.isnan(own) else f"{100 * own:.2f}% on validation"
        if self.candidate.number == 0:
            return f"tuning: {name} stays at its own recipe, {reached}"
        keys = [option.removeprefix(f"models.{name}.") for option in self.options]
        return f"tuning: {name} takes {', '.join(keys)}: {100 * self.accuracy:.2f}%, its own recipe {reached}"


def tune(
    plan: Plan,
    store: RunFolder,
    record: dict[str, Any],
    executor: Executor,
    watch: Callable[[list[Trial]], Sequence[Progress]] = lambda trials: (),
    budget_seconds: float | None = None,
) -> list[Best] | None:
    """Try settings, write tuning.csv into the run's folder, and say what is best for each family.

    What was tried before an interrupt isn't tried again. None where this one was interrupted; nothing where the budget
    ended it: unequal budgets, or settings that were never trained whole, are no ground to choose on.

    Args:
        watch: makes the listeners of a round of trials, which are closed at its end.

    Raises: StoreError: the folder can't be written to.
    """
    folder, start = store.folder / TUNED, time.monotonic()
    every = candidates(plan)
    is_run = (folder / RECORD).exists()  # or only a folder, if it was killed at birth
    own = RunFolder.open(folder) if is_run else RunFolder.create(folder, record | {"plan": []})
    try:
        whole = _kept(every, folder) if is_run else []  # what was trained whole stays in the plan throughout
        for share in (FIRST_SHARE, 1.0):
            chosen = every if share < 1 else (whole := _kept(every, folder))
            planned = [each.trial(FIRST_SHARE) for each in every] + [each.trial(1.0) for each in whole]
            own.write_run(record | {"plan": list(dict.fromkeys(trial.trial_id for trial in planned))})
            done = own.finished()
            todo = [trial for each in chosen if (trial := each.trial(share)).trial_id not in done]
            left = None if budget_seconds is None else budget_seconds - (time.monotonic() - start)
            listeners = watch(todo)
            try:
                outcome = run_sweep(todo, {}, own, executor, listeners, left)
            finally:
                for listener in listeners:
                    listener.close()
            if outcome.interrupted:
                return None
            if outcome.left_out:
                write_atomically(store.folder / TUNING, _table(every, {}, folder))
                return []
    finally:
        own.close()
    best = _best(whole, folder)
    write_atomically(store.folder / TUNING, _table(every, best, folder))
    found = _accuracies(folder)
    first = {each.base.model: each for each in every if each.number == 0}
    reached = {each: found.get(each.trial(1.0).trial_id, math.nan) for each in (*best.values(), *first.values())}
    return [Best(each, reached[each], reached[first[model]]) for model, each in best.items()]


def _accuracies(folder: Path) -> dict[str, float]:
    """trial_id -> validation accuracy at the end of training; of trials that ended well."""
    rows = read_rows(folder)
    return {
        row["trial_id"]: float(row["val_accuracy"]) for row in rows if row["status"] == "ok" and row["val_accuracy"]
    }


def _kept(every: Sequence[Candidate], folder: Path) -> list[Candidate]:
    """Those that are trained whole, in their order: each family's best after the first share, and its own recipe."""
    found, kept = _accuracies(folder), list[Candidate]()
    for model in dict.fromkeys(each.base.model for each in every):
        own = [each for each in every if each.base.model == model]
        known = [each for each in own if each.trial(FIRST_SHARE).trial_id in found]
        known.sort(key=lambda each: -found[each.trial(FIRST_SHARE).trial_id])  # of equals, the earlier
        kept += {each.number: each for each in [own[0], *known[: math.ceil(KEPT * len(own))]]}.values()
    return sorted(kept, key=lambda each: every.index(each))


def _best(whole: Sequence[Candidate], folder: Path) -> dict[str, Candidate]:
    """Family -> the setting with the highest accuracy of those trained whole; its own where none ended well."""
    found, best = _accuracies(folder), dict[str, Candidate]()
    for each in whole:
        accuracy = found.get(each.trial(1.0).trial_id, -1.0)
        known = best.get(each.base.model)
        if known is None or accuracy > found.get(known.trial(1.0).trial_id, -1.0):
            best[each.base.model] = each
    return best


def _table(every: Sequence[Candidate], best: dict[str, Candidate], folder: Path) -> str:
    rows = {row["trial_id"]: row for row in read_rows(folder)}
    text = io.StringIO()
    writer = csv.DictWriter(text, TUNING_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for share in (FIRST_SHARE, 1.0):
        for each in every:
            if (row := rows.get(each.trial(share).trial_id)) is None:
                continue
            training, last = each.training, 1.0 if each.trial(1.0).trial_id in rows else FIRST_SHARE
            writer.writerow(
                {
                    **{key: row[key] for key in ("trial_id", "model", "status", "val_accuracy", "wall_seconds")},
                    "label": each.base.label,
                    "setting": each.number,
                    "share": share,
                    **{key: getattr(training, key) for key in ("learning_rate", "weight_decay", "label_smoothing")},
                    "translation": training.augment.get("translation", 0.0),
                    "epochs": training.epochs,
                    "chosen": best.get(each.base.model) is each and share == last,
                }
            )
    return text.getvalue()
