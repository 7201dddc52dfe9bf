"""An append-only log of JSON lines, for runs and for the gate: one object a line, on disk when `append` returns.

A line ends in its own digest, so that damage to it is told from damage to any other. The last line may be torn, by a
crash or a full disk; a line counts only with its newline.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.system.files import append

DIGITS = 16  # hex digits of a digest: 64 bits, in which damage doesn't hide
BOM = b"\xef\xbb\xbf"  # what some editors put before UTF-8
_MARK = b',"digest":"'
_TAIL = len(_MARK) + DIGITS + len(b'"}')


@dataclass(slots=True)
class Line:
    """A line of a log.

    Attributes:
        number: from 1.
        content: the object without its digest; None where the line is no such thing.
        digest: "" where it has none.
        problem: why there is no content.
        whole: it ends in a newline.
    """

    number: int
    raw: bytes
    content: dict[str, Any] | None
    digest: str = ""
    problem: str = ""
    whole: bool = True


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:DIGITS]


def as_line(content: dict[str, Any]) -> bytes:
    """An object with its digest behind it, and a newline.

    Raises: ValueError: NaN or infinity, which JSON doesn't have.
    """
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()  # ASCII: half a character fits, too
    return body[:-1] + _MARK + digest_of(body).encode() + b'"}\n'


def append_line(path: Path, content: dict[str, Any]) -> str:
    """Append an object to a log, in one write; returns its digest. Raises: OSError; the file is then as before."""
    line = as_line(content)
    append(path, line)
    return line[-DIGITS - 3 : -3].decode()


def read_lines(path: Path) -> Iterator[Line]:
    """All lines of a log, damaged ones among them. Raises: OSError."""
    *whole, torn = path.read_bytes().removeprefix(BOM).split(b"\n")
    for number, raw in enumerate(whole, 1):
        yield _parsed(number, raw.removesuffix(b"\r"))
    if torn:
        yield Line(len(whole) + 1, torn, None, problem="torn: it has no end", whole=False)


def as_written(path: Path, bad: Iterable[int]) -> bytes:
    """A log without its bad lines, and without what another program's saving put there. Raises: OSError."""
    without = set(bad)
    lines = enumerate(path.read_bytes().removeprefix(BOM).split(b"\n"), 1)
    return b"".join(line.removesuffix(b"\r") + b"\n" for number, line in lines if line and number not in without)


def _parsed(number: int, raw: bytes) -> Line:
    digest = ""
    if raw[-_TAIL:].startswith(_MARK):
        digest = raw[-_TAIL:][len(_MARK) : -2].decode(errors="replace")
        if digest_of(raw[:-_TAIL] + b"}") != digest:
            return Line(number, raw, None, problem="isn't what was written: its digest differs")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        return Line(number, raw, None, problem="not JSON")
    if not isinstance(content, dict):
        return Line(number, raw, None, problem="not an object")
    content.pop("digest", None)
    return Line(number, raw, content, digest)
