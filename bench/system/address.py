"""Addresses with credentials in them: what of one may be shown or stored, and taking the rest out of a text."""

import re
from collections.abc import Callable
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"

# A scheme; of the usual ones also with the single slash that a path makes of two, or with slashes as JSON escapes them.
_SCHEME = (
    r"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.\-]{1,20}:(?:\\{0,2}/){2}"
    r"|(?:https?|wss?|ftps?|s3|ssh|postgres(?:ql)?|mysql|redis|mongodb|amqps?):\\{0,2}/(?!\\{0,2}/))"
)
_PORT = r"""\d{1,5}(?:[/?#\s"'<>,;:)\]}\\]|$)"""
# A password may hold any sign when its writer was careless, so all up to the last @ is hidden, and a host with it.
_USER_AND_PASSWORD = re.compile(
    rf"""({_SCHEME})(?!\[[0-9A-Fa-f:]*\])[^\s/?#@:"'<>]{{0,400}}:(?!{_PORT})"""
    r"""(?:[^\s"'<>]{0,2000}|[^\s@]{0,400})@"""
)
_USER = re.compile(r"""((?<![A-Za-z0-9])(?:https?|wss?|ftps?):(?:\\{0,2}/){1,2})(?!\*\*\*@)[^\s/?#@:"'<>\\]{1,400}@""")
_ENCODED = re.compile(r"""(?i)(%3a%2f%2f)(?!\*\*\*%40)(?:(?!%2f|%40)[^\s&"'<>]){1,400}%40""")
_QUERY = re.compile(r"""([?&;#])([^\s=&?#;"'<>]{1,80})=(?!\*\*\*(?:[&#;\s]|$))([^\s&#;"'<>\\]+)""")


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


def without_credentials(text: str, is_secret: Callable[[str], bool]) -> str:
    """The text with stars for users, passwords and secret parameters of the addresses in it.

    A user without a password stays where that is no secret by custom: `ssh://git@host`.

    Args:
        is_secret: whether a query's parameter of this name holds a secret.
    """
    if "@" in text:
        text = _USER_AND_PASSWORD.sub(rf"\1{HIDDEN}@", text)
        text = _USER.sub(rf"\1{HIDDEN}@", text)
    if "%40" in text:
        text = _ENCODED.sub(rf"\1{HIDDEN}%40", text)
    if "=" not in text:
        return text
    return _QUERY.sub(
        lambda found: f"{found[1]}{found[2]}={HIDDEN}" if is_secret(unquote(found[2])) else found[0], text
    )


def credentials(address: str) -> set[str]:
    """Every piece of the address that isn't public, as written, decoded and encoded."""
    rest = address.partition("://")[2] or address
    user, _, place = rest.rpartition("@")
    query = place.partition("?")[2]
    return _forms([user, *user.split(":", 1), query, *(pair.partition("=")[2] for pair in query.split("&"))])


def passwords(address: str, is_secret: Callable[[str], bool]) -> set[str]:
    """Only what is secret by itself: the password, or a user without one, and secret parameters; in all forms."""
    rest = address.partition("://")[2]
    user, _, place = rest.rpartition("@")
    name, colon, password = user.partition(":")
    try:
        query = urlsplit(f"//{place}").query
    except ValueError:
        query = place.partition("?")[2]
    pairs = (pair.partition("=") for pair in query.split("&"))
    return _forms([password if colon else name, *(value for name, _, value in pairs if is_secret(unquote(name)))])


def _forms(pieces: list[str]) -> set[str]:
    return {
        form for piece in pieces if piece for form in (piece, unquote(piece), quote(piece, safe="", errors="replace"))
    }
