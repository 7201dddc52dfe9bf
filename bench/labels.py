"""Labels: what a configuration is called in tables, pictures and sentences. Short, and different for each."""

import json
from typing import Any

import pandas as pd

FAMILY_TITLES = {"vit": "ViT", "cnn": "CNN"}  # a family that isn't here goes by its own name
SHAPE_LETTERS = {"patch_size": "p", "depth": "d", "embed_dim": "e", "num_heads": "h", "width": "w"}
MATCH_TITLES = {"params": "params", "flops": "FLOPs", "step_time": "step time"}
LAYOUT = {"true": "channels-last"}


def family_title(model: str) -> str:
    return FAMILY_TITLES.get(model, model)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column name."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def labelled(trials: pd.DataFrame) -> pd.DataFrame:
    """`trials` with a short name for people, `label`, and a `device_name` in every row.

    A trial that failed before it saw its device has that of its neighbours on the same device.
    """
    trials = trials.copy()
    known = trials[trials["device_name"] != ""].groupby("device")["device_name"].first()
    missing = trials["device_name"] == ""
    trials.loc[missing, "device_name"] = trials["device"].map(known).fillna(trials["device"])[missing]
    configs = trials.drop_duplicates(["config_id", "device_name"])
    names = dict(zip(zip(configs["config_id"], configs["device_name"], strict=True), _labels(configs), strict=True))
    keys = zip(trials["config_id"], trials["device_name"], strict=True)
    trials["label"] = pd.Series([names[key] for key in keys], index=trials.index, dtype=object)
    return trials


def without_device(row: dict[str, Any]) -> str:
    """A row's label without its device, for where that is said already."""
    words = row["label"].replace(row["device_name"], "").split()
    return " ".join(word for word in words if word != row["device"])


def compile_title(mode: str) -> str:
    """A mode of torch.compile in a word: "compile" for its default, "" for none."""
    return {"false": "", "": "", "default": "compile"}.get(mode, mode)


def _labels(configs: pd.DataFrame) -> list[str]:
    """ "ViT p7 d4 fp32": family, patch and depth, numeric mode; the rest only where it varies.

    The shape, layout, batch and threads where they vary within the family; what can be asked of every family
    (compilation, share of the data) where it varies in the run.
    """
    devices = "device" if configs["device"].nunique() == configs["device_name"].nunique() else "device_name"
    varying = {str(model): _varying(rows) for model, rows in configs.groupby("model")}
    in_run = _varying(configs)
    shapes = {row["config_id"]: _shape(row, varying[row["model"]]) for row in records(configs)}
    labels = []
    for row in records(configs):
        own = varying[row["model"]]
        parts = [shapes[row["config_id"]], row["dtype"]]
        parts.append(row[devices] if configs["device_name"].nunique() > 1 else "")
        parts.append(compile_title(row["compile"]) if "compile" in in_run else "")
        parts.append(LAYOUT.get(row["channels_last"], "") if "channels_last" in own else "")
        parts.append(row["attention"] if "attention" in own else "")
        parts += [f"{row[key]:g} {unit}" for key, unit in UNITS.items() if key in own and row[key] == row[key]]
        parts.append(f"batch {row['batch_size']:g}" if "batch_size" in own and row["batch_size"] > 0 else "")
        if "train_fraction" in in_run and row["train_fraction"] > 0:
            parts.append(f"{100 * row['train_fraction']:.3g}% data")
        if row["match"]:
            equal = MATCH_TITLES.get(row["match"], row["match"])
            parts.append(f"={equal} {shapes.get(row['matched_to'], row['matched_to'])}")
        labels.append(" ".join(part for part in parts if part))
    return _told_apart(labels, configs)


UNITS = {"num_threads": "threads", "epochs": "epochs"}


def _varying(configs: pd.DataFrame) -> set[str]:
    return {str(key) for key in configs if configs[key].nunique() > 1}


def _shape(row: dict[str, Any], varying: set[str]) -> str:
    """Family, patch, depth. A width that was solved for says less than what it makes equal, and is left out."""
    parts = [family_title(row["model"])]
    for key, letter in SHAPE_LETTERS.items():
        wanted = key in ("patch_size", "depth") or (key in varying and not row["match"])
        parts += [f"{letter}{row[key]:g}"] if wanted and row[key] == row[key] else []
    return " ".join(parts)


def _told_apart(labels: list[str], configs: pd.DataFrame) -> list[str]:
    """Add to labels that several configurations share what differs in their settings or, failing that, their id."""
    alike: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        alike.setdefault(label, []).append(index)
    told = list(labels)
    for indices in (indices for indices in alike.values() if len(indices) > 1):
        settings = [_settings(configs.iloc[index]) for index in indices]
        keys = sorted({key for some in settings for key in some})
        differing = [key for key in keys if len({some.get(key) for some in settings}) > 1]
        distinct = len({tuple(some.get(key) for key in differing) for some in settings}) == len(settings)
        for index, some in zip(indices, settings, strict=True):
            extra = [f"{key}={some.get(key, '')}" for key in differing] if distinct and len(differing) <= 3 else []
            told[index] = " ".join([labels[index], *(extra or [str(configs.iloc[index]["config_id"])])])
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
