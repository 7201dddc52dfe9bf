"""The answer of a run, in words, kept in `answer.json`, so that a finished run needn't be analysed again to say it."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.result import TABLES
from bench.system.environment import git_state
from bench.system.files import write_atomically

ANSWER = "answer.json"


@dataclass(frozen=True)
class Verdict:
    """What a run says about one device, as plain text.

    Args:
        headline: one line.
        sentences: the details, each after its topic and a colon; the last one is the recommendation.
        warnings: what to know before relying on it.
        summary: two or three sentences with figures, intervals and n; [] where nothing was measured.
        winners: what was asked after ("accuracy") -> the family that leads ("CNN"), "" where no difference is shown.
    """

    device_name: str
    headline: str
    sentences: list[str]
    warnings: list[str]
    summary: list[str] = field(default_factory=list)
    winners: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a person gets: where it lies, what it says, and how it went."""

    folder: Path
    verdicts: list[Verdict]
    statuses: Counter[str]
    left_out: str | None
    exit_status: int


def keep_verdicts(folder: Path, verdicts: list[Verdict]) -> None:
    """Write down what a report that was just made says."""
    kept = {"made_from": _made_from(folder), "answers": [asdict(verdict) for verdict in verdicts]}
    write_atomically(folder / ANSWER, json.dumps(kept, indent=2, allow_nan=False) + "\n")


def kept_verdicts(folder: Path) -> list[Verdict] | None:
    """The verdicts in answer.json; None if the run's tables or the program have changed since."""
    try:
        kept = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        if kept["made_from"] != _made_from(folder) or not (folder / "report.html").is_file():
            return None
        return [Verdict(**answer) for answer in kept["answers"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # damaged, or of another version: then it is worked out again


def _made_from(folder: Path) -> dict[str, Any]:
    """The tables only grow, so their lengths tell whether one has changed; a clock may have been set back."""
    sizes = {name: (folder / name).stat().st_size for name in TABLES if (folder / name).exists()}
    return {"program": list(git_state()), "bytes": sizes}
