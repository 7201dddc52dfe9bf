"""What a report says of tuning: the curve over budgets, whether the comparison depends on it, a damaged table."""

import csv
import itertools
from pathlib import Path
from statistics import fmean

import pytest
from made_up import make_run

from bench.analysis.summary import Tables, read_tables
from bench.analysis.tuning import Tuned, read_tuning, tuning_sentence, tuning_sheet
from bench.analysis.verdict import decide
from bench.errors import StoreError
from bench.report.build import write_report
from bench.store.tables import TUNING, TUNING_COLUMNS


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return read_tables(make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)], dtypes=["fp32"]))


def write(tables: Tables, whole: dict[str, list[float | None]], dropped: tuple[float, ...] = (0.5, 0.6)) -> None:
    """Settings of each family: the suite's own first, then those trained whole, then those dropped after a quarter."""
    with (tables.folder / TUNING).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, TUNING_COLUMNS)
        writer.writeheader()
        for model, reached in whole.items():
            best = max(range(len(reached)), key=lambda place: reached[place] or 0.0)
            quarter = [*(0.5 * (each or 0.0) for each in reached), *dropped]
            for share, found in ((0.25, quarter), (1.0, reached)):
                for number, accuracy in enumerate(found):
                    recipe = {"learning_rate": 0.001 * (number + 1), "weight_decay": 0.05, "label_smoothing": 0.1}
                    facts = {"trial_id": f"{model}-{number}-{share}", "model": model, "label": f"{model} d2"}
                    ended = {"status": "ok" if accuracy is not None else "diverged", "val_accuracy": accuracy}
                    rest = {"translation": 2.0, "epochs": 3, "wall_seconds": 30.0, "setting": number, "share": share}
                    chosen = {"chosen": share == 1 and number == best}
                    writer.writerow(facts | recipe | ended | rest | chosen)


def test_the_best_of_so_many_is_the_mean_over_all_ways_of_taking_them() -> None:
    reached = (0.0, 0.2, 0.5, 0.55, 0.9, 0.91)
    tuned = Tuned("vit", "vit", reached, 0.5, 0.91, {}, {}, 0.0)
    for count in range(1, 7):
        ways = list(itertools.combinations(reached, count))
        assert tuned.expected_best(count) == pytest.approx(fmean(max(way) for way in ways))


def test_a_table_is_read_by_family_with_what_each_setting_reached_last(tables: Tables) -> None:
    assert read_tuning(tables) == []
    assert tuning_sentence(tables) == ""
    assert tuning_sheet(tables) is None
    write(tables, {"vit": [0.7, None, 0.9], "cnn": [0.95, 0.94, 0.93]})
    vit, cnn = read_tuning(tables)
    assert (vit.title, vit.own, vit.best) == ("ViT", 0.7, 0.9)
    assert vit.reached == (0.0, 0.5, 0.6, 0.7, 0.9)
    assert vit.best_recipe["learning_rate"] == 0.003
    assert (cnn.own, cnn.best, cnn.seconds) == (0.95, 0.95, 8 * 30.0)
    sheet = tuning_sheet(tables)
    assert sheet
    assert [cell.text for cell in sheet.rows[0]][:5] == ["ViT", "70.00%", "90.00%", "20.00 points", "0.003"]
    assert sheet.rows[0][4].interval == "was 0.001"
    assert "ViT 240 s and CNN 240 s" in sheet.said[0]


CNN = "the CNN is ahead of the ViT by"
MISLED = f"The suite's own recipes mislead: with them {CNN} 20.00 points on validation, tuned with 4 settings each "
TUNED, OWN = "Tuned with 4 settings each, ", " on validation; with the suite's own recipe"
NEITHER, VIT = "neither CNN nor ViT is ahead", "the ViT is ahead of the CNN by"


@pytest.mark.parametrize(
    ("vit", "cnn", "said"),
    [
        ([0.7, 0.899], [0.9, 0.9], f"{MISLED}{NEITHER}."),
        ([0.7, 0.95], [0.9, 0.9], f"{MISLED}{VIT} 5.00 points."),
        ([0.7, 0.85], [0.9, 0.91], f"{MISLED}{CNN} 6.00 points."),
        ([0.7, 0.71], [0.9, 0.91], f"{TUNED}{CNN} 20.00 points{OWN}s {CNN} 20.00 points."),
        ([0.899, 0.901], [0.9, 0.902], f"{TUNED}{NEITHER}{OWN}s {NEITHER}."),
        ([0.91, 0.92], [0.9, 0.9], f"{TUNED}{VIT} 2.00 points{OWN}s neither ViT nor CNN is ahead."),
        ([None, 0.9], [0.8, 0.8], f"{TUNED}{VIT} 10.00 points{OWN} ViT failed."),
        ([None, None], [0.8, 0.8], ""),
    ],
)
def test_whether_the_default_misled_is_said_in_one_sentence(
    tables: Tables, vit: list[float | None], cnn: list[float | None], said: str
) -> None:
    write(tables, {"vit": vit, "cnn": cnn})
    assert tuning_sentence(tables) == said
    (verdict,) = decide(tables)
    assert verdict.notes.count(said) == bool(said)
    write(tables, {"vit": vit})
    assert tuning_sentence(tables) == "", "one family alone has nobody to be ahead of"


@pytest.mark.parametrize(("old", "new"), [("0.7", "7"), ("0.7", "abc"), ("0.7", "-1"), ("vit", "net"), ("0.05", "x")])
def test_a_table_that_was_edited_is_refused(tables: Tables, old: str, new: str) -> None:
    write(tables, {"vit": [0.7, 0.9], "cnn": [0.9, 0.9]})
    path = tables.folder / TUNING
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StoreError, match=r"tuning\.csv: can't be read"):
        read_tuning(tables)


@pytest.mark.slow
def test_the_page_has_the_curve_and_a_damaged_table_costs_a_line_alone(tables: Tables) -> None:
    write(tables, {"vit": [0.7, 0.9], "cnn": [0.9, None]})
    write_report(tables.folder)
    page = (tables.folder / "report.html").read_text()
    assert "What does tuning bring?" in page
    assert page.index("recipes mislead") < page.index('<section id="more"')
    (tables.folder / TUNING).write_text("model\nvit\n")
    with pytest.raises(StoreError, match=r"tuning\.csv: can't be read"):
        read_tuning(tables)
    write_report(tables.folder)
    page = (tables.folder / "report.html").read_text()
    assert "tuning.csv: can&#39;t be read" in page
    assert "recipes mislead" not in page


def test_what_the_budget_ended_is_said_and_nothing_made_of_it(tmp_path: Path) -> None:
    shapes = [("vit", 7, 2), ("cnn", None, 2)]
    folder = make_run(tmp_path / "run", configs=shapes, dtypes=["fp32"], changes={"tuned": "cut"})
    tables = read_tables(folder)
    write(tables, {"vit": [0.7, 0.9], "cnn": [0.9, 0.9]})
    assert read_tuning(tables) == []
    assert tuning_sentence(tables) == "The budget ended tuning, so each family keeps its own recipe."
    sheet = tuning_sheet(tables)
    assert sheet
    assert (sheet.said, sheet.rows) == (["The budget ended tuning, so each family keeps its own recipe."], [])


def test_of_three_families_the_two_best_are_told_apart_by_name(tmp_path: Path) -> None:
    configs = [("vit", 7, 2), ("cnn", None, 2), ("mixer", 7, 2)]
    tables = read_tables(make_run(tmp_path / "run", configs=configs, dtypes=["fp32"]))
    write(tables, {"vit": [0.7, 0.7], "cnn": [0.9, 0.9], "mixer": [0.8, 0.8]})
    assert tuning_sentence(tables).startswith(
        "Tuned with 4 settings each, the CNN is ahead of the mixer by 10.00 points"
    )
