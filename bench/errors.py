"""People's mistakes: one exception family, one line each, raised before any work starts."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something that the person at the keyboard can put right; printed as one line, exit status 2."""


class SuiteError(UserError):
    """A suite file, a `--set`, or a combination of settings that can't be run."""


class DataError(UserError):
    """A dataset that is missing, cut short, or not what its name says."""


class DeviceError(UserError):
    """A device or numeric mode that this machine doesn't have."""


class StoreError(UserError):
    """A run folder that isn't one, or that belongs to something else."""


def nearest(found: object, known: Iterable[str]) -> str:
    """End of a message: the nearest known name, or all of them when nothing is near."""
    names = sorted(known)
    close = get_close_matches(str(found), names, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(names)}"
