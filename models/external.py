"""Other people's models: timm's, torchvision's and a user's own, built from their names and keyword arguments.

`timm:NAME` and `torchvision:NAME` are the libraries' own functions; `package.module:factory` is any function or class
that gives a module. Weights are never downloaded: all of them start untrained, as ours do. Whatever goes wrong in other
people's code becomes a ValueError of one line that says what would do.
"""

import hashlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

FORMS = ("timm:NAME", "torchvision:NAME", "package.module:factory")  # what a name may look like
INSTALL = {"timm": '"timm>=1.0.9"', "torchvision": '"torchvision>=0.24"'}
OURS = ("bench", "models", "run_bench")  # names that a file of the user's can't have
WEIGHTS = ("weights", "pretrained", "checkpoint_path", "pretrained_cfg", "weights_backbone")  # none are loaded here
SEEDS = 0, 1  # two that a start is compared under

_WORD = r"[A-Za-z_]\w*"
_FACTORY = re.compile(rf"{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(.+?)'")

Factory = Callable[..., nn.Module]


class Keywords(BaseModel):
    """Keyword arguments of a model that isn't ours; its function alone knows which there are."""

    model_config = ConfigDict(extra="allow", frozen=True)


def find_builder(name: str) -> Factory:
    """What builds the model `name` from (settings, image_size, in_channels, num_classes).

    Raises:
        ValueError: the library isn't installed, or there is no such model, module or function.
    """
    library, _, own_name = name.partition(":")
    return LIBRARIES[library](own_name) if library in LIBRARIES else _from_module(name)


def source_of(name: str) -> str:
    """Which version of a model this is: its library's, or the checksum of the file that it stands in.

    Raises:
        ValueError: as find_builder does.
    """
    library = name.partition(":")[0]
    if library in LIBRARIES:
        return f"{library} {_import_library(library).__version__.partition('+')[0]}"
    module, factory = _find_factory(name)
    files = [module.__file__]
    with suppress(TypeError):  # an object that can be called has no file
        files.append(inspect.getsourcefile(inspect.unwrap(factory)))
    digest = hashlib.sha256()
    for file in dict.fromkeys(files):
        if file and Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return f"sha256:{digest.hexdigest()[:12]}"


def build_to_count(
    name: str, build: Callable[[], nn.Module], image_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """A model to be counted, not trained: on the meta device, or on the CPU where it can't be built or run there.

    Args:
        image_shape: (C, H, W) of the images that it must take.

    Raises:
        ValueError: it can't be built, gives the same parameters again, can't take such images, doesn't give logits
            (B, num_classes), or learns with tensors that aren't among its parameters.
    """

    def built_on(device: str) -> nn.Module:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            model = build()
            _check_apart(name, model, build())
            _check_logits(name, model, image_shape, num_classes)
            return model

    try:
        return built_on("meta")
    except ValueError:  # a factory may look at a number, which a meta tensor doesn't hold
        return built_on("cpu")


def starts_alike(name: str, build: Callable[[], nn.Module], image_shape: tuple[int, int, int]) -> bool:
    """Whether a user's own factory gives equal weights whatever torch's seed: a copy of a template, a file's weights.

    It is built twice on the CPU, as a trial builds it, since a sketch without numbers shows neither its start nor
    whose memory it lies in. Libraries' models aren't: their weights are always drawn.

    Args:
        image_shape: (C, H, W) of the images that it takes.

    Raises:
        ValueError: it can't be built, two of its models share memory that training writes to, or it gives
            probabilities.
    """
    if name.partition(":")[0] in LIBRARIES:
        return False
    models = []
    with torch.random.fork_rng(devices=[]):
        for seed in SEEDS:
            torch.manual_seed(seed)
            models.append(build())
        model, again = models
        _check_apart(name, model, again)
        weights = [[*each.parameters()] for each in models]
        alike = len(weights[0]) == len(weights[1]) and all(map(_equal, *weights))
        _check_written(name, model, again, image_shape)
        _check_no_probabilities(name, model, image_shape)
    return alike


class RepeatedChannels(nn.Module):
    """Grey images for a model that is made for colour: the one channel three times.

    Shape: (B, 1, H, W) -> what `model` makes of (B, 3, H, W).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.expand(-1, 3, -1, -1))


def _timm(own_name: str) -> Factory:
    """timm.create_model; `img_size` is told to those that take it."""
    timm = _import_library("timm")
    name = f"timm:{own_name}"
    if not timm.is_model(own_name):  # a name such as hf-hub:… would be fetched
        near = _nearest(own_name, timm.list_models())
        raise ValueError(f"timm {timm.__version__} has no model '{own_name}'; {near or 'see timm.list_models()'}")

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        told = {"num_classes": num_classes, "in_chans": in_channels}
        sizes = [{"img_size": image_size}, {}]
        model = _build(name, partial(timm.create_model, own_name), settings, told, sizes, WEIGHTS)
        embedding = getattr(model, "patch_embed", None)
        patch = getattr(embedding, "patch_size", None)
        if patch and image_size % patch[0] and not getattr(embedding, "dynamic_img_pad", False):
            # timm would leave out the pixels at the edge without a word
            raise ValueError(f"patch_size {patch[0]} of {name} does not divide image_size {image_size}")
        return model

    return build


def _torchvision(own_name: str) -> Factory:
    """torchvision's classifiers; `image_size` is told to those that take it, grey images become three channels."""
    zoo = _import_library("torchvision").models
    name = f"torchvision:{own_name}"
    names = zoo.list_models(module=zoo)
    if own_name not in names:
        near = _nearest(own_name, names)
        raise ValueError(
            f"torchvision has no classifier '{own_name}'; {near or 'see torchvision.models.list_models()'}"
        )

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        if in_channels not in (1, 3):
            raise ValueError(f"{name} takes images of 3 channels, or of 1 repeated; these have {in_channels}")
        told = {"num_classes": num_classes}
        sizes: list[dict[str, Any]] = [{"image_size": image_size}, {"input_size": (image_size, image_size)}, {}]
        make = partial(zoo.get_model, own_name, weights=None)
        model = _build(name, make, settings, told, sizes, WEIGHTS)
        return RepeatedChannels(model) if in_channels == 1 else model

    return build


# prefix of a name -> what finds the builder of the rest of it
LIBRARIES: dict[str, Callable[[str], Factory]] = {"timm": _timm, "torchvision": _torchvision}


def _from_module(name: str) -> Factory:
    """A function or class of the user's; it is told of the dataset what its signature takes, by name."""
    _, factory = _find_factory(name)

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        told = {"image_size": image_size, "in_channels": in_channels, "num_classes": num_classes}
        taken = _parameters(factory)
        if taken is not None:
            if "num_classes" not in taken:
                raise ValueError(f"{name} takes no 'num_classes'; it has to, or the logits don't fit the dataset")
            told = {key: value for key, value in told.items() if key in taken}
        return _build(name, factory, settings, told, taken=taken or ())

    return build


def _build(
    name: str,
    factory: Factory,
    settings: BaseModel,
    told: dict[str, Any],
    sizes: Sequence[dict[str, Any]] = ({},),
    weights: Sequence[str] = (),
    taken: Iterable[str] = (),
) -> nn.Module:
    """What `factory` makes of the first of `sizes` whose names it takes, and of all other keyword arguments.

    Args:
        settings: keyword arguments that a person wrote.
        told: keyword arguments that follow from the dataset.
        weights: names that ask for trained weights.
        taken: names that the factory takes, for a hint.

    Raises:
        ValueError: it raises, or makes something that can't be trained.
    """
    given = settings.model_dump()
    for key in given:
        if key in weights:
            raise ValueError(f"{key} of {name} is not for here: models start anew; leave it out")
        if key in told or any(key in size for size in sizes):
            raise ValueError(f"{key} of {name} is the dataset's; leave it out")
    for size in sizes:
        try:
            model = factory(**size, **told, **given)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's function does
            unexpected = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
            if unexpected and unexpected[1] in size:
                continue
            if unexpected and unexpected[1] in given:
                near = _nearest(unexpected[1], taken)
                raise ValueError(f"{name} takes no '{unexpected[1]}'{f'; {near}' if near else ''}") from None
            raise ValueError(f"{name} can't be built: {_one_line(error)}") from None
        break
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} gives an object of type {type(model).__name__}; expected a torch.nn.Module")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise ValueError(f"{name} leaves sizes open (a lazy module); give it all of them")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{name} has no parameters to train")
    return model.train()


def _check_apart(name: str, model: nn.Module, again: nn.Module) -> None:
    """What one trial learns mustn't be another's start. Raises: ValueError: two models share what is learnt."""
    same = {id(each) for each in model.parameters()} & {id(each) for each in again.parameters()}
    learnt = [{_memory(p) for p in each.parameters() if p.requires_grad} - {None} for each in (model, again)]
    if same or learnt[0] & learnt[1]:
        raise ValueError(
            f"{name} gives the same parameters each time that it is called, trained or not; make them inside, and "
            "clone() what they are made of"
        )


def _check_written(name: str, model: nn.Module, again: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """A table that is only read may be everybody's; statistics may not.

    Raises: ValueError: a training pass writes to numbers that two models share.
    """
    held = _not_learnt(again)
    theirs = {id(each) for each in held.values()} | {_memory(each) for each in held.values()} - {None}
    shared = {key: each for key, each in _not_learnt(model).items() if {id(each), _memory(each)} & theirs}
    if not shared:
        return
    before = {key: each.detach().clone() for key, each in shared.items()}
    model.train()
    with torch.no_grad(), suppress(Exception, SystemExit):  # what it can't take is said where it is counted
        model(torch.rand(2, *image_shape))
    changed = [key for key, each in shared.items() if not _equal(each, before[key])]
    for key in changed:
        shared[key].detach().copy_(before[key])
    if changed:
        raise ValueError(
            f"{name} shares '{changed[0]}' among all its models, and training writes to it; make it inside, or clone() "
            "what it is made of"
        )


def _check_no_probabilities(name: str, model: nn.Module, image_shape: tuple[int, int, int]) -> None:
    """The loss takes logits; of a softmax it would take another, and hardly learn.

    Raises: ValueError: of both images the outputs are positive and add up to 1.
    """
    model.eval()
    sums = torch.zeros(2)
    with torch.no_grad(), suppress(Exception, SystemExit):  # what it can't take is said where it is counted
        outputs = model(torch.rand(2, *image_shape)).float()
        sums = outputs.sum(dim=1) if outputs.shape[1] > 1 and bool((outputs >= 0).all()) else sums
    if torch.allclose(sums, torch.ones(2), atol=1e-4):
        raise ValueError(f"{name} gives probabilities; the loss expects logits: leave out its softmax")


@torch.no_grad()
def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers; NaN is one of them."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _not_learnt(model: nn.Module) -> dict[str, Tensor]:
    """Buffers and frozen parameters, by name."""
    frozen = {key: p for key, p in model.named_parameters() if not p.requires_grad}
    return frozen | dict(model.named_buffers())


def _memory(tensor: Tensor) -> int | None:
    """Where a tensor's numbers lie; None where there are none: on the meta device, of no elements, sparse."""
    try:
        return tensor.untyped_storage().data_ptr() or None
    except (NotImplementedError, RuntimeError):
        return None


def _check_logits(name: str, model: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Raises: ValueError: it can't take such images, doesn't give logits, or learns with what isn't a parameter."""

    def passed(training: bool, count: int) -> Tensor:
        model.train(training)
        images, when = f"{count} image{'s' * (count > 1)}", "training" if training else "evaluation"
        try:
            with torch.set_grad_enabled(training):
                logits = model(torch.zeros(count, *image_shape))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's model does with an image
            size = "x".join(str(side) for side in image_shape)
            alone = " one by one" if count == 1 else ""
            raise ValueError(f"{name} can't take images of {size}{alone}: {_one_line(error)}") from None
        found = f"a tensor of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"{type(logits).__name__}"
        if found != f"a tensor of shape ({count}, {num_classes})":
            raise ValueError(f"{name} gives {found} for {images} in {when}; expected logits ({count}, {num_classes})")
        return logits

    for count in (2, 1):  # one image, since its latency is measured
        passed(False, count)
    own = {id(p): p for p in model.parameters()}
    strangers = [leaf for leaf in _leaves(passed(True, 2)) if id(leaf) not in own]
    if strangers:  # what a pass makes for itself is made anew by the next
        kept = {id(leaf): leaf for leaf in _leaves(passed(True, 2))}
        strangers = [leaf for leaf in strangers if id(leaf) in kept]
    if strangers:
        raise ValueError(
            f"{name} computes with {len(strangers)} tensors that aren't among its parameters, one of shape "
            f"{tuple(strangers[0].shape)}, and would never train them: put layers into nn.ModuleList, tensors into "
            "nn.Parameter; requires_grad_(False) on what isn't to learn"
        )


def _leaves(output: Tensor) -> list[Tensor]:
    """The tensors to which `output` would send gradients, from autograd's graph, without a backward pass.

    What reentrant checkpointing (torch.utils.checkpoint) hides from the graph isn't found.
    """
    found, seen, ahead = [], set(), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:  # AccumulateGrad
            found.append(leaf)
        ahead += [before for before, _ in node.next_functions]
    return found


def _import_library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{name}'s models need {name}, which isn't installed: pip install {INSTALL[name]}") from None


def _find_factory(name: str) -> tuple[ModuleType, Factory]:
    """The module of `package.module:factory`, imported from the current folder too, and what it names there."""
    if not _FACTORY.fullmatch(name):
        raise ValueError(f"'{name}' is no name of a model; they look like {', '.join(FORMS)}")
    path, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end, so that a file of the user's can't stand in for a library's
        importlib.invalidate_caches()
    try:
        module = importlib.import_module(path)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's file does when it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and path.startswith(missing) and (hidden := _hidden(path)):
            raise ValueError(hidden) from None
        if missing and (path == missing or path.startswith(f"{missing}.")):
            raise ValueError(f"there is no module '{missing}', neither in {os.getcwd()} nor installed") from None
        raise ValueError(f"module '{path}' can't be imported: {_one_line(error)}") from None
    if path in (*OURS, *sys.stdlib_module_names) and (hidden := _hidden(path)):
        raise ValueError(hidden)  # even if it has something of that name: nobody's model stands in these
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            if hidden := _hidden(path):
                raise ValueError(hidden)
            near = _nearest(part, (key for key in dir(found) if not key.startswith("_")))
            file = getattr(module, "__file__", None) or "no file"
            raise ValueError(f"module '{path}' ({file}) has no '{attribute}'{f'; {near}' if near else ''}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name} can't be called: it is of type {type(found).__name__}")
    return module, found


def _hidden(path: str) -> str:
    """What is to be said where another module is found before the user's own; "" where that isn't so.

    Args:
        path: of a module, `package.module`; the user's own is a file of the current folder or of one in it.
    """
    here, parts = Path(os.getcwd()), path.split(".")
    files = here.joinpath(*parts[:-1], f"{parts[-1]}.py"), here.joinpath(*parts, "__init__.py")
    loaded = sys.modules.get(parts[0])
    if loaded is None or not any(file.is_file() for file in files):
        return ""
    places = [*getattr(loaded, "__path__", []), *filter(None, [getattr(loaded, "__file__", None)])]
    own = [here / parts[0], here / f"{parts[0]}.py"]
    if {Path(place).resolve() for place in places} & {each.resolve() for each in own}:
        return ""
    hides = own[1] if len(parts) == 1 and files[0].is_file() else own[0]
    kind = "package" if hasattr(loaded, "__path__") else "module"
    where = f"in {places[0]}" if places else "built into Python"
    return f"'{parts[0]}' is the {kind} {where}, which hides your {hides}: rename it"


def _parameters(factory: Factory) -> list[str] | None:
    """Names that a function takes; None if it takes any, or doesn't tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY]


def _nearest(found: str, known: Iterable[str]) -> str:
    close = get_close_matches(found, list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""


def _one_line(error: BaseException) -> str:
    """An exception in one line of at most 200 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else f"{text[:197]}..."
