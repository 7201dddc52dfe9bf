"""Who may import whom: the layers of the house, held against the code."""

import ast
import importlib.util
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from architecture import MAY_IMPORT, ROOT, imports_of, module_of, place_of, sources


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
    for path in (ROOT / "bench").rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert all(name.startswith("_") for name in names), path


def test_no_module_outside_models_asks_which_family_a_model_is_of() -> None:
    for path in sources():
        text = path.read_text(encoding="utf-8")
        for phrase in ('== "vit"', '== "cnn"', "isinstance(model", "import ViT", "import CNN"):
            assert phrase not in text or place_of(module_of(path)) == "models", f"{path} holds {phrase}"


@pytest.mark.slow
def test_what_works_without_torch_does_not_import_it() -> None:
    commands = "bench.cli.results, bench.cli.gate, bench.cli.trained, bench.gate.driver, bench.gate.exports"
    without = f"run_bench, bench.config.suite_file, bench.data.download, bench.report.side_by_side, {commands}"
    code = f"import sys; import {without}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_a_script_starts_from_any_folder(path: Path, tmp_path: Path) -> None:
    if "ArgumentParser(" not in path.read_text(encoding="utf-8"):
        pytest.skip("takes no options")
    run = subprocess.run([sys.executable, path, "--help"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if lacks := re.fullmatch(r"No module named '([\w.]+)': pip install .+\n", run.stderr):
        assert importlib.util.find_spec(lacks[1].partition(".")[0]) is None
        pytest.skip(run.stderr)
    assert run.returncode == 0, run.stderr
