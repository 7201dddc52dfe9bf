"""A user's files: which of them make up a dataset, and their images, read and brought to one size."""

from __future__ import annotations

import hashlib
import re
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from bench.data.image_folders import (
    class_of,
    find_layout,
    images_below,
    images_by_class,
    name_below,
    subfolders,
)
from bench.data.readers.base import (
    LARGEST_SHARE,
    ROLES,
    ImageSet,
    Role,
    channels_first,
    machine_memory,
    one_line,
    open_regular,
    reading,
    resolve_path,
    shown,
)
from bench.data.readers.csv import has_labels, is_csv, read_csv
from bench.data.readers.idx import read_idx
from bench.data.readers.images import (
    Survey,
    any_colour,
    find_reading,
    highest_level,
    is_image,
    load_images,
    survey,
    top_of,
)
from bench.data.readers.npz import read_npz
from bench.data.spec import AS_IT_IS, Reading
from bench.errors import DataError

if TYPE_CHECKING:
    from bench.data.spec import ColourOrder, Kind

IDX = re.compile(r"(?:(?P<set>.*)[-_.])?(?P<role>train|t10k|test|val)[-_](?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
WANTED = (
    "expected a CSV, an .npz, IDX files (train-images-idx3-ubyte ...), or a folder of images for each class, "
    "perhaps inside of train and test"
)
SAVE = "save images and labels together with numpy: np.savez('data.npz', images=..., labels=...)"
OTHER_KINDS = {
    (".txt", ".dat", ".data", ".tsv"): "text; if it is a table of pixels, divide its cells by commas and call it .csv",
    (".npy",): f"one array of numpy's; {SAVE}",
    (".mat",): f"MATLAB's; read it with scipy.io.loadmat and {SAVE}",
    (".h5", ".hdf5"): f"HDF5; read it with h5py and {SAVE}",
    (".pkl", ".pickle", ".joblib", ".pt", ".pth"): f"a pickle, whose reading could run code; {SAVE}",
    (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z"): "an archive; unpack it, and name the folder",
    (".xlsx", ".xls", ".ods", ".parquet", ".feather"): "a table that isn't read; save it as a CSV",
}


@dataclass
class DatasetFiles:
    """The files of a dataset by what they are for.

    Attributes:
        files: role -> its CSV, its .npz, its two IDX files (images, labels), or all of its images. An .npz may hold
            several roles.
        roots: role -> the folder that holds a folder for each class, where images are files.
        left_out: kinds of files in these folders that were left out, with their numbers.
        unlabelled: a file or folder that lies beside the others without labels, such as Kaggle's test.csv.
        notes: what else was left out or taken for something, as sentences.
    """

    kind: Kind
    files: dict[Role, list[Path]] = field(default_factory=dict)
    roots: dict[Role, Path] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unlabelled: Path | None = None
    notes: list[str] = field(default_factory=list)

    def digest(self) -> str:
        """SHA-256 over the contents of all labelled files, their roles and, where they carry labels, their names."""
        whole = hashlib.sha256(self.kind.encode())
        for role, files in sorted(self.files.items()):
            for file in files:
                with reading(file), open_regular(file) as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
                name = f"{name_below(self.roots[role], file)}\0" if self.roots else ""
                whole.update(f"\0{role}\0{name}{content}".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()


def find_files(path: Path, test: Path | None = None, label_column: str | None = None) -> DatasetFiles:
    """The labelled files at `path`, and those at `test` as the test set.

    Args:
        label_column: of a CSV, as the user names it.

    Raises:
        DataError: nothing there that could be a dataset, files of one role twice, two kinds at once.
    """
    found = _files_at(path, label_column)
    if test is None:
        return found
    other = _files_at(test, label_column)
    if other.kind != found.kind:
        raise DataError(
            f"{shown(test)}: is of kind {other.kind}, but {shown(path)} of kind {found.kind}; make them alike"
        )
    role: Role = "test" if "test" in other.files else "train"
    found.files["test"] = other.files[role]
    if other.roots:
        found.roots["test"] = other.roots[role]
        found.left_out += other.left_out
    return found


def require_path(path: Path, made_by: str | None = None) -> None:
    """Raises: DataError, with the command that makes it or the nearest name, unless a file or folder is at `path`."""
    with reading(path), suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            return
        raise DataError(f"{shown(path)}: is neither a file nor a folder")
    if made_by:
        raise DataError(f"{shown(path)} isn't there; `{one_line(made_by)}` makes it, or --data names your own")
    folder = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(folder).parts[0]
    with reading(folder):
        names = {entry.name for entry in islice(folder.iterdir(), 1_000)} - {missing}
    near = get_close_matches(missing, names, n=1, cutoff=0.5)
    hint = f"; did you mean {shown(folder / near[0])}?" if near else f"; {shown(folder)} holds nothing of such a name"
    raise DataError(f"{shown(path)} isn't there{hint}")


def _files_at(path: Path, label_column: str | None) -> DatasetFiles:
    if path.is_dir():
        return _in_folder(path, label_column)
    if is_csv(path):
        return DatasetFiles("csv", {"train": [path]})
    if is_npz(path):
        return DatasetFiles("npz", {"train": [path]})
    if IDX.fullmatch(path.name):
        raise DataError(f"{shown(path)}: is one of several IDX files; name their folder, {shown(path.parent)}")
    raise DataError(f"{shown(path)}: is {_other_kind(path) or f'no dataset; {WANTED}'}")


def _other_kind(path: Path) -> str:
    """What a file is that isn't read, and what to do with it; empty where its name doesn't say."""
    if is_image(path):
        return "one image; name the folder that holds a folder of images for each class"
    if re.search(r"idx\d[-.]ubyte", path.name):
        return "one IDX file; name a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte"
    return next((said for endings, said in OTHER_KINDS.items() if path.name.lower().endswith(endings)), "")


def is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _in_folder(folder: Path, label_column: str | None) -> DatasetFiles:
    """What a folder holds. Tables and IDX files come before folders of images, which may hold anything besides."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if idx := _idx_pairs(files):
        if "train" not in idx:
            raise DataError(f"{shown(folder)}: holds IDX files, but no train-images-idx3-ubyte")
        lacking = [role for role, pair in idx.items() if len(pair) < 2]
        if lacking:
            raise DataError(f"{shown(folder)}: holds no IDX file of labels for {shown(idx[lacking[0]][0])}")
        return DatasetFiles("idx", idx)
    tables = [*filter(is_csv, files)]
    if subfolders(folder):  # a CSV beside folders of images may be a list of them
        tables = [*filter(_has_pixels, tables)]
    if tables:
        return _tables("csv", tables, folder, label_column)
    if tables := [*filter(is_npz, files)]:
        return _tables("npz", tables, folder, None)
    others = [file for file in files if _other_kind(file) and not is_image(file)]
    if others and not subfolders(folder) and not any(map(is_image, files)):
        raise DataError(f"{shown(others[0])}: is {_other_kind(others[0])}")
    return _image_folders(folder)


def _has_pixels(table: Path) -> bool:
    try:
        has_labels(table)
    except DataError:
        return False
    return True


def _idx_pairs(files: Iterable[Path]) -> dict[Role, list[Path]]:
    """Role -> its IDX files, images before labels; a plain file comes before a gzipped one."""
    found: dict[tuple[Role, str], Path] = {}
    for file in sorted(files):  # "x" before "x.gz"
        if match := IDX.fullmatch(file.name):
            place = (ROLES[match["role"]], match["what"])
            known = found.setdefault(place, file)
            if known != file and f"{known.name}.gz" != file.name:
                raise DataError(f"{shown(known)} and {file.name} have one role; keep one dataset a folder")
    roles = dict.fromkeys(role for role, what in found if what == "images")
    return {role: [found[role, what] for what in ("images", "labels") if (role, what) in found] for role in roles}


def _tables(kind: Literal["csv", "npz"], tables: list[Path], folder: Path, label_column: str | None) -> DatasetFiles:
    """CSVs or .npz files of a folder: those that say train, val or test in their names, or the only one."""
    found = DatasetFiles(kind)
    labels = next((file.name for file in tables if re.search("label|target", file.name, re.IGNORECASE)), "")
    joined = "a column of labels before the pixels" if kind == "csv" else "arrays named images and labels"
    hint = (
        f"; if {labels} holds the labels of another file, join the two into one file, with {joined}" if labels else ""
    )
    for file in tables:
        words = re.split(r"[^a-z]+", file.name.lower())
        roles = {ROLES[word] for word in words if word in ROLES}
        if len(roles) != 1:
            continue
        role = roles.pop()
        if role in found.files:
            raise DataError(
                f"{shown(found.files[role][0])} and {file.name} both are {role} data; name one of them{hint}"
            )
        found.files[role] = [file]
    if not found.files and len(tables) == 1:
        found.files["train"] = tables
    if "train" not in found.files:
        names = ", ".join(file.name for file in tables[:5])
        raise DataError(
            f"{shown(folder)}: which file is to be learned from ({names})? Name it, or call it train.{kind}{hint}"
        )
    if kind == "csv" and "test" in found.files and not _is_labelled(found.files["test"][0], label_column):
        found.unlabelled = found.files.pop("test")[0]
        found.notes.append(f"{found.unlabelled.name} has no labels: its images are to be predicted.")
    used = {*(file for own in found.files.values() for file in own), found.unlabelled}
    if others := [file.name for file in tables if file not in used]:
        found.notes.append(f"Left out beside them: {', '.join(others[:5])}{' ...' if len(others) > 5 else ''}.")
    return found


def _is_labelled(table: Path, label_column: str | None) -> bool:
    """Whether a table for the test has labels, in the column of the training data's or in one that is plain."""
    try:
        return has_labels(table, label_column)
    except DataError:
        if label_column is None:
            raise
        return has_labels(table)


def _image_folders(folder: Path) -> DatasetFiles:
    """Images in `train` (and `val`, `test`) folders or without, those of `test` perhaps without classes."""
    layout = find_layout(folder)
    found = DatasetFiles("folder", roots=layout.roots, unlabelled=layout.unlabelled, notes=layout.notes)
    for role, root in found.roots.items():
        found.files[role], left_out = images_by_class(root)
        found.left_out += left_out
    return found


@dataclass
class LabelledImages:
    """A dataset's images, in their own sizes: those of training and of validation, and a test set if there is one."""

    train: list[ImageSet]
    test: ImageSet | None
    notes: list[str]

    @property
    def sets(self) -> list[ImageSet]:
        return [*self.train, self.test] if self.test else self.train

    def survey(self) -> Survey:
        """Their sizes and modes; of image files from their headers. Raises: DataError if one isn't an image."""
        every = [part.images for part in self.sets]
        if isinstance(every[0], list):
            return survey(chain.from_iterable(every))
        shapes = [images.shape for images in every]  # type: ignore[union-attr]
        sizes = Counter((width, height) for _, _, height, width in shapes)
        return Survey(sizes, Counter("L" if shape[1] == 1 else "RGB" for shape in shapes), framed=True)

    def reading(self, found: Survey) -> Reading:
        """How their numbers become grey levels, over all of them. Raises: DataError naming a damaged file."""
        if isinstance(self.sets[0].images, list):
            paths = [path for part in self.sets for path in part.images]
            return find_reading(paths, found.modes, found.num_transparent)
        highest = max(1 if part.fractions else int(part.images.max()) for part in self.sets)  # type: ignore[union-attr]
        planar: ColourOrder = "planar" if self.sets[0].planar else "interleaved"
        coloured = self.sets[0].images.shape[1] == 3
        return Reading(top=top_of(highest), colour_order=planar if coloured else "auto")

    def range_notes(self, how: Reading) -> list[str]:
        """What is to be said of the range of sets and classes, as sentences.

        Raises: DataError: a set or a class runs to 1, or a set to 0, and another to more than 16.
        """
        classes = self._highest_levels(how)
        sets = {part.source: max(top for source, _, top in classes if source == part.source) for part in self.sets}
        lightest, most = max(sets.items(), key=lambda pair: pair[1])
        low = {source: top for source, top in sets.items() if 3 * top < most}
        low |= {
            f"{source}, class {one_line(name)}": top
            for source, name, top in classes
            if source not in low and 3 * top < most
        }
        for what, top in low.items():
            if most > 16 and (top == 1 or (top == 0 and what in sets)):  # a class of black images may be one
                raise DataError(f"{what}: runs to {top}, but {lightest} to {most}; save all images alike")
        said = []
        if how.top == 255 and most < 128 and not isinstance(self.sets[0].images, list):
            said.append(f"No number is above {most}: white would be 255, and the images are dark.")
        if low:
            ranges = ", ".join(f"{what} to {top}" for what, top in [*low.items()][:3])
            said.append(f"Ranges are unlike: {lightest} to {most}, {ranges}; were all images saved in one way?")
        return said

    def _highest_levels(self, how: Reading) -> list[tuple[str, str, int]]:
        """The highest level of each class of each set, with the set's source and the class's name.

        Of image files it is that of four of a class, or of all, where these four are darker than other classes.
        """
        how, found = how.model_copy(update={"top": 255}), list[tuple[str, str, list[Path], int]]()
        for part in self.sets:
            assert part.labels is not None
            names, of = np.unique(part.labels.astype(str), return_inverse=True)
            if isinstance(part.images, list):
                files: list[list[Path]] = [[] for _ in names]
                for place, file in zip(of, part.images, strict=True):
                    files[place].append(file)
                tops = [highest_level(own[:: max(1, len(own) // 4)], how) for own in files]
            else:
                files, levels = [[] for _ in names], np.ones(len(names), np.int64)
                if not part.fractions:
                    levels[:] = 0
                    np.maximum.at(levels, of, part.images.max(axis=(1, 2, 3)))
                tops = levels.tolist()
            found += zip([part.source] * len(names), names.tolist(), files, tops, strict=True)
        most = max(top for *_, top in found)
        return [
            (source, name, max(top, highest_level(own, how, most // 3 + 1)) if 3 * top < most else top)
            for source, name, own, top in found
        ]


def read_files(
    dataset: DatasetFiles, label_column: str | None = None, colour_order: ColourOrder = "auto"
) -> LabelledImages:
    """Everything labelled; of image files only the paths. Raises: DataError."""
    found: dict[Role, ImageSet] = {}
    for role, files in sorted(dataset.files.items(), key=lambda pair: pair[0] != "train"):
        found |= _read_role(dataset, role, files, label_column, colour_order)
        if role == "train" and dataset.kind == "csv":  # the others as this one
            colour_order = "planar" if next(iter(found.values())).planar else "interleaved"
    notes: list[str] = []
    notes += dict.fromkeys(note for part in found.values() for note in part.notes)
    if dataset.kind == "npz" and "test" in found and found["test"].labels is None:
        del found["test"]
        notes.append("Test images without labels were left out.")
    if "train" not in found:
        only = next(iter(found), "test, without labels")
        raise DataError(f"{shown(dataset.files['train'][0])}: holds no images to learn from, only some for {only}")
    for part in found.values():
        if part.labels is None:
            option = ", or --label-column names another" if dataset.kind == "csv" else ""
            raise DataError(
                f"{part.source}: has no labels; a column or array called 'label' or 'labels' is expected{option}; "
                "labels in a file of their own are to be joined with the images into one file"
            )
    if "val" in found:
        notes.append(
            f"{len(found['val'].images):,} images that were given for validation were joined to those for training; "
            "of all of them, each class's share is set aside for validation."
        )
    train = [found[role] for role in ("train", "val") if role in found]
    return LabelledImages(train, found.get("test"), notes)


def _read_role(
    dataset: DatasetFiles, role: Role, files: list[Path], label_column: str | None, colour_order: ColourOrder
) -> dict[Role, ImageSet]:
    """The images in a role's files; a table or .npz may have several roles, and then a role's own file comes first."""
    if root := dataset.roots.get(role):
        classes = np.array([class_of(root, file) for file in files], dtype=object)
        return {role: ImageSet(files, classes, shown(root), labels_from="the names of the folders")}
    if dataset.kind == "idx":
        return {role: _read_idx_pair(*files)}
    table = dataset.kind == "csv"
    found = read_csv(files[0], label_column, colour_order) if table else read_npz(files[0])
    if role != "train":  # a file for the test, whose array may be called x_test or just images
        return {role: found.get(role) or next(iter(found.values()))}
    return {name: part for name, part in found.items() if name == role or name not in dataset.files}  # type: ignore[misc]


def _read_idx_pair(images: Path, labels: Path | None = None) -> ImageSet:
    pixels = channels_first(read_idx(images), shown(images))
    if labels is None:
        return ImageSet(pixels, None, shown(images))
    numbers = read_idx(labels)
    if numbers.shape != (len(pixels),):
        shape = " x ".join(f"{side:,}" for side in numbers.shape)
        raise DataError(f"{shown(labels)}: holds {shape} labels, but {shown(images)} {len(pixels):,} images")
    return ImageSet(pixels, numbers.astype(np.int64), shown(images), labels_from=labels.name)


def read_images(
    path: Path,
    image_size: int,
    in_channels: int,
    class_names: Sequence[str],
    how: Reading = AS_IT_IS,
    label_columns: Sequence[str | None] = (None,),
) -> tuple[np.ndarray, list[str], np.ndarray | None, str]:
    """Images to predict, with or without labels: a CSV, .npz, IDX file, image, or a folder of images or IDX files.

    An .npz or a folder of IDX files that has a test set gives that. A folder's subfolders are labels where they have
    the names of classes.

    Args:
        label_columns: of a CSV, as its options name it, or None to find it out; the first that the file has is taken.

    Returns: images (N, in_channels, image_size, image_size) uint8; their names, numbers from 1 where they have none;
        labels (N,) int64 if all are known, None if none is; what the labels came from, or why none is known.

    Raises:
        DataError: nothing there, nothing that can be read, or some labels that are no class's name.
    """
    path = resolve_path(path)
    require_path(path)
    with reading(path):
        part, names = _images_at(path, how, label_columns)
        images = resized([part], image_size, in_channels, how)
    names = names or [str(number) for number in range(1, len(images) + 1)]
    if part.labels is None:
        return images, names, None, ""
    places = {name: place for place, name in enumerate(class_names)}
    labels = np.array([places.get(str(label), -1) for label in part.labels], dtype=np.int64)
    if labels.max() < 0:
        return images, names, None, f"{part.labels_from}: '{part.labels[0]}' and all others are no class's name"
    if labels.min() < 0:
        row = int(labels.argmin())
        raise DataError(
            f"{part.source}: image {row + 1} has the label '{part.labels[row]}' ({part.labels_from}), which is no "
            "class's name"
        )
    return images, names, labels, part.labels_from


def _images_at(path: Path, how: Reading, label_columns: Sequence[str | None]) -> tuple[ImageSet, list[str]]:
    """The images at a path, and the names of image files."""
    if is_csv(path) or is_npz(path):
        found = _read_table(path, how, label_columns) if is_csv(path) else read_npz(path)
        return found.get("test") or next(iter(found.values())), []
    if path.is_dir():
        if pairs := _idx_pairs(entry for entry in path.iterdir() if entry.is_file()):
            return _read_idx_pair(*(pairs.get("test") or next(iter(pairs.values())))), []
        images, _ = images_below(path)
        if not images:
            raise DataError(f"{shown(path)}: holds neither images nor IDX files")
        in_classes = all(image.parent != path for image in images)
        labels = np.array([class_of(path, image) for image in images], dtype=object) if in_classes else None
        part = ImageSet(images, labels, shown(path), labels_from="the names of the folders")
        return part, [name_below(path, image) for image in images]
    if is_image(path):
        return ImageSet([path], None, shown(path)), [path.name]
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1"))
    return _read_idx_pair(path, beside if beside != path and beside.is_file() else None), []


def _read_table(path: Path, how: Reading, label_columns: Sequence[str | None]) -> dict[Role, ImageSet]:
    """A CSV to predict, with the first of these columns for labels that it has. Raises: what the last of them does."""
    *others, last = label_columns
    for column in others:
        with suppress(DataError):
            return read_csv(path, column, how.colour_order)
    return read_csv(path, last, how.colour_order)


def resized(parts: Sequence[ImageSet], image_size: int, in_channels: int, how: Reading) -> np.ndarray:
    """All images of some sets: (N, in_channels, image_size, image_size), uint8. Raises: DataError on damaged files."""
    arrays = []
    for part in parts:
        images, source = part.images, part.source
        channels, *sides = (in_channels,) if isinstance(images, list) else images.shape[1:]
        side = max([image_size, *sides])  # long thin images become large squares
        if (num_bytes := len(images) * max(in_channels, channels) * side**2) > LARGEST_SHARE * machine_memory():
            raise DataError(
                f"{source}: {len(images):,} images as squares of {side:,} pixels take {num_bytes:,} bytes, too many "
                f"for this machine's memory of {machine_memory():,}"
            )
        if isinstance(images, list):
            arrays.append(load_images(images, image_size, in_channels, how))
            continue
        # Where some of the images to predict are brighter than any that was learned from, they are of another range.
        if how.top < 255 and not part.fractions and images.max(initial=0) <= how.top:
            levels = np.rint(np.arange(how.top + 1) * (255 / how.top)).astype(np.uint8)
            images = levels[images]
        arrays.append(fit(images, image_size, in_channels))
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def has_colour(images: np.ndarray | list[Path]) -> bool:
    """Whether any pixel's channels differ. Shape: (N, C, H, W), or image files."""
    if isinstance(images, list):
        return any_colour(images)
    return bool(images.shape[1] == 3 and (images[:, 1:] != images[:, :1]).any())


def fit(images: np.ndarray, image_size: int, in_channels: int) -> np.ndarray:
    """Grey or RGB, padded with black to a square, resized. (N, C, H, W) -> (N, in_channels, image_size, image_size).

    Arrays are padded, not cropped, since their makers framed them already: nothing that they drew is lost.
    """
    count, channels, height, width = images.shape
    side = max(height, width)
    if (channels, height, width) == (in_channels, image_size, image_size):
        return np.ascontiguousarray(images)
    left, top = (side - width) // 2, (side - height) // 2
    fitted = np.empty((count, in_channels, image_size, image_size), dtype=np.uint8)
    for row, array in enumerate(images):
        image = Image.fromarray(array[0] if channels == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))
        if in_channels < channels:
            image = image.convert("L")
        image = image.crop((-left, -top, side - left, side - top))
        if side != image_size:
            image = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        fitted[row] = pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return fitted
