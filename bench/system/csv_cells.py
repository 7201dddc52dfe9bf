"""Cells of CSV files that no spreadsheet takes for a formula."""

import re

# Text that a spreadsheet would run as a formula is made harmless in a CSV file, and read back as it was.
#
# Excel, LibreOffice and Google Sheets take a cell for a formula that begins with one of the signs which OWASP lists
# ("CSV Injection": equals, plus, minus, at, tab, carriage return, line feed, and the full-width forms of the first
# four, which some languages' versions take for them); its ASVS adds the null character (v5.0, 1.2.10). White space
# and a byte order mark before such a sign are ours to add: programs that trim a cell on opening bare what follows. A
# quote before the cell makes it text.
_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20"  # the last four: full-width
_RISKY = re.compile(rf"'*(?:[\s\0\ufeff]*[{_SIGNS}]|[\t\r\n\0])")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf", re.ASCII | re.IGNORECASE)


def guarded(text: str) -> str:
    """`text` as it may stand in a cell; a number is harmless with its sign.

    What is risky stays so behind one more quote, so no two texts become the same cell.
    """
    return f"'{text}" if _is_risky(text) else text


def unguarded(cell: str) -> str:
    """What `guarded` was given; a cell that it can't have made stays as it is."""
    return cell[1:] if cell.startswith("'") and _is_risky(cell[1:]) else cell


def _is_risky(text: str) -> bool:
    return bool(_RISKY.match(text)) and not _NUMBER.fullmatch(text)
