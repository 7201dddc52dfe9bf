"""The answer of a run, in words, kept in `answer.json`, so that a finished run needn't be analysed again to say it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.analysis.scorecard import Scorecard
from bench.result import TABLES
from bench.system.environment import git_state
from bench.system.files import write_atomically

ANSWER = "answer.json"


@dataclass(frozen=True)
class Verdict:
    """What a run says about one device, as plain text.

    Args:
        headline: one sentence.
        advice: what to take, and for what something else is better; [] where there is nothing to choose.
        notes: what else belongs to the answer, such as how well speeds are known.
        cards: scorecards; the first is of each family's best.
        warnings: what to know before relying on it.
        winners: what was asked after ("accuracy") -> the family that leads ("CNN"), "" where no difference is shown.
    """

    device_name: str
    headline: str
    advice: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: list[Scorecard] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    winners: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types, scorecards as they are printed."""
        plain = {key: value for key, value in vars(self).items() if key != "cards"}
        return plain | {"cards": [card.as_json() for card in self.cards]}

    @classmethod
    def of_json(cls, content: dict[str, Any]) -> "Verdict":
        """Raises: TypeError, LookupError: it isn't what as_json gives."""
        return cls(**content | {"cards": [Scorecard.of_json(card) for card in content["cards"]]})


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
    kept = {"made_from": _made_from(folder), "answers": [verdict.as_json() for verdict in verdicts]}
    write_atomically(folder / ANSWER, json.dumps(kept, indent=2) + "\n")


def kept_verdicts(folder: Path) -> list[Verdict] | None:
    """The verdicts in answer.json; None if the run's tables or the program have changed since."""
    try:
        kept = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        if kept["made_from"] != _made_from(folder) or not (folder / "report.html").is_file():
            return None
        return [Verdict.of_json(answer) for answer in kept["answers"]]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # damaged, or of another version: then it is worked out again


def _made_from(folder: Path) -> dict[str, Any]:
    """The tables only grow, so their lengths tell whether one has changed; a clock may have been set back."""
    sizes = {name: (folder / name).stat().st_size for name in TABLES if (folder / name).exists()}
    return {"program": list(git_state()), "bytes": sizes}
