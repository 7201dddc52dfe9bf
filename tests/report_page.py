"""What a browser would make of a report's page, and what holds for every page and every text of one."""

import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import bench.report.figures
from bench.analysis.answer import Verdict
from bench.report.build import write_report

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
FIELDS = ("input", "select")
STACK = re.compile(r"failures/[\w.+%-]+\.txt")  # beside the report


def write_plainly(folder: Path) -> list[Verdict]:
    """Write a run's report without its pictures: they take most of its time, and have tests of their own."""
    with patch.object(bench.report.figures, "RUN_PLOTS", ()):
        return write_report(folder)


class Page(HTMLParser):
    """What a browser would make of a report: tags, attributes, visible text, tables, and what encloses what."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tables: list[list[int]] = []  # cells of each row
        self.unlabelled: list[str] = []
        self.data = ""
        self.feed(html)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in FIELDS and "label" not in self.open and not {"aria-label", "id"} & set(attributes):
            self.unlabelled.append(str(attributes))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th"):
            self.tables[-1][-1] += 1
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.tags[-1][1].get("id") == "values":
            self.data += data
        elif self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read_page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def assert_well_made(page: Page) -> None:
    """What holds for every page, whatever is on it."""
    assert page.open == [], "a tag isn't closed"
    policy = [meta["content"] or "" for meta in page.attributes("meta") if "http-equiv" in meta]
    assert [text.partition(";")[0] for text in policy] == ["default-src 'none'"]
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "svg"}
    for tag, attributes in page.tags:
        assert (attributes.get("src") or "data:").startswith("data:image/"[: 5 if tag != "img" else None])
        assert not [name for name in attributes if name.startswith("on")], "a handler in an attribute"
    assert all(picture["alt"] for picture in page.attributes("img"))
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    inside = {link["href"] or "" for link in page.attributes("a")}
    assert {f"#{name}" for name in page.ids} >= {link for link in inside if not STACK.fullmatch(link)}
    for name in ("aria-labelledby", "for"):
        assert set(page.ids) >= {attributes[name] for _, attributes in page.tags if name in attributes}
    labelled = {label.get("for") for label in page.attributes("label")}
    fields = [field for tag in FIELDS for field in page.attributes(tag)]
    assert page.unlabelled == []
    assert {field["id"] for field in fields if "id" in field} <= labelled
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(len(set(table)) == 1 for table in page.tables), "rows of different lengths"
    assert len(page.attributes("main")) == len(page.attributes("nav")) == len(page.attributes("header")) == 1
    assert page.attributes("html") == [{"lang": "en"}]


def assert_tables_are_even(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = re.sub(r"\\\\|\\\|", "", table).splitlines()
        assert len({line.count("|") for line in lines}) == 1, lines[0]


def assert_text_is_inert(text: str) -> None:
    """Markdown has our own markup alone: no tag, link, image or address that GitHub would make a link of."""
    plain = re.sub(r"\\[^\w\s]", "", text.replace("@<!-- -->", ""))
    assert set(re.findall(r"<[^>\n]*>?", plain)) <= {"<details>", "</details>", "<summary>", "</summary>"}
    assert {link for link in re.findall(r"\]\(([^)]*)\)", plain) if not STACK.fullmatch(link)} <= {"summary.csv"}
    assert not re.search(r"(?i)www\.|:/|\w@\w|[`\[]\w+\]\[", plain)
