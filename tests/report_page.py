"""What a browser would make of a report's page, and what holds for every page and every text of one."""

import re
from collections import Counter
from contextlib import AbstractContextManager
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import bench.report.figures
from bench.analysis.answer import Verdict
from bench.report.build import write_report

SMALL = [("vit", 7, 2), ("cnn", None, 2)]
FIELDS = ("input", "select")
BESIDE = re.compile(r"failures/[\w.+%-]+\.txt|plots/\w+\.(svg|png)|summary\.csv")  # the report
PICTURES = ("HERO", "MAIN_PLOTS", "RUN_PLOTS", "MISTAKES", "GALLERY_PLOTS")  # of bench.report.figures


def drawing(**plots: Any) -> AbstractContextManager[Any]:
    """Within it, reports have these pictures and no others: they take most of the time, and have their own tests."""
    return patch.multiple(bench.report.figures, **(dict.fromkeys(PICTURES, ()) | plots))


def write_plainly(folder: Path) -> list[Verdict]:
    """Write a run's report without its pictures."""
    with drawing():
        return write_report(folder)


class Page(HTMLParser):
    """What a browser would make of a report: tags, attributes, visible text, tables, and what encloses what."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tables: list[list[int]] = []  # cells of each row
        self.to_label: list[str | None] = []  # ids of fields that don't say by themselves what they are for
        self.data = ""
        self.feed(html)
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag in FIELDS and "label" not in self.open and not attributes.get("aria-label"):
            self.to_label.append(attributes.get("id"))
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
    def pictures(self) -> list[str]:
        """What those are told who can't see them."""
        drawn = [*self.attributes("img"), *self.attributes("svg")]
        return [each.get("alt") or each.get("aria-label") or "" for each in drawn]

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
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base"}
    for tag, attributes in page.tags:
        assert (attributes.get("src") or "data:").startswith("data:image/"[: 5 if tag != "img" else None])
        assert not [name for name in attributes if name.startswith("on")], "a handler in an attribute"
    assert all(page.pictures)
    assert all(drawing["role"] == "group" for drawing in page.attributes("svg"))
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    inside = {link["href"] or "" for link in page.attributes("a")}
    inside |= {attributes.get("xlink:href") or "" for tag, attributes in page.tags if tag == "use"}
    assert {f"#{name}" for name in page.ids} >= {link for link in inside if not BESIDE.fullmatch(link)}
    for name in ("aria-labelledby", "for"):
        assert set(page.ids) >= {attributes[name] for _, attributes in page.tags if name in attributes}
    assert {label.get("for") for label in page.attributes("label")} >= set(page.to_label)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(len(set(table)) == 1 for table in page.tables), "rows of different lengths"
    assert len(page.attributes("main")) == len(page.attributes("header")) == 1
    assert page.attributes("html") == [{"lang": "en"}]


def assert_tables_are_even(text: str) -> None:
    """Every row of a Markdown table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        lines = re.sub(r"\\\\|\\\|", "", table).splitlines()
        assert len({line.count("|") for line in lines}) == 1, lines[0]


def assert_text_is_inert(text: str) -> None:
    """Markdown has our own markup alone: no tag, link, image or address that GitHub would make a link of."""
    plain = re.sub(r"\\[^\w\s]", "", text.replace("@<!-- -->", ""))
    assert not re.findall(r"<[^>\n]*>?", plain)
    assert all(BESIDE.fullmatch(link) for link in re.findall(r"\]\(([^)]*)\)", plain))
    assert not re.search(r"(?i)www\.|:/|\w@\w|[`\[]\w+\]\[", plain)
