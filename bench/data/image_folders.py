"""Folders of images: which are splits, which are classes, and which files are neither images nor of anybody's making.

A split's name is read as words (training_set, seg_train, train_images, test1, val2017), and may have one folder inside
that holds everything. A folder named like a split is never a class, nor are parts of one set; where folders that would
be classes hold folders of the same names each, the level of the classes is asked for.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from bench.data.readers.base import ROLES, Role, natural_key, shown
from bench.data.readers.images import ENDINGS, is_image
from bench.errors import DataError, nearest

# Words that say nothing of what is in the pictures.
NEUTRAL = {
    *("set", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "pics", "picture", "pictures"),
    *("folder", "dir", "files", "split", "part", "raw", "all", "full", "only"),
    *("the", "of", "for", "jpg", "jpeg", "png"),
    *("datos", "imagenes", "dados", "imagens", "donnees", "daten", "bilder", "dati", "immagini"),
    *("数据", "数据集", "图片", "图像"),
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
PART = re.compile(r"(.*[\W_])?(part|batch|vol|volume|chunk|shard|fold)s?[\W_]*\d+", re.IGNORECASE)
NO_IMAGE = f"holds no image ({', '.join(ENDINGS[:6])} ...)"
# Endings of images that aren't read.
UNREAD = {
    *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".tga", ".psd", ".dcm", ".nii"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raw", ".npy", ".mp4", ".mov", ".avi"),
}
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

    Raises: DataError: no images, no classes, splits that can't be told apart or whose classes are others, folders of
        which it can't be told whether they are classes.
    """
    root = folder
    for _ in range(MOST_WRAPPERS):
        inside = _subfolders_of_images(root)
        if splits := split_folders(inside):
            return _of_splits(root, inside, splits)
        pictured = [entry for entry in inside if _holds_picture(entry)]
        if len(pictured) != 1 or _holds_images(root) or not subfolders(pictured[0]):
            break
        root = pictured[0]
    if class_names(root) and not all(_is_only(entry.name, NEUTRAL) for entry in inside):
        _refuse_what_may_be_no_classes(root)
        return Layout({"train": root}, notes=_said_of_copies(root))
    raise _no_classes(root, inside)


def split_folders(folders: Sequence[Path]) -> dict[Path, Role]:
    """Those of some sibling folders that are splits.

    A name has one word for a split; its others are neutral, numbers, or stand in another split's name as well
    (seg_train, seg_test). Where they don't, it is a split if what is left is a sibling's name (rps, rps-test-set) or
    it holds the same classes as a sibling; that sibling is for training, if it has no word for a split.

    Raises: DataError: one is named like a split and a sibling holds classes, but neither is so.
    """
    words = {entry: own for entry in folders if not (own := _words(entry.name)) & MASKS}
    roles = {entry: {ROLES[word] for word in own if word in ROLES} for entry, own in words.items()}
    rest = {entry: frozenset(own - set(ROLES) - NEUTRAL) for entry, own in words.items()}
    named = {entry: next(iter(own)) for entry, own in roles.items() if len(own) == 1}
    shared = Counter(rest[entry] for entry in named)
    found = {entry: role for entry, role in named.items() if not rest[entry] or shared[rest[entry]] > 1}
    if not named or (found == named and "train" in found.values()):
        return found
    classes = {entry: class_names(_unwrapped(entry)) for entry in words}
    plain = [entry for entry in words if not roles[entry] and len(classes[entry]) > 1]
    for entry in named.keys() - found.keys():
        alike = any(classes[entry] == classes[other] for other in words if other != entry and len(classes[other]) > 1)
        if alike or any(rest[entry] == rest[other] for other in plain):
            found[entry] = named[entry]
    if "train" not in found.values():
        whole = [e for e in plain if any(classes[e] >= classes[split] or rest[e] == rest[split] for split in found)]
        found |= dict.fromkeys(whole if len(whole) == 1 else (), "train")
    if not found and plain:
        doubt = next(iter(named))
        raise DataError(
            f"{shown(doubt)}: is named like a split, and {plain[0].name} beside it holds folders of its own: call them "
            f"{named[doubt]} and train if they are splits; if they are classes, call it without '"
            f"{next(word for word in words[doubt] if word in ROLES)}'"
        )
    return {entry: found[entry] for entry in words if entry in found}


def _words(name: str) -> set[str]:
    """A name's words in small letters, without numbers and accents: "valSet_2017" -> {"val", "set"}."""
    letters = "".join(sign for sign in unicodedata.normalize("NFD", name) if not unicodedata.combining(sign))
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFC", letters))
    return set(re.findall(r"[^\W\d_]+", spaced.lower()))


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
    _refuse_what_may_be_no_classes(train)
    found.roots["train"] = train
    found.notes += _said_of_copies(train)
    for role, entry in by_role.items():
        own = _unwrapped(entry, known=classes)
        if own_classes := class_names(own):
            if strangers := sorted(own_classes - classes, key=natural_key):
                raise DataError(
                    f"{shown(own)}: holds class '{strangers[0]}', of which {shown(train)} has no image to learn from; "
                    f"{nearest(strangers[0], classes)}"
                )
            found.roots[role] = own
            found.notes += _said_of_copies(own)
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


def _refuse_what_may_be_no_classes(root: Path) -> None:
    """Raises: DataError: one of the folders in `root` holds splits only, or masks of the images in another, all hold
    folders of the same names (patients, folds, variants of one dataset), or half of them are named like parts of one
    set.
    """
    folders = [entry for entry in class_folders(root) if _holds_picture(entry)]
    _refuse_masks(root, folders)
    names = [entry.name for entry in folders]
    places = {entry: _unwrapped(entry) for entry in folders}
    inner = {
        entry: {name for name in class_names(place) if not _is_only(name, NEUTRAL)} for entry, place in places.items()
    }
    for entry, own in inner.items():
        if own and all(_is_only(name, NEUTRAL | set(ROLES)) for name in own):
            raise DataError(
                f"{shown(entry)}: holds {_listed(sorted(own))}, named like splits, and so is no class; --data takes "
                f"one dataset, such as {shown(places[entry])}, or train and test with a folder for each class inside"
            )
    held = Counter(name for own in inner.values() for name in own)
    common = {name for name, count in held.items() if count > 1 and 2 * count > len(folders)}
    if common and all(inner.values()) and 2 * sum(held[name] for name in common) > held.total():
        shared = _listed(sorted(common, key=natural_key))
        raise DataError(
            f"{shown(root)}: {_listed(names)} all hold folders of the same names ({shared}): which are the classes? If "
            f"the inner ones, name one folder, such as --data {shown(places[folders[0]])}, or join those of one name; "
            "if the outer ones, move the images out of the inner ones"
        )
    if len(names) > 1 and 2 * sum(bool(PART.fullmatch(name)) for name in names) >= len(names):
        raise DataError(
            f"{shown(root)}: {_listed(names)} are named like parts of one set, not like classes; sort their images "
            "into a folder for each class, or, if they are classes, give them other names"
        )


def _refuse_masks(root: Path, folders: Sequence[Path]) -> None:
    """Raises: DataError: a folder has an image for each of another's names, a word for masks in its name that the other
    lacks, and that other is called images or the like, or they share no ending (mask and face may both be numbered).
    """
    masks = [entry for entry in folders if _words(entry.name) & MASKS]
    for image, mask in product(folders, masks):
        if not _words(mask.name) & MASKS - _words(image.name):
            continue
        stems, endings = _names_in(image)
        own, own_endings = _names_in(mask)
        doubtful = _is_only(image.name, NEUTRAL) or endings.isdisjoint(own_endings)
        if len(own) > 2 and own <= stems and doubtful:
            raise DataError(
                f"{shown(root)}: {mask.name} has an image for each name in {image.name}: are they its masks? Sort the "
                f"images of {image.name} into a folder for each class, and put the masks elsewhere"
            )


def _names_in(folder: Path) -> tuple[set[str], set[str]]:
    """Names of the images right in a folder, without their endings, and these."""
    images = [*filter(is_image, folder.iterdir())]
    return {path.stem for path in images}, {path.suffix.lower() for path in images}


def _no_classes(root: Path, inside: Sequence[Path]) -> DataError:
    """Images, but in no folders that could be classes."""
    images, left_out = images_below(root)
    if not images:
        unread = _instead(left_out) if set(left_out) & UNREAD else ""
        return DataError(f"{shown(root)}: {unread or NO_IMAGE.replace('no image', 'no dataset and no image')}")
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
    """The folder in which there is more than one folder of images, or images; a class that is known is no wrapper."""
    for _ in range(MOST_WRAPPERS):
        inside = [entry for entry in _subfolders_of_images(folder) if _holds_picture(entry)]
        if len(inside) != 1 or _holds_images(folder) or class_name(inside[0].name) in set(known):
            break
        name = inside[0].name
        like_a_split = name == folder.name or _is_only(name, NEUTRAL) or _words(name) & set(ROLES)
        if not subfolders(inside[0]) and not like_a_split:
            break  # a split of one class
        folder = inside[0]
    return folder


def class_names(root: Path) -> set[str]:
    """Names of the classes whose folders are in `root`: those that hold an image at any depth."""
    return {class_name(entry.name) for entry in class_folders(root) if _holds_picture(entry)}


def class_folders(root: Path) -> list[Path]:
    """Folders in `root` that may be classes, without masks and copies."""
    copies = _copies(root)
    return [entry for entry in _subfolders_of_images(root) if entry not in copies]


def _copies(root: Path) -> list[Path]:
    """Folders that hold folders of all their siblings' names, as where an archive was unpacked within itself."""
    inside = _subfolders_of_images(root)
    names = {entry.name for entry in inside}
    return [
        entry for entry in inside if len(names) > 2 and names - {entry.name} <= {own.name for own in subfolders(entry)}
    ]


def _said_of_copies(root: Path) -> list[str]:
    return [
        f"{shown(copy)} holds folders of its neighbours' names: it was left out as a copy." for copy in _copies(root)
    ]


def class_name(folder: str) -> str:
    """A folder's name as that of a class: in Unicode's composed form, whichever way the system writes it.

    Bytes that aren't UTF-8, which no report could hold, are spelt: \\xb9.
    """
    return unicodedata.normalize("NFC", os.fsencode(folder).decode("utf-8", "backslashreplace"))


def class_of(root: Path, path: Path) -> str:
    """The class of a file: the folder in `root` that it stands in."""
    return class_name(path.relative_to(root).parts[0])


def name_below(root: Path, path: Path) -> str:
    """A file's path below a folder, with slashes everywhere."""
    return path.relative_to(root).as_posix()


def subfolders(root: Path) -> list[Path]:
    """Folders in a folder, without hidden ones, leftovers and thumbnails, in the order of their names."""
    with os.scandir(root) as entries:  # which knows folders from files without a look at each of them
        found = [root / entry.name for entry in entries if entry.is_dir() and not _is_leftover(entry.name)]
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
    for folder in class_folders(root):
        found, left = images_below(folder)
        if not found:
            raise DataError(f"{shown(folder)}: {_instead(left) or f'{NO_IMAGE}; fill or remove the folder'}")
        images += found
        left_out += left
    outside = sum(is_image(entry) and not _is_leftover(entry.name) for entry in root.iterdir())
    return images, left_out + Counter({"images outside of the classes' folders": outside} if outside else {})


def _instead(left_out: Counter[str]) -> str:
    """What a folder without images holds, and what to do, unless nothing."""
    kinds = [(kind, count) for kind, count in left_out.most_common() if kind.startswith(".")]
    if not kinds:
        return ""
    kind, count = next(((kind, count) for kind, count in kinds if kind in UNREAD), kinds[0])
    files = f"{count:,} {kind} {'file' if count == 1 else 'files'}"
    if kind in UNREAD:
        return f"holds {files}, which {'is' if count == 1 else 'are'} not read; convert to PNG or JPEG"
    return f"{NO_IMAGE}, but {files}; put images there or remove the folder"


def images_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Image files at any depth, in the order of their names, and kinds of files that were left out."""
    images, left_out = list[Path](), Counter[str]()
    for pictures, left in _by_place(folder):
        images += pictures
        left_out += left
    return sorted(images, key=lambda path: natural_key(name_below(folder, path))), left_out


def _holds_picture(folder: Path) -> bool:
    """Whether images_below has any; stops at the first."""
    return _holds_images(folder) or any(pictures for pictures, _ in _by_place(folder))


def _by_place(folder: Path) -> Iterator[tuple[list[Path], Counter[str]]]:
    """The images of a folder and of each folder below it, and kinds of files that were left out there.

    Links are followed, but never in a circle. Masks beside the images that they belong to are left out: files named
    like another image (x_mask.png beside x.png), and folders of masks beside other images.
    """
    seen = set[str]()
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
        left_out = Counter(path.suffix.lower() or "no ending" for path in visible if not is_image(path))
        yield pictures, left_out + Counter({"masks": num_masks} if num_masks else {})


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
