"""numpy's .npz of images and labels: Keras's names, MedMNIST's, or just `images` and `labels`. Nothing is unpickled."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.data.readers.base import ImageSet, as_labels, channels_first, one_line, open_regular, refuse_too_large, shown
from bench.errors import DataError, printable

# role -> names that its images and its labels may have, `{}` being the role's own word
WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
IMAGES = ("{}_images", "x_{}", "{}_x", "{}_data", "images_{}")
LABELS = ("{}_labels", "y_{}", "{}_y", "{}_targets", "labels_{}")
ONLY_IMAGES, ONLY_LABELS = ("images", "x", "data", "imgs"), ("labels", "y", "targets", "label")

# What zipfile and numpy raise on damaged files; numpy reads a header with Python's own tokenizer and parser.
DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError),
    *(MemoryError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def read_npz(path: Path) -> dict[str, ImageSet]:
    """The images and labels in a file by role: train, val, test.

    Numbers may be whole from 0 to 255, or fractions from 0 to 1, which are multiplied by 255 and rounded.

    Raises:
        DataError: not an .npz, damaged, pickled objects inside, arrays without a known name, or of odd shape or range.
    """
    arrays = _load_arrays(path)
    lower = {name.lower(): name for name in arrays}

    def named(forms: Iterable[str], words: Iterable[str]) -> str | None:
        names = (form.format(word) for form in forms for word in words)
        return next((lower[name] for name in names if name in lower), None)

    pairs = {role: (named(IMAGES, words), named(LABELS, words)) for role, words in WORDS.items()}
    if pairs["train"][0] is None:
        pairs["train"] = named(ONLY_IMAGES, [""]), named(ONLY_LABELS, [""]) or pairs["train"][1]
    used = {role: (images, labels) for role, (images, labels) in pairs.items() if images is not None}
    if not used:
        holds = printable(", ".join(arrays), 200) or "nothing"
        raise DataError(
            f"{shown(path)}: holds {holds}; expected arrays named images and labels, x_train, y_train, x_test, y_test, "
            "or train_images, train_labels, test_images, test_labels"
        )
    scale = _scale({images: arrays[images] for images, _ in used.values()}, path)
    notes = ("Numbers from 0 to 1 were multiplied by 255 and rounded to whole grey levels.",) if scale else ()
    found = {}
    for role, (images, labels) in used.items():
        pixels = np.rint(arrays[images].astype(np.float32) * 255) if scale else arrays[images]
        levels = channels_first(pixels.astype(np.uint8), f"{shown(path)}, array {images}")
        known = None if labels is None else _labels(arrays[labels], len(levels), f"{shown(path)}, array {labels}")
        found[role] = ImageSet(
            levels, known, f"{shown(path)}, array {images}", notes, f"array {labels}" if labels else ""
        )
    return found


def _load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by name. zipfile unpacks no more of one than it says, and numpy reads no more than that."""
    arrays, where = {}, shown(path)
    try:
        with open_regular(path) as stream:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
            refuse_too_large(sum(member.file_size for member in members), path)
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise DataError(f"{where}: is packed in a way that numpy doesn't write; save the arrays again")
            stream.seek(0)
            with np.load(stream, allow_pickle=False) as file:
                for name in file.files:
                    where = f"{shown(path)}, array {one_line(name)}"
                    arrays[one_line(name)] = array = file[name]
                    if not isinstance(array, np.ndarray):
                        raise ValueError("no array of numpy's")
    except DAMAGED as error:
        if "allow_pickle" in str(error):
            raise DataError(
                f"{where}: holds Python objects, whose reading could run code; save plain numbers or text"
            ) from None
        said = printable(str(error), 120) or type(error).__name__
        raise DataError(f"{where}: can't be read as an .npz ({said}); damaged?") from error
    return arrays


def _scale(images: dict[str, np.ndarray], path: Path) -> bool:
    """Whether the images, all together, run from 0 to 1. Raises: DataError if neither that nor 0 to 255."""
    fractions = []
    for name, array in images.items():
        where = f"{shown(path)}, array {name}"
        if array.dtype.kind not in "buif" or array.size == 0:
            raise DataError(f"{where}: holds {array.dtype} of shape {array.shape}; expected images as numbers")
        low, high = array.min(), array.max()
        if not np.isfinite([low, high]).all():
            wrong = np.argwhere(~np.isfinite(array))
            raise DataError(
                f"{where}: {len(wrong):,} of {array.size:,} numbers are NaN or infinite, the first in image "
                f"{wrong[0][0] + 1}; replace them, or leave such images out"
            )
        if not (low >= 0 and high <= 255):
            raise DataError(f"{where}: runs from {low:g} to {high:g}; expected 0 to 255, or fractions from 0 to 1")
        floats = array.dtype.kind in "bf"
        if floats and high > 1 and not bool((array == np.round(array)).all()):
            raise DataError(f"{where}: holds fractions and runs to {high:g}; expected 0 to 255, or fractions up to 1")
        fractions.append((floats, bool(high <= 1)))
    if all(floats and small for floats, small in fractions):
        return True
    if any(floats and small for floats, small in fractions):
        raise DataError(f"{shown(path)}: some images run from 0 to 1 and others to 255; save all of them alike")
    return False


def _labels(array: np.ndarray, count: int, where: str) -> np.ndarray:
    """One label an image, as whole numbers or text; a second axis of one, as in MedMNIST, is taken away."""
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.shape != (count,):
        raise DataError(f"{where}: has shape {array.shape}; expected one label for each of {count:,} images")
    if labels.dtype.kind in "buif" and not bool((np.abs(labels.astype(np.float64)) < 2**62).all()):
        raise DataError(
            f"{where}: holds numbers that are too large, or none; expected whole numbers or names as labels"
        )
    if labels.dtype.kind in "bui" or (labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all())):
        return labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind not in "UT":
        raise DataError(f"{where}: holds {labels.dtype}; expected whole numbers or names as labels")
    try:
        names = [str(label) for label in labels]
        "".join(names).encode()
    except (ValueError, SystemError):  # half a surrogate pair, or a number that is no character
        raise DataError(f"{where}: holds what is no text (damaged?)") from None
    return as_labels(names, where)
