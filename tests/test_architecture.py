"""docs/architecture.md: its picture is what the code gives, and every file and name that it mentions is there."""

import ast
import re

import pytest
from architecture import PACKAGES, PICTURE, ROOT, draw, layers, package_imports

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`((?:bench|models|tests|docs)/[\w/.-]*|run_bench\.py)(?=`|::)", TEXT)))
NAMES = sorted(set(re.findall(r"`([\w/.]+\.py)::(\w+)`", TEXT)))


@pytest.mark.slow
def test_the_committed_picture_is_what_the_code_gives() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "run: python tests/architecture.py"


def test_every_package_is_in_the_picture_and_imports_only_from_layers_below() -> None:
    imports, rows = package_imports(), layers(package_imports())
    assert sorted(name for row in rows for name in row) == sorted(PACKAGES)
    height = {name: index for index, row in enumerate(rows) for name in row}
    assert all(height[other] < height[name] for name, others in imports.items() for other in others)
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert folders <= set(PACKAGES)


@pytest.mark.parametrize("path", PATHS)
def test_every_file_that_the_text_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name"), NAMES)
def test_every_name_that_the_text_gives_is_defined_in_its_file(path: str, name: str) -> None:
    defined = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert name in defined
