"""Redaction: what is written down or shown without the secrets in it.

Own code, since what is well kept (detect-secrets, gitleaks) scans files for people to look at: it reports, takes
milliseconds a line, and knows nothing of this process's variables.

Three ways to know a secret: as a variable's value (bench/system/secrets.py), by its place in an address
(bench/system/secrets.py), and here by its shape or by the name before it.
"""

import os
import re
from collections.abc import Iterable
from typing import Any

from bench.system.secrets import HIDDEN, credentials, is_secret_name, public, without_credentials, without_values

MLFLOW_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

_SHAPES = re.compile(
    r"(?<![A-Za-z0-9_\-])(?:"
    r"gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255}|glpat-[\w\-]{18,255}"  # GitHub, GitLab
    r"|hf_[A-Za-z0-9]{20,255}|api_org_[A-Za-z0-9]{20,255}"  # Hugging Face
    r"|sk-(?=[\w\-]{0,255}[A-Z])[\w\-]{20,255}|[sr]k_(?:live|test)_\w{16,255}"  # OpenAI, Anthropic; Stripe
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[\w\-]{35}|ya29\.[\w\-]{20,500}"  # AWS, Google
    r"|xox[abeoprs]-[\w\-]{10,255}|xapp-[\w\-]{10,255}"  # Slack
    r"|eyJ[\w\-]{8,4000}\.[\w\-]{4,8000}\.[\w\-]{0,2000}"  # JSON Web Token
    r"|npm_[A-Za-z0-9]{30,255}|pypi-[\w\-]{30,2000}|dckr_pat_[\w\-]{20,255}|dapi[0-9a-f]{32}"
    r")"  # the last line: npm, PyPI, Docker, Databricks
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY-----|\Z)", re.DOTALL
)
_HEADER = re.compile(
    r"""(?i)(?<![a-z0-9])((?:proxy-)?authorization[\\"']{0,4}[ \t]?[:=,][ \t]{0,2}[\\"']{0,4})(?!\*\*\*)"""
    r"""((?:bearer|basic|token|digest|negotiate|apikey|aws4-[\w\-]{1,20})[ \t]{1,2}[^\r\n"'\\<>]{1,4000}"""
    r"""|[^\s"'\\,;<>]{8,4000})"""
)
_COOKIE = re.compile(
    r"""(?i)(?<![a-z0-9\-])((?:set-)?cookie[\\"']{0,4}[ \t]?:[ \t]{0,2}[\\"']{0,4})(?!\*\*\*)"""
    r"""[^\s=:"']{1,80}=[^\r\n"'\\]{1,4000}"""
)
_BEARER = re.compile(r"(?i)(?<![a-z0-9])((?:bearer|basic)[ \t]{1,2})(?=[^\s]{0,200}[0-9])[a-z0-9._~+/\-]{8,4000}={0,2}")

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


def redacted(text: str) -> str:
    """`text` without credentials in addresses and headers, known kinds of tokens, what follows a word such as
    `password=`, and the values of variables that hold secrets; stars stand in their place.

    Ordinary text, settings, paths and checksums stay as they are. A second time changes nothing.
    """
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
        return {key: _under(key, each) for key, each in value.items()}
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


def hide(text: str, address: str) -> str:
    """What a library says of `address`, without any piece of it that isn't public, and redacted."""
    text = text.replace(address, public(address))
    own = {value for name in MLFLOW_VARIABLES if (value := os.environ.get(name))}  # of any length
    for piece in sorted(credentials(address) | own, key=len, reverse=True):
        text = text.replace(piece, HIDDEN)
    return redacted(text)


def _once(text: str) -> str:
    text = without_values(text)
    text = without_credentials(text, is_secret_name)
    if "PRIVATE KEY-----" in text:
        text = _PRIVATE_KEY.sub(HIDDEN, text)
    for pattern in (_HEADER, _COOKIE, _BEARER):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _PAIR.sub(_without_value, _SHAPES.sub(HIDDEN, text))


def _without_value(found: re.Match[str]) -> str:
    start = found[0][: found.start("value") - found.start()]
    return f"{start}{HIDDEN}" if _is_secret(found) else found[0]


def _is_secret(found: re.Match[str]) -> bool:
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
    if found["vague"].lower() in ("token", "tokens"):
        letters = re.sub(r"[-+.\d]e[-+]?\d", "", value)  # a number's exponent is none
        return len(value) >= 8 and bool(re.search(r"[A-Za-z]", letters) and re.search(r"[0-9]", value))
    return looks_random(value)


def looks_random(value: str) -> bool:
    """Capital and small letters and digits, and no place or number: not `vit-p4-s0-01ab`, nor a checksum in hex."""
    return (
        len(value) >= 8
        and not value.startswith(("/", "."))
        and all(re.search(kind, value) for kind in ("[A-Z]", "[a-z]", "[0-9]"))
    )


def _under(key: Any, value: Any) -> Any:
    """A value of a dict; its key says as much as a name in a text."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        found = _PAIR.fullmatch(f'"{key}": "{value}')
        if found is None:
            found = next(_PAIR.finditer(f'"{key}": "{value}'), None)
        if found is not None and found["value"] == str(value) and _is_secret(found):
            return HIDDEN
    return redacted_in(value)
