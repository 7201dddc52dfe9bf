"""Whether models do better than guessing: than always answering the commonest class of the test images."""

import math
from collections.abc import Iterable

from bench.analysis.comparison import Row
from bench.analysis.formatting import clean_text, listed, percent
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables, accuracy_floor, targets_of

UNEVEN = 1.5  # times the share that the commonest class would have if all had the same, that is worth a line


def share_of_commonest(rows: Iterable[Row]) -> float:
    """Accuracy on test of always answering the commonest class; NaN where trials don't say."""
    return next((share for row in rows if not math.isnan(share := row["commonest_share"])), math.nan)


def is_easy(target: float, share: float) -> bool:
    """Whether guessing reaches a target."""
    return target <= share + 1e-9  # a mean of equal shares may be a hair below them


def learned(tables: Tables, row: Row) -> bool:
    """Whether a configuration's mean test accuracy is beyond that of guessing by more than the test images' chance."""
    reached = row["test_accuracy"]
    return not reached - accuracy_floor(tables.run, "test", reached) <= row["commonest_share"]


def is_uneven(tables: Tables) -> bool:
    """Whether one class is so common that accuracy says little of the others."""
    share, count = share_of_commonest(records(tables.summary)), _num_classes(tables)
    return share * count >= UNEVEN


def guessing(row: Row) -> str:
    """ "no better than always answering 'healthy' (95.00%)"."""
    name = clean_text(str(row["commonest_class"]))
    return f"no better than always answering '{name}' ({percent(row['commonest_share'])})"


def guess_sentences(tables: Tables, best: Iterable[Row]) -> list[str]:
    """Of families' best those that learned nothing that shows, a sentence each."""
    return [
        f"The best {family_title(row['model'])} ({row['label']}, {percent(row['test_accuracy'])}) is {guessing(row)}."
        for row in best
        if not learned(tables, row)
    ]


def guess_warnings(tables: Tables, rows: list[Row]) -> list[str]:
    """What uneven classes do to accuracies and targets."""
    share, found = share_of_commonest(rows), []
    name = next((str(row["commonest_class"]) for row in rows if row["commonest_class"]), "")
    if is_uneven(tables):
        best = [row for row in rows if row["best_of_family"]]
        means = listed([f"{family_title(row['model'])} {percent(row['test_balanced_accuracy'])}" for row in best])
        found.append(
            f"Classes are uneven: '{clean_text(name)}' is {percent(share)} of the test images. Balanced over the "
            f"classes, the families' best reach: {means}."
        )
    if easy := [f"{100 * target:g}%" for target in targets_of(tables.run) if is_easy(target, share)]:
        found.append(f"Targets up to {easy[-1]} say nothing: always answering '{clean_text(name)}' reaches them.")
    return found


def _num_classes(tables: Tables) -> int:
    count = (tables.run.get("dataset") or {}).get("num_classes")
    return count if isinstance(count, int) else 0
