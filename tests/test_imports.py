"""Who may import whom: the layers of the house, held against the code."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# package or module -> those of ours that it may import; errors are open to all. docs/architecture.md draws this.
MAY_IMPORT = {
    "run_bench": {"session", "cli", "config", "execution", "system"},
    "session": {"cli", "execution", "report", "config", "inference", "analysis", "data", "store", "result", "system"},
    "cli": {
        "execution",
        "report",
        "gate",
        "config",
        "inference",
        "trial",
        "models",
        "analysis",
        "data",
        "store",
        "system",
    },
    "execution": {"config", "training", "trial", "data", "store", "result", "models", "system"},
    "report": {"analysis", "inference", "measure", "store", "system"},
    "gate": {"config", "training", "analysis", "measure", "data", "store", "system"},
    "config": {"training", "trial", "data", "models", "measure", "system"},
    "inference": {"training", "trial", "data", "models", "analysis", "store", "result", "system"},
    "training": {"trial", "data", "measure", "models", "result", "system"},
    "trial": {"data"},
    "analysis": {"store", "result", "measure", "system"},
    "data": {"system"},
    "measure": {"system"},
    "store": {"system", "result"},
    "system": set(),
    "result": set(),
    "models": set(),
    "errors": set(),
}


def sources() -> list[Path]:
    return [ROOT / "run_bench.py", *(ROOT / "bench").rglob("*.py"), *(ROOT / "models").glob("*.py")]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def place_of(module: str) -> str:
    """The package, or the module beside the packages, that a module is part of."""
    first, _, rest = module.partition(".")
    return rest.split(".")[0] if first == "bench" and rest else first


def imports_of(path: Path) -> set[str]:
    """Our modules that a file imports, wherever in it the import stands."""
    known, found = {module_of(each) for each in sources()}, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return found & known


@pytest.mark.parametrize("path", sources(), ids=module_of)
def test_a_module_imports_only_from_the_layers_below_its_own(path: Path) -> None:
    own = place_of(module_of(path))
    assert {place_of(name) for name in imports_of(path)} - {own, "errors", "bench"} <= MAY_IMPORT.get(own, set())


def test_no_package_stands_in_a_circle_with_another() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_no_module_stands_in_a_circle_of_imports() -> None:
    assert list(TopologicalSorter({module_of(path): imports_of(path) for path in sources()}).static_order())


def test_what_a_package_itself_holds_is_a_table_or_nothing() -> None:
    """One name, one home: no package hands out the names of its modules."""
    tables = {"bench.execution": {"EXECUTORS", "inventory_of"}}
    for path in (ROOT / "bench").rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        public = {name for name in names if not name.startswith("_")}
        assert public <= tables.get(module_of(path), set())


def test_no_module_outside_models_asks_which_family_a_model_is_of() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        for phrase in ('== "vit"', '== "cnn"', "isinstance(model", "import ViT", "import CNN"):
            assert phrase not in text or place_of(module_of(path)) == "models", f"{path} holds {phrase}"


def test_what_works_without_torch_does_not_import_it() -> None:
    commands = "bench.cli.results, bench.cli.gate, bench.cli.trained, bench.gate.driver, bench.gate.exports"
    without = f"run_bench, bench.config.suite_file, bench.data.download, bench.report.side_by_side, {commands}"
    code = f"import sys; import {without}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
