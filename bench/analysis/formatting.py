"""Numbers and names as text: base units come in; %, points, MiB and rounded seconds come out.

Names and errors of a run may be anybody's: clean_text and its like take out the characters that do harm.
"""

import hashlib
import math
import re
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd

from bench.measure.stats import Interval

# A switch of writing direction turns round the text after it ("Trojan Source", CVE-2021-42574), a control character
# breaks an SVG or a terminal, half of a surrogate pair can't be written to a file at all. Tab and line ends are kept.
HARMFUL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
LONGEST_ERROR = 1000  # characters that a report shows of one


def _or_dash(show: Callable[[float], str]) -> Callable[[float], str]:
    """The same, with a dash for what isn't known."""
    return lambda x: "–" if math.isnan(x) else show(x)


# of base units: fractions, seconds, bytes, counts
percent = _or_dash(lambda x: f"{100 * x:.2f}%")
points = _or_dash(lambda x: f"{100 * x:.2f} points")  # a difference of two accuracies
rate = _or_dash(lambda x: f"{three_digits(x)} images/s")
seconds = _or_dash(lambda x: f"{three_digits(x)} s" if x < 600 else f"{three_digits(x / 60)} min")
milliseconds = _or_dash(lambda x: f"{three_digits(x * 1e3)} ms")
mebibytes = _or_dash(lambda x: f"{three_digits(x / 2**20)} MiB")
ratio = _or_dash(lambda x: f"{x:.2f}" if x < 10 else three_digits(x))
whole = _or_dash(lambda x: f"{x:,.0f}")


def ratio_end(factor: float) -> str:
    """An end of a ratio's interval. Two seeds that differ leave it as good as open, and digits would say nothing."""
    return "over 1,000" if factor > 1000 else "under 0.01" if 0 <= factor < 0.005 else ratio(factor)


def between(interval: Interval, show: Callable[[float], str], note: str = "") -> str:
    """ "(95% interval 1.2 to 1.4)" with a note at its end, or nothing where the ends aren't known."""
    if math.isnan(interval.low):
        return ""
    return f"(95% interval {show(interval.low)} to {show(interval.high)}{note})"


def span(values: Sequence[float], show: Callable[[float], str]) -> str:
    """ "1.2 to 1.4", or "1.2" where both ends read alike."""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    return f" {last} ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def three_digits(x: float) -> str:
    """A number with three digits that count: 41,200, 4.63, 0.0535."""
    if x == 0 or not math.isfinite(x):
        return f"{x:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(x))))
    return f"{round(x, 2 - math.floor(math.log10(abs(x)))):,.{decimals}f}"


def markdown_text(text: object) -> str:
    """Text that Markdown shows as it is: in a table, in a list, whatever names and errors hold.

    GitHub makes links of bare addresses, too: the colon of `https:`, the dot of `www.` and what follows an @ are kept
    from it, the last by an empty comment, since an escaped @ still counts.
    """
    words = re.sub(r"([\\`*_\[\]<>|~#$&])", r"\\\1", " ".join(str(text).split()))
    words = re.sub(r"@(?=\S)", "@<!-- -->", words)
    words = re.sub(r"(?i)www(?=\.)|(?=:\\?/\\?/)", r"\g<0>\\", words)
    return re.sub(r"^(\d*)(?=[.)](?:\s|$)|[-+=](?:[-+=\s]|$))", r"\1\\", words)  # would begin a list or a line


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int]) -> str:
    """A table in Markdown; `right` are the columns that stand to the right."""
    rule = ["--:" if index in right else ":--" for index in range(len(head))]
    lines = [head, rule, *([markdown_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def clean_text(text: str) -> str:
    """Text with a replacement character for each that harms a page, an SVG, a terminal or a file (HARMFUL)."""
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
    for key, kind in table.dtypes.items():
        if pd.api.types.is_numeric_dtype(kind):
            continue
        most = LONGEST_ERROR if key == "error" else sys.maxsize
        new = {text: clean_text(text) for text in table[key].unique() if isinstance(text, str)}
        new = {text: made[:most] + "…" * (len(made) > most) for text, made in new.items()}
        if any(text != made for text, made in new.items()):
            changed[str(key)] = table[key].map(new)
    return table.assign(**changed) if changed else table


def shortened(name: str, most: int) -> str:
    """A name of at most `most` characters; what is cut leaves a mark that no other name's has."""
    if len(name) <= most:
        return name
    mark = hashlib.sha256(name.encode(errors="replace")).hexdigest()[:6]
    return f"{name[: most - 8]}… {mark}"
