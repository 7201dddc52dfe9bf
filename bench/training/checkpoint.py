"""The files of a trial: weights, predictions, and what is needed to build the model again."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bench.system.csv_cells import guarded
from bench.system.files import new_folder, write_sums

if TYPE_CHECKING:
    from bench.data.dataset import Dataset

    State = Mapping[str, Tensor]

TRIAL, INPUTS, PREDICTIONS = "trial.json", "data.json", "predictions.csv"
LAST, BEST = "model.safetensors", "model_best.safetensors"


class Inputs(BaseModel):
    """What a model expects of an image and what its logits mean: all that the dataset told it.

    Attributes:
        title: of the dataset, for people.
        mean, std: subtracted from and divided into grey levels (0 to 255), a number a channel.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    title: str
    image_size: Annotated[int, Field(ge=1)]
    in_channels: Annotated[int, Field(ge=1)]
    class_names: Annotated[tuple[str, ...], Field(min_length=1)]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def of(cls, data: Dataset) -> Inputs:
        spec = data.spec
        return cls(
            title=spec.title,
            image_size=spec.image_size,
            in_channels=spec.in_channels,
            class_names=tuple(spec.class_names),
            mean=tuple(data.mean.flatten().tolist()),
            std=tuple(data.std.flatten().tolist()),
        )


def save_trial(
    folder: Path,
    description: Mapping[str, Any],
    last: State,
    best: State,
    columns: Mapping[str, Tensor],
    inputs: Inputs,
) -> None:
    """Write `folder` whole or not at all.

    Args:
        folder: gets `trial.json`, `data.json` (of `inputs`), `model.safetensors` (last evaluation),
            `model_best.safetensors` (the evaluation that validation chose), `predictions.csv` (a row a test image)
            and `SHA256SUMS` of them.
        columns: of predictions.csv, each of shape (images,): classes as whole numbers, confidences as floats.

    Raises: StoreError: the disk doesn't take them.
    """
    with new_folder(folder, "the trial's files aren't kept") as place:
        for name, content in ((TRIAL, description), (INPUTS, inputs.model_dump())):
            (place / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        _save_weights(last, place / LAST)
        _save_weights(best, place / BEST)
        _save_predictions(columns, inputs.class_names, place / PREDICTIONS)
        write_sums(place)


def _save_weights(state: State, path: Path) -> None:
    try:
        tensors = {key: value.contiguous().cpu() for key, value in state.items() if isinstance(value, Tensor)}
        save_file(tensors, path)  # what a module keeps besides could only be pickled
    except SafetensorError as error:  # tells the system's own error in its text alone
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _save_predictions(columns: Mapping[str, Tensor], class_names: Sequence[str], path: Path) -> None:
    """A row an image: classes by their names, which are no spreadsheet's formulas here, and how sure the model was."""
    names = [guarded(name) for name in class_names]
    cells = [
        [f"{value:.4f}" if isinstance(value, float) else names[value] for value in column.tolist()]
        for column in columns.values()
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *columns])
        writer.writerows([index, *row] for index, row in enumerate(zip(*cells, strict=True)))
