"""Tuning: what the settings of tuning.csv reached on validation, and whether the comparison depends on them."""

import math
from dataclasses import dataclass

import pandas as pd

from bench.analysis.comparison import Cell, Sheet
from bench.analysis.formatting import listed, percent, points, seconds
from bench.analysis.labels import family_title, records
from bench.analysis.summary import Tables, accuracy_floor
from bench.errors import StoreError
from bench.store.tables import TUNING, TUNING_COLUMNS

CUT = "The budget ended tuning, so each family keeps its own recipe."
KEYS = ("learning_rate", "weight_decay", "label_smoothing", "translation", "epochs")
NUMBERS = (*KEYS, "setting", "share", "val_accuracy", "wall_seconds")


@dataclass(frozen=True)
class Tuned:
    """A family's settings.

    Attributes:
        reached: validation accuracy of each setting, the lowest first; of those that were dropped early what they had
            reached by then, 0 where training failed.
        own, best: of the suite's own recipe and of the chosen one, trained whole; NaN where that failed.
        own_recipe, best_recipe: by KEYS.
    """

    model: str
    label: str
    reached: tuple[float, ...]
    own: float
    best: float
    own_recipe: dict[str, float]
    best_recipe: dict[str, float]
    seconds: float

    @property
    def title(self) -> str:
        return family_title(self.model)

    def expected_best(self, count: int) -> float:
        """Accuracy of the best of `count` settings, in the mean over all ways of taking so many of them.

        Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results", without replacement.
        """
        total = len(self.reached)
        ways = [math.comb(place, count - 1) / math.comb(total, count) for place in range(total)]
        return sum(way * reached for way, reached in zip(ways, self.reached, strict=True) if way)


def read_tuning(tables: Tables) -> list[Tuned]:
    """The families of tuning.csv, in the order of the run; none where nothing was tuned.

    Raises: StoreError: the table can't be read, or isn't ours.
    """
    path = tables.folder / TUNING
    if not path.is_file() or tables.run.get("tuned") == "cut":
        return []
    try:
        rows = pd.read_csv(path)[[*TUNING_COLUMNS]]
        numbers = rows[[*NUMBERS]].apply(pd.to_numeric)
        ended = numbers.loc[rows["status"] == "ok", "val_accuracy"]
        if not ended.between(0, 1).all() or not {*rows["model"]} <= {*tables.trials["model"]}:
            raise ValueError("no accuracy, or a family that the run hasn't")
        rows = rows.assign(**numbers, chosen=rows["chosen"].astype(str).str.lower() == "true")
        return [_tuned(str(model), own) for model, own in rows.groupby("model", sort=False)]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise StoreError(f"{path}: can't be read ({type(error).__name__}: {error})") from None


def _tuned(model: str, rows: pd.DataFrame) -> Tuned:
    rows = rows.assign(val_accuracy=rows["val_accuracy"].where(rows["status"] == "ok"))
    last = rows.sort_values("share", kind="stable").drop_duplicates("setting", keep="last")
    own, best = records(last[last["setting"] == 0])[0], records(last[last["chosen"]])[0]
    own_accuracy, best_accuracy = (row["val_accuracy"] if row["share"] == 1 else math.nan for row in (own, best))
    own_recipe, best_recipe = ({key: float(row[key]) for key in KEYS} for row in (own, best))
    reached, spent = tuple(sorted(last["val_accuracy"].fillna(0.0))), float(rows["wall_seconds"].sum())
    label = f"{family_title(model)}{str(own['label']).removeprefix(model).removeprefix(model.rpartition(':')[2])}"
    return Tuned(model, label, reached, own_accuracy, best_accuracy, own_recipe, best_recipe, spent)


def tuning_sentence(tables: Tables) -> str:
    """Whether the comparison on validation depends on tuning; "" where nothing was tuned, or one family alone.

    Of one seed, images alone say how sure a lead is, or a change of it.
    """
    if tables.run.get("tuned") == "cut":
        return CUT
    families = [each for each in read_tuning(tables) if not math.isnan(each.best)]
    families = sorted(families, key=lambda each: -each.best)[:2]
    if len(families) < 2:
        return ""
    (first, second), tried = families, f"{len(families[0].reached)} settings each"
    before, after = first.own - second.own, first.best - second.best
    floors = [
        math.hypot(*(accuracy_floor(tables.run, "val", accuracy) for accuracy in pair))
        for pair in ((first.own, second.own), (first.best, second.best))
    ]
    own, tuned = (_ahead(first, second, gap, floor) for gap, floor in zip((before, after), floors, strict=True))
    if math.isnan(before):
        failed = listed([each.title for each in (first, second) if math.isnan(each.own)])
        return f"Tuned with {tried}, {tuned} on validation; with the suite's own recipe {failed} failed."
    if abs(before - after) > math.hypot(*floors):
        return f"The suite's own recipes mislead: with them {own} on validation, tuned with {tried} {tuned}."
    return f"Tuned with {tried}, {tuned} on validation; with the suite's own recipes {own}."


def _ahead(first: Tuned, second: Tuned, gap: float, floor: float) -> str:
    """Who leads by `gap`, the first family's accuracy less the second's."""
    leader, other = (first, second) if gap > 0 else (second, first)
    ahead = f"the {leader.title} is ahead of the {other.title} by {points(abs(gap))}"
    return ahead if abs(gap) > floor else f"neither {first.title} nor {second.title} is ahead"


def tuning_sheet(tables: Tables) -> Sheet | None:
    """A row a family: its own recipe, the best of those tried, and what that is; None where nothing was tuned."""
    if tables.run.get("tuned") == "cut":
        return Sheet("Tuning", [CUT], [])
    families = read_tuning(tables)
    if not families:
        return None
    spent = listed([f"{each.title} {seconds(each.seconds)}" for each in families])
    said = [
        f"{len(families[0].reached)} settings each of {listed([each.label for each in families])}, tried on training "
        "and validation images alone: all for a quarter of the steps, the best quarter and the suite's own whole. "
        f"One seed that no trial of the comparison has. Time of the trials: {spent}.",
        *filter(None, [tuning_sentence(tables)]),
    ]
    head = ["family", "own recipe, validation", "best, validation", "gain", *(key.replace("_", " ") for key in KEYS)]
    rows = []
    for each in families:
        figures = (each.title, percent(each.own), percent(each.best), points(each.best - each.own))
        rows.append(
            [
                *map(Cell, figures),
                *(Cell(f"{each.best_recipe[key]:g}", f"was {each.own_recipe[key]:g}") for key in KEYS),
            ]
        )
    return Sheet("Tuning", said, head, rows, figures=True)
