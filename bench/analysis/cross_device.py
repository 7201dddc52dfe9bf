"""Across devices: speed and accuracy of one configuration on each, and the machines (nodes) that ran the trials."""

import math
import statistics

import pandas as pd

from bench.analysis.comparison import Cell, Row, Sheet, compare_measured, comparison_cell
from bench.analysis.formatting import between, listed, percent, ratio, span, three_digits, whole
from bench.analysis.labels import grouped, records, without_device
from bench.analysis.modes import twin_key
from bench.analysis.summary import Tables
from bench.measure.stats import ratio_interval

MOST = 10  # configurations in the sheet
OF_THE_DEVICE = ("device", "device_name", "num_threads")
# The 1-minute average just before a trial still holds the trial before it, which may keep every core busy: 1 a core
# is a sweep's own doing. Half a process a core above what the node usually has is others' work.
OWN_LOAD, OTHERS_LOAD = 1.0, 0.5
SPEED, ACCURACY = "images_per_second", "test_accuracy"

Pair = tuple[Row, Row]  # the same settings on another device, and on the first one that has them


def cross_device_sheet(tables: Tables) -> Sheet | None:
    """What other devices make of the configurations that an earlier one has, too; None where none has company.

    The families' best come first, then the others in the order of the run.
    """
    common = [rows for rows in _by_settings(tables) if len(rows) > 1]
    common.sort(key=lambda rows: not any(row["best_of_family"] for row in rows))
    if not common:
        return None
    pairs = [(other, first) for first, *others in common for other in others]
    between = grouped(((other["device_name"], first["device_name"]), (other, first)) for other, first in pairs)
    said = [line for devices, own in between.items() for line in _sentences(tables, devices, own)]
    if len(common) > MOST:
        said.append(f"{MOST} of {len(common)} configurations are shown, the families' best among them.")
    several = len(between) > 1
    both = "both" if several else " and ".join(next(iter(between)))
    head = ["configuration", *(["devices"] if several else []), f"images/s, {both}", "ratio"]
    head += ["test accuracy of both", "difference"]
    shown = [(other, first) for first, *others in common[:MOST] for other in others]
    return Sheet("The same configuration on each device", said, head, [_line(tables, pair, several) for pair in shown])


def _by_settings(tables: Tables) -> list[list[Row]]:
    """For each configuration, whatever its device, its row on each; of several numbers of threads, the fastest."""
    keys: dict[str, tuple[str, ...]] = {}  # a config_id says the same of two runs, even where a later one writes more
    found: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in records(tables.summary[tables.summary["n"] > 0]):
        rows = found.setdefault(keys.setdefault(row["config_id"], twin_key(row, *OF_THE_DEVICE)), {})
        known = rows.get(row["device_name"])
        if known is None or math.isnan(known[SPEED]) or row[SPEED] > known[SPEED]:
            rows[row["device_name"]] = row
    order = list(dict.fromkeys(tables.summary["device_name"]))
    return [sorted(rows.values(), key=lambda row: order.index(row["device_name"])) for rows in found.values()]


def _sentences(tables: Tables, devices: tuple[str, str], pairs: list[Pair]) -> list[str]:
    """How much faster one device is than the other over all that both have, and whether accuracy is the same."""
    speeds, accuracies = (
        [found for pair in pairs if (found := compare_measured(tables, *pair, metric))] for metric in (SPEED, ACCURACY)
    )
    lines = []
    speeds = [found for found in speeds if not found.noisy]
    if speeds:
        times = f"{span([found.amount for found in speeds], ratio)} times as fast as {devices[1]}"
        unsure = sum(not found.shown for found in speeds)
        but = f"; in {unsure} of them no difference is shown" if unsure else ""
        lines.append(f"{devices[0]} trains {times} in {_count(len(speeds))} that both measured{but}.")
    if accuracies:
        sure = sum(found.shown for found in accuracies)
        what, some = ("a difference", str(sure)) if sure else ("no difference", "any")
        lines.append(f"Test accuracy: {what} between the two is shown in {some} of {_count(len(accuracies))}.")
    return lines


def _count(number: int) -> str:
    return f"{number} configuration{'s' * (number != 1)}"


def _line(tables: Tables, pair: Pair, several: bool) -> list[Cell]:
    speeds = " and ".join(three_digits(row[SPEED]) if row[SPEED] > 0 else "–" for row in pair)
    accuracies = " and ".join(percent(row[ACCURACY]) for row in pair)
    devices = [Cell(" over ".join(row["device_name"] for row in pair))] if several else []
    ratios = [comparison_cell(compare_measured(tables, *pair, metric)) for metric in (SPEED, ACCURACY)]
    return [Cell(without_device(pair[1])), *devices, Cell(speeds), ratios[0], Cell(accuracies), ratios[1]]


def node_sheet(tables: Tables) -> Sheet | None:
    """A row a node and device: its trials, its hardware, how busy it was; None where no trial says its node."""
    trials = tables.trials[tables.trials["node"] != ""]
    if trials.empty:
        return None
    rows = []
    for (device, node), own in trials.groupby(["device_name", "node"]):
        cores = sorted(own["node_cores"].dropna().unique())
        hardware = [listed([text for text in dict.fromkeys(own["node_cpu"]) if text])]
        hardware += [f"{listed([f'{n:g}' for n in cores], 'or')} cores"] if cores else []
        failed, loads = int((own["status"] != "ok").sum()), own["load"].dropna()
        cells = [Cell(str(node), str(device)), Cell(whole(len(own)), f"{failed} not ok" if failed else "")]
        cells.append(Cell(", ".join(filter(None, hardware)) or "–"))
        cells.append(Cell(f"{loads.median():.2f}", f"at most {loads.max():.2f}") if len(loads) else Cell("–"))
        rows.append(cells)
    unknown = len(tables.trials) - len(trials)
    said = [
        "Trials on devices of one name count as one device's, whichever node ran them; the hardware above is that of "
        "the machine that began the run.",
    ]
    said += [f"{whole(unknown)} more trials don't say their node."] if unknown else []
    return Sheet("Nodes", said, ["node", "trials", "processor", "load before a trial, processes a core"], rows)


def node_warnings(tables: Tables, device_name: str) -> list[str]:
    """Where machines under one name of a device weren't alike, or were busy with something else."""
    trials = tables.trials[tables.trials["device_name"] == device_name]
    timed = trials[(trials["status"] == "ok") & (trials["timed"] != "false")]
    known = trials[(trials["node"] != "") & ((trials["node_cpu"] != "") | trials["node_cores"].notna())]
    machines = known[["node", "node_cpu", "node_cores"]].fillna({"node_cores": 0}).drop_duplicates()
    kinds = grouped(
        (", ".join(filter(None, (cpu, f"{cores:g} cores" if cores else ""))), node)
        for node, cpu, cores in machines.itertuples(index=False)
    )
    said = "; ".join(f"{listed(list(dict.fromkeys(nodes)))}: {words}" for words, nodes in kinds.items())
    unlike = f"Trials on {device_name} ran in machines that aren't alike ({said}); their figures stand in one row."
    return [*([unlike] if len(kinds) > 1 else []), *_other_speed(timed, device_name), *_busy(timed)]


def _other_speed(timed: pd.DataFrame, device_name: str) -> list[str]:
    """Nodes that train the same configurations at another speed, by more than throughput swings within a trial."""
    known = timed[(timed["node"] != "") & (timed["images_per_second"] > 0)]
    if known["node"].nunique() < 2:
        return []
    by_config = known.groupby("config_id")
    known = known[by_config["node"].transform("nunique") > 1]
    usual = known.groupby("config_id")["images_per_second"].transform("median")
    relative = (known["images_per_second"] / usual).groupby(known["node"])
    of_node = {str(node): values.tolist() for node, values in relative}
    if len(of_node) < 2:
        return []
    slow, *_, fast = sorted(of_node, key=lambda node: statistics.geometric_mean(of_node[node]))
    found = ratio_interval(of_node[fast], of_node[slow])
    swing = float(known["throughput_spread"].median())
    beyond = found.amount > 1 + (0.0 if math.isnan(swing) else swing)
    if not (beyond and found.low > 1):
        return []
    counts = f"{len(of_node[fast])} and {len(of_node[slow])} trials of the same configurations"
    return [
        f"{fast} trains {ratio(found.amount)} times as fast as {slow} {between(found, ratio)}, {counts}, though both "
        f"call their device {device_name}: more than throughput swings within a trial. Speeds of both are in one "
        "mean."
    ]


def _busy(timed: pd.DataFrame) -> list[str]:
    known = timed[timed["load"].notna()]
    if known.empty:
        return []
    own = max(OWN_LOAD, float(known["world_size"].max()))  # several processes may queue for the cores
    usual = known.groupby("node")["load"].transform("median").clip(upper=own)
    busy = known[known["load"] > usual + OTHERS_LOAD]
    if busy.empty:
        return []
    nodes = [str(node) for node in dict.fromkeys(busy["node"]) if node]
    where = f" ({listed(nodes[:3])}{f' and {len(nodes) - 3} more' if len(nodes) > 3 else ''})" if nodes else ""
    return [
        f"{len(busy)} of {len(known)} timed trials began on a busy machine{where}: up to {busy['load'].max():.1f} "
        f"processes a core ran or waited just before, {OTHERS_LOAD:g} or more above what the sweep itself explains. "
        "Their speeds may be low."
    ]
