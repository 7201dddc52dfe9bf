"""From somebody's files to arrays of one size: those of a dataset, and those that a model is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bench.data.readers.array_files import read_idx, read_npz
from bench.data.readers.base import (
    LARGEST_SHARE,
    Part,
    fit,
    fitting,
    from_layout,
    has_colour,
    located,
    machine_memory,
    shown,
)
from bench.data.readers.csv import is_csv, read_csv
from bench.data.readers.images import Listing, Survey, any_colour, is_image, list_flat, load_images, survey
from bench.data.user_files import Role, Sources, idx_pairs, is_npz, require
from bench.errors import DataError

if TYPE_CHECKING:
    import numpy as np


class Like(Protocol):
    """What images are to become: the size, channels and classes of a dataset."""

    @property
    def image_size(self) -> int: ...
    @property
    def in_channels(self) -> int: ...
    @property
    def class_names(self) -> Sequence[str]: ...


class Pictures(NamedTuple):
    """Images (N, C, H, W) uint8; their names, numbers from 1 where they have none; labels (N,) int64 if known."""

    images: np.ndarray
    names: list[str]
    labels: np.ndarray | None


@dataclass
class Found:
    """The labelled parts of a dataset: images of training and of validation, and of a test set where there is one."""

    train: list[Part]
    test: list[Part]
    notes: list[str] = field(default_factory=list)
    survey: Survey | None = None  # of image files

    @property
    def native_side(self) -> int:
        """The side of the square that the images fit into; of image files the median, up to a limit."""
        if self.survey:
            return self.survey.side
        return max(side for part in self.train for side in part.images.shape[2:])  # type: ignore[union-attr]

    @property
    def has_colour(self) -> bool:
        """Whether any pixel of any image has; image files are opened only if their headers leave it open."""
        if self.survey and not self.survey.may_have_colour:
            return False
        parts = [part.images for part in (*self.train, *self.test)]
        return any(any_colour(images) if isinstance(images, list) else has_colour(images) for images in parts)

    def resizing_notes(self, image_size: int, in_channels: int) -> list[str]:
        """What bringing the images to one size and number of channels did to them, as sentences."""
        if self.survey:
            return self.survey.notes(image_size, in_channels)
        said = []
        for shape in dict.fromkeys(part.images.shape[1:] for part in (*self.train, *self.test)):  # type: ignore[union-attr]
            channels, height, width = shape
            if height != width:
                said.append(f"Images of {width} x {height} pixels were padded with black to a square.")
            if max(height, width) != image_size:
                said.append(f"Resized with antialiasing to {image_size} x {image_size} pixels.")
            if channels > in_channels:
                said.append("RGB images were read as grey.")
            if channels < in_channels:
                said.append("Grey images were repeated in three channels.")
        return list(dict.fromkeys(said))


def read_sources(sources: Sources, headers: bool = True) -> Found:
    """Everything labelled; of image files only the paths and, with `headers`, sizes and modes. Raises: DataError."""
    import numpy as np

    notes: list[str] = []
    parts: dict[Role, Part] = {}
    looked_at = None
    if sources.kind == "folder":
        for role, listing in sources.listings.items():
            labels = np.array(listing.classes, dtype=object)
            parts[role] = Part(listing.paths, labels, shown(listing.root))
        if headers:
            looked_at = survey([path for listing in sources.listings.values() for path in listing.paths])
        if others := sum(listing.others for listing in sources.listings.values()):
            notes.append(f"{others:,} files that aren't images were left out.")
    for role, files in sources.files.items():
        parts |= _read_files(sources, role, files, notes)
    if sources.kind == "npz" and "test" in parts and parts["test"].labels is None:
        del parts["test"]
        notes.append("Test images without labels were left out.")
    if not parts:
        source = next(iter(sources.files.values()))[0]
        raise DataError(f"{shown(source)}: holds no images to learn from, only some for test, without labels")
    for part in parts.values():
        if part.labels is None:
            raise DataError(f"{part.source}: has no labels; a column or array called 'label' or 'labels' is expected")
    if "train" not in parts:
        role, part = next(iter(parts.items()))
        raise DataError(f"{part.source}: holds no images to learn from, only some for {role}")
    if "val" in parts:
        notes.append(
            f"{len(parts['val'].images):,} images that were given for validation were joined to those for training; "
            "of all of them, each class's share is set aside for validation."
        )
    train = [parts[role] for role in ("train", "val") if role in parts]
    return Found(train, [parts["test"]] if "test" in parts else [], notes, looked_at)


def _read_files(sources: Sources, role: Role, files: list[Path], notes: list[str]) -> dict[Role, Part]:
    """The parts in a role's files; an .npz may have several, and then a file of its own for a role comes first."""
    if sources.kind == "csv":
        return {role: read_csv(files[0])}
    if sources.kind == "idx":
        return {role: _read_idx_pair(*files)}
    contents = read_npz(files[0])
    notes += [note for note in contents.notes if note not in notes]
    if role != "train":  # a file for the test, whose array may be called x_test or just images
        return {role: contents.parts.get(role) or next(iter(contents.parts.values()))}
    return {found: part for found, part in contents.parts.items() if found == role or found not in sources.files}  # type: ignore[misc]


def _read_idx_pair(images: Path, labels: Path | None) -> Part:
    import numpy as np

    pixels = from_layout(read_idx(images), shown(images))
    if labels is None:
        return Part(pixels, None, shown(images))
    numbers = read_idx(labels)
    if numbers.shape != (len(pixels),):
        shape = " x ".join(f"{side:,}" for side in numbers.shape)
        raise DataError(f"{shown(labels)}: holds {shape} labels, but {shown(images)} {len(pixels):,} images")
    return Part(pixels, numbers.astype(np.int64), shown(images))


def as_pixels(parts: Sequence[Part], image_size: int, in_channels: int) -> np.ndarray:
    """All images of some parts: (N, in_channels, image_size, image_size), uint8. Raises: DataError on damaged files."""
    import numpy as np

    for part in parts:
        _refuse_giants(part, image_size, in_channels)
    arrays = [
        load_images(part.images, image_size, in_channels)
        if isinstance(part.images, list)
        else fit(part.images, image_size, in_channels)
        for part in parts
    ]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _refuse_giants(part: Part, image_size: int, in_channels: int) -> None:
    """Long thin images become large squares. Raises: DataError where all of them don't fit into memory."""
    side = image_size
    if not isinstance(part.images, list):
        side = max(image_size, *part.images.shape[2:])
        in_channels = max(in_channels, part.images.shape[1])
    if (num_bytes := len(part.images) * in_channels * side**2) > LARGEST_SHARE * machine_memory():
        raise DataError(
            f"{part.source}: {len(part.images):,} images as squares of {side:,} pixels take {num_bytes:,} bytes, too "
            f"many for this machine's memory of {machine_memory():,}"
        )


def read_images(path: Path, like: Like) -> Pictures:
    """Images to predict, with or without labels: a CSV, .npz, IDX file, image, or a folder of images or IDX files.

    An .npz or a folder of IDX files that has a test set gives that. A folder's subfolders are labels where they have
    the names of classes.

    Raises:
        DataError: nothing there, nothing that can be read, or some labels that are no class's name.
    """
    path = located(path)
    require(path)
    with fitting(path):
        part, names = _part_at(path)
        count = len(part.images)
        images = as_pixels([part], like.image_size, like.in_channels)
    return Pictures(images, names or [str(number) for number in range(1, count + 1)], _places(part, like.class_names))


def _part_at(path: Path) -> tuple[Part, list[str]]:
    if is_csv(path):
        return read_csv(path), []
    if is_npz(path):
        parts = read_npz(path).parts
        return parts.get("test") or next(iter(parts.values())), []
    if path.is_dir():
        if pairs := idx_pairs(entry for entry in path.iterdir() if entry.is_file()):
            files = pairs.get("test") or next(iter(pairs.values()))
            return _read_idx_pair(files[0], files[1] if len(files) > 1 else None), []
        listing = list_flat(path)
        if not listing.paths:
            raise DataError(f"{shown(path)}: holds neither images nor IDX files")
        return Part(listing.paths, _folder_labels(listing), shown(path)), listing.names
    if is_image(path):
        return Part([path], None, shown(path)), [path.name]
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1"))
    return _read_idx_pair(path, beside if beside != path and beside.is_file() else None), []


def _folder_labels(listing: Listing) -> np.ndarray | None:
    import numpy as np

    split = [name.split("/") for name in listing.names]
    return None if any(len(parts) == 1 for parts in split) else np.array([parts[0] for parts in split], dtype=object)


def _places(part: Part, class_names: Sequence[str]) -> np.ndarray | None:
    """Labels as places among the class names; None where none of them is one. Raises: DataError where only some are."""
    import numpy as np

    if part.labels is None:
        return None
    places = {name: place for place, name in enumerate(class_names)}
    found = [places.get(str(label), -1) for label in part.labels]
    if max(found) < 0:
        return None
    if min(found) < 0:
        row = found.index(-1)
        raise DataError(f"{part.source}: image {row + 1} has the label '{part.labels[row]}', which is no class's name")
    return np.array(found, dtype=np.int64)
