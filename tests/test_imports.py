"""Who may import whom: the house's table, held against the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# module -> those of ours that it may import; bench.errors is open to all.
MAY_IMPORT: dict[str, set[str]] = {
    "run_bench": {
        "catalogue",
        "compare",
        "compare_text",
        "executors",
        "gate_command",
        "options",
        "report",
        "saved_command",
        "session",
        "side_by_side",
        "suite_file",
    },
    "gate_command": {
        "baseline",
        "baseline_check",
        "baseline_text",
        "decide",
        "decision",
        "gate",
        "gate_files",
        "gate_request",
        "gate_text",
        "journal",
        "options",
    },
    "baseline": {"labels", "machine", "reference_work", "store", "summary"},
    "baseline_check": {"baseline", "machine", "reference_work", "stats", "summary", "units"},
    "baseline_text": {"baseline_check", "units"},
    "machine": {"device", "labels", "reference_work", "summary"},
    "probe": {"reference_work"},
    "gate": {"decide", "download", "gate_request", "journal", "one_gate", "paired", "probe", "processor", "trees"},
    "gate_request": {"journal", "paired", "processor", "singles", "suite_file", "trees"},
    "gate_text": {"decision", "gate_words", "journal", "units", "work"},
    "gate_words": {"decision", "journal", "work"},
    "gate_files": {"decision", "gate_history", "gate_words", "journal"},
    "gate_history": {"decision", "gate_words", "journal"},
    "decide": {"decision", "journal", "launches", "work"},
    "decision": {"journal", "launches", "work"},
    "launches": {"journal"},
    "work": {"units"},
    "paired": {"arm", "journal"},
    "arm": {"journal"},
    "worker": {"cells", "invariants"},
    "cells": {"compilation", "data", "measure", "suite", "suite_file", "train", "workbench"},
    "invariants": {"flops", "train", "workbench"},
    "singles": {"suite_file"},
    "session": {
        "download",
        "estimate",
        "executors",
        "gallery",
        "own_description",
        "progress",
        "provenance",
        "report",
        "results",
        "store",
        "submissions",
        "suite",
        "suite_file",
        "sweep",
        "tracked",
        "trackers",
        "verdict",
    },
    "catalogue": {"datasets", "device", "download", "models", "precision", "progress", "suite", "suite_file", "trial"},
    "sweep": {"environment", "executors", "progress", "results", "store", "trial"},
    "cluster": {"executors", "inventory"},
    "executors": {"cluster", "inventory", "processor", "results", "run", "trial"},
    "inventory": {"compilation", "device", "trial"},
    "progress": {"results", "trial"},
    "run": {
        "artefacts",
        "compilation",
        "inspection",
        "measure",
        "memory",
        "record",
        "results",
        "train",
        "trial",
        "workbench",
    },
    "workbench": {"compilation", "data", "device", "measure", "models", "optim", "precision", "train", "trial"},
    "inspection": {"compilation", "data", "flops", "instruments", "peak", "record", "results", "train", "workbench"},
    "record": {"data", "device", "instruments", "measure", "memory", "results", "stats", "train", "trial"},
    "instruments": {"device", "measure", "train"},
    "compilation": {"device", "trial"},
    "peak": {"device", "precision"},
    "train": {"device", "measure", "precision"},
    "suite": {
        "checks",
        "complaints",
        "datasets",
        "inventory",
        "match",
        "models",
        "own_description",
        "recipes",
        "step_time",
        "suite_file",
        "suite_keys",
        "trial",
    },
    "checks": {
        "augment",
        "complaints",
        "datasets",
        "inventory",
        "optim",
        "own_data",
        "own_description",
        "precision",
        "recipes",
        "suite_file",
        "suite_keys",
        "trial",
    },
    "suite_keys": {"device", "own_description", "precision", "trial"},
    "match": {"datasets", "flops", "models", "solver", "step_time", "suite_keys", "trial"},
    "step_time": {"compilation", "datasets", "device", "models", "optim", "precision", "train", "trial"},
    "complaints": {"suite_file"},
    "schema": {"augment", "datasets", "device", "models", "optim", "precision", "recipes", "suite_file", "suite_keys"},
    "estimate": {"datasets", "inventory", "match", "results", "trial"},
    "environment": {"device", "processor"},
    "device": {"energy", "precision", "processor"},
    "trial": {"own_description", "recipes"},
    "optim": {"recipes"},
    "data": {"augment", "datasets", "download", "own_data", "splits", "streaming"},
    "download": {"datasets", "sources"},
    "datasets": {"idx", "sources"},
    "sources": {"datasets", "idx"},
    "store": {"results"},
    "report": {
        "across",
        "choices",
        "conditions",
        "doubts",
        "gallery_pictures",
        "labels",
        "modes",
        "page_table",
        "pairs",
        "pictures",
        "published",
        "store",
        "summary",
        "tables",
        "units",
        "verdict",
    },
    "conditions": {"summary", "units"},
    "pictures": {"canvas", "picture_alts", "plots", "summary"},
    "plots": {"canvas", "labels", "modes", "plots_compare", "plots_cost", "plots_modes", "plots_scatter", "summary"},
    "plots_compare": {"canvas", "comparison", "efficiency", "labels", "pairs", "summary"},
    "plots_cost": {"canvas", "labels", "summary", "units"},
    "placement": {"canvas", "labels"},
    "verdict": {"brief", "doubts", "efficiency", "findings", "labels", "modes", "pairs", "summary", "units"},
    "doubts": {"comparison", "labels", "modes", "pairs", "summary", "units"},
    "pairs": {"comparison", "labels", "summary", "tables", "units"},
    "modes": {"comparison", "labels", "summary", "tables", "units"},
    "efficiency": {"comparison", "labels", "summary", "units"},
    "tables": {"columns", "labels", "summary"},
    "compare": {"comparison", "labels", "results", "summary", "units"},
    "compare_text": {"compare", "units"},
    "comparison": {"stats", "summary", "units"},
    "summary": {"labels", "results", "stats", "store"},
    "canvas": {"labels", "summary"},
    "units": {"stats"},
    "artefacts": {"data"},
    "across": {"comparison", "labels", "summary", "tables", "units"},
    "columns": {"summary", "units"},
    "csv_images": {"own_arrays"},
    "gallery": {"data", "datasets", "gallery_file", "labels", "models", "outcomes", "saved", "summary", "trial"},
    "gallery_alts": {"gallery_file", "lettering", "outcomes", "units"},
    "gallery_file": {"store"},
    "gallery_pictures": {
        "canvas",
        "gallery_file",
        "gallery_words",
        "lettering",
        "pictures",
        "plots_attention",
        "plots_filters",
        "plots_gallery",
        "plots_samples",
    },
    "gallery_words": {"gallery_alts", "gallery_file", "units"},
    "image_file": {"own_arrays"},
    "image_folder": {"image_file", "own_arrays"},
    "lettering": {"canvas"},
    "look": {"models", "plots_look", "predict", "saved", "splits"},
    "mlflow_client": {"address"},
    "mlflow_runs": {"address", "mlflow_client", "progress", "results", "tracked", "trial"},
    "npz_images": {"own_arrays"},
    "own_cache": {"download"},
    "own_data": {"datasets", "image_file", "own_arrays", "own_cache", "own_description", "own_reading", "own_sources"},
    "own_reading": {"csv_images", "idx", "image_file", "image_folder", "npz_images", "own_arrays", "own_sources"},
    "own_sources": {"csv_images", "image_file", "image_folder", "own_arrays", "own_description"},
    "page_table": {"labels", "summary", "tables"},
    "plots_attention": {"canvas", "contact_sheet", "gallery_file", "lettering", "plots_gallery", "plots_samples"},
    "plots_filters": {"canvas", "contact_sheet", "gallery_file", "plots_samples"},
    "plots_gallery": {"canvas", "gallery_file", "lettering", "outcomes"},
    "plots_look": {"canvas", "lettering"},
    "plots_samples": {"canvas", "contact_sheet", "gallery_file", "lettering", "plots_gallery"},
    "predict": {"data", "device", "own_data", "precision", "saved", "splits", "store", "streaming"},
    "provenance": {"address", "environment", "recipes", "suite", "suite_file"},
    "published": {"labels", "summary", "tables", "units"},
    "saved": {"artefacts", "data", "models", "precision", "trial"},
    "saved_command": {"device", "look", "options", "plots_look", "predict", "saved"},
    "side_by_side": {"labels", "report", "store", "summary", "units", "verdict"},
    "streaming": {"processor", "splits"},
    "submissions": {"gallery", "predict", "saved", "summary"},
    "tensorboard_files": {"results", "tracked", "trial"},
    "tracked": {"progress", "results", "trial"},
    "trackers": {"mlflow_runs", "progress", "results", "tensorboard_files", "tracked", "trial"},
    "brief": {"comparison", "findings", "pairs", "units"},
    "choices": {"comparison", "labels", "stats", "summary", "tables", "units"},
    "contact_sheet": {"canvas", "lettering"},
    "findings": {"comparison", "labels", "summary", "units"},
    "picture_alts": {"comparison", "efficiency", "labels", "modes", "pairs", "summary", "units"},
    "plots_modes": {"canvas", "comparison", "labels", "modes", "summary", "units"},
    "plots_scatter": {"canvas", "placement", "stats", "summary", "units"},
    **{
        name: set()
        for name in (
            "address",
            "augment",
            "energy",
            "errors",
            "flops",
            "formula",
            "idx",
            "journal",
            "labels",
            "measure",
            "memory",
            "one_gate",
            "options",
            "outcomes",
            "own_arrays",
            "own_description",
            "precision",
            "processor",
            "recipes",
            "redaction",
            "reference_work",
            "results",
            "solver",
            "splits",
            "stats",
            "suite_file",
            "trees",
        )
    },
}
# What a laptop without torch must be able to import.
WITHOUT_TORCH = (
    "trial",
    "suite_file",
    "results",
    "store",
    "stats",
    "summary",
    "verdict",
    "plots",
    "report",
    "compare",
    "compare_text",
    "download",
    "decide",
    "gate",
    "gate_command",
    "gate_files",
    "gate_text",
    "baseline",
    "baseline_check",
    "baseline_text",
    "probe",
)


def modules() -> dict[str, Path]:
    return {
        path.stem: path for path in [*(ROOT / "bench").glob("*.py"), ROOT / "run_bench.py"] if path.stem != "__init__"
    }


def ours(path: Path) -> set[str]:
    """Names of our modules that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                if node.module == "bench"
                else [node.module]
            )
        for name in names:
            package, _, rest = name.partition(".")
            if package == "bench" and rest:
                found.add(rest)
            if package == "models":
                found.add("models")
    return found


def test_every_module_stands_in_the_table() -> None:
    assert set(modules()) == set(MAY_IMPORT)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_module_imports_only_what_it_may(name: str) -> None:
    assert ours(modules()[name]) - {"errors"} <= MAY_IMPORT[name]


def test_models_import_nothing_of_the_harness() -> None:
    for path in (ROOT / "models").glob("*.py"):
        assert ours(path) <= {"models"}


def test_no_module_outside_models_asks_which_family_a_model_is_of() -> None:
    for name, path in modules().items():
        text = path.read_text(encoding="utf-8")
        for phrase in ('== "vit"', '== "cnn"', "isinstance(model", "import ViT", "import CNN"):
            assert phrase not in text, f"{name} holds {phrase}"


def test_what_works_without_torch_does_not_import_it() -> None:
    imports = ", ".join(f"bench.{name}" for name in WITHOUT_TORCH)
    code = f"import sys; import {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
