"""Nothing in the program unpickles, evaluates, or hands a line to a shell: held against every file of it.

The one exception is stated in docs/security.md: pipes between the program's own processes (multiprocessing, Ray) carry
pickles, which nobody else can write to.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = sorted(
    [ROOT / "run_bench.py", *(path for part in ("bench", "models", "examples") for path in (ROOT / part).rglob("*.py"))]
)

MODULES = {
    *(
        "pickle",
        "cPickle",
        "_pickle",
        "dill",
        "cloudpickle",
        "shelve",
        "joblib",
        "marshal",
        "pickletools",
        "jsonpickle",
    ),
    *("xml.sax", "xml.dom", "lxml", "ftplib", "telnetlib", "code", "codeop", "runpy", "imp", "pty", "commands"),
}
CALLS = {
    "eval": "evaluates text",
    "exec": "runs text",
    "compile": "compiles text",
    "__import__": "imports by name",
    "breakpoint": "stops for a debugger",
    "torch.load": "unpickles",
    "torch.save": "pickles",
    "torch.jit.load": "loads code",
    "torch.hub.load": "fetches code",
    "torch.package.PackageImporter": "loads code",
    "pandas.read_pickle": "unpickles",
    "yaml.unsafe_load": "makes any object",
    "yaml.full_load": "makes objects",
    "yaml.load_all": "makes objects",
    "yaml.unsafe_load_all": "makes any object",
    "os.system": "hands a line to a shell",
    "os.popen": "hands a line to a shell",
    "subprocess.getoutput": "hands a line to a shell",
    "subprocess.getstatusoutput": "hands a line to a shell",
    "tempfile.mktemp": "names a file that somebody else may make first",
    "shutil.unpack_archive": "writes where the archive says",
    "requests.get": "fetches what nobody checks",
    "urllib.request.urlretrieve": "fetches what nobody checks",
}
METHODS = {"extractall": "writes where the archive says", "extract": "writes where the archive says"}
# The only places that may: each with what makes it safe.
ALLOWED = {
    (
        "models/external.py",
        "importlib.import_module",
    ): "what the suite names: a library, or a file of the user",
    ("bench/data/sources.py", "urllib.request.urlopen"): "what is fetched counts only with its checksum",
    ("bench/execution/trackers/base.py", "importlib.import_module"): "our own modules, from a fixed table",
    ("bench/speed/worker.py", "importlib.import_module"): "our own cells, from a fixed table of places",
    ("bench/gate/exports.py", "xml"): "writes JUnit files and reads none",
}


class Finder(ast.NodeVisitor):
    """Offences of one file: (line, what)."""

    def __init__(self, tree: ast.AST) -> None:
        self.found: list[tuple[int, str, str]] = []
        self.names: dict[str, str] = {}  # as the file calls it -> whole name
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    self.names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        self.names |= {"np": "numpy", "pd": "pandas"}
        self.visit(tree)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._module(node, node.module or "")
        for alias in node.names:
            self._module(node, f"{node.module}.{alias.name}")
            if f"{node.module}.{alias.name}" in CALLS:
                self._say(node, f"{node.module}.{alias.name}", CALLS[f"{node.module}.{alias.name}"])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._called(node, self._whole(node))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._called(node, self.names.get(node.id, node.id))

    def visit_Call(self, node: ast.Call) -> None:
        name = self._whole(node.func)
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if name in ("numpy.load", "numpy.save") and not _is(keywords.get("allow_pickle"), False):
            self._say(node, name, "without allow_pickle=False")
        if name == "yaml.load" and not (
            isinstance(loader := keywords.get("Loader"), ast.Name) and loader.id == "_Loader"
        ):
            self._say(node, name, "without the safe loader of bench/config/suite_file.py")
        if name == "yaml.compose" and "Loader" not in keywords:
            self._say(node, name, "without a loader")
        if "shell" in keywords and not _is(keywords["shell"], False):
            self._say(node, "shell", "hands a line to a shell")
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and "filter" not in keywords:
            self._say(node, node.func.attr, METHODS[node.func.attr])
        self.generic_visit(node)

    def _called(self, node: ast.expr, name: str) -> None:
        what = CALLS.get(name)
        if name in ("urllib.request.urlopen", "importlib.import_module"):
            what = "asks for a reason in ALLOWED"
        if what:
            self._say(node, name, what)

    def _module(self, node: ast.stmt, name: str) -> None:
        first = name.partition(".")[0]
        if first in MODULES or name in MODULES:
            self._say(node, first, "is not for here")
        if first == "xml":
            self._say(node, "xml", "reads entities of others")

    def _whole(self, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{self._whole(node.value)}.{node.attr}"
        return self.names.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    def _say(self, node: ast.expr | ast.stmt, name: str, what: str) -> None:
        self.found.append((node.lineno, name, what))


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def offences(path: Path, text: str) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    for line, what, why in sorted(set(Finder(ast.parse(text)).found)):
        if (name, what) not in ALLOWED:
            yield f"{name}:{line}: {what} {why}"


def test_no_file_of_the_program_unpickles_evaluates_or_calls_a_shell() -> None:
    assert len(PROGRAM) > 100
    found = [line for path in PROGRAM for line in offences(path, path.read_text(encoding="utf-8"))]
    assert found == []


def test_every_exception_is_still_one() -> None:
    used = {
        (path.relative_to(ROOT).as_posix(), what)
        for path in PROGRAM
        for _, what, _ in Finder(ast.parse(path.read_text(encoding="utf-8"))).found
    }
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import cloudpickle as c", "import joblib", "import shelve",
        "import torch\ntorch.load('x')", "import torch as t\nt.load('x', weights_only=True)",
        "from torch import load as l\nl('x')", "import torch\ntorch.save(1, 'x')", "import torch\nf = torch.load",
        "import numpy as np\nnp.load('x')", "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import pandas as pd\npd.read_pickle('x')", "import yaml\nyaml.load('x', Loader=yaml.Loader)",
        "import yaml\nyaml.load('x', yaml.FullLoader)", "from yaml import unsafe_load", "eval('1')", "f = exec",
        "compile('1', 'x', 'eval')", "a.extract('x')", "import os\nos.system('ls')",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess as s\ns.Popen('ls', shell=x)", "import tempfile\ntempfile.mktemp()", "a.extractall()",
        "from xml.etree import ElementTree", "import xml.sax", "__import__('os')",
        "from urllib.request import urlopen\nurlopen('http://x')",
        "from importlib import import_module\nimport_module(x)",
    ],
)  # fmt: skip
def test_the_check_sees_each_of_them(code: str) -> None:
    assert list(offences(ROOT / "bench" / "made_up.py", code))


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()", "import re\nre.compile('x')", "import torch\ntorch.compile(f)", "a.load()",
        "import json\njson.load(f)",
        "import numpy as np\nnp.load('x', allow_pickle=False)", "import yaml\nyaml.load('x', Loader=_Loader)",
        "import subprocess\nsubprocess.run(['ls'])", "a.extract(x, filter='data')", "path.save(x)",
    ],
)  # fmt: skip
def test_the_check_leaves_what_is_harmless(code: str) -> None:
    assert list(offences(ROOT / "bench" / "made_up.py", code)) == []
