"""Addresses with credentials in them: what of one may be shown or stored, and taking the rest out of a text."""

import os
from collections.abc import Iterable
from urllib.parse import quote, unquote

SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")


def public(address: str) -> str:
    """Scheme, host and path of an address: no user, password, query or fragment.

    What can't be told apart is left out: after the scheme there are dots then.
    """
    scheme, found, rest = address.partition("://")
    start = f"{scheme}://" if found else ""
    rest = rest if found else address
    if "@" in rest and ("?" in rest or "#" in rest):  # a password may hold any of them
        return f"{start}..."
    return start + rest.rpartition("@")[2].partition("?")[0].partition("#")[0]


def hide(text: str, address: str) -> str:
    """The text without the address's credentials, nor those that MLflow takes from the environment."""
    text = text.replace(address, public(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def hide_in(arguments: Iterable[str]) -> list[str]:
    """A command's arguments as they may be stored: the address of `--mlflow` without credentials."""
    shown, before = [], ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if before == "--mlflow":
            shown.append(public(argument))
        elif option == "--mlflow" and equals:
            shown.append(f"{option}={public(value)}")
        else:
            shown.append(argument)
        before = argument
    return shown


def _secrets(address: str) -> set[str]:
    """Every piece of the address that isn't public, as written, decoded and encoded."""
    rest = address.partition("://")[2] or address
    user, _, place = rest.rpartition("@")
    query = place.partition("?")[2]
    pieces = [user, *user.split(":", 1), query, *(pair.partition("=")[2] for pair in query.split("&"))]
    pieces += [os.environ.get(name, "") for name in SECRET_VARIABLES]
    return {form for piece in pieces if piece for form in (piece, unquote(piece), quote(piece, safe=""))}
