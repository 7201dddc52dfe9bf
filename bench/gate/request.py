"""What was asked of a gate, the cells that this means, and what its journal says of it first."""

import itertools
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.config.suite_file import SuiteText, find_suite, read_suite
from bench.errors import SuiteError, UserError
from bench.gate.journal import FORMAT, Arm
from bench.gate.launch import GateCell
from bench.gate.worktrees import Tree
from bench.system.environment import cpu_name, usable_cores
from bench.system.redaction import redacted, redacted_in

# Keys that say how often, with what aim and for how long a suite runs; a single step has no use for them.
OF_A_RUN = (
    *("description", "seeds", "targets", "instrument_seconds", "trial_timeout_seconds"),
    *("timing", "speed_precision", "speed_seconds", "equivalent_speed", "equivalent_accuracy"),
    *("published", "match"),  # `match` of an entry; a suite's own is refused
    "num_threads",  # the gate's own
    *("world_size", "global_batch"),  # a step is one process's
)
KEPT = ("dataset", "split_seed", "recipe")  # never swept


class GateRequest(BaseModel):
    """What a person asked for; it stands in the journal, so that a stopped gate can go on.

    Attributes:
        base, head: revisions; "working tree" takes uncommitted work in.
        base_dir, head_dir: folders instead; both or none.
        cells: only those whose name holds one of these.
        margin, promise: shares, 0.03 and 0.10.
        only_work: count, and time nothing.
        aa: both arms are the same on purpose, to see the machine's noise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    journal: Path
    base: str | None = None
    head: str = "HEAD"
    base_dir: Path | None = None
    head_dir: Path | None = None
    suite: str = "gate"
    settings: Sequence[str] = ()
    cells: Sequence[str] = ()
    budget_seconds: float | None = None
    margin: float = 0.03
    promise: float = 0.10
    threads: int = 1
    data_dir: Path | None = None
    only_work: bool = False
    aa: bool = False


def gate_cells(request: GateRequest) -> list[GateCell]:
    """Training and inference of each configuration of the suite.

    Raises: UserError: no such suite, or none of its cells is called so.
    """
    text = read_suite(find_suite(request.suite), request.settings)
    works: tuple[Literal["train"], Literal["infer"]] = ("train", "infer")
    cells = [GateCell(f"{name} {work}", content, work) for name, content in configurations(text) for work in works]
    kept = [cell for cell in cells if not request.cells or any(part in cell.name for part in request.cells)]
    if not kept:
        known = ", ".join(cell.name for cell in cells)
        raise UserError(f"--cell {' '.join(request.cells)}: no cell's name holds it; cells: {known}")
    return kept


def configurations(text: SuiteText) -> list[tuple[str, dict[str, Any]]]:
    """The configurations that a suite means, in its order: a name that no other has, and a suite of its own.

    They are as written and not as resolved: what a suite leaves out stays left out, so that each of two revisions of
    the program fills in its own defaults.

    Raises: SuiteError: a suite without models or dataset, one that matches pairs, or an empty sweep.
    """
    if text.content.get("match") is not None:
        raise SuiteError(f"{text.where(('match',))}: 'match' means nothing to a single step; leave it out")
    if not isinstance(text.content.get("dataset"), str):
        raise SuiteError(f"{text.where(('dataset',))}: 'dataset' should be the name of one")
    entries = text.content.get("models")
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "model" in e for e in entries) or not entries:
        raise SuiteError(f"{text.where(('models',))}: 'models' should be a list of entries, each with its 'model'")
    kept = {key: text.content[key] for key in KEPT if key in text.content}
    shared = {key: value for key, value in text.content.items() if key not in (*KEPT, *OF_A_RUN, "models")}
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        sweep = shared | {key: value for key, value in entry.items() if key not in ("model", "recipe", *OF_A_RUN)}
        if empty := [key for key, value in sweep.items() if value == []]:
            raise SuiteError(f"{text.where((empty[0],))}: {empty[0]}: the sweep is empty; give at least one value")
        lists = [value if isinstance(value, list) else [value] for value in sweep.values()]
        for values in itertools.product(*lists):
            own = {key: entry[key] for key in ("model", "recipe") if key in entry}
            content = {**kept, "models": [own | dict(zip(sweep, values, strict=True))]}
            if content in found.values():
                continue  # an entry that stands there for its match
            swept = [f"{key}={value}" for key, value, many in zip(sweep, values, lists, strict=True) if len(many) > 1]
            name = " ".join([str(entry["model"]), *swept])
            while name in found:  # entries of one model that no sweep tells apart
                name += "'"
            found[name] = content
    return list(found.items())


def journal_header(request: GateRequest, cells: Sequence[GateCell], trees: Mapping[Arm, Tree]) -> dict[str, Any]:
    """The journal's first line: what was asked, of which sources, on which machine."""
    names = {"base": request.base_dir or request.base or "HEAD", "head": request.head_dir or request.head}
    return {
        "format": FORMAT,
        "cells": [cell.name for cell in cells],
        "margin": request.margin,
        "promise": request.promise,
        **{arm: {"name": str(names[arm]), "commit": tree.commit, "dirty": tree.dirty} for arm, tree in trees.items()},
        "only_work": request.only_work,
        "aa": request.aa,
        "threads": request.threads,
        "command": redacted(_command(request)),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {
            "cpu": cpu_name(),
            "cores": usable_cores(),
            "python": sys.version.split()[0],
            "torch": version("torch"),
        },
        "request": redacted_in(request.model_dump(mode="json")),
    }


def _command(request: GateRequest) -> str:
    """What to type for the same comparison; where results go is left out."""
    words = ["run_bench.py", "gate"]
    if request.base_dir and request.head_dir:
        words += ["--base-dir", str(request.base_dir), "--head-dir", str(request.head_dir)]
    else:
        words += ["--aa"] if request.aa else ["--base", str(request.base)]
        words += [] if request.head == "HEAD" else ["--head", request.head]
    words += [] if request.suite == "gate" else ["--suite", request.suite]
    words += [word for option in request.settings for word in ("--set", option)]
    words += [word for cell in request.cells for word in ("--cell", cell)]
    words += ["--only-invariants"] if request.only_work else []
    words += ["--budget", f"{request.budget_seconds:g}s"] if request.budget_seconds else []
    words += [] if request.threads == 1 else ["--threads", str(request.threads)]
    return shlex.join(words)
