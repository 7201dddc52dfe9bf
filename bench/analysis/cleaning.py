"""Cleaning: names and errors of a run without the characters that harm whoever reads them.

A switch of writing direction turns round the text after it ("Trojan Source", CVE-2021-42574), a control character
breaks an SVG or a terminal, half of a surrogate pair can't be written to a file at all. Each is shown as unknown.
"""

import hashlib
import re
from typing import Any

import pandas as pd

# Controls other than tab and line ends, switches of direction, surrogates, and what Unicode keeps free of meaning.
HARMFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
LONGEST_ERROR = 1000  # characters that a report shows of one


def clean_text(text: str) -> str:
    return HARMFUL.sub(UNKNOWN, text)


def clean_record(value: Any) -> Any:
    """A JSON value with all its texts clean, keys too."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [clean_record(each) for each in value]
    if isinstance(value, dict):
        return {clean_text(str(key)): clean_record(each) for key, each in value.items()}
    return value


def clean_table(table: pd.DataFrame) -> pd.DataFrame:
    """A table of the store with all its texts clean, and no error so long that nobody reads on."""
    changed = {}
    for key in table:
        if pd.api.types.is_numeric_dtype(table[key]):
            continue
        most = LONGEST_ERROR if key == "error" else None
        new = {text: _cut(clean_text(text), most) for text in table[key].unique() if isinstance(text, str)}
        if any(text != made for text, made in new.items()):
            changed[str(key)] = table[key].map(new)
    return table.assign(**changed) if changed else table


def shortened(name: str, most: int) -> str:
    """A name of at most `most` characters; what is cut leaves a mark that no other name's has."""
    if len(name) <= most:
        return name
    mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:6]
    return f"{name[: most - 8]}… {mark}"


def _cut(text: str, most: int | None) -> str:
    return text if most is None or len(text) <= most else f"{text[:most]}…"
