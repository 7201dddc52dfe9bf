"""Kinds of values on the command line, and the files that commands write."""

import re
from pathlib import Path
from typing import Any

import click

from bench.errors import UserError


class Time(click.ParamType):
    """Seconds from 90s, 10m, 1h30m. A number alone is refused: it could be minutes."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?", str(value).replace(" ", ""))
        if not found or not any(found.groups()):
            number = str(value).strip()
            hint = f": say {number}s or {number}m" if number.isdecimal() else ", such as 90s, 10m or 1h30m"
            self.fail(f"'{value}' is not a time{hint}", param, ctx)
        hours, minutes, seconds = (float(group or 0) for group in found.groups())
        return 3600 * hours + 60 * minutes + seconds


class Share(click.ParamType):
    """A share from 3% or 0.03."""

    name = "PERCENT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", str(value).strip())
        share = float(found[1]) / (100 if found[2] else 1) if found else -1.0
        if not 0 < share < 1:
            self.fail(f"'{value}' is not a share between 0% and 100%, such as 3%", param, ctx)
        return share


def folder(**more: Any) -> click.Path:
    """An option that names a folder."""
    return click.Path(path_type=Path, file_okay=False, **more)


def file() -> click.Path:
    """An option that names a file."""
    return click.Path(path_type=Path, dir_okay=False)


def refuse_no_folder(path: Path) -> None:
    """Raises: UserError: a file whose folder isn't there; asked before any work."""
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it, or name another file")


def write(path: Path, text: str) -> None:
    """Raises: UserError where it can't be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: can't be written ({error.strerror}); name another file") from None
