"""An independent reader: what a person finds on report.html is recomputed from summary.csv, by a few lines of its own.

Nothing of bench.analysis is used to check it. Also: how much a person is given to read before unfolding anything.
"""

import csv
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

import pytest
from made_up import make_run
from made_up_gallery import make_gallery
from report_page import SMALL, drawing, write_plainly

from bench.inference.gallery_file import write_gallery
from bench.report.build import write_report
from bench.report.figures import HERO, MAIN_PLOTS, MISTAKES
from bench.report.plots.style import STYLE

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
COMMITTED = ("mnist-cpu", "mnist-data-efficiency", "notebook-vit", "kaggle-vit", "fashion-mnist")
MADE_UP: dict[str, dict[str, Any]] = {
    "families": {},
    "one seed": {"configs": SMALL, "dtypes": ["fp32"], "seeds": [0]},
    "one family": {"configs": [("vit", 7, 2), ("vit", 14, 4)], "dtypes": ["fp32"]},
    "three families": {"configs": [*SMALL, ("mixer", 7, 2)], "dtypes": ["fp32"]},
    "shares of the data": {"configs": SMALL, "dtypes": ["fp32"], "fractions": [0.01, 0.1, 1.0]},
    "devices": {"dtypes": ["fp32"], "devices": {"cpu": "AMD EPYC 7R13", "cuda": "NVIDIA H100"}},
    "pairs": {"configs": [("vit", 7, 2), ("vit", 14, 4), ("cnn", None, 4)], "matches": ["params", "flops"]},
    "alike": {"configs": SMALL, "overrides": {"": {"test_accuracy": 0.98, "images_per_second": 900.0}}},
}
COLUMNS = {  # subject of a line -> column of summary.csv, and the factor to the unit that is printed
    "training speed": ("images_per_second", 1.0),
    "training speed, one thread": ("images_per_second", 1.0),
    "latency, one image": ("latency_p50_seconds", 1e3),
    "memory to train": ("peak_memory_bytes", 2**-20),
}
FAMILIES = {"vit": "ViT", "cnn": "CNN"}
VOID = ("meta", "img", "input", "br")
NUMBER = r"\d[\d,.]*"
MATTERS, FASTER = 10, 1.03  # errors in 10,000, and a ratio: the smallest differences that matter


class Tree(HTMLParser):
    """A page as elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.builder = TreeBuilder()
        self.feed(html)
        self.root = self.builder.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.builder.start(tag, {name: value or "" for name, value in attrs})
        if tag in VOID:
            self.builder.end(tag)

    def handle_endtag(self, tag: str) -> None:
        self.builder.end(tag)

    def handle_data(self, data: str) -> None:
        self.builder.data(data)


def words(element: Element | None) -> str:
    return " ".join(" ".join([] if element is None else element.itertext()).split())


def found(element: Element, path: str) -> Element:
    inside = element.find(path)
    assert inside is not None, path
    return inside


def read(folder: Path) -> Element:
    return Tree((folder / "report.html").read_text(encoding="utf-8")).root


def rows_of(folder: Path, device: str = "") -> dict[str, dict[str, str]]:
    """Rows of summary.csv by label."""
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as file:
        return {row["label"]: row for row in csv.DictReader(file) if device in ("", row["device_name"])}


@pytest.fixture(scope="module", params=[*MADE_UP, *COMMITTED])
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    if request.param in COMMITTED:
        shutil.copytree(REFERENCE / request.param, folder, ignore=shutil.ignore_patterns("plots", "report.*"))
    else:
        make_run(folder, **MADE_UP[request.param])
    write_plainly(folder)
    return folder


def answers(folder: Path) -> Iterator[tuple[str, Element]]:
    """Each device's part of the answer."""
    for part in read(folder).iterfind(".//div[@class='answer']"):
        yield words(part.find("h2")), part


def lines_of(card: Element) -> tuple[list[str], list[list[str]]]:
    """Codes of a scorecard's models, and its lines; an interval follows its difference in a cell of its own."""
    heads = card.findall("thead/tr/th")
    codes = [head.get("title", "") for head in heads]
    lines = []
    for row in card.iterfind("tbody/tr"):
        cells = row.findall("*")
        texts = [words(cell) for cell in cells]
        if len(heads) > 2:
            difference, verdict = cells[-2:]  # what stands below them is for narrow screens
            texts[-2:] = [
                (difference.text or "").strip(),
                words(difference.find("small")),
                (verdict.text or "").strip(),
            ]
        lines.append(texts)
    return [code for code in codes if code], lines


def parsed(text: str) -> tuple[float, float]:
    """The first number of a text, and half a unit of its last digit that counts: of three, where it is whole."""
    digits = re.findall(NUMBER, text)[0].rstrip(".,").replace(",", "")
    decimals = len(digits.partition(".")[2])
    return float(digits), 0.5000001 * 10.0 ** (-decimals if decimals else max(0, len(digits) - 3))


def assert_shows(text: str, value: float) -> None:
    printed, half = parsed(text)
    assert abs(printed - value) <= half, (text, value)


def ends_of(text: str) -> tuple[float, float]:
    """The ends of an interval; not a number where there is none."""
    known = {"over 1,000": math.inf, "under 0.01": 0.0}
    low, high = ((known.get(end) if end in known else float(end.replace(",", ""))) for end in text.split(" to "))
    return low, high  # type: ignore[return-value]


def check_errors(rows: list[dict[str, str]], figures: list[str], difference: str, ends: str, verdict: str) -> None:
    accuracies = [float(row["test_accuracy"]) for row in rows]
    assert figures == [f"{round(10_000 * (1 - reached)):,} ({100 * reached:.2f}%)" for reached in accuracies]
    fewest, second = sorted(10_000 * (1 - reached) for reached in accuracies)[:2]
    assert re.fullmatch(r"[\d,]+ fewer", difference)
    assert parsed(difference)[0] == round(second) - round(fewest), "the line adds up"
    assert "-0" not in ends.split(" to ")
    low, high = ends_of(ends)
    assert low <= parsed(difference)[0] <= high
    if verdict.endswith(" better"):
        best = rows[accuracies.index(max(accuracies))]
        assert verdict == f"{title(best)} better"
        assert low >= 0
        assert high > MATTERS
    else:
        assert verdict == ("equivalent" if low >= -MATTERS and high <= MATTERS else "inconclusive")
        assert verdict == "equivalent" or low <= 0


def check_ratio(column: str, rows: list[dict[str, str]], line: list[str], factor: float) -> None:
    subject, *figures, difference, ends, verdict = line
    for row, figure in zip(rows, figures, strict=True):
        in_minutes = 60 if figure.endswith(" min") else 1
        assert_shows(figure, float(row[column]) * factor / in_minutes)
    if verdict == "too noisy to call":
        assert difference == "–"
        assert re.fullmatch(r"(±\d+%(, aim ±\d+%)?)?", ends)
        return
    amounts = [float(row[column]) for row in rows]
    more_is_better = column == "images_per_second"
    order = sorted(range(len(rows)), key=amounts.__getitem__, reverse=more_is_better)
    (best, of_best), (second, of_second) = (parsed(figures[i]) for i in order[:2])
    best, second = (x * (60 if figures[i].endswith(" min") else 1) for x, i in zip((best, second), order, strict=False))
    printed, half = parsed(difference)
    quotient = best / second if more_is_better else second / best
    apart = of_best / parsed(figures[order[0]])[0] + of_second / parsed(figures[order[1]])[0]
    assert abs(printed - quotient) <= half + quotient * apart, (line, quotient)
    assert difference.endswith("×")
    if not ends:
        assert verdict in ("inconclusive", f"{title(rows[order[0]])} better" if subject == "memory to train" else "")
        return
    low, high = ends_of(ends)
    assert low <= printed <= high
    if verdict.endswith(" better"):
        assert verdict == f"{title(rows[order[0]])} better"
        assert low >= 1
        assert high > FASTER - 0.005
    elif verdict == "equivalent":
        assert low >= 1 / FASTER - 0.005
        assert high <= FASTER + 0.005
    else:
        assert verdict == "inconclusive"
        assert low <= 1 or subject.startswith("time to")  # closer than two evaluations are


def title(row: dict[str, str]) -> str:
    return FAMILIES.get(row["model"], row["model"])


def test_every_figure_of_the_scorecards_is_that_of_the_csv(reported: Path) -> None:
    cards = 0
    for device, part in answers(reported):
        known = rows_of(reported, device)
        for card in part.iterfind(".//table[@class='card']"):
            codes, lines = lines_of(card)
            rows, cards = [known[code] for code in codes], cards + 1
            if words(card.find("caption")).endswith("best"):
                for row in rows:
                    alike = ("model", "train_fraction", "world_size")
                    others = [each for each in known.values() if all(each.get(key) == row.get(key) for key in alike)]
                    assert float(row["val_accuracy"]) == max(float(each["val_accuracy"] or 0) for each in others)
            for line in lines:
                subject = line[0]
                target = re.fullmatch(r"time to ([\d.]+)%", subject)
                column, factor = COLUMNS.get(subject, (f"seconds_to_{float(target[1]) / 100:g}" if target else "", 1.0))
                if len(rows) == 1 or "–" in line[1:3]:
                    continue
                if subject == "errors in 10,000 images":
                    check_errors(rows, line[1 : 1 + len(rows)], *line[-3:])
                else:
                    check_ratio(column, rows, line, factor)
    assert cards >= len(list(answers(reported))) > 0


CLAIMS = {  # of the headline -> subject of the line, what stands in its cell
    rf"makes ({NUMBER}) fewer errors in 10,000 images": ("errors in 10,000 images", "{} fewer"),
    rf"trains ({NUMBER}) times as many images a second": ("training speed", "{}×"),
    rf"answers ({NUMBER}) times as fast": ("latency, one image", "{}×"),
    rf"needs ({NUMBER}) times less memory": ("memory to train", "{}×"),
    rf"reaches [\d.]+% ({NUMBER}) times as soon": ("time to", "{}×"),
}
LESS = r"needs (\d+)% less memory"


def test_the_headline_says_what_the_scorecard_shows(reported: Path) -> None:
    for _, part in answers(reported):
        said = [words(line) for line in part.iterfind("p") if line.get("class") in ("headline", "hint")]
        _, lines = lines_of(found(part, ".//table[@class='card']"))
        told = next((text for text in said if re.search("|".join([*CLAIMS, LESS]), text)), "")
        claimed = set()
        for segment in re.split(r"; ", told.removesuffix(".")):
            who = re.search(r"\b[Tt]he (\S+) (?:makes|trains|answers|needs|reaches)", segment)
            for claim, (subject, cell) in CLAIMS.items():
                for amount in re.findall(claim, segment):
                    line = next(line for line in lines if line[0].startswith(subject))
                    assert who
                    assert (line[-3], line[-1]) == (cell.format(amount), f"{who[1]} better")
                    claimed.add(line[0])
            for share in re.findall(LESS, segment):
                line = next(line for line in lines if line[0] == "memory to train")
                assert who
                assert line[-1] == f"{who[1]} better"
                assert abs(100 - 100 / parsed(line[-3])[0] - float(share)) <= 1
        if lines[0][-1].endswith("better") and len(lines[0]) > 2:
            assert lines[0][0] in claimed, "the difference in accuracy isn't told"


def test_n_is_that_of_the_trials(reported: Path) -> None:
    with (reported / "trials.csv").open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    known, root = rows_of(reported), read(reported)
    seeds = len({trial["seed"] for trial in trials})
    assert f" n = {seeds} seed{'s' * (seeds > 1)}" in words(root.find(".//p[@class='context']"))
    for head in root.iterfind(".//table[@id='configurations']/tbody/tr/th"):
        code, count, *_ = words(head.find("small")).split("; ")
        row = known.pop(code)
        own = [t for t in trials if (t["config_id"], t["device_name"]) == (row["config_id"], row["device_name"])]
        assert count == f"n = {row['n']}" == f"n = {sum(trial['status'] == 'ok' for trial in own)}"
    assert all(row["n"] == "0" for row in known.values()), "a row is missing"


NEEDS = {"parameters": ("num_params", 1.0), "ms for one image (median)": ("latency_p50_seconds", 1e3)}
NEEDS |= {"MiB to train": ("peak_memory_bytes", 2**-20), "s to train": ("train_seconds", 1.0)}


def test_a_pick_is_the_best_on_validation_that_keeps_its_limit(reported: Path) -> None:
    root = read(reported)
    names = {}  # as they stand in the table
    for head in root.iterfind(".//table[@id='configurations']/tbody/tr/th"):
        names[words(head.find("small")).split("; ")[0]] = (head.text or "").strip()
    device = ""
    for part in root.iterfind(".//section[@id='picks']/*"):
        device = words(part) if part.tag == "h3" else device
        for item in part.iterfind("li"):
            read_as = re.fullmatch(rf"at most ({NUMBER}) (.*?): (.*) , ({NUMBER}%)", words(item))
            assert read_as, words(item)
            most, unit, name, accuracy = read_as.groups()
            column, factor = NEEDS[unit]
            keep = []
            for row in rows_of(reported, device).values():
                needs = [float(row[key]) for key in (column, f"{column}_high") if row.get(key)]
                if not row["val_accuracy"] or not needs:  # it was skipped
                    continue
                need = factor * max(needs)
                if float(row["train_fraction"] or 1) == 1 and need <= float(most.replace(",", "")):
                    keep.append(row)
            best = max(float(row["val_accuracy"]) for row in keep)
            alike = [row for row in keep if float(row["val_accuracy"]) >= best - MATTERS / 10_000]
            taken = min(alike, key=lambda row: (float(row["num_params"]), -float(row["val_accuracy"])))
            assert (names[taken["label"]], f"{100 * float(taken['test_accuracy']):.2f}%") == (name, accuracy)


# How much there is to read

MOST_WORDS, MOST_NUMBERS, MOST_FIGURES, MOST_LINES = 700, 120, 9, 120
UNREAD = ("details", "script", "style", "svg", "option")


def unfolded(element: Element) -> Iterator[str]:
    """What a person sees who unfolds nothing, with the page's script running."""
    classes = element.get("class", "").split()
    hidden = "hidden" in element.attrib and element.tag != "form"
    if hidden or element.tag in UNREAD or {"unseen", "skip", "narrow"} & set(classes):
        return
    yield element.text or ""
    tabs = 0
    for child in element:
        tabs += "tab" in child.get("class", "").split()
        if tabs <= 1:
            yield from unfolded(child)
        yield child.tail or ""


def without_more(root: Element) -> Element:
    """The page's body; of the table the first four rows and the columns that are checked, without what is small."""
    checked = len([box for box in root.iter("input") if "data-column" in box.attrib and "checked" in box.attrib])
    table = found(root, ".//table[@id='configurations']")
    body = found(table, "tbody")
    for row in body.findall("tr")[4:]:
        body.remove(row)
    for row in table.iter("tr"):
        for number, cell in enumerate(row.findall("*")):
            if number > checked:
                row.remove(cell)
            for small in cell.findall("small"):
                cell.remove(small)
    return found(root, "body")


@pytest.fixture(scope="module", params=["mnist", "mnist-cpu"])
def long(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    if request.param in COMMITTED:
        shutil.copytree(REFERENCE / request.param, folder, ignore=shutil.ignore_patterns("plots", "report.*"))
    else:
        make_run(folder, matches=["params", "flops"])
        write_gallery(folder, make_gallery([str(digit) for digit in range(10)]))
    with pytest.MonkeyPatch.context() as patch, drawing(HERO=HERO, MAIN_PLOTS=MAIN_PLOTS, MISTAKES=MISTAKES):
        patch.setitem(STYLE, "savefig.dpi", 40)
        write_report(folder)
    return folder


@pytest.mark.slow
def test_what_is_unfolded_is_read_in_a_few_minutes(long: Path) -> None:
    text = " ".join(" ".join(unfolded(without_more(read(long)))).split())
    assert len(text.split()) <= MOST_WORDS
    figures = re.findall(rf"(?<![\w-]){NUMBER}", text)  # a date is one, and bf16 a name
    assert len(figures) <= MOST_NUMBERS


@pytest.mark.slow
def test_few_figures_are_unfolded(long: Path) -> None:
    root = read(long)
    folded = {figure for part in root.iter("details") for figure in part.iter("figure")}
    assert 3 <= len([figure for figure in root.iter("figure") if figure not in folded]) <= MOST_FIGURES


@pytest.mark.slow
def test_the_twin_in_markdown_is_short(long: Path) -> None:
    assert len((long / "report.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES
