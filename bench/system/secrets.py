"""Variables of the environment that hold secrets: which they are, and taking their values out of a text.

A model of somebody's own, or a library, may put the value of a variable into an exception; nothing but the value tells
that it is one.
"""

import base64
import html
import json
import os
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote, urlsplit

# Addresses with credentials in them: what of one may be shown or stored, and taking the rest out of a text.
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
    return _forms_of_address([user, *user.split(":", 1), query, *(pair.partition("=")[2] for pair in query.split("&"))])


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
    return _forms_of_address(
        [password if colon else name, *(value for name, _, value in pairs if is_secret(unquote(name)))]
    )


def _forms_of_address(pieces: list[str]) -> set[str]:
    return {
        form for piece in pieces if piece for form in (piece, unquote(piece), quote(piece, safe="", errors="replace"))
    }


SHORTEST = 6  # characters; shorter values would take ordinary words with them
ANYWHERE = 12  # from this length on, a value is found within words, too
MOST_VALUE = 20_000  # characters of one variable that are looked at

_SECRET = re.compile(
    r"TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD|KEYS?|CREDENTIALS?|CREDS|AUTH|AUTHORIZATION|COOKIES?|"
    r"SESSIONID|PAT|SIG|SIGNATURE|BEARER|.*(?:TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|ACCESSKEY|CREDENTIALS?|COOKIE)"
)
# Such a word last says that the value is about a secret, and none: SSH_AUTH_SOCK, PASSWORD_FILE, TOKEN_LIMIT.
_ABOUT = re.compile(
    r"FILES?|PATH|DIR|FOLDER|SOCK|SOCKET|TYPE|METHOD|MODE|LENGTH|SIZE|LIMIT|TIMEOUT|ENABLED|COUNT|MANAGER|ALGORITHM|"
    r"VERSION|HOST|PORT|TTL|EXPIRY|EXPIRES|HEADERS|DATE"
)
_CURRENT_FOLDERS = frozenset({"PWD", "OLDPWD"})
_HARMLESS = frozenset(
    {"disabled", "enabled", "default", "required", "optional", "always", "prompt", "notset", "ubuntu"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CONNECTION = re.compile(r"(?i)(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*'?([^\s;']{6,})")
_EDGE_BEFORE = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"


def is_secret_name(name: str) -> bool:
    """Whether a variable or a parameter of this name holds a secret, going by its words: `HF_TOKEN`, `awsSecretKey`.

    >>> is_secret_name("TOKENIZERS_PARALLELISM"), is_secret_name("SSH_AUTH_SOCK"), is_secret_name("PWD")
    (False, False, False)
    """
    if name.upper() in _CURRENT_FOLDERS:
        return False
    words = [word.upper() for word in _WORD.findall(name)]
    if not words or _ABOUT.fullmatch(words[-1]):
        return False
    session = "SESSION" in words and words[-1] == "ID"  # not DESKTOP_SESSION and its kind, which hold names
    return session or any(map(_SECRET.fullmatch, words))


def without_values(text: str) -> str:
    """The text with stars for the values of this process's secret variables, plain, encoded or escaped."""
    try:
        variables = frozenset(os.environ.items())
    except RuntimeError:  # another thread changes them this moment
        variables = frozenset(dict(os.environ).items())
    for form, pattern in _patterns(variables):
        if form in text:
            text = text.replace(form, HIDDEN) if pattern is None else pattern.sub(HIDDEN, text)
    return text


@lru_cache(maxsize=4)
def _patterns(variables: frozenset[tuple[str, str]]) -> list[tuple[str, re.Pattern[str] | None]]:
    """Each form of each value, the longest first, and for a short one where alone it counts: between words."""
    secrets = {secret for name, value in variables for secret in _secrets(name, value[:MOST_VALUE])}
    codes = {code for secret in secrets for code in _base64(_raw(secret))}  # may stand within longer ones
    forms = {form for secret in secrets for form in _forms(secret)} | codes
    ordered = sorted((form for form in forms if HIDDEN not in form), key=lambda form: (-len(form), form))
    return [(form, None if form in codes or len(form) >= ANYWHERE else _between_words(form)) for form in ordered]


def _between_words(form: str) -> re.Pattern[str]:
    return re.compile(rf"{_EDGE_BEFORE}{re.escape(form)}(?![A-Za-z0-9])")


def _secrets(name: str, value: str) -> set[str]:
    """What is secret of a variable's value: all of it, or the credentials inside."""
    found = set()
    if "://" in value:
        found |= passwords(value, is_secret_name)
    found |= {password for password in _CONNECTION.findall(value) if not password.startswith("/")}
    if is_secret_name(name) and "://" not in value and not _names_a_file(value):
        found |= {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= ANYWHERE)}
        found |= {part for part in value.split(":", 1)[1:] if not part.startswith("/")}  # user:password
    return {secret for secret in found if len(secret) >= SHORTEST and secret.lower() not in _HARMLESS}


def _names_a_file(value: str) -> bool:
    """GOOGLE_APPLICATION_CREDENTIALS names a key file: where a secret lies isn't one."""
    try:
        return value.startswith(("/", "~", "./")) and os.path.exists(os.path.expanduser(value))
    except (OSError, ValueError):
        return False


def _forms(secret: str) -> set[str]:
    """As it stands, and as addresses, JSON, Python, HTML and CSV have it."""
    raw = _raw(secret)
    encoded = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    encoded |= {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in encoded}
    quoted = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    quoted |= {html.escape(secret), html.escape(secret, quote=False), secret.replace('"', '""')}
    forms = {secret, " ".join(secret.split())} | encoded | quoted
    return {form for form in forms if len(form) >= SHORTEST and any(letter.isalnum() for letter in form)}


def _base64(raw: bytes) -> set[str]:
    """In base64 and its form for addresses, wherever in a longer text the bytes begin (of three places)."""
    found = set()
    for before, first in ((0, 0), (1, 2), (2, 3)):
        whole = 8 * (before + len(raw)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * before + raw).decode()[first:whole])
    return {form for form in found if len(form) >= SHORTEST}


def _raw(text: str) -> bytes:
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")
