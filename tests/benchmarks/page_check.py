"""Open report pages in Chromium as a reader would, and check what they do there.

    npm pack axe-core && tar xzf axe-core-*.tgz package/axe.min.js
    python tests/benchmarks/page_check.py results/reference/mnist-cpu/report.html --axe package/axe.min.js --out shots

With --hostile, a made-up run whose suite, families, devices, data and errors have names like `<script>` and `=cmd()`
is reported on and checked, too.
Needs Playwright (`pip install playwright`) and a Chromium: its own (`playwright install chromium`) or --chromium PATH.
Pictures of each page (light, dark, narrow) and its print as PDF are left in --out, to be looked at.
"""

import argparse
import csv
import io
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ModuleNotFoundError as error:
    sys.exit(f"{error}: pip install playwright")

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the root first, since tests/models would stand for models/

from made_up import Node, make_run

from bench.analysis.picks import pick
from bench.report.build import write_report
from bench.system.csv_cells import unguarded

HOSTILE = '<script>document.body.remove()</script></script>"><img src=x onerror=alert(1)> | `b` *c*, "d"\n\'名前 &amp;'
LOOKS = {"light": ("light", 1200), "dark": ("dark", 1200), "narrow": ("light", 390), "narrow-dark": ("dark", 390)}
CONFIGS = [("vit", 7, 2), ("vit", 14, 2), ("cnn", None, 2), ("cnn", None, 4)]
SERIOUS = ("serious", "critical")
SHOWN = "#configurations tbody tr:not([hidden])"


class PageCheck:
    """One report in one browser; `outcome` gains a line a check: (what, how it came out, whether it is well)."""

    def __init__(self, browser: Browser, report: Path, out: Path, axe: str) -> None:
        self.browser, self.report, self.out, self.axe = browser, report.resolve(), out, axe
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.outcome: list[tuple[str, str, bool]] = []

    def run(self) -> None:
        self.without_script()
        for look in LOOKS:
            with self.opened(look) as page:
                self.seen(page, look)
        with self.opened("light") as page:
            self.pictures(page)
            self.printed(page)
            if page.locator("form.picks").count():
                self.picks(page)
            if page.locator(".inline a").count():
                self.points(page)
            if page.locator("#configurations").count():
                for check in (self.few, self.sorting, self.filtering, self.columns, self.download):
                    page.reload()
                    check(page)
        self.say("console errors", self.complaints or "none", not self.complaints)
        self.say("requests to anywhere", self.requests or "none", not self.requests)

    @contextmanager
    def opened(self, look: str, script: bool = True) -> Iterator[Page]:
        scheme, width = LOOKS[look]
        context = self.browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 900},
            java_script_enabled=script,
            accept_downloads=True,
        )
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note)
        page.goto(self.report.as_uri())
        yield page
        context.close()

    def note(self, request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")) and request.url.partition("#")[0] != self.report.as_uri():
            self.requests.append(request.url[:100])

    def say(self, what: str, outcome: object, well: bool) -> None:
        self.outcome.append((what, str(outcome), well))

    def seen(self, page: Page, look: str) -> None:
        """Looks, width, and what axe finds with everything unfolded."""
        picture = self.out / f"{self.report.parent.name}-{look}.png"
        page.screenshot(path=picture, full_page=True, timeout=120_000)  # of a tall page it takes long
        width, room = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        self.say(f"{look}: width of the page", f"{width} of {room} px", width <= room)
        headline, title = page.locator(".headline").first, page.locator("h1").inner_text()
        box = headline.bounding_box()
        foot = box["y"] + box["height"] if box else math.inf
        is_long = len(title + headline.inner_text()) > 300  # hostile names may take their room
        self.say(f"{look}: the answer ends", f"{foot:.0f} px from the top", is_long or foot < 600)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        page.evaluate(self.axe)
        found = page.evaluate("axe.run().then(result => result.violations)")
        grave = [f"{rule['id']} ({len(rule['nodes'])})" for rule in found if rule["impact"] in SERIOUS]
        minor = [f"{rule['id']} ({len(rule['nodes'])})" for rule in found if rule["impact"] not in SERIOUS]
        said = f"{', '.join(grave) or 'none'}; lesser: {', '.join(minor) or 'none'}"
        self.say(f"{look}: serious findings of axe", said, not grave)

    def without_script(self) -> None:
        with self.opened("light", script=False) as page:
            hidden = page.locator("#configurations :is(th, td)").filter(visible=False).count()
            self.say("without JavaScript: hidden cells", hidden, hidden == 0)

    def pictures(self, page: Page) -> None:
        images = page.locator("img")
        bad = images.evaluate_all("all => all.filter(one => !one.alt || !one.complete || !one.naturalWidth).length")
        self.say("pictures without words, or broken", f"{bad} of {images.count()}", bad == 0)

    def printed(self, page: Page) -> None:
        page.pdf(path=self.out / f"{self.report.parent.name}.pdf", print_background=True, prefer_css_page_size=True)
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        frames = page.locator(".scroll, .frame")
        cut = frames.evaluate_all("all => all.filter(box => getComputedStyle(box).overflow !== 'visible').length")
        cut += page.locator("details:not([open])").count()
        controls = page.locator(".controls, .tabs > label").filter(visible=True).count()
        self.say("in print: cut tables, folded parts and controls", cut + controls, cut + controls == 0)
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        page.emulate_media(media="screen")

    def picks(self, page: Page) -> None:
        """A limit that is typed leads to what bench.analysis.picks.pick takes; cleared, it leads nowhere."""
        data = page.evaluate("JSON.parse(document.getElementById('picks-data').textContent)")
        said, well = [], True
        for form, device in zip(page.locator("form.picks").all(), data, strict=True):
            sizes = sorted(model["parameters"] for model in device["models"])
            for most in (sizes[0] - 1, sizes[len(sizes) // 2], sizes[-1]):
                form.locator("input[name=parameters]").fill(str(most))
                chosen = pick(device["models"], {"parameters": most}, device["margin"])
                said.append(form.locator("output").inner_text())
                told = f"{chosen['name']} ({chosen['code']}): " if chosen else "No model keeps these limits."
                well = well and " ".join(told.split()) in " ".join(said[-1].split())
            form.get_by_role("button", name="Clear").click()
            page.wait_for_timeout(50)
            well = well and form.locator("output").inner_text().startswith("Type a limit")
        self.say("picks under limits", said[1], well)

    def points(self, page: Page) -> None:
        """A point of the chart leads to its row, which is then shown, in the same window."""
        links = page.locator(".tab:visible .inline a, .inline:visible a")
        wrong = 0
        for number in range(links.count()):
            links.nth(number).press("Enter")
            row = page.locator("tr:target")
            page.wait_for_timeout(100)  # the page hears of it a moment later
            wrong += row.count() != 1 or not row.is_visible()
        titles = page.locator(".inline a > title").count()
        wrong += titles != page.locator(".inline a").count()
        wrong += len(page.context.pages) - 1
        page.goto(self.report.as_uri())  # a row that is led to stays shown
        self.say("points of the chart that lead nowhere or say nothing", f"{wrong} of {links.count()}", wrong == 0)

    def few(self, page: Page) -> None:
        """The first rows alone, without what is small, until more are asked for."""
        rows, every = page.locator(SHOWN), page.locator("#configurations tbody tr").count()
        first, small = rows.count(), page.locator("#configurations td small").filter(visible=True).count()
        page.locator("#ends").check()
        page.locator("#all-rows").check()
        known = page.locator("#configurations td small").count()
        well = 0 < first <= min(5, every) and small == 0 and rows.count() == every
        well = well and (known == 0 or page.locator("#configurations td small").filter(visible=True).count() > 0)
        self.say("few rows at first", f"{first} of {every}", well)

    def sorting(self, page: Page) -> None:
        """By mouse, then by keyboard alone."""
        page.locator("#all-rows").check()
        button = page.get_by_role("button", name="images/s", exact=True)
        button.click()
        fastest_first = speeds(page)
        button.press("Enter")
        slowest_first = speeds(page)
        said = page.locator("th[aria-sort]").get_attribute("aria-sort")
        well = fastest_first == sorted(fastest_first, reverse=True) and slowest_first == sorted(fastest_first)
        self.say("sorting by mouse and keyboard", f"{len(fastest_first)} rows, aria-sort {said}", well)

    def filtering(self, page: Page) -> None:
        rows = page.locator(SHOWN)
        total = page.locator("#configurations tbody tr").count()
        page.locator("#controls summary").click()
        first = page.locator("#configurations tbody th").first.evaluate("th => th.firstChild.data")
        page.locator("#words").fill(first.upper())
        named, said = rows.count(), page.locator("#count").inner_text()
        page.get_by_role("button", name="Show everything again").click()
        page.locator("[name=measure]").select_option(label="parameters")
        page.locator("[name=most]").fill("50000")
        page.wait_for_timeout(50)
        column = heads(page).index("parameters")
        counts = [number(text) for text in page.locator(f"{SHOWN} > :nth-child({column + 1})").all_inner_texts()]
        well = 0 < named <= total and f"{named:,} of {total:,}" in said and all(count <= 50_000 for count in counts)
        for box in page.locator("#controls select[data-key]").all():
            page.get_by_role("button", name="Show everything again").click()
            page.wait_for_timeout(50)
            box.select_option(index=1)
            well = well and 0 < rows.count() < total
        self.say("filtering", f"by words {named}, by at most 50,000 parameters {len(counts)} of {total}", well)

    def columns(self, page: Page) -> None:
        shown = len(heads(page))
        page.locator("#controls summary").click()
        page.locator("#all-columns").click()
        everything = len(heads(page))
        page.locator("[data-column='1']").uncheck()
        fewer = len(heads(page))
        page.locator("#result-columns").click()
        well = shown <= everything == fewer + 1 and len(heads(page)) == shown
        self.say("choosing columns", f"{shown} at first, {everything} in all", well)

    def download(self, page: Page) -> None:
        """What is shown comes down, in its order, with every digit."""
        page.locator("#controls summary").click()
        page.locator("[name=measure]").select_option(label="parameters")
        page.locator("[name=most]").fill("50000")
        page.get_by_role("button", name="images/s", exact=True).click()
        told = page.locator(f"{SHOWN} > th > small").evaluate_all("all => all.map(one => one.textContent)")
        with page.expect_download() as caught:
            page.locator("#download").click()
        rows = list(csv.DictReader(io.StringIO(caught.value.path().read_text(encoding="utf-8"), newline="")))
        raw = [float(row["images_per_second"]) for row in rows if row["images_per_second"]]
        labels = [unguarded(row["label"]) for row in rows]
        well = len(told) == len(labels) and raw == sorted(raw, reverse=True)
        well = well and all(text.startswith(f"{label}; ") for text, label in zip(told, labels, strict=True))
        self.say("download as CSV", f"{len(rows)} rows, {len(rows[0]) if rows else 0} columns", well)


def hostile_run(folder: Path) -> Path:
    """A made-up run in which nothing has a harmless name; returns its page."""
    formula = f"=cmd()|{HOSTILE}"
    bad = {"cnn-d2-fp32-cpu-s0": {"status": "failed", "error": formula}, "vit": {"model": formula}}
    bad |= {"cnn": {"model": f"-{HOSTILE}"}}
    changes = {"suite": formula, "dataset": {"title": HOSTILE, "notes": [HOSTILE]}, "recipes": {HOSTILE: {formula: 1}}}
    devices = {"cpu": f"@{HOSTILE}", "cuda": f"+{HOSTILE}"}
    how: dict[str, Any] = {"configs": CONFIGS, "matches": ["params"], "processes": [1, 2], "seeds": [0, 1]}
    make_run(folder, **how, devices=devices, overrides=bad, changes=changes, nodes=[Node(HOSTILE, formula)])
    write_report(folder)
    return folder / "report.html"


def heads(page: Page) -> list[str]:
    """Titles of the columns that are shown."""
    return [text.strip() for text in page.locator("#configurations thead th").filter(visible=True).all_inner_texts()]


def speeds(page: Page) -> list[float]:
    column = heads(page).index("images/s") + 1
    values = [number(text) for text in page.locator(f"{SHOWN} > :nth-child({column})").all_inner_texts()]
    return [value for value in values if not math.isnan(value)]


def number(text: str) -> float:
    found = re.match(r"[\d,.]+", text.strip())
    return float(found[0].replace(",", "")) if found else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", type=Path, nargs="*", metavar="report.html")
    parser.add_argument("--hostile", action="store_true", help="check a made-up run with hostile names, too")
    parser.add_argument("--axe", type=Path, required=True, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--chromium", help="path of a Chromium; without it, the one that Playwright brings")
    parser.add_argument("--out", type=Path, default=Path("page-check"), help="folder for screenshots and PDFs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    axe, bad = options.axe.read_text(encoding="utf-8"), False
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as temporary:
        browser = playwright.chromium.launch(executable_path=options.chromium)
        hostile = [hostile_run(Path(temporary) / "hostile")] if options.hostile else []
        for report in [*options.reports, *hostile]:
            check = PageCheck(browser, report, options.out, axe)
            check.run()
            size = report.stat().st_size / 1e6
            print(f"\n{report} ({size:.1f} MB)\n\n| check | outcome | |\n| :-- | :-- | :-- |")
            for what, outcome, well in check.outcome:
                print(f"| {what} | {outcome} | {'ok' if well else 'FAILED'} |")
            bad = bad or not all(well for *_, well in check.outcome)
        browser.close()
    sys.exit(bad)


if __name__ == "__main__":
    main()
