"""Which files somebody's dataset is made of: found by their names, and told apart by what they hold."""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.data.readers.base import one_line, open_plain, shown
from bench.data.readers.csv import has_labels, is_csv
from bench.data.readers.images import ENDINGS, Listing, is_image, list_classes, list_flat, subfolders
from bench.errors import DataError

if TYPE_CHECKING:
    from bench.data.spec import Kind

Role = Literal["train", "val", "test"]

IDX = re.compile(r"(?:(?P<set>.*)[-_.])?(?P<role>train|t10k|test|val)[-_](?P<what>images|labels)[-.]idx\d-ubyte(\.gz)?")
ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "t10k"), "test"),
}
WANTED = (
    "expected a CSV, an .npz, IDX files (train-images-idx3-ubyte ...), or a folder of images for each class, "
    "perhaps inside of train and test"
)


@dataclass
class Sources:
    """The files of a dataset by what they are for.

    Attributes:
        files: role -> its CSV, its .npz, or its two IDX files (images, labels). An .npz may hold several roles.
        listings: role -> its images, where they are files in folders.
        unlabelled: a file or folder that lies beside the others without labels, such as Kaggle's test.csv.
    """

    kind: Kind
    files: dict[Role, list[Path]] = field(default_factory=dict)
    listings: dict[Role, Listing] = field(default_factory=dict)
    unlabelled: Path | None = None

    def digest(self) -> str:
        """SHA-256 over the contents of all labelled files, their roles and, where they carry labels, their names."""
        whole = hashlib.sha256(self.kind.encode())
        for role, files in sorted(self.files.items()):
            for file in files:
                whole.update(f"\0{role}\0{digest_of(file)}".encode())
        for role, listing in sorted(self.listings.items()):
            for file, name in zip(listing.paths, listing.names, strict=True):
                whole.update(f"\0{role}\0".encode() + name.encode("utf-8", "surrogateescape"))
                whole.update(f"\0{digest_of(file)}".encode())
        return whole.hexdigest()


def digest_of(file: Path) -> str:
    """SHA-256 of a file's contents. Raises: DataError."""
    try:
        with open_plain(file) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    except OSError as error:
        raise DataError(f"{shown(file)}: can't be read ({error.strerror})") from None


def find_sources(path: Path, test: Path | None = None) -> Sources:
    """The labelled files at `path`, and those at `test` as the test set.

    Raises:
        DataError: nothing there that could be a dataset, files of one role twice, two kinds at once.
    """
    found = _sources_at(path)
    if test is None:
        return found
    other = _sources_at(test)
    if other.kind != found.kind:
        raise DataError(
            f"{shown(test)}: is of kind {other.kind}, but {shown(path)} of kind {found.kind}; make them alike"
        )
    role: Role = "test" if "test" in {**other.files, **other.listings} else "train"
    if other.kind == "folder":
        found.listings["test"] = other.listings[role]
    elif role in other.files:
        found.files["test"] = other.files[role]
    else:
        raise DataError(f"{shown(test)}: holds no labelled images")
    return found


def require(path: Path, made_by: str | None = None) -> None:
    """Raises: DataError, with the command that makes it or the nearest name, unless a file or folder is at `path`."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # too long, a circle of links, not allowed; a zero in the name
        raise DataError(f"{shown(path)}: can't be read ({getattr(error, 'strerror', None) or error})") from None
    else:
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(f"{shown(path)}: is neither a file nor a folder")
        return
    if made_by:
        raise DataError(f"{shown(path)} isn't there; `{one_line(made_by)}` makes it, or --data names your own")
    folder = next(parent for parent in path.parents if parent.is_dir())
    missing = path.relative_to(folder).parts[0]
    near = get_close_matches(missing, _names_in(folder) - {missing}, n=1, cutoff=0.5)
    hint = f"; did you mean {shown(folder / near[0])}?" if near else f"; {shown(folder)} holds nothing of such a name"
    raise DataError(f"{shown(path)} isn't there{hint}")


def _names_in(folder: Path) -> set[str]:
    """Names to guess from, of which a folder may have millions. Empty where nobody may look."""
    try:
        return {entry.name for entry in islice(folder.iterdir(), 1_000)}
    except OSError:
        return set()


def _sources_at(path: Path) -> Sources:
    if path.is_dir():
        return _in_folder(path)
    if is_csv(path):
        return Sources("csv", {"train": [path]})
    if is_npz(path):
        return Sources("npz", {"train": [path]})
    if IDX.fullmatch(path.name):
        raise DataError(f"{shown(path)}: is one of several IDX files; name their folder, {shown(path.parent)}")
    raise DataError(f"{shown(path)}: is no dataset; {WANTED}")


def is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _in_folder(folder: Path) -> Sources:
    """What a folder holds. Tables and IDX files come before folders of images, which may hold anything besides."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    if idx := idx_pairs(files):
        if "train" not in idx:
            raise DataError(f"{shown(folder)}: holds IDX files, but no train-images-idx3-ubyte")
        lacking = [role for role, pair in idx.items() if len(pair) < 2]
        if lacking:
            raise DataError(f"{shown(folder)}: holds no IDX file of labels for {shown(idx[lacking[0]][0])}")
        return Sources("idx", idx)
    tables = [*filter(is_csv, files)]
    if subfolders(folder):  # a CSV beside folders of images may be a list of them
        tables = [*filter(_has_pixels, tables)]
    if tables:
        return _tables("csv", tables, folder)
    if tables := [*filter(is_npz, files)]:
        return _tables("npz", tables, folder)
    return Sources("folder", listings=(found := _image_folders(folder))[0], unlabelled=found[1])


def _has_pixels(table: Path) -> bool:
    try:
        has_labels(table)
    except DataError:
        return False
    return True


def idx_pairs(files: Iterable[Path]) -> dict[Role, list[Path]]:
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


def _tables(kind: Literal["csv", "npz"], tables: list[Path], folder: Path) -> Sources:
    """CSVs or .npz files of a folder: those that say train, val or test in their names, or the only one."""
    found = Sources(kind)
    for file in tables:
        words = re.split(r"[^a-z]+", file.name.lower())
        roles = {ROLES[word] for word in words if word in ROLES}
        if len(roles) != 1:
            continue
        role = roles.pop()
        if role in found.files:
            raise DataError(f"{shown(found.files[role][0])} and {file.name} both are {role} data; name one of them")
        found.files[role] = [file]
    if not found.files and len(tables) == 1:
        found.files["train"] = tables
    if "train" not in found.files:
        names = ", ".join(file.name for file in tables[:5])
        raise DataError(
            f"{shown(folder)}: which file is to be learned from ({names})? Name it, or call it train.{kind}"
        )
    if kind == "csv" and "test" in found.files and not has_labels(found.files["test"][0]):
        found.unlabelled = found.files.pop("test")[0]
    return found


def _image_folders(folder: Path) -> tuple[dict[Role, Listing], Path | None]:
    """Role -> images, with `train` (and `val`, `test`) folders or without; and a folder of images without classes."""
    inside = subfolders(folder)
    roles = {ROLES[entry.name.lower()]: entry for entry in inside if entry.name.lower() in ROLES}
    if "train" in roles and subfolders(roles["train"]):
        unlabelled = roles["test"] if "test" in roles and not subfolders(roles["test"]) else None
        split = {role: list_classes(entry) for role, entry in roles.items() if entry != unlabelled}
        return split, unlabelled if unlabelled and list_flat(unlabelled).paths else None
    if inside and any(list_flat(entry).paths for entry in inside):
        return {"train": list_classes(folder)}, None
    if any(is_image(entry) for entry in folder.iterdir()):
        raise DataError(f"{shown(folder)}: holds images, but no folder for each class, and so no labels; {WANTED}")
    raise DataError(f"{shown(folder)}: holds no dataset and no image ({', '.join(ENDINGS[:6])} ...); {WANTED}")
