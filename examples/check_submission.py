"""Is a file a submission that Kaggle's "Digit Recognizer" takes? And, offline, how good is it?

    python examples/check_submission.py submission.csv --test kaggle/test.csv --solution kaggle/solution.csv

One line; exit status 0: it is, 1: it isn't (the line says where and why), 2: another file can't be read. Needs Python
alone.
"""

import argparse
import codecs
import csv
import io
import sys
from pathlib import Path

HEADER = ["ImageId", "Label"]


class NotASubmission(Exception):  # noqa: N818 - it's a finding
    """What is wrong with it, and where."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check a submission file against Kaggle's format.")
    parser.add_argument("submission", type=Path)
    parser.add_argument("--test", type=Path, default=Path("kaggle/test.csv"), help="the images [kaggle/test.csv]")
    parser.add_argument("--solution", type=Path, help="the true labels, in the same format: tells the accuracy, too")
    options = parser.parse_args(arguments)
    try:
        count = count_rows(options.test)
        truth = read_labels(options.solution, count) if options.solution else None
    except (OSError, NotASubmission) as error:
        print(f"error: {error}")
        return 2
    try:
        found = read_labels(options.submission, count)
    except (OSError, NotASubmission) as error:
        print(f"not a submission: {error}")
        return 1
    score = f", accuracy {100 * accuracy(found, truth):.2f}%" if truth else ""
    print(f"ok: {options.submission} has {count:,} predictions{score}")
    return 0


def count_rows(path: Path) -> int:
    """Images in test.csv: its lines, less the header."""
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip()) - 1


def read_labels(path: Path, count: int) -> dict[int, int]:
    """ImageId -> label. Raises: NotASubmission at the first thing that isn't as it should be."""
    rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    labels: dict[int, int] = {}
    try:
        header = next(rows, [])
        if header != HEADER:
            raise NotASubmission(f"{path}: the first line is '{_short(header)}', not '{','.join(HEADER)}'")
        for row in rows:
            where = f"{path}: line {rows.line_num}"
            if len(row) != 2:
                raise NotASubmission(f"{where}: {len(row)} columns, not 2")
            number, label = row
            if not _is_whole(number) or not 1 <= int(number) <= count:
                raise NotASubmission(f"{where}: ImageId '{_short([number])}' is not a whole number from 1 to {count:,}")
            if int(number) in labels:
                raise NotASubmission(f"{where}: ImageId {number} is there twice")
            if label not in tuple("0123456789"):
                raise NotASubmission(f"{where}: label '{_short([label])}' is not a whole number from 0 to 9")
            labels[int(number)] = int(label)
    except csv.Error as error:
        raise NotASubmission(f"{path}: line {rows.line_num}: not CSV ({error})") from None
    if len(labels) != count:
        missing = next(number for number in range(1, count + 1) if number not in labels)
        raise NotASubmission(
            f"{path}: {len(labels):,} predictions, not {count:,}; the first that is missing is {missing}"
        )
    return labels


def accuracy(found: dict[int, int], truth: dict[int, int]) -> float:
    """Share of images with the true label."""
    return sum(found[number] == label for number, label in truth.items()) / len(truth)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotASubmission(f"{path}: begins with a byte order mark; save it as plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotASubmission(f"{path}: byte {error.start + 1:,} is not UTF-8") from None


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0")) and len(text) < 10


def _short(cells: list[str]) -> str:
    text = ",".join(cells)
    return repr(text if len(text) <= 40 else f"{text[:40]}...")[1:-1]


if __name__ == "__main__":
    sys.exit(main())
