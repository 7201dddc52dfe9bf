"""Speeds from launches: which number of threads leads on a device, how well speeds are known, columns of the summary.

Launches time each configuration with all threads and with one. All threads are what a person trains with, so they lead
wherever their ratios are known and the machine leaves its cores where they are; else those of one thread often still
are an answer.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from bench.analysis.formatting import clean_text, shortened
from bench.analysis.labels import LONGEST_DEVICE, grouped
from bench.measure.speed_stats import Cell, Estimate, Panel, Speeds, is_clean, panel_of
from bench.result import Launch

PRECISION = 0.03  # half-width of a ratio that launches go for, where a run doesn't say
STEADY = 0.05  # of the slices with all threads: those whose cores may be apart on a machine that keeps them together
WIDEST = math.log(2)  # half-width of an interval that tells anything
TRAINING, INFERENCE, LATENCY = "images_per_second", "inference_images_per_second", "latency_p50_seconds"
WORK = {TRAINING: "train", INFERENCE: "infer", LATENCY: "infer"}
CALLS = ("p95_seconds", "p99_seconds")  # of single images
SPLIT = ("data_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds")

Row = Mapping[str, Any]  # of the summary


class Leading(NamedTuple):
    """The number of threads whose speeds are a device's answer.

    Attributes:
        most: the largest number that was tried.
        half_width: of a ratio of training speeds, the median over all pairs; of one configuration, of its speed.
        of_most: the same with the largest number.
        together: share of undisturbed slices with the largest number whose cores had a common cache.
        known: well enough for an answer.
    """

    threads: int
    most: int
    half_width: float
    of_most: float
    together: float
    known: bool


def precision_of(run: Mapping[str, Any]) -> float:
    """The half-width of ratios that a run's launches went for."""
    return number_of(run, "speed_precision", PRECISION)


def number_of(run: Mapping[str, Any], key: str, default: float) -> float:
    """A number of a run's record; an older run doesn't have it."""
    value = run.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def device_speeds(launches: Iterable[Launch], precision: float) -> "dict[str, DeviceSpeeds]":
    """A run's launches by the name of their device, as the tables have it; none where nothing was timed."""
    found = {}
    for name, own in grouped((launch.device_name, launch) for launch in launches).items():
        whole = [replace(launch, slices=[*filter(_is_whole, launch.slices)]) for launch in own]
        if any(launch.slices for launch in whole):
            speeds = Speeds(whole)
            found[shortened(clean_text(name), LONGEST_DEVICE)] = DeviceSpeeds(speeds, leading_of(speeds, precision))
    return found


def _is_whole(piece: Row) -> bool:
    """Whether a slice has what a speed is made of; a journal may be anybody's."""
    needed = (piece[key] for key in ("seconds", "images", "num_threads", "batch_size"))
    return all((value or 0) > 0 for value in needed) and not (piece["p50_seconds"] or 1) <= 0


def leading_of(speeds: Speeds, precision: float) -> Leading:
    """All threads where their ratios are known to twice the precision; else one, if its are; else whichever tells more.

    One leads, too, where its ratios are known and cores were apart for some of the time: ratios of all threads are
    then those of cores together, which training would have for some of the time only.

    A number of threads that only some configurations ask for themselves doesn't count.
    """
    timed = {(piece["num_threads"], piece["config_id"]) for launch in speeds.launches for piece in launch.slices}
    configs = {number: [config for own, config in timed if own == number] for number, _ in timed}
    shared = [number for number in configs if len(configs[number]) == max(map(len, configs.values()))]
    most, fewest = max(shared), min(shared)
    widths = {number: _half_width(speeds, number, len(configs[number])) for number in shared}
    # of a single configuration there is no ratio, and its own speed scatters as launches do
    known = {n: width <= 2 * precision or (len(configs[n]) == 1 and width < math.inf) for n, width in widths.items()}
    timed_cells = Counter(cell.num_threads for cell in speeds.cells if cell.work == "train")
    together = 1 - speeds.apart_share(most)
    if known[most] or known[fewest]:
        threads = most if known[most] and (together >= 1 - STEADY or not known[fewest]) else fewest
    else:
        threads = max(most, fewest, key=lambda number: (widths[number] <= WIDEST, timed_cells[number]))
    return Leading(threads, most, widths[threads], widths[most], together, known[threads])


def _half_width(speeds: Speeds, threads: int, configs: int) -> float:
    """The median over all pairs of so many configurations; a pair that isn't known counts as infinite."""
    panel = Panel("train", False, threads)
    if configs == 1:
        own = (speeds.speed(cell).half_width for cell in speeds.cells if panel_of(cell) == panel)
        return next(own, math.inf)
    widths = speeds.half_widths(panel)
    return statistics.median([*widths, *[math.inf] * (math.comb(configs, 2) - len(widths))])


def leading_sentence(device: "DeviceSpeeds", with_most: str = "") -> str:
    """ "ratios of training speeds are known to ±2.6% (8 launches, 2 threads); ...".

    Args:
        with_most: what is shown with the largest number of threads, where fewer lead.
    """
    speeds, (threads, most, half_width, of_most, together, known) = device.speeds, device.leading
    count = len(speeds.launches)
    how = f"({count} launch{'es' * (count != 1)}, {count_threads(threads)})"
    if half_width > WIDEST:
        return f"speeds are too noisy to call: ratios aren't known {how}"
    if not known:
        return f"speeds are rough: ratios are known to {_plus_minus(half_width)} only {how}"
    said = f"ratios of training speeds are known to {_plus_minus(half_width)} {how}"
    moved = f", whose cores shared a cache for {together:.0%} of the time," if together < 1 - STEADY else ""
    if threads == most:
        return f"{said}{moved}".removesuffix(",")
    said += f"; with {'both' if most == 2 else f'all {most}'} threads"
    if with_most:
        return f"{said}{moved} {with_most}"
    if of_most <= WIDEST:
        return f"{said}{moved} to {_plus_minus(of_most)}{' only' if of_most > half_width else ''}"
    return f"{said} other programs disturbed too many of the measurements for an answer"


def count_threads(number: float) -> str:
    return "one thread" if number == 1 else f"{number:g} threads"


def _plus_minus(half_width: float) -> str:
    return f"±{100 * half_width:.1f}%"


def cell_of(row: Row, metric: str, threads: float = math.nan) -> Cell:
    """What was timed for a row's metric, with its leading number of threads where none is given."""
    number = row["speed_threads"] if math.isnan(threads) else threads
    return Cell(row["config_id"], WORK[metric], 1 if metric == LATENCY else int(row["batch_size"]), int(number))


@dataclass(frozen=True)
class DeviceSpeeds:
    """A device's speeds with the number of threads that leads, as the summary needs them."""

    speeds: Speeds
    leading: Leading

    def threads_of(self, config_id: str) -> list[int]:
        """Numbers of threads that a configuration was timed with, the one that leads first; [] where it wasn't."""
        return self._threads.get(config_id, [])

    def clock_of(self, config_id: str, batch_size: float) -> float:
        """Training images/s that turn images into seconds; NaN where the configuration wasn't timed."""
        threads, row = self.threads_of(config_id), {"config_id": config_id, "batch_size": batch_size}
        return self.speeds.speed(cell_of(row, TRAINING, threads[0])).amount if threads and batch_size > 0 else math.nan

    def columns(self, row: Row) -> dict[str, Any]:
        """What launches say of a configuration, by column of the summary; {} where they didn't time it."""
        speeds, numbers = self.speeds, self.threads_of(row["config_id"])
        if not numbers or not row["batch_size"] > 0:
            return {}
        threads = numbers[0]
        found: dict[str, Any] = {"speed_threads": threads}
        for metric in WORK:
            found |= _with_ends(metric, _figure(speeds, row, metric, threads))
            if len(numbers) > 1:
                found[f"{metric}_one_thread"] = _figure(speeds, row, metric, 1).amount
        for metric in (TRAINING, INFERENCE):
            found[f"{metric}_interval"] = "launches" if found[metric] > 0 else ""
        own = row["config_id"], threads
        # each launch times the real loop with all threads, or with one where no slice with all was undisturbed
        counts = sorted(numbers, reverse=True)
        stalls = [speeds.stall_share(row["config_id"], int(row["batch_size"]), each) for each in counts]
        found |= {f"latency_{key}": _median(self._calls[key].get(own, ())) for key in CALLS}
        found |= {part: _median(each[part] for each in self._splits.get(own, ())) for part in SPLIT}
        peak = _median(launch.peaks.get(row["dtype"]) for launch in speeds.launches)
        work = found[TRAINING] * (row["num_train_flops"] or math.nan)
        return found | {
            "n_launches": speeds.speed(cell_of(row, TRAINING, threads)).n,
            "step_seconds": row["batch_size"] / found[TRAINING],
            "matmul_flops_per_second": peak,
            "flops_per_second": work,
            "flops_share": work / peak if threads == max(speeds.threads) else math.nan,  # the peak is of all threads
            **_with_ends("stall_share", max(stalls, key=lambda found: found.n)),
        }

    @cached_property
    def _threads(self) -> dict[str, list[int]]:
        own = grouped((cell.config_id, cell.num_threads) for cell in self.speeds.cells)
        order = {config: sorted(set(found), reverse=True) for config, found in own.items()}
        return {config: sorted(found, key=self.leading.threads.__ne__) for config, found in order.items()}

    @cached_property
    def _calls(self) -> dict[str, dict[tuple[str, int], list[float]]]:
        """Percentile -> configuration and threads -> launch by launch, the median of undisturbed single images."""
        found: dict[str, dict[tuple[str, int], list[float]]] = {key: defaultdict(list) for key in CALLS}
        for launch in self.speeds.together:
            clean = [piece for piece in launch.slices if _is_one_image(piece) and is_clean(piece)]
            for key, by_config in found.items():
                known = grouped(((piece["config_id"], piece["num_threads"]), piece[key]) for piece in clean)
                for own, values in known.items():
                    by_config[own].append(_median(values))
        return found

    @cached_property
    def _splits(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        every = [each for launch in self.speeds.launches for each in launch.splits]
        return grouped(((each["config_id"], each["num_threads"]), each) for each in every)


def _is_one_image(piece: Row) -> bool:
    return bool(piece["work"] == "infer" and piece["batch_size"] == 1)


def _figure(speeds: Speeds, row: Row, metric: str, threads: int) -> Estimate:
    """Images/s, or of one image its seconds."""
    found = speeds.speed(cell_of(row, metric, threads))
    return Estimate(1 / found.high, 1 / found.amount, 1 / found.low, found.n) if metric == LATENCY else found


def _with_ends(column: str, found: Estimate) -> dict[str, float]:
    return {column: found.amount, f"{column}_low": found.low, f"{column}_high": found.high}


def _median(values: Iterable[float | None]) -> float:
    """Of what was measured; NaN of nothing."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return statistics.median(known) if known else math.nan
