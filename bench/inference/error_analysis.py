"""Error analysis: which test images models got wrong, and which classes they confused; on numpy arrays alone.

Shape letters: I test images, M models, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.errors import DataError
from bench.system.csv_cells import guarded

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

COLUMNS = {"label": str, "prediction_best": str, "confidence_best": np.float64}  # of predictions.csv


@dataclass(frozen=True)
class Outcomes:
    """Truth (I,), and of each model its prediction and its confidence in it (M, I); the order is the test set's."""

    labels: Ints
    predictions: Ints
    confidences: Floats

    @property
    def right(self) -> NDArray[np.bool_]:
        """(M, I)"""
        return self.predictions == self.labels


def read_outcomes(paths: list[Path], class_names: Sequence[str]) -> Outcomes:
    """Of the weights that validation chose, from the models' predictions.csv.

    Raises:
        DataError: a file that isn't there, isn't one of ours, or is about other images than the first.
    """
    tables = [_read(path, class_names) for path in paths]
    labels, predictions, confidences = ([table[column].to_numpy() for table in tables] for column in COLUMNS)
    for path, others in zip(paths, labels, strict=True):
        if not np.array_equal(labels[0], others):
            raise DataError(f"{path}: is about other images than {paths[0]}")
    return Outcomes(labels[0], np.stack(predictions), np.stack(confidences))


def _read(path: Path, class_names: Sequence[str]) -> pd.DataFrame:
    """Classes as their places among the names; older files hold those places themselves."""
    try:
        table = pd.read_csv(path, usecols=list(COLUMNS), dtype=COLUMNS, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as predictions ({error})") from None
    classes = table[["label", "prediction_best"]]
    places = {guarded(name): place for place, name in enumerate(class_names)}
    if not classes.isin([*places]).to_numpy().all():
        places = {str(place): place for place in range(len(class_names))}
    if table.empty or not classes.isin([*places]).to_numpy().all():
        raise DataError(f"{path}: expected rows with classes of the dataset's {len(class_names)}")
    for column in classes:
        table[column] = table[column].map(places).astype(np.int64)
    return table


def confusion(labels: Ints, predictions: Ints, num_classes: int) -> Ints:
    """Images by truth (rows) and prediction (columns). (I,), (I,) -> (K, K)"""
    return np.bincount(labels * num_classes + predictions, minlength=num_classes**2).reshape(num_classes, num_classes)


def confused_pairs(matrix: Ints) -> list[tuple[int, int, int]]:
    """(truth, prediction, images), most images first; of equals, in the order of the classes. (K, K) -> list"""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")
    pairs = [divmod(int(cell), len(matrix)) for cell in order[: np.count_nonzero(wrong)]]
    return [(truth, said, int(wrong[truth, said])) for truth, said in pairs]


def worst_mistakes(outcomes: Outcomes, model: int, count: int) -> Ints:
    """Images that a model got wrong with the most confidence, the most confident first; of equals, the earlier."""
    wrong = np.flatnonzero(~outcomes.right[model])
    return wrong[np.argsort(-outcomes.confidences[model, wrong], kind="stable")][:count]


def disagreements(outcomes: Outcomes, right: int, wrong: int, count: int) -> Ints:
    """Images that one model got right and another wrong, first where they are surest of it between them."""
    found = np.flatnonzero(outcomes.right[right] & ~outcomes.right[wrong])
    return found[np.argsort(-outcomes.confidences[:, found].sum(axis=0), kind="stable")][:count]


def agreement(outcomes: Outcomes) -> dict[str, int]:
    """How many images two models got right together, alone, or wrong, and then whether they said the same."""
    first, second = outcomes.right[:2]
    same = outcomes.predictions[0] == outcomes.predictions[1]
    cases = {
        "both_right": first & second,
        "only_first": first & ~second,
        "only_second": second & ~first,
        "both_wrong_alike": ~first & ~second & same,
        "both_wrong_apart": ~first & ~second & ~same,
    }
    return {name: int(case.sum()) for name, case in cases.items()}


def one_each(labels: Ints, allowed: Ints, count: int) -> Ints:
    """Of the allowed images the first of `count` classes, evenly spread over the classes that have one.

    Shape: labels (I,), indices (A,) -> indices (count or less,), in the order of the classes.
    """
    classes, first = np.unique(labels[allowed], return_index=True)
    spread = np.unique(np.linspace(0, len(classes) - 1, min(count, len(classes))).round().astype(int))
    return allowed[first[spread]]
