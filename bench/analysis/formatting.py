"""Figures as people read them: base units come in, %, points, MiB and rounded seconds come out."""

import math
import re
from collections.abc import Callable, Sequence

from bench.measure.stats import Interval


def percent(fraction: float) -> str:
    return _or_dash(fraction, lambda x: f"{100 * x:.2f}%")


def points(fraction: float) -> str:
    """A difference of two accuracies."""
    return _or_dash(fraction, lambda x: f"{100 * x:.2f} points")


def rate(images_per_second: float) -> str:
    return _or_dash(images_per_second, lambda x: f"{three_digits(x)} images/s")


def seconds(duration: float) -> str:
    return _or_dash(duration, lambda x: f"{three_digits(x)} s" if x < 600 else f"{three_digits(x / 60)} min")


def milliseconds(duration: float) -> str:
    return _or_dash(duration, lambda x: f"{three_digits(x * 1e3)} ms")


def mebibytes(size: float) -> str:
    return _or_dash(size, lambda x: f"{three_digits(x / 2**20)} MiB")


def ratio(factor: float) -> str:
    return _or_dash(factor, lambda x: f"{x:.2f}" if x < 10 else three_digits(x))


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


def whole(count: float) -> str:
    return _or_dash(count, lambda x: f"{x:,.0f}")


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
    return re.sub(r"^(\d*)(?=[.)](?:\s|$)|[-+=](?:[-+=\s]|$))", _escaped, words)


def _escaped(found: re.Match[str]) -> str:
    """What would begin a list or a line: a backslash before the sign."""
    return f"{found[1]}\\"


def _or_dash(x: float, show: Callable[[float], str]) -> str:
    return "–" if math.isnan(x) else show(x)
