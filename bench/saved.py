"""Saved: a trained model, built again from what its trial left on disk. Nothing that is read here can run code."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.artefacts import BEST, INPUTS, TRIAL, Inputs
from bench.data import load_dataset
from bench.errors import StoreError
from bench.precision import DTYPES, Precision
from bench.trial import Trial
from models import build_model, source_of

PICKLES = (".pt", ".pth", ".pkl", ".bin", ".ckpt")

Content = TypeVar("Content", bound=BaseModel)


@dataclass(frozen=True)
class Saved:
    """A trained model and what it expects.

    Attributes:
        model: on the CPU, in evaluation mode, with the weights that validation chose.
        mean, std: (1, C, 1, 1), in grey levels.
        notes: what may make its predictions differ from those of its run, a sentence each.
    """

    folder: Path
    trial: Trial
    inputs: Inputs
    model: nn.Module
    mean: Tensor
    std: Tensor
    notes: tuple[str, ...] = ()

    @property
    def precision(self) -> Precision:
        """The numeric mode that it was trained in."""
        return DTYPES[self.trial.dtype]

    def normalized(self, images: Tensor) -> Tensor:
        """Grey levels as the model was shown them, in float32. Shape: (B, C, H, W), kept."""
        return images.float().sub_(self.mean.to(images.device)).div_(self.std.to(images.device))


def load_trial(trial_dir: Path, data_dir: Path | None = None) -> Saved:
    """The model that a trial left in `trial_dir`.

    A model that isn't ours is built by its own function, as in its run; that function is all that is run.

    Args:
        data_dir: where the dataset's files may lie. They are needed only for runs from before trials wrote down the
            sizes and statistics of their images (`data.json`).

    Raises:
        StoreError: a file is missing, damaged, of another version or kind, or the weights don't fit the model.
        DataError: the dataset of such an older run isn't here.
    """
    _refuse_other_folders(trial_dir)
    trial = _read(trial_dir / TRIAL, Trial)
    if trial.dtype not in DTYPES:
        raise StoreError(f"{trial_dir / TRIAL}: no numeric mode is called '{trial.dtype}'")
    inputs = _read_inputs(trial_dir, trial, data_dir)
    state = _read_weights(trial_dir / BEST)
    model = _build(trial_dir, trial, inputs)
    _refuse_misfit(trial_dir / BEST, model, state)
    model.load_state_dict(state)
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (inputs.mean, inputs.std))
    return Saved(trial_dir, trial, inputs, model.eval(), mean, std, _notes(trial))


def _refuse_other_folders(folder: Path) -> None:
    if not folder.is_dir():
        raise StoreError(f"{folder}: there is no such folder; name a trial's, such as results/SUITE/latest/trials/NAME")
    if (folder / TRIAL).is_file():
        return
    trials = sorted(path.parent for path in folder.glob(f"trials/*/{TRIAL}"))
    if trials:
        raise StoreError(f"{folder}: is a run, with {len(trials)} saved trials; name one, such as {trials[0]}")
    raise StoreError(f"{folder}: is no trial's folder, it has no {TRIAL}")


def _read(path: Path, content: type[Content]) -> Content:
    """A JSON file of ours, checked."""
    try:
        return content.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise StoreError(f"{path}: damaged, or of another version ({_line(what)})") from None


def _read_inputs(folder: Path, trial: Trial, data_dir: Path | None) -> Inputs:
    path = folder / INPUTS
    if path.is_file():
        inputs = _read(path, Inputs)
        if not len(inputs.mean) == len(inputs.std) == inputs.in_channels:
            raise StoreError(f"{path}: has a mean for {len(inputs.mean)} channels, of {inputs.in_channels}")
        return inputs
    if trial.data is not None:
        raise StoreError(f"{path}: missing; without it nobody knows how {trial.data.name}'s images were normalised")
    return Inputs.of(
        load_dataset(trial.dataset, data_dir, trial.split_seed, normalization=trial.training.normalization)
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors from a safetensors file, which can hold nothing else; a pickle could run whatever its maker liked."""
    if not path.is_file():
        pickles = sorted(file.name for file in path.parent.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise StoreError(f"{path}: missing; {pickles[0]} is a pickle, which could run code, and is not opened")
        raise StoreError(f"{path}: missing; the trial failed, or its weights weren't copied")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror})") from None
    if start[8:] != b"{" and start.startswith((b"\x80", b"PK")):  # a safetensors file's ninth byte opens its header
        raise StoreError(f"{path}: is a pickle, which could run code, and is not opened; expected a safetensors file")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: is not a whole safetensors file ({_line(str(error))})") from None


def _build(folder: Path, trial: Trial, inputs: Inputs) -> nn.Module:
    sizes = inputs.image_size, inputs.in_channels, inputs.num_classes
    try:
        model = build_model(trial.model, trial.settings, *sizes)
    except KeyError:
        raise StoreError(f"{folder / TRIAL}: no model is called '{trial.model}'") from None
    except (ValueError, RuntimeError) as error:
        raise StoreError(f"{folder / TRIAL}: the model can't be built ({_line(str(error))})") from None
    return model.to(dtype=DTYPES[trial.dtype].weights)


def _refuse_misfit(path: Path, model: nn.Module, state: dict[str, Tensor]) -> None:
    """One line for what load_state_dict would tell in many."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if names:
        name = names[0]
        here, there = (str(shapes.get(name, "nothing")) for shapes in (found, expected))
        more = f", and {len(names) - 1} more" if len(names) > 1 else ""
        raise StoreError(f"{path}: doesn't fit the model of {TRIAL}: {name} is {here}, expected {there}{more}")


def _notes(trial: Trial) -> tuple[str, ...]:
    source = source_of(trial.model)
    if source == trial.source:
        return ()
    return (f"{trial.model} was trained as {trial.source} and is {source} now; its predictions may differ",)


def _line(text: str, longest: int = 200) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
