"""Folders of images: which are splits, which are classes, and which files are neither images nor of anybody's making.

A split's name is read as words (training_set, seg_train, train_images, test1, val2017), and may have one folder inside
that holds everything. A folder named like a split is never a class.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.data.readers.base import ROLES, Role, natural_key, shown
from bench.data.readers.images import ENDINGS, is_image
from bench.errors import DataError, nearest

# Words that say nothing of what is in the pictures.
NEUTRAL = {
    *("set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "pics", "picture", "pictures"),
    *("folder", "dir", "files", "split", "part", "raw", "all", "full", "only"),
    *("the", "of", "for", "jpg", "jpeg", "png"),
}
UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "submission"}
MASKS = {
    *("mask", "masks", "segmentation", "segmentations", "annotation", "annotations", "groundtruth", "gt"),
    *("label", "labels", "trimap", "trimaps"),
}
# What systems, network drives and notebooks leave behind; hidden names, with a dot in front, are left out anyway.
LEFTOVERS = {
    *("__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "$recycle.bin", "lost+found", "__pycache__"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
THUMBNAILS = {"thumb", "thumbs", "thumbnail", "thumbnails", "_thumbs", "_thumbnails"}
MASK_OF = re.compile(rf"(?P<image>.+?)[ _.-]+(?:{'|'.join(sorted(MASKS))})(?:[ _.-]*\d+)?", re.IGNORECASE)
MOST_WRAPPERS = 3  # folders with nothing but one folder inside, one in another


@dataclass
class Layout:
    """What a folder of images holds.

    Attributes:
        roots: role -> the folder with a folder for each class; only `train`, where there are no splits.
        unlabelled: a folder of images to predict, beside those splits.
        notes: what was left out, as sentences.
    """

    roots: dict[Role, Path] = field(default_factory=dict)
    unlabelled: Path | None = None
    notes: list[str] = field(default_factory=list)


def find_layout(folder: Path) -> Layout:
    """Where the labelled images of a folder are.

    Raises: DataError: no images, no classes, splits that can't be told apart or whose classes are others.
    """
    root = folder
    for _ in range(MOST_WRAPPERS):
        inside = _subfolders_of_images(root)
        if splits := split_folders(inside):
            return _of_splits(root, inside, splits)
        if len(inside) != 1 or _holds_images(root) or not subfolders(inside[0]):
            break
        root = inside[0]
    if class_names(root) and not all(_is_only(entry.name, NEUTRAL) for entry in inside):
        return Layout({"train": root})
    raise _no_classes(root, inside)


def split_folders(folders: Sequence[Path]) -> dict[Path, Role]:
    """Those of some sibling folders whose names mean a split.

    A name has one word for a split; its others are neutral, numbers, or stand in another split's name as well
    (seg_train, seg_test).
    """
    words = {entry: own for entry in folders if not (own := _words(entry.name)) & MASKS}
    roles = {entry: {ROLES[word] for word in own if word in ROLES} for entry, own in words.items()}
    rest = {entry: frozenset(own - set(ROLES) - NEUTRAL) for entry, own in words.items()}
    shared = Counter(rest[entry] for entry in words if len(roles[entry]) == 1)
    return {
        entry: next(iter(roles[entry]))
        for entry in words
        if len(roles[entry]) == 1 and (not rest[entry] or shared[rest[entry]] > 1)
    }


def _words(name: str) -> set[str]:
    """A name's words in small letters, without numbers: "valSet_2017" -> {"val", "set"}."""
    return set(re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))


def _is_only(name: str, words: Collection[str]) -> bool:
    """Whether a name consists of these words; one of numbers alone doesn't."""
    own = _words(name)
    return bool(own) and own <= set(words)


def _of_splits(root: Path, inside: Sequence[Path], splits: dict[Path, Role]) -> Layout:
    found, flat = Layout(), dict[Role, Path]()
    by_role: dict[Role, Path] = {}
    for entry, role in splits.items():
        if role in by_role:
            raise DataError(f"{shown(by_role[role])} and {entry.name} both are {role} data; rename or remove one")
        by_role[role] = entry
    others = [entry for entry in inside if entry not in splits]
    if "train" not in by_role:
        names = _listed([entry.name for entry in splits])
        beside = f"; put {_listed([entry.name for entry in others])} into a folder called train" if others else ""
        raise DataError(f"{shown(root)}: has {names}, named like a split, but no train to learn from{beside}")
    train = _unwrapped(by_role.pop("train"))
    classes = class_names(train)
    if not classes or all(_is_only(name, NEUTRAL) for name in classes):
        if others and not classes:
            raise DataError(
                f"{shown(train)}: is named like a split, but holds no folder for each class, beside "
                f"{_listed([entry.name for entry in others])}; if it is a class, give it another name"
            )
        raise _no_classes(train, _subfolders_of_images(train))
    found.roots["train"] = train
    for role, entry in by_role.items():
        own = _unwrapped(entry, known=classes)
        if own_classes := class_names(own):
            if strangers := sorted(own_classes - classes, key=natural_key):
                raise DataError(
                    f"{shown(own)}: holds class '{strangers[0]}', of which {shown(train)} has no image to learn from; "
                    f"{nearest(strangers[0], classes)}"
                )
            found.roots[role] = own
        elif _holds_images(own):
            flat[role] = own
    found.unlabelled = flat.pop("test", None)
    for entry in others:
        if found.unlabelled is None and _words(entry.name) & UNLABELLED:
            found.unlabelled = entry
        elif _holds_images(entry) or class_names(entry):
            found.notes.append(f"Folder {entry.name} beside the splits was left out.")
    found.notes += [
        f"{shown(own)} holds images but no folder for each class, and so no labels: it was left out."
        for own in flat.values()
    ]
    if found.unlabelled:
        found.notes.append(f"{shown(found.unlabelled)} has no folder for each class: its images are to be predicted.")
    return found


def _no_classes(root: Path, inside: Sequence[Path]) -> DataError:
    """Images, but in no folders that could be classes."""
    images, _ = images_below(root)
    if not images:
        return DataError(f"{shown(root)}: holds no dataset and no image ({', '.join(ENDINGS[:6])} ...)")
    words = Counter(word[0] for image in images if (word := re.match(r"[^\W\d_]{2,}(?=[ _.-]*\d)", image.stem)))
    named = f"{shown(root)}: holds images, but no folder for each class"
    if inside:
        named += f" (only {_listed([entry.name for entry in inside])})"
    if 1 < len(words) <= 100 and sum(words.values()) > 0.9 * len(images):
        first = sorted(words)[0]
        return DataError(
            f"{named}; their names begin with {_listed(sorted(words))}: move them into folders of these names, such as "
            f"{shown(root / first)}"
        )
    return DataError(f"{named}, and so no labels; move them into folders named like the classes")


def _unwrapped(folder: Path, known: Iterable[str] = ()) -> Path:
    """The folder in which there is more than one folder, or images; a class that is known is no wrapper."""
    for _ in range(MOST_WRAPPERS):
        inside = subfolders(folder)
        if len(inside) != 1 or _holds_images(folder) or class_name(inside[0].name) in set(known):
            break
        if not subfolders(inside[0]) and not _is_only(inside[0].name, NEUTRAL | set(ROLES)):
            break  # a split of one class
        folder = inside[0]
    return folder


def class_names(root: Path) -> set[str]:
    """Names of the classes whose folders are in `root`: those that hold an image at any depth."""
    return {class_name(entry.name) for entry in subfolders(root) if images_below(entry)[0]}


def class_name(folder: str) -> str:
    """A folder's name as that of a class: in Unicode's composed form, whichever way the system writes it.

    Bytes that aren't UTF-8 are replaced, since no report could hold them.
    """
    return unicodedata.normalize("NFC", os.fsencode(folder).decode("utf-8", "replace"))


def class_of(root: Path, path: Path) -> str:
    """The class of a file: the folder in `root` that it stands in."""
    return class_name(path.relative_to(root).parts[0])


def name_below(root: Path, path: Path) -> str:
    """A file's path below a folder, with slashes everywhere."""
    return path.relative_to(root).as_posix()


def subfolders(root: Path) -> list[Path]:
    """Folders in a folder, without hidden ones, leftovers and thumbnails, in the order of their names."""
    found = (entry for entry in root.iterdir() if entry.is_dir() and not _is_leftover(entry.name))
    return sorted(found, key=lambda folder: natural_key(folder.name))


def _subfolders_of_images(root: Path) -> list[Path]:
    """Folders whose images are pictures: without masks beside a folder called images, or the like."""
    inside = subfolders(root)
    masks = _masks_among([entry.name for entry in inside])
    return [entry for entry in inside if entry.name not in masks]


def _masks_among(folders: Collection[str], beside_images: bool = False) -> set[str]:
    """Those of some sibling folders that hold masks of the images beside them; alone, "mask" may be a class."""
    masks = {name for name in folders if _is_only(name, MASKS)}
    return masks if beside_images or any(_is_only(name, NEUTRAL) for name in folders) else set()


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFTOVERS or name.lower() in THUMBNAILS


def _holds_images(folder: Path) -> bool:
    return any(is_image(entry) and not _is_leftover(entry.name) for entry in folder.iterdir())


def images_by_class(root: Path) -> tuple[list[Path], Counter[str]]:
    """As images_below, of a folder with a folder for each class. Raises: DataError where one holds no image."""
    images, left_out = list[Path](), Counter[str]()
    for folder in _subfolders_of_images(root):
        found, left = images_below(folder)
        if not found:
            raise DataError(
                f"{shown(folder)}: holds no image ({', '.join(ENDINGS[:6])} ...); fill or remove the folder"
            )
        images += found
        left_out += left
    outside = sum(is_image(entry) and not _is_leftover(entry.name) for entry in root.iterdir())
    return images, left_out + Counter({"images outside of the classes' folders": outside} if outside else {})


def images_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Image files at any depth, in the order of their names, and kinds of files that were left out.

    Links are followed, but never in a circle. Masks beside the images that they belong to are left out: files named
    like another image (x_mask.png beside x.png), and folders of masks beside other images.
    """
    images, left_out, seen = list[Path](), Counter[str](), set[str]()
    for place, inside, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        visible = [Path(place, name) for name in files if not _is_leftover(name)]
        here = [*filter(is_image, visible)]
        inside[:] = [name for name in inside if not _is_leftover(name)]
        masks = _masks_among(inside, beside_images=bool(here))
        inside[:] = [name for name in inside if name not in masks]
        stems = {path.stem.lower() for path in here}
        pictures = [p for p in here if not ((of := MASK_OF.fullmatch(p.stem)) and of["image"].lower() in stems)]
        num_masks = len(here) - len(pictures) + sum(len(images_below(Path(place, name))[0]) for name in masks)
        images += pictures
        left_out.update(path.suffix.lower() or "no ending" for path in visible if not is_image(path))
        left_out += Counter({"masks": num_masks} if num_masks else {})
    return sorted(images, key=lambda path: natural_key(name_below(folder, path))), left_out


def said_left_out(left_out: Counter[str]) -> list[str]:
    """Sentences: what kinds of files were left out, with their numbers."""
    endings = {kind: count for kind, count in left_out.items() if kind.startswith(".") or kind == "no ending"}
    said = []
    if endings:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in Counter(endings).most_common(5))
        said.append(f"{sum(endings.values()):,} files that aren't images were left out ({kinds}).")
    if masks := left_out["masks"]:
        said.append(f"{masks:,} masks beside their images were left out.")
    said += [f"{count:,} {kind} were left out." for kind, count in left_out.items() if kind.startswith("images")]
    return said


def _listed(names: Sequence[str]) -> str:
    shown_names = [class_name(name) for name in names[:5]]
    return ", ".join(shown_names) + (" ..." if len(names) > 5 else "")
