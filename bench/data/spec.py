"""What a dataset is: one of the catalog, or a user's own (a CSV, IDX files, folders of images, an .npz)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from bench.data.readers.base import shown
from bench.errors import printable

if TYPE_CHECKING:
    import numpy as np

Source = Callable[["DatasetSpec", Path], Path]  # (spec, empty folder) -> the folder that now holds the files
Kind = Literal["csv", "idx", "folder", "npz"]
ColourOrder = Literal["auto", "interleaved", "planar"]
Share = Annotated[float, Field(gt=0, lt=1)]


class UserDataOptions(BaseModel):
    """The keys of `dataset` in a suite where it isn't the name of a known dataset; `--data PATH` is `{path: PATH}`.

    Attributes:
        path: a CSV, an .npz, a folder of IDX files, or a folder with a folder of images for each class; it may have
            `train` and `test` (and `val`) folders or files inside.
        test: the same for a labelled test set; None takes `test_fraction` of each class out of `path`.
        unlabelled: images to predict after training, such as Kaggle's test.csv.
        made_by: the command that makes the files, for the message that they aren't there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    test: str | None = None
    unlabelled: str | None = None
    name: Annotated[
        str | None, Field(description="how the report calls it; the file's or folder's name if left out")
    ] = None
    image_size: Annotated[int | None, Field(ge=1, le=1024, description="pixels a side, after resizing")] = None
    channels: Annotated[Literal["auto", "grey", "rgb"], Field(description="auto: rgb where any image has colour")] = (
        "auto"
    )
    val_fraction: Annotated[Share, Field(description="of the training images, each class its share")] = 0.1
    test_fraction: Annotated[Share, Field(description="where no test set is given")] = 0.1
    label_column: Annotated[
        str | None, Field(description="of a CSV: its name, first, last or none; found out if left out")
    ] = None
    colour_order: Annotated[
        ColourOrder, Field(description="of an RGB CSV: by pixel, or one colour after the other; auto: the smoother one")
    ] = "auto"
    stream: Annotated[bool | Literal["auto"], Field(description="read images while training; auto: if too large")] = (
        "auto"
    )
    made_by: str | None = None


class Reading(BaseModel):
    """How the numbers in a user's files become grey levels from 0 to 255, found out over all of them.

    Attributes:
        top: the largest number that stands for white; all are multiplied by 255 / top.
        bits: of an image file with 16 bits a pixel, those that are used: 12 of most microscopes and scanners.
        ground: what lies below transparent pixels.
        label_column, colour_order: of a CSV, as the options say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    top: int = 255
    bits: int = 16
    ground: Literal["black", "white"] = "black"
    label_column: str | None = None
    colour_order: ColourOrder = "auto"


AS_IT_IS = Reading()
MOST_SHOWN = 12  # classes, in a line


class UserData(BaseModel):
    """A user's own dataset as it was found: all that a trial, a table or a report says about it.

    It has the sizes and names of a DatasetSpec, so that whoever asks for those takes either.

    Attributes:
        path, test_path, unlabelled_path: absolute; where the files lie determines no result and isn't in a trial's id.
        num_train: labelled images that aren't test images; `num_val` of them are set aside.
        checksum: 12 hex digits over the contents of all files and the options that change what is read.
        reading: how their numbers became grey levels.
        labels_from: the column, array, file or folders that the labels came from.
        split_from: where the test set comes from.
        class_counts: labelled images of each class, those of the test set included.
        notes: what a reader of the report should know, as sentences: "resized from 17 sizes to 32 x 32 pixels".
        stream: the images are read while training, since they don't fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Kind
    path: str
    test_path: str | None = None
    unlabelled_path: str | None = None
    image_size: int
    in_channels: int
    class_names: tuple[str, ...]
    num_train: int
    num_val: int
    num_test: int
    test_fraction: float | None = None
    checksum: str
    stream: bool = False
    reading: Reading = AS_IT_IS
    labels_from: str = ""
    split_from: str = ""
    class_counts: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return self.name

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def label_column(self) -> str | None:
        """The column of a CSV that the labels came from, where it has a name."""
        named = self.kind == "csv" and self.labels_from.startswith("column ")
        return self.labels_from.removeprefix("column ") if named else None

    @property
    def understood(self) -> list[str]:
        """How the files were taken, in one or two lines; what was done to the images stands in `notes`."""
        total, colour = self.num_train + self.num_test, "RGB" if self.in_channels == 3 else "grey"
        counted = [*zip(self.class_names, self.class_counts, strict=False)]
        listed = [f"{printable(name, 40)} {count:,}" for name, count in counted[:MOST_SHOWN]]
        if len(counted) > MOST_SHOWN:
            fewest, most = min(self.class_counts), max(self.class_counts)
            listed = [*listed[: MOST_SHOWN // 2], f"... ({fewest:,} to {most:,} images each)"]
        labels = f", labels from {self.labels_from}" if self.labels_from else ""
        size, path = f"{self.image_size} x {self.image_size}", shown(Path(self.path))
        return [
            f"{total:,} {colour} images of {size} pixels from {path}{labels}; "
            f"test: {self.num_test:,} from {self.split_from or 'the data'}.",
            f"{self.num_classes} classes: {', '.join(listed)}.",
        ]


class Arrays(NamedTuple):
    """All images (N, C, H, W) uint8 and labels (N,) of a dataset; validation images are among those for training."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset is (sizes, names, contents), where it may be had, and how its files are read."""

    name: str
    title: str
    image_size: int  # pixels a side
    in_channels: int
    class_names: tuple[str, ...]
    num_train: int  # images in the published training set; num_val of them are set aside by bench.data.dataset
    num_val: int
    num_test: int
    files: Mapping[str, str]  # file -> MD5 (32 digits) or SHA-1 (40) of its contents, in the order that `reader` wants
    sources: Mapping[str, Source]  # what a message calls it -> how to get it, in the order tried
    reader: Callable[[DatasetSpec, Path], Arrays]
    downloads: tuple[str, ...] = ()  # the files' names on a mirror
    archives: Mapping[str, str] = field(default_factory=dict)  # archive that may hold the files -> folder inside it
    torchvision_folder: str = ""  # where torchvision keeps the same files under its root
    package: str = ""  # Python package that has the dataset inside, so that nothing need be downloaded

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def checksum(self) -> str:
        """12 hex digits over the checksums of all files: equal wherever the files came from."""
        return hashlib.md5(" ".join(sorted(self.files.values())).encode(), usedforsecurity=False).hexdigest()[:12]

    def bytes_of(self, file: str) -> int | None:
        """The exact length of a file; None for a compressed one, which only its checksum describes."""
        images = self.num_train if file.startswith("train") else self.num_test
        pixels = self.in_channels * self.image_size**2
        lengths = {
            "-images-idx3-ubyte": 16 + images * pixels,
            "-labels-idx1-ubyte": 8 + images,
            ".bin": self.num_test * (1 + pixels),  # CIFAR: every file, of training or of test, has as many records
        }
        return next((length for ending, length in lengths.items() if file.endswith(ending)), None)


def said_of(spec: DatasetSpec | UserData) -> list[str]:
    """How a user's own files were taken, for the terminal; of a known dataset there is nothing to say."""
    return [f"data: {line}" for line in (*spec.understood, *spec.notes)] if isinstance(spec, UserData) else []
