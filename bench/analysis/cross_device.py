"""Across devices: the same configuration on each, in speed and in accuracy."""

import json

from bench.analysis.comparison import Cell, Comparison, Row, Sheet, compare_rows
from bench.analysis.formatting import percent, ratio, span, three_digits
from bench.analysis.labels import records, without_device
from bench.analysis.summary import Tables

MOST = 10  # configurations in the sheet
SAME = ("model", "dtype", "compile", "channels_last", "train_fraction", "match", "source", "world_size", "global_batch")
SPEED, ACCURACY = "images_per_second", "test_accuracy"

Pair = tuple[Row, Row]  # the same settings on another device, and on the first one that has them


def across_sheet(tables: Tables) -> Sheet | None:
    """What other devices make of the configurations that an earlier one has, too; None where none has company.

    The families' best come first, then the others in the order of the run.
    """
    devices = list(dict.fromkeys(tables.summary["device_name"]))
    if len(devices) < 2:
        return None
    common = [[rows[device] for device in devices if device in rows] for rows in _by_settings(tables)]
    common = sorted((rows for rows in common if len(rows) > 1), key=lambda rows: not any(map(_stands, rows)))
    if not common:
        return None
    pairs = [(other, first) for first, *others in common for other in others]
    between = list(dict.fromkeys((other["device_name"], first["device_name"]) for other, first in pairs))
    said = [line for both in between for line in _sentences(tables, both, pairs)]
    if len(common) > MOST:
        said.append(f"{MOST} of {len(common)} configurations are shown, the families' best among them.")
    several = len(between) > 1
    both = "both" if several else " and ".join(between[0])
    head = ["configuration", *(["devices"] if several else []), f"images/s, {both}", "ratio"]
    head += ["test accuracy of both", "difference"]
    shown = [(other, first) for first, *others in common[:MOST] for other in others]
    return Sheet("The same configuration on each device", said, head, [_line(tables, pair, several) for pair in shown])


def _by_settings(tables: Tables) -> list[dict[str, Row]]:
    """For each configuration, whatever its device, its row on each; of several numbers of threads, the fastest."""
    keys: dict[str, tuple[str, ...]] = {}  # a config_id says the same of two runs, even where a later one writes more
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in records(tables.summary[tables.summary["n"] > 0]):
        key = (*(str(row[name]) for name in SAME), _sorted(row["settings"]), _sorted(row["training"]))
        rows = found.setdefault(keys.setdefault(row["config_id"], key), {})
        known = rows.get(row["device_name"])
        if known is None or row[SPEED] > known[SPEED]:
            rows[row["device_name"]] = row
    return list(found.values())


def _sorted(text: str | None) -> str:
    try:
        return json.dumps(json.loads(text or "{}"), sort_keys=True)
    except ValueError:
        return str(text)


def _stands(row: Row) -> bool:
    return bool(row["best_of_family"])


def _sentences(tables: Tables, devices: tuple[str, str], pairs: list[Pair]) -> list[str]:
    """How much faster one device is than the other over all that both have, and whether accuracy is the same."""
    own = [pair for pair in pairs if (pair[0]["device_name"], pair[1]["device_name"]) == devices]
    speeds, accuracies = ([found for pair in own if (found := _compared(tables, pair, m))] for m in (SPEED, ACCURACY))
    lines = []
    if speeds:
        times = f"{span([found.amount for found in speeds], ratio)} times as fast as {devices[1]}"
        unsure = sum(not found.shown for found in speeds)
        but = f"; in {unsure} of them no difference is shown" if unsure else ""
        lines.append(f"{devices[0]} trains {times} in {_count(len(speeds))} that both measured{but}.")
    if accuracies:
        sure = sum(found.shown for found in accuracies)
        many = f"in {sure} of {_count(len(accuracies))}" if sure else f"in any of {_count(len(accuracies))}"
        lines.append(f"Test accuracy: {'a' if sure else 'no'} difference between the two is shown {many}.")
    return lines


def _count(number: int) -> str:
    return f"{number} configuration{'s' * (number != 1)}"


def _compared(tables: Tables, pair: Pair, metric: str) -> Comparison | None:
    return compare_rows(tables, *pair, metric) if all(row[metric] > 0 for row in pair) else None


def _line(tables: Tables, pair: Pair, several: bool) -> list[Cell]:
    speeds = " and ".join(three_digits(row[SPEED]) if row[SPEED] > 0 else "–" for row in pair)
    accuracies = " and ".join(percent(row[ACCURACY]) for row in pair)
    devices = [Cell(" over ".join(row["device_name"] for row in pair))] if several else []
    ratios = [_cell(_compared(tables, pair, metric)) for metric in (SPEED, ACCURACY)]
    return [Cell(without_device(pair[1])), *devices, Cell(speeds), ratios[0], Cell(accuracies), ratios[1]]


def _cell(found: Comparison | None) -> Cell:
    if found is None:
        return Cell("–")
    return Cell(found.text, "; ".join(part for part in (found.ends, "" if found.shown else "not shown") if part))
