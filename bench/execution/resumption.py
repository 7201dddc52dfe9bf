"""Resumption: what a run that goes on has to say of itself, checked before anybody believes it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import StoreError
from bench.store.tables import read_run


class Contents(BaseModel):
    """Of the dataset that a run was begun with."""

    model_config = ConfigDict(extra="ignore", strict=True)

    checksum: str | None = None


class Begun(BaseModel):
    """The part of run.json that a resume goes by.

    Attributes:
        source: the suite, by name or whole path.
        options: KEY=VALUEs that were set.
        plan: trial_ids.
        matches: solved pairs, which must not be solved anew.
        command: so far, for the record.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    source: str | None = None
    options: list[str] = []
    plan: list[str] = []
    matches: dict[str, Any] = {}
    data_dir: str | None = None
    dataset: Contents = Contents()
    command: list[str] = []
    created_at: str | None = None


def read_begun(folder: Path) -> Begun:
    """What run.json of `folder` says.

    Raises:
        StoreError: no run, another version, or something in it that isn't of its kind.
    """
    try:
        return Begun.model_validate(read_run(folder))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{folder / 'run.json'}: {place}: {first['msg'].lower()}; it was changed since") from None
