"""Redaction: what is written down or shown without the secrets in it; `***` stands in their place.

A secret is known by its place (in an address, in a header, behind `password=`), by its shape (tokens of known kinds),
or as the value of an environment variable whose name tells: a model of somebody's own, or a library, may put such a
value into an exception.

Own code, since what is well kept (detect-secrets, gitleaks) scans files for people to look at: it reports, takes
milliseconds a line, and knows nothing of this process's variables.
"""

import base64
import html
import json
import os
import re
from collections.abc import Iterable
from functools import lru_cache
from os.path import exists, expanduser
from typing import Any
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"
SHORTEST = 6  # characters of a variable's value; shorter ones would take ordinary words with them
ANYWHERE = 12  # from this length on, a value is found within words, too
MOST_VALUE = 20_000  # characters of one variable that are looked at
MLFLOW_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

# A scheme; of the usual ones also with the single slash that a path makes of two, or with slashes as JSON escapes them.
_SCHEME = (
    r"(?<![A-Za-z0-9])(?:[A-Za-z][A-Za-z0-9+.\-]{1,20}:(?:\\{0,2}/){2}"
    r"|(?:https?|wss?|ftps?|s3|ssh|postgres(?:ql)?|mysql|redis|mongodb|amqps?):\\{0,2}/(?!\\{0,2}/))"
)
_PORT = r"""\d{1,5}(?:[/?#\s"'<>,;:)\]}\\]|$)"""

# What is hidden wherever it stands; of a match its first group stays. Repeats are bounded, so that no text takes long.
_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        # Private keys, before any other pattern takes a piece of one
        r"(?s)()-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY-----|\Z)",
        # Credentials in an address: a password may hold any sign when its writer was careless, so all up to the last @
        # is hidden, and a host with it. A user alone stays where that is no secret by custom: `ssh://git@host`.
        rf"""({_SCHEME})(?!\[[0-9A-Fa-f:]*\])[^\s/?#@:"'<>]{{0,400}}:(?!{_PORT})"""
        r"""(?:[^\s"'<>]{0,2000}|[^\s@]{0,400})(?=@)""",
        r"""((?<![A-Za-z0-9])(?:https?|wss?|ftps?):(?:\\{0,2}/){1,2})(?!\*\*\*@)[^\s/?#@:"'<>\\]{1,400}(?=@)""",
        r"""(?i)(%3a%2f%2f)(?!\*\*\*%40)(?:(?!%2f|%40)[^\s&"'<>]){1,400}(?=%40)""",
        # Headers
        r"""(?i)(?<![a-z0-9])((?:proxy-)?authorization[\\"']{0,4}[ \t]?[:=,][ \t]{0,2}[\\"']{0,4})(?!\*\*\*)"""
        r"""(?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-[\w\-]{1,20})[ \t]{1,2}[^\r\n"'\\<>]{1,4000}"""
        r"""|[^\s"'\\,;<>]{8,4000})""",
        r"""(?i)(?<![a-z0-9\-])((?:set-)?cookie[\\"']{0,4}[ \t]?:[ \t]{0,2}[\\"']{0,4})(?!\*\*\*)"""
        r"""[^\s=:"']{1,80}=[^\r\n"'\\]{1,4000}""",
        r"(?i)(?<![a-z0-9])((?:bearer|basic)[ \t]{1,2})(?=[^\s]{0,200}[0-9])[a-z0-9._~+/\-]{8,4000}={0,2}",
        # Tokens of known kinds
        r"()(?<![A-Za-z0-9_\-])(?:"
        r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|glpat-[\w\-]{18,255}"  # GitHub, GitLab
        r"|hf_[A-Za-z0-9]{20,255}|api_org_[A-Za-z0-9]{20,255}"  # Hugging Face
        r"|sk-(?=[\w\-]{0,255}[A-Z])[\w\-]{20,255}|[sr]k_(?:live|test)_\w{16,255}"  # OpenAI, Anthropic; Stripe
        r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[\w\-]{35}|ya29\.[\w\-]{20,500}"  # AWS, Google
        r"|xox[abeoprs]-[\w\-]{10,255}|xapp-[\w\-]{10,255}"  # Slack
        r"|eyJ[\w\-]{8,4000}\.[\w\-]{4,8000}\.[\w\-]{0,2000}"  # JSON Web Token
        r"|npm_[A-Za-z0-9]{30,255}|pypi-[\w\-]{30,2000}|dckr_pat_[\w\-]{20,255}|dapi[0-9a-f]{32}"
        r")",  # the last line: npm, PyPI, Docker, Databricks
    )
]
_QUERY = re.compile(r"""([?&;#])([^\s=&?#;"'<>]{1,80})=(?!\*\*\*(?:[&#;\s]|$))([^\s&#;"'<>\\]+)""")

# Words before a value. Of the first kind any value is a secret; of the others ("class token", "sort key") only one that
# looks random. A name may go on before the word (MY_DB_PASSWORD, dbPassword), never behind it (token_grid).
_CERTAIN = (
    r"password|passwd|passphrase|pwd|secret|credentials?"
    r"|(?:api|access|account|private|secret|signing|encryption|shared|master|deploy)[_\-]?(?:access[_\-]?)?key(?:[_\-]?id)?"
    r"|(?:access|auth|refresh|id|api|bearer|session|security|csrf|hf|github|gitlab|npm|pypi|bot|tracking|personal)[_\-]?token"
    r"|shared[_\-]?access[_\-]?signature|session[_\-]?id"
)
_PAIR = re.compile(
    rf"""(?P<option>(?<![\w\-])--(?:[a-z][\w\-]{{0,40}}?)?)?(?:(?<![A-Za-z])|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z]))"""
    rf"""(?i:(?P<certain>{_CERTAIN})|(?P<vague>tokens?|key|auth|signature|sig))(?![A-Za-z0-9_])"""
    r"""(?P<between>[\\"']{0,6}[ \t]{0,2}(?:=>|=|:(?!:))[ \t]{0,2}[\\"']{0,6}|(?<=[a-z])[ \t]{1,2}["']?)"""
    r"""(?P<value>(?<=["'])[^"'\r\n\\]{1,2000}|(?<!["'])[^\s"'\\,;&<>)\]}{(\[]{1,2000})"""
)
_NO_SECRET = frozenset({"none", "null", "true", "false", "str", "bytes", "int", "optional"})

# Names of environment variables and of an address's parameters.
_SECRET_WORD = re.compile(
    r"TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|PASS|PWD|KEYS?|CREDENTIALS?|CREDS|AUTH|AUTHORIZATION|COOKIES?|"
    r"SESSIONID|PAT|SIG|SIGNATURE|BEARER|.*(?:TOKEN|SECRET|PASSWORD|PASSWD|APIKEY|ACCESSKEY|CREDENTIALS?|COOKIE)"
)
# Such a word last says that the value is about a secret, and none: SSH_AUTH_SOCK, PASSWORD_FILE, TOKEN_LIMIT.
_ABOUT = re.compile(
    r"FILES?|PATH|DIR|FOLDER|SOCK|SOCKET|TYPE|METHOD|MODE|LENGTH|SIZE|LIMIT|TIMEOUT|ENABLED|COUNT|MANAGER|ALGORITHM|"
    r"VERSION|HOST|PORT|TTL|EXPIRY|EXPIRES|HEADERS|DATE"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_HARMLESS = frozenset(
    {"disabled", "enabled", "default", "required", "optional", "always", "prompt", "notset", "ubuntu"}
)
_CONNECTION = re.compile(r"(?i)(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*'?([^\s;']{6,})")


def redacted(text: str) -> str:
    """`text` with stars in place of secrets, and question marks in place of a path's bytes that aren't UTF-8.

    Ordinary text, settings, paths and checksums stay as they are. A second time changes nothing.
    """
    text = text.encode("utf-8", "replace").decode()  # what can't be written would cost the record
    for _ in range(4):  # the stars of one rule may bare what another knows
        shown = _once(text)
        if shown == text:
            break
        text = shown
    return text


def redacted_in(value: Any) -> Any:
    """The same for plain data: every text in dicts and lists, and what stands under a key such as `password`."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: HIDDEN if _is_secret_under(key, each) else redacted_in(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_in(each) for each in value]
    return value


def redacted_command(arguments: Iterable[str]) -> list[str]:
    """A command's arguments as they may be stored: of `--mlflow`'s address only what is public."""
    shown, before = [], ""
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if before == "--mlflow":
            shown.append(redacted(public(argument)))
        elif option == "--mlflow" and equals:
            shown.append(redacted(f"{option}={public(value)}"))
        elif before.startswith("--") and "=" not in before and re.search(rf"(?i)(?:{_CERTAIN}|token)$", before):
            shown.append(HIDDEN)
        else:
            shown.append(redacted(argument))
        before = argument
    return shown


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
    """What a library says of `address`, without any piece of it that isn't public, and redacted."""
    text = text.replace(address, public(address))
    user, _, place = (address.partition("://")[2] or address).rpartition("@")
    query = place.partition("?")[2]
    pieces = [user, *user.split(":", 1), query, *(pair.partition("=")[2] for pair in query.split("&"))]
    own = {value for name in MLFLOW_VARIABLES if (value := os.environ.get(name))}  # of any length
    for piece in sorted(_forms_in_address(pieces) | own, key=len, reverse=True):
        text = text.replace(piece, HIDDEN)
    return redacted(text)


def is_secret_name(name: str) -> bool:
    """Whether a variable or a parameter of this name holds a secret, going by its words: `HF_TOKEN`, `awsSecretKey`.

    >>> is_secret_name("TOKENIZERS_PARALLELISM"), is_secret_name("SSH_AUTH_SOCK"), is_secret_name("PWD")
    (False, False, False)
    """
    words = [word.upper() for word in _WORD.findall(name)]
    if not words or name.upper() in ("PWD", "OLDPWD") or _ABOUT.fullmatch(words[-1]):  # the first two name folders
        return False
    session = "SESSION" in words and words[-1] == "ID"  # not DESKTOP_SESSION and its kind, which hold names
    return session or any(map(_SECRET_WORD.fullmatch, words))


def _once(text: str) -> str:
    try:
        variables = frozenset(os.environ.items())
    except RuntimeError:  # another thread changes them this moment
        variables = frozenset(dict(os.environ).items())
    for form, pattern in _variable_patterns(variables):
        if form in text:
            text = text.replace(form, HIDDEN) if pattern is None else pattern.sub(HIDDEN, text)
    for known in _PATTERNS:
        text = known.sub(rf"\1{HIDDEN}", text)
    text = _QUERY.sub(
        lambda found: f"{found[1]}{found[2]}={HIDDEN}" if is_secret_name(unquote(found[2])) else found[0], text
    )
    return _PAIR.sub(
        lambda found: found[0].removesuffix(found["value"]) + HIDDEN if _is_secret(found) else found[0], text
    )


def _is_secret(found: re.Match[str]) -> bool:
    """Whether what _PAIR has found behind a word is a secret."""
    value, between = found["value"], found["between"]
    if value.startswith(HIDDEN) or value.lower().rstrip(".:|") in _NO_SECRET:
        return False
    typed = (found["option"] or "").startswith("--") and not value.startswith("-")
    if not between.strip("\"' \t"):  # nothing but a space: `--password x`, and never a sentence
        return typed and bool(found["certain"] or found["vague"].lower() == "token")
    if found["certain"]:
        if found["certain"].lower() == "pwd" and value.startswith(("/", "~")):  # the current folder
            return False
        sentence = between.strip(" \t") == ":" and not between.startswith(('"', "'", "\\"))
        return not sentence or bool(re.search(r"[0-9!$%^&*+=~@#]", value))
    if len(value) < 8:
        return False
    if found["vague"].lower() in ("token", "tokens"):
        letters = re.sub(r"[-+.\d]e[-+]?\d", "", value)  # a number's exponent is none
        return bool(re.search(r"[A-Za-z]", letters) and re.search(r"[0-9]", value))
    # Capital and small letters and digits, and no place or number: not `vit-p4-s0-01ab`, nor a checksum in hex.
    mixed = all(re.search(kind, value) for kind in ("[A-Z]", "[a-z]", "[0-9]"))
    return mixed and not value.startswith(("/", "."))


def _is_secret_under(key: Any, value: Any) -> bool:
    """Whether a key of a dict says of its value what a name in a text says."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    text = f'"{key}": "{value}'
    found = _PAIR.fullmatch(text) or _PAIR.search(text)
    return found is not None and found["value"] == str(value) and _is_secret(found)


@lru_cache(maxsize=4)
def _variable_patterns(variables: frozenset[tuple[str, str]]) -> list[tuple[str, re.Pattern[str] | None]]:
    """Each form of each secret value, the longest first, and for a short one where alone it counts: between words."""
    secrets = {secret for name, value in variables for secret in _secrets(name, value[:MOST_VALUE])}
    codes = {code for secret in secrets for code in _base64(_raw(secret))}  # may stand within longer ones
    forms = {form for secret in secrets for form in _forms(secret)} | codes
    ordered = sorted((form for form in forms if HIDDEN not in form), key=lambda form: (-len(form), form))
    before = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt]))"
    return [
        (form, None)
        if form in codes or len(form) >= ANYWHERE
        else (form, re.compile(rf"{before}{re.escape(form)}(?![A-Za-z0-9])"))
        for form in ordered
    ]


def _secrets(name: str, value: str) -> set[str]:
    """What is secret of a variable's value: all of it, or the credentials inside."""
    found = {password for password in _CONNECTION.findall(value) if not password.startswith("/")}
    if "://" in value:  # of an address the password, or a user without one, and secret parameters
        user, _, place = value.partition("://")[2].rpartition("@")
        name_of_user, colon, password = user.partition(":")
        pairs = [pair.partition("=") for pair in place.partition("?")[2].partition("#")[0].split("&")]
        secrets = (each for key, _, each in pairs if is_secret_name(unquote(key)))
        found |= _forms_in_address([password if colon else name_of_user, *secrets])
    elif is_secret_name(name) and not (value.startswith(("/", "~", "./")) and exists(expanduser(value))):
        # GOOGLE_APPLICATION_CREDENTIALS names a key file: where a secret lies isn't one.
        found |= {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= ANYWHERE)}
        found |= {part for part in value.split(":", 1)[1:] if not part.startswith("/")}  # user:password
    return {secret for secret in found if len(secret) >= SHORTEST and secret.lower() not in _HARMLESS}


def _forms_in_address(pieces: Iterable[str]) -> set[str]:
    """As written, decoded and encoded."""
    return {form for each in pieces if each for form in (each, unquote(each), quote(each, safe="", errors="replace"))}


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
