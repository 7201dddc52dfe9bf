"""The packages and who may import whom, and the picture that docs/architecture.md has of them.

`python tests/architecture.py` draws docs/architecture.svg from the imports in the code; tests/test_architecture.py
compares, and tests/test_imports.py holds the code against the table below.
"""

import ast
import textwrap
from functools import cache
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"

# package or module -> what it holds, and those of ours that it may import; errors are open to all
PACKAGES: dict[str, tuple[str, set[str]]] = {
    "run_bench": (
        "the command line: options of a run; other commands come from cli",
        {"session", "cli", "config", "execution", "system"},
    ),
    "session": (
        "a request becomes a plan, a sweep, a report and an exit status",
        {"execution", "report", "config", "inference", "analysis", "trial", "data", "store", "system"},
    ),
    "cli": (
        "the other commands: gate, compare, report, predict, list ...",
        {
            *("execution", "report", "gate", "config", "inference", "trial", "models", "analysis", "data", "store"),
            "system",
        },
    ),
    "execution": (
        "where trials run: worker processes, a cluster; progress, trackers",
        {"speed", "config", "training", "trial", "data", "store", "result", "models", "system"},
    ),
    "report": (
        "from tables to report.html and report.md: plots, sections",
        {"analysis", "inference", "measure", "system"},
    ),
    "gate": (
        "has a change made training slower? two source trees in turns",
        {"speed", "config", "training", "analysis", "measure", "data", "store", "system"},
    ),
    "speed": (
        "steps timed in short slices, in turns, in fresh processes",
        {"config", "training", "trial", "data", "measure", "result", "system"},
    ),
    "config": (
        "a suite file becomes a checked plan of trials",
        {"training", "trial", "data", "models", "measure", "system"},
    ),
    "inference": (
        "trained models asked again: predictions, gallery, errors",
        {"training", "trial", "data", "models", "analysis", "store", "system"},
    ),
    "training": (
        "one trial from seed to result: set-up, loop, optimisers, profiling",
        {"trial", "data", "measure", "models", "result", "system"},
    ),
    "trial": ("one immutable row of the plan, and its ids", {"data"}),
    "analysis": (
        "from rows to an answer: summary, comparisons, verdict",
        {"store", "result", "measure", "system"},
    ),
    "data": ("images on a device: download, readers, splits, augmentation", {"system"}),
    "measure": ("clocks, FLOPs, memory, statistics", {"system", "result"}),
    "store": ("the run folder, whose finished rows survive any crash", {"system", "result"}),
    "system": ("this machine: devices, numeric modes, files, processes", set()),
    "result": ("what a trial yields: the columns of every table", set()),
    "models": ("ViT, CNN and other people's; they know none of the rest", set()),
    "errors": ("a person's mistakes, told in one line", set()),
}
MAY_IMPORT = {name: allowed for name, (_, allowed) in PACKAGES.items()}

WIDTH, MARGIN, GAP, LINE = 960, 12, 12, 16  # pixels
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2933 }
.name { font-weight: 700; font-size: 14px }
.imports { fill: #52606d; font-size: 11px }
rect { fill: #e8f0f8; stroke: #7b9ebd }
@media (prefers-color-scheme: dark) {
  text { fill: #e4e7eb }
  .imports { fill: #a9b8c6 }
  rect { fill: #1d2b3a; stroke: #5b7c99 }
}
"""


def sources() -> list[Path]:
    """Every source file of ours, tests left out."""
    return [ROOT / "run_bench.py", *sorted((ROOT / "bench").rglob("*.py")), *sorted((ROOT / "models").glob("*.py"))]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def place_of(module: str) -> str:
    """The package, or the module beside the packages, that a module is part of."""
    first, _, rest = module.partition(".")
    return rest.split(".")[0] if first == "bench" and rest else first


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Our modules that a file imports, wherever in it the import stands."""
    known, found = {module_of(each) for each in sources()}, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return frozenset(found & known)


def package_imports() -> dict[str, set[str]]:
    """Package -> the packages that its modules import, as the code stands."""
    found: dict[str, set[str]] = {name: set() for name in PACKAGES}
    for path in sources():
        place = place_of(module_of(path))
        if place in found:
            found[place] |= {place_of(name) for name in imports_of(path)} - {place, "bench"}
    return found


def layers(imports: dict[str, set[str]]) -> list[list[str]]:
    """Packages by height, the lowest first: each stands one layer above the highest that it imports."""
    height: dict[str, int] = {}

    def height_of(name: str) -> int:
        if name not in height:
            height[name] = 1 + max((height_of(other) for other in imports[name]), default=-1)
        return height[name]

    rows: dict[int, list[str]] = {}
    for name in PACKAGES:
        rows.setdefault(height_of(name), []).append(name)
    return [rows[index] for index in sorted(rows)]


def draw() -> str:
    """The picture as SVG: a row a layer, a box a package, with what it imports."""
    imports, parts, top = package_imports(), [], MARGIN
    order = list(PACKAGES)
    for row in reversed(layers(imports)):
        width = (WIDTH - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        boxes = []
        for name in row:
            others = ", ".join(sorted(imports[name], key=order.index)) or "nothing of ours"
            about = textwrap.wrap(PACKAGES[name][0], int(width / 7))
            boxes.append((name, about, textwrap.wrap(f"imports {others}", int(width / 6.4))))
        height = 30 + LINE * max(len(about) + len(below) for _, about, below in boxes)
        for column, (name, about, below) in enumerate(boxes):
            left, y = MARGIN + column * (width + GAP), top + 20
            parts.append(f'<rect x="{left:.0f}" y="{top}" width="{width:.0f}" height="{height}" rx="6"/>')
            lines = [("name", name), *(("about", text) for text in about), *(("imports", text) for text in below)]
            for kind, text in lines:
                parts.append(f'<text class="{kind}" x="{left + 10:.0f}" y="{y}">{escape(text, quote=False)}</text>')
                y += LINE
        top += height + GAP
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    title = "<title>Packages by layer: each imports only from layers below its own</title>"
    body = "\n".join([title, f"<style>{STYLE}</style>", *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n{body}\n</svg>\n'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
