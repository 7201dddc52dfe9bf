"""Labels: a short name for each configuration, different from all others, for tables, plots and sentences."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pandas as pd

from bench.analysis.formatting import shortened

FAMILY_TITLES = {"vit": "ViT", "cnn": "CNN"}  # a family that isn't here goes by its own name
SHAPE_LETTERS = {"patch_size": "p", "depth": "d", "embed_dim": "e", "num_heads": "h", "width": "w"}
MATCH_TITLES = {"params": "params", "flops": "FLOPs"}
LAYOUT = {"true": "channels-last"}
K = TypeVar("K")
V = TypeVar("V")
LONGEST_FAMILY, LONGEST_DEVICE, LONGEST_SETTING = 80, 100, 40  # characters; longer ones push all else off a picture


def family_title(model: str) -> str:
    return FAMILY_TITLES.get(model) or shortened(model, LONGEST_FAMILY)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column name, of Python's own numbers; pandas's `to_dict` takes ten times as long."""
    keys = [str(key) for key in rows]
    return [dict(zip(keys, values, strict=True)) for values in rows.to_numpy(dtype=object).tolist()]


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, in their order."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def trained_epochs(row: Mapping[str, Any]) -> float:
    """How many epochs a configuration's steps are; a recipe may ask for 0.85 of 4."""
    share = json.loads(row["training"] or "{}").get("steps_fraction", 1.0)
    return float(row["epochs"] * share)


def labelled(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with a short name for people, `label`, and in every row a `device_name` and a `world_size`.

    A trial that failed before it saw its device has that of its neighbours on the same device, first of its own node.
    Rows from before there were several processes are of one.
    """
    trials = trials.copy()
    trials["world_size"] = trials["world_size"].where(trials["world_size"] > 0, 1.0)
    trials["device_name"] = _device_names(trials)
    configs = trials.drop_duplicates(["config_id", "device_name"])
    names = dict(zip(zip(configs["config_id"], configs["device_name"], strict=True), _labels(configs), strict=True))
    keys = zip(trials["config_id"], trials["device_name"], strict=True)
    trials["label"] = pd.Series([names[key] for key in keys], index=trials.index, dtype=object)
    return trials


def _device_names(trials: pd.DataFrame) -> pd.Series:
    short = {name: shortened(name, LONGEST_DEVICE) or None for name in trials["device_name"].unique()}
    names = trials["device_name"].map(short).astype(object)
    for keys in (["node", "device"], ["device"]):  # "first" passes over the missing ones
        if names.notna().all():
            break
        names = names.fillna(names.groupby([trials[key] for key in keys]).transform("first"))
    return names.fillna(trials["device"])


def without_device(row: dict[str, Any]) -> str:
    """A row's label without its device, for where that is said already."""
    words = row["label"].replace(row["device_name"], "").split()
    return " ".join(word for word in words if word != row["device"])


def plain_name(row: dict[str, Any]) -> str:
    """What a configuration is, for people: "ViT, 7 px patches, 4 blocks", "CNN, 2 blocks, 27 channels, bf16".

    Settings that are nobody's question are left out, so two configurations may have one name; labels are unique.
    """
    counted = {"patch_size": "px patches", "depth": "blocks", "width": "channels"}
    parts = [f"{row[key]:g} {words}" for key, words in counted.items() if row[key] == row[key]]
    parts = [text.removesuffix("s") if text in ("1 blocks", "1 channels") else text for text in parts]
    parts += [row["dtype"]] if row["dtype"] != "fp32" else []
    parts += [compile_title(row["compile"])] if compile_title(row["compile"]) else []
    parts += [f"{100 * row['train_fraction']:.3g}% of the images"] if row["train_fraction"] < 1 else []
    parts += [processes_title(row)] if processes_title(row) else []
    parts += re.findall(r"\d+ threads?|\d+ epochs?", row.get("label") or "")  # labels have them where they vary
    return ", ".join([family_title(row["model"]), *parts])


def compile_title(mode: str) -> str:
    """A mode of torch.compile in a word: "compile" for its default, "" for none."""
    return {"false": "", "": "", "default": "compile"}.get(mode, mode)


def _labels(configs: pd.DataFrame) -> list[str]:
    """ "ViT p7 d4 fp32": family, patch and depth, numeric mode; the rest only where it varies.

    The shape, layout, batch and threads where they vary within the family; what can be asked of every family
    (compilation, share of the data) where it varies in the run.
    """
    rows = records(configs)  # and plain sets: pandas counts a column's values in the time of a hundred of them
    own_rows = grouped((str(row["model"]), row) for row in rows)
    varying, in_run = {model: _varying(own) for model, own in own_rows.items()}, _varying(rows)
    names = _values(rows, "device_name")
    devices = "device" if len(_values(rows, "device")) == len(names) else "device_name"
    own_batches = {model: {size for size in map(_own_batch, own) if size == size} for model, own in own_rows.items()}
    shapes = {row["config_id"]: _shape(row, varying[row["model"]]) for row in rows}
    labels = []
    for row in rows:
        own = varying[row["model"]]
        parts = [shapes[row["config_id"]], row["dtype"]]
        parts.append(row[devices] if len(names) > 1 else "")
        parts.append(compile_title(row["compile"]) if "compile" in in_run else "")
        parts.append(LAYOUT.get(row["channels_last"], "") if "channels_last" in own else "")
        parts.append(row["attention"] if "attention" in own else "")
        counts = [(row[key], unit) for key, unit in UNITS.items() if key in own and row[key] == row[key]]
        parts += [f"{count:g} {unit.removesuffix('s') if count == 1 else unit}" for count, unit in counts]
        several = len(own_batches[row["model"]]) > 1  # a batch that grows with the processes is said with them
        parts.append(f"batch {row['batch_size']:g}" if several and row["batch_size"] > 0 else "")
        if "train_fraction" in in_run and row["train_fraction"] > 0:
            parts.append(f"{100 * row['train_fraction']:.3g}% data")
        parts.append(processes_title(row))
        if row["match"]:
            equal = MATCH_TITLES.get(row["match"], row["match"])
            parts.append(f"={equal} {shapes.get(row['matched_to'], row['matched_to'])}")
        labels.append(" ".join(part for part in parts if part))
    return _told_apart(labels, configs)


def processes_title(row: dict[str, Any]) -> str:
    """ "x2 processes", with what became of the batch; "" for one."""
    scaled = " (scaled batch)" if row["global_batch"] == "scaled" else ""
    return f"x{row['world_size']:g} processes{scaled}" if row["world_size"] > 1 else ""


UNITS = {"num_threads": "threads", "epochs": "epochs"}
SAID_WHERE_VARIED = (*SHAPE_LETTERS, *UNITS, "compile", "channels_last", "attention", "train_fraction")


def _varying(rows: list[dict[str, Any]]) -> set[str]:
    return {key for key in SAID_WHERE_VARIED if len(_values(rows, key)) > 1}


def _values(rows: list[dict[str, Any]], key: str) -> set[Any]:
    """What a column holds; no NaN."""
    return {row[key] for row in rows if row[key] == row[key] and row[key] is not None}


def _own_batch(row: dict[str, Any]) -> float:
    """Of a process; NaN where it isn't known."""
    return row["batch_size"] / (row["world_size"] if row["global_batch"] == "scaled" else 1.0)


def _shape(row: dict[str, Any], varying: set[str]) -> str:
    """Family, patch, depth. A width that was solved for says less than what it makes equal, and is left out."""
    parts = [family_title(row["model"])]
    for key, letter in SHAPE_LETTERS.items():
        wanted = key in ("patch_size", "depth") or (key in varying and not row["match"])
        parts += [f"{letter}{row[key]:g}"] if wanted and row[key] == row[key] else []
    return " ".join(parts)


def _told_apart(labels: list[str], configs: pd.DataFrame) -> list[str]:
    """Add to labels that several configurations share what differs in their settings or, failing that, their id."""
    told = list(labels)
    alike: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        alike.setdefault(label, []).append(index)
    for shared, indices in ((label, indices) for label, indices in alike.items() if len(indices) > 1):
        settings = [_settings(configs.iloc[index]) for index in indices]
        keys = sorted({key for some in settings for key in some})
        differing = [key for key in keys if len({some.get(key) for some in settings}) > 1]
        distinct = len({tuple(some.get(key) for key in differing) for some in settings}) == len(settings)
        for index, some in zip(indices, settings, strict=True):
            extra = [f"{key}={shortened(some.get(key, ''), LONGEST_SETTING)}" for key in differing]
            told_by = extra if distinct and 0 < len(extra) <= 3 else [str(configs.iloc[index]["config_id"])]
            told[index] = " ".join([shared, *told_by])
    return told


def _settings(row: pd.Series) -> dict[str, str]:
    """All settings of a row's model and training, flat, as text."""
    flat = {"recipe": str(row["recipe"]), "num_threads": f"{row['num_threads']:g}", "source": str(row["source"])}
    for key in ("settings", "training"):
        try:
            flat |= {name: json.dumps(value) for name, value in json.loads(row[key] or "{}").items()}
        except (ValueError, AttributeError):
            continue
    return flat
