"""Load a trained model from its trial's folder.

The folder may come from somebody else: nothing that is read here can run code, and the sizes it states are compared
with the weights' before a model of such a size is allocated.
"""

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.errors import StoreError, printable
from bench.system.precision import DTYPES, in_dtype
from bench.training.checkpoint import BEST, INPUTS, TRIAL, Inputs
from bench.trial import Trial
from models import build_model, source_of
from models.external import LIBRARIES

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")
NOT_OPENED = "could run code, and is not opened"
MOST_JSON = 16 * 2**20  # bytes of a file; a class's name has some ten
MOST_IMAGE_SIZE, MOST_CHANNELS, MOST_CLASSES = 8192, 64, 100_000

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

    def normalized(self, images: Tensor) -> Tensor:
        """Grey levels as the model was shown them, in float32. Shape: (B, C, H, W), kept."""
        return images.to(torch.float32, copy=True).sub_(self.mean.to(images.device)).div_(self.std.to(images.device))


def load_trial(trial_dir: Path, trust: bool | Container[str] = False) -> Saved:
    """The model that a trial left in `trial_dir`.

    Args:
        trust: whether a model `package.module:factory` may be imported, which runs its code; or the ids of trials that
            may, since this session has itself planned them: an id holds for all settings.

    Raises:
        StoreError: a file is missing, damaged, of another version or kind, the weights don't fit the model, or the
            model's code isn't trusted.
    """
    _refuse_other_folders(trial_dir)
    trial = _read(trial_dir / TRIAL, Trial)
    if trial.dtype not in DTYPES:
        raise StoreError(f"{trial_dir / TRIAL}: no numeric mode is called '{printable(trial.dtype, 40)}'")
    if _is_code(trial.model) and not (trust if isinstance(trust, bool) else trial.trial_id in trust):
        raise StoreError(
            f"{trial_dir / TRIAL}: names code, {printable(trial.model, 80)}, that would be imported and run; "
            "if it is yours or you have read it, add --trust"
        )
    inputs = _read_inputs(trial_dir / INPUTS)
    weights = trial_dir / BEST
    state = _read_weights(weights)
    _refuse_endless(trial_dir / TRIAL, trial.settings, len(state))
    if not _is_code(trial.model):  # without memory; somebody's own code may look at numbers, and is trusted anyway
        with torch.device("meta"):
            _refuse_misfit(weights, _build(trial_dir, trial, inputs), state)
    model = _build(trial_dir, trial, inputs)
    _refuse_misfit(weights, model, state)
    model.load_state_dict(state, strict=False)  # names and shapes have been compared
    mean, std = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (inputs.mean, inputs.std))
    source = source_of(trial.model)
    then_and_now = f"was trained as {trial.source} and is {source} now; its predictions may differ"
    notes = [] if source == trial.source else [f"{trial.model} {then_and_now}"]
    if any(not isinstance(value, Tensor) for value in model.state_dict().values()):
        notes.append(f"{trial.model} keeps more than tensors, which wasn't saved; its predictions may differ")
    return Saved(trial_dir, trial, inputs, model.eval(), mean, std, tuple(notes))


def _is_code(model: str) -> bool:
    """Whether a model is a function of somebody's own, not ours or an installed library's."""
    library, colon, _ = model.partition(":")
    return bool(colon) and library not in LIBRARIES


def _refuse_other_folders(folder: Path) -> None:
    if folder.is_file():
        what = f"a pickle {NOT_OPENED}" if folder.suffix in PICKLES else "a file"
        raise StoreError(f"{folder}: is {what}; name the folder of a trial, such as results/SUITE/latest/trials/NAME")
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
        with open(path, "rb") as file:
            text = file.read(MOST_JSON + 1)
        if len(text) > MOST_JSON:
            raise StoreError(f"{path}: has more than {MOST_JSON >> 20} MiB; it is none of ours")
        return content.model_validate_json(text)
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = f"{place}: {first['msg']}" if place else first["msg"]
        raise StoreError(f"{path}: damaged, or of another version ({printable(what, 200)})") from None


def _read_inputs(path: Path) -> Inputs:
    if not path.is_file():
        raise StoreError(f"{path}: missing; without it nobody knows how images were normalised")
    inputs = _read(path, Inputs)
    for name, value, most in (
        ("image_size", inputs.image_size, MOST_IMAGE_SIZE),
        ("in_channels", inputs.in_channels, MOST_CHANNELS),
        ("number of classes", inputs.num_classes, MOST_CLASSES),
    ):
        if value > most:
            raise StoreError(f"{path}: {name} {value:,} is beyond all sense; at most {most:,}")
    if not len(inputs.mean) == len(inputs.std) == inputs.in_channels:
        raise StoreError(f"{path}: has a mean for {len(inputs.mean)} channels, of {inputs.in_channels}")
    return inputs


def _read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which can hold nothing else; a pickle could run what its maker liked."""
    if not path.is_file():
        pickles = sorted(file.name for file in path.parent.iterdir() if file.suffix in PICKLES)
        if pickles:
            raise StoreError(f"{path}: missing; {printable(pickles[0], 200)} is a pickle, which {NOT_OPENED}")
        raise StoreError(f"{path}: missing; the trial failed, or its weights weren't copied")
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        if start[8:] != b"{" and start.startswith((b"\x80", b"PK")):  # a safetensors file's ninth byte opens its header
            raise StoreError(f"{path}: is a pickle, which {NOT_OPENED}; expected a safetensors file")
        return load_file(path)  # a header that is too large, offsets that lie or overlap are refused here
    except OSError as error:
        raise StoreError(f"{path}: can't be read ({error.strerror or error})") from None
    except SafetensorError as error:
        raise StoreError(f"{path}: is not a whole safetensors file ({printable(str(error), 200)})") from None


def _refuse_endless(path: Path, settings: dict[str, Any], num_tensors: int) -> None:
    """Refuse a depth of more blocks than there are tensors: building so many would never end."""
    for key, value in settings.items():
        if any(word in key for word in ("depth", "layers", "blocks", "repeats")):
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int | float) and number > max(num_tensors, 1):
                    raise StoreError(
                        f"{path}: doesn't fit its weights: {printable(key, 40)} {number}, of {num_tensors} tensors"
                    )


def _build(folder: Path, trial: Trial, inputs: Inputs) -> nn.Module:
    sizes = inputs.image_size, inputs.in_channels, inputs.num_classes
    try:
        model = build_model(trial.model, trial.settings, *sizes)
    except KeyError:
        raise StoreError(f"{folder / TRIAL}: no model is called '{printable(trial.model, 80)}'") from None
    except (ValueError, RuntimeError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        raise StoreError(f"{folder / TRIAL}: the model can't be built ({printable(str(error), 200)})") from None
    return in_dtype(model, DTYPES[trial.dtype].weights)


def _refuse_misfit(path: Path, model: nn.Module, found: dict[str, Tensor]) -> None:
    """One line for what load_state_dict would tell in many, or wouldn't: other kinds of numbers, and none."""
    expected = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in (found, expected)]
    names = [name for name in {**expected, **found} if shapes[0].get(name) != shapes[1].get(name)]
    if names:
        here, there = (str(each.get(names[0], "nothing")) for each in shapes)
        more = f", and {len(names) - 1} more" if len(names) > 1 else ""
        raise StoreError(
            f"{path}: doesn't fit the model of {TRIAL}: {printable(names[0], 80)} is {here}, expected {there}{more}"
        )
    for name, tensor in found.items():
        if tensor.dtype != expected[name].dtype:
            kinds = f"{tensor.dtype}, expected {expected[name].dtype}".replace("torch.", "")
            raise StoreError(f"{path}: doesn't fit the model of {TRIAL}: {name} is of {kinds}")
        if not bool(torch.isfinite(tensor).all()):
            raise StoreError(
                f"{path}: {name} holds what isn't a finite number; the training diverged, or it is damaged"
            )
