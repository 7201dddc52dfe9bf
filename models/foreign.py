"""Other people's models: timm's, torchvision's and a user's own, built from their names and keyword arguments.

`timm:NAME` and `torchvision:NAME` are the libraries' own functions; `package.module:factory` is any function or class
that gives a module. Weights are never downloaded: all of them start untrained, as ours do.
"""

import hashlib
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import nn

from models.building import Factory, built, nearest, refuse, said
from models.libraries import LIBRARIES, imported_library

FORMS = ("timm:NAME", "torchvision:NAME", "package.module:factory")  # what a name may look like
OF_THE_DATASET = ("image_size", "in_channels", "num_classes")  # what a factory is told by these names

_WORD = r"[A-Za-z_]\w*"
_FACTORY = re.compile(rf"{_WORD}(\.{_WORD})*:{_WORD}(\.{_WORD})*")


class Keywords(BaseModel):
    """Keyword arguments of a model that isn't ours; its function alone knows which there are."""

    model_config = ConfigDict(extra="allow", frozen=True)


def find_builder(name: str) -> Factory:
    """What builds the model `name` from (settings, image_size, in_channels, num_classes).

    Raises:
        ValueError: the library isn't installed, or there is no such model, module or function.
    """
    library, _, own_name = name.partition(":")
    if library in LIBRARIES:
        return LIBRARIES[library](own_name)
    return _users(name)


def source_of(name: str) -> str:
    """Which version of a model this is: its library's, or the checksum of the file that it stands in.

    Raises:
        ValueError: as find_builder does.
    """
    library = name.partition(":")[0]
    if library in LIBRARIES:
        return f"{library} {imported_library(library).__version__.partition('+')[0]}"
    module, factory = _find_factory(name)
    digest = hashlib.sha256()
    for file in dict.fromkeys((module.__file__, _file_of(factory))):
        if file and Path(file).is_file():
            digest.update(Path(file).read_bytes())
    return f"sha256:{digest.hexdigest()[:12]}"


def _users(name: str) -> Factory:
    """A function or class of the user's; it is told of the dataset what its signature takes, by name."""
    _, factory = _find_factory(name)

    def build(settings: BaseModel, image_size: int, in_channels: int, num_classes: int) -> nn.Module:
        given = settings.model_dump()
        refuse(name, given, OF_THE_DATASET, "is the dataset's")
        told = dict(zip(OF_THE_DATASET, (image_size, in_channels, num_classes), strict=True))
        taken = _parameters(factory)
        if taken is not None:
            if "num_classes" not in taken:
                raise ValueError(f"{name} takes no 'num_classes'; it has to, or the logits don't fit the dataset")
            told = {key: value for key, value in told.items() if key in taken}
        return built(name, factory, [{}], told | given, {*given}, taken or ())

    return build


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
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise ValueError(f"there is no module '{error.name}', neither in {os.getcwd()} nor installed") from None
        raise ValueError(f"module '{path}' can't be imported: {said(error)}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's file does when it is imported
        raise ValueError(f"module '{path}' can't be imported: {said(error)}") from None
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = nearest(part, (key for key in dir(found) if not key.startswith("_")))
            file = getattr(module, "__file__", None) or "no file"
            raise ValueError(f"module '{path}' ({file}) has no '{attribute}'{f'; {near}' if near else ''}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"{name} can't be called: it is of type {type(found).__name__}")
    return module, found


def _parameters(factory: Factory) -> list[str] | None:
    """Names that a function takes; None if it takes any, or doesn't tell."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY]


def _file_of(factory: Factory) -> str | None:
    try:
        return inspect.getsourcefile(inspect.unwrap(factory))
    except TypeError:
        return None  # an object that can be called
