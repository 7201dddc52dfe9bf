"""A user's own images as a dataset: described once, then read by every trial, at once or while training."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from bench.data import cache
from bench.data.image_folders import said_left_out
from bench.data.readers.base import machine_memory, natural_key, one_line, reading, resolve_path, shown
from bench.data.spec import Arrays, Reading, UserData, UserDataOptions
from bench.data.user_files import (
    DatasetFiles,
    LabelledImages,
    find_files,
    has_colour,
    read_files,
    require_path,
    resized,
)
from bench.errors import DataError, printable


def describe(options: UserDataOptions, base: Path) -> UserData:
    """Find, read and check the images that `options` name; relative paths start at `base`.

    The description is cached by the files' contents, so that a second call reads the files but need not decode them.

    Raises:
        DataError: nothing there, or nothing that can be learned from; one line, with file, row and column.
    """
    given = {"path": options.path, "test_path": options.test, "unlabelled_path": options.unlabelled}
    paths = {name: resolve_path(path, base) for name, path in given.items() if path is not None}
    for path in paths.values():
        require_path(path, options.made_by)
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise DataError(
                f"{shown(path)}: has a name that isn't UTF-8, which no report could hold; rename it"
            ) from None
    path = paths["path"]
    settings = options.model_dump_json(exclude={"path", "test", "unlabelled", "name", "made_by"})
    with reading(path):
        files = find_files(path, paths.get("test_path"), options.label_column)
        if files.unlabelled:
            paths.setdefault("unlabelled_path", files.unlabelled)
        digest = files.digest()
        key = _short_digest(f"{digest} {settings}")
        try:
            found = UserData.model_validate_json(cache.load_text(key) or "")
        except ValidationError:
            found = _describe_files(options, files, digest, path)
            cache.save_text(key, found.model_dump_json())
    places = {name: str(paths[name]) if name in paths else None for name in given}
    notes = (*said_left_out(files.left_out), *files.notes, *found.notes)  # the first two are of the place
    return found.model_copy(update={**places, "notes": notes, "name": one_line(options.name or "") or _name_of(path)})


def read_user_data(data: UserData) -> Arrays:
    """Images (N, C, H, W) uint8 and labels (N,) int64; validation images are among those for training.

    Raises:
        DataError: the files aren't what they were when the data was described.
    """
    kept = cache.load(data.checksum)
    if kept is not None and set(kept) == set(Arrays._fields):
        return Arrays(**kept)
    with reading(Path(data.path)):
        files = _files_of(data)
        if _checksum(files.digest(), data) != data.checksum:
            raise _changed_since(data)
        return _read_arrays(_read(files, data.reading), data)


def list_files(data: UserData) -> tuple[list[Path], np.ndarray, list[Path], np.ndarray]:
    """Training files, their labels (N,) int64, test files and theirs, of kind `folder`, to be read while training.

    Raises:
        DataError: there are more of them, or fewer, than when the data was described.
    """
    found = _read(_files_of(data), data.reading)
    _, labels, is_test = _divide(found, data.test_fraction)
    if ((~is_test).sum(), is_test.sum()) != (data.num_train, data.num_test):
        raise _changed_since(data)
    paths = [path for part in found.sets for path in part.images]
    train, test = ([path for path, chosen in zip(paths, part, strict=True) if chosen] for part in (~is_test, is_test))
    return train, labels[~is_test], test, labels[is_test]


def _describe_files(options: UserDataOptions, files: DatasetFiles, digest: str, path: Path) -> UserData:
    """Read everything; the arrays go into the cache, unless the images are streamed."""
    if options.stream is True and files.kind != "folder":
        raise DataError(f"{shown(path)}: only folders of images can be read while training; leave out `stream`")
    found = read_files(files, options.label_column, options.colour_order)
    test_fraction = None if found.test else options.test_fraction
    class_names, labels, is_test = _divide(found, test_fraction)
    survey = found.survey()
    how = found.reading(survey).model_copy(update={"label_column": options.label_column})
    image_size = options.image_size or survey.side
    coloured = options.channels == "rgb"
    if options.channels == "auto" and survey.may_have_colour:
        coloured = any(has_colour(part.images) for part in found.sets)
    in_channels = 3 if coloured else 1
    num_test = int(is_test.sum())
    num_train = len(is_test) - num_test
    num_val = max(1, math.floor(options.val_fraction * num_train + 0.5))
    # All of the memory counts, not what is free at the moment: a run that is resumed must come to the same answer.
    too_large = len(is_test) * in_channels * image_size**2 > machine_memory() / 4
    stream = files.kind == "folder" and (options.stream is True or (options.stream == "auto" and too_large))
    alike = Counter(name.casefold().replace(" ", "") for name in class_names)
    twins = [name for name in class_names if alike[name.casefold().replace(" ", "")] > 1]
    doubt = (
        [f"Classes {', '.join(twins[:4])} differ in blanks or capital letters alone: are they one?"] if twins else []
    )
    notes = [*found.notes, *doubt, *survey.notes(image_size, in_channels, how), *found.range_notes(how)]
    share = f"{test_fraction or 0:.1%}".replace(".0%", "%")
    aside = f"{share} of each class, always the same ones, since no test set was given"
    data = UserData(
        name=_name_of(path),
        kind=files.kind,
        path=str(path),
        image_size=image_size,
        in_channels=in_channels,
        class_names=class_names,
        num_train=num_train,
        num_val=num_val,
        num_test=num_test,
        test_fraction=test_fraction,
        checksum="",
        stream=stream,
        reading=how,
        labels_from=found.sets[0].labels_from,
        split_from=aside if test_fraction else found.test.source if found.test else "",
        class_counts=tuple(np.bincount(labels).tolist()),
    )
    data = data.model_copy(update={"checksum": _checksum(digest, data)})
    if not stream:
        notes += _seen_in(found, _read_arrays(found, data), is_test)
    return data.model_copy(update={"notes": tuple(notes)})


def _seen_in(found: LabelledImages, arrays: Arrays, is_test: np.ndarray) -> list[str]:
    """What the pixels show and no header does, as sentences: images of one colour, test images that were learned, the
    same image in two classes.
    """
    names = np.empty(len(is_test), dtype=object)
    names[:] = [
        shown(image) if isinstance(image, Path) else f"image {row} of {part.source}"
        for part in found.sets
        for row, image in enumerate(part.images, start=1)
    ]
    said, places = [], {True: names[is_test], False: names[~is_test]}
    constant = [
        places[test][row]
        for test, images in ((False, arrays.train_images), (True, arrays.test_images))
        for row in np.flatnonzero(images.max((1, 2, 3), initial=0) == images.min((1, 2, 3), initial=255))
    ]
    if constant:
        said.append(f"{len(constant):,} of {len(names):,} images are of one grey throughout: {_some(constant)}.")
    learn, test = (
        [hashlib.sha256(image).digest() for image in images] for images in (arrays.train_images, arrays.test_images)
    )
    learned = {content: row for row, content in enumerate(learn)}
    twice = [
        f"{places[True][row]} as {places[False][learned[content]]}"
        for row, content in enumerate(test)
        if content in learned
    ]
    if twice:
        said.append(
            f"{len(twice):,} of {len(arrays.test_images):,} test images are among those to learn from, pixel by pixel: "
            f"{_some(twice)}. Accuracy on them is memory."
        )
    alike: dict[bytes, list[tuple[int, str]]] = {}
    labels = (*arrays.train_labels.tolist(), *arrays.test_labels.tolist())
    for content, label, name in zip(learn + test, labels, (*places[False], *places[True]), strict=True):
        alike.setdefault(content, []).append((label, name))
    several = [own for own in alike.values() if len({label for label, _ in own}) > 1]
    if several:
        pairs = [" and ".join(dict(own).values()) for own in several]
        said.append(
            f"{sum(map(len, several)):,} of {len(names):,} images are in other classes too, pixel by pixel: "
            f"{_some(pairs)}. Their labels contradict each other."
        )
    return said


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _read(files: DatasetFiles, how: Reading) -> LabelledImages:
    return read_files(files, how.label_column, how.colour_order)


def _read_arrays(found: LabelledImages, data: UserData) -> Arrays:
    """All images of a dataset, put into the cache on the way."""
    _, labels, is_test = _divide(found, data.test_fraction)
    images = resized(found.sets, data.image_size, data.in_channels, data.reading)
    arrays = Arrays(images[~is_test], labels[~is_test], images[is_test], labels[is_test])
    cache.save(data.checksum, arrays._asdict())
    return arrays


def _divide(found: LabelledImages, test_fraction: float | None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Number the classes; without a test set, take a fixed share of each class for one.

    The draw is that of numpy's RandomState(0), whose stream never changes between versions.

    Returns: the classes' names; of all images, in the order of `found.sets`, labels (int64), and which are for test.

    Raises:
        DataError: one class only, a class with too few images for its shares, a class that only the test set has.
    """
    num_known, source = sum(len(part.images) for part in found.train), found.train[0].source
    names, labels = _number_classes(np.concatenate([part.labels for part in found.sets if part.labels is not None]))
    counts = np.bincount(labels[:num_known], minlength=len(names))
    rare = int(counts.argmin())
    rarest = printable(names[rare], 60)
    if not counts[rare]:
        where = found.test.source if found.test else ""
        raise DataError(f"{where}: holds class '{rarest}', of which {source} has no image to learn from")
    if len(names) < 2:
        raise DataError(f"{source}: all {num_known:,} images are of one class, '{rarest}'; two at least are needed")
    parts = ["training", "validation", *([] if found.test else ["test"])]
    if counts[rare] < len(parts):
        measured = 2 * len(names) > num_known or any(re.fullmatch(r"-?\d*\.\d*[1-9]\d*", name) for name in names)
        if measured and len(names) > 20:
            raise DataError(
                f"{source}: {found.train[0].labels_from} has {len(names):,} different values for {num_known:,} images: "
                "a measured value or an ID? Classes are needed, each of several images"
            )
        raise DataError(
            f"{source}: class '{rarest}' has too few images ({counts[rare]}): "
            f"{', '.join(parts[:-1])} and {parts[-1]} need one each at least"
        )
    is_test = np.arange(len(labels)) >= num_known
    if not found.test:
        draw = np.random.RandomState(0)
        for label, count in enumerate(counts):
            share = min(max(1, round((test_fraction or 0) * count)), count - 2)
            is_test[draw.permutation(np.flatnonzero(labels == label))[:share]] = True
    return names, labels, is_test


def _number_classes(labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Class names in order, numbers by size and text as people sort it, and each label's place among them."""
    if labels.dtype != object:
        classes, indices = np.unique(labels, return_inverse=True)
        return tuple(str(number) for number in classes), indices.astype(np.int64)
    names = tuple(sorted({str(label) for label in labels}, key=natural_key))
    places = {name: place for place, name in enumerate(names)}
    return names, np.array([places[str(label)] for label in labels], dtype=np.int64)


def _files_of(data: UserData) -> DatasetFiles:
    paths = [Path(given) for given in (data.path, data.test_path) if given]
    for path in paths:
        require_path(path)
    return find_files(paths[0], paths[1] if len(paths) > 1 else None, data.reading.label_column)


def _checksum(digest: str, data: UserData) -> str:
    """Of the files' contents and of all that changes what is read; the usual way of reading adds nothing."""
    how = data.reading.model_dump_json(exclude_defaults=True)
    settings = f"{data.image_size} {data.in_channels} {data.test_fraction} {data.num_val}"
    return _short_digest(f"{digest} {settings}{'' if how == '{}' else how}")


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _changed_since(data: UserData) -> DataError:
    return DataError(f"{shown(Path(data.path))}: isn't what it was when the run was planned; start a new run")


def _name_of(path: Path) -> str:
    """Name of a dataset for which the options have none: that of its file or folder."""
    name = os.fsencode(path.name).decode("utf-8", "replace")
    if path.is_file():
        name = re.sub(r"(\.csv|\.npz)?(\.gz)?$", "", name, flags=re.IGNORECASE)
    return one_line(name) or "data"
