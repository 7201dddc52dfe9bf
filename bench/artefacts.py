"""What a trial leaves beside its row: weights, predictions, and what is needed to build the model again."""

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

State = Mapping[str, Tensor]


def save_trial(
    folder: Path, description: Mapping[str, Any], last: State, best: State, columns: Mapping[str, Tensor]
) -> None:
    """Write `folder` whole or not at all.

    Args:
        folder: gets `trial.json`, `model.safetensors` (last evaluation), `model_best.safetensors` (the evaluation
            that validation chose) and `predictions.csv` (a row a test image).
        columns: of predictions.csv, each of shape (images,).
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    (temporary / "trial.json").write_text(json.dumps(description, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name, state in (("model", last), ("model_best", best)):
        save_file({key: value.contiguous().cpu() for key, value in state.items()}, temporary / f"{name}.safetensors")
    with open(temporary / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", *columns])
        lists = (column.tolist() for column in columns.values())
        writer.writerows((index, *map(_short, row)) for index, row in enumerate(zip(*lists, strict=True)))
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt whose row never reached the store
    temporary.rename(folder)


def _short(value: float) -> str | int:
    return f"{value:.4f}" if isinstance(value, float) else int(value)
