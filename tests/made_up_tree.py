"""A source tree made up for the gate: its cells turn the clock, so that their times are known on any machine."""

import subprocess
from pathlib import Path

CELLS = """
import os, random, signal, sys, time
from bench.errors import UserError

PROTOCOL = {protocol}
{top}

passed = [0.0]  # seconds of the worker's clocks
time.perf_counter = time.process_time = lambda: passed[0]

class Cell:
    images = 10

    def __init__(self, work):
        self.work, self.steps = work, 0

    def step(self):
        self.steps += 1
        {step}
        passed[0] += {seconds} * random.gauss(1, 0.01)

    def synchronize(self):
        pass


def open_cell(content, work, num_threads, data_dir=None):
    print("a library that talks")
    (entry,) = content["models"]
    if entry["model"] not in {models}:
        raise UserError(f"unknown model '{{entry['model']}}'")
    return Cell(work)
"""
INVARIANTS = """
def count_work(cell):
    return {{"parameters": {parameters}}}
"""
SUITE = """
dataset: digits
models:
  - {model: vit}
  - {model: cnn}
"""

# Where trees have kept their cells and what counts their work, by the package of the cells.
LAYOUTS = {
    "speed": ("speed/cells.py", "gate/step_work.py"),
    "gate": ("gate/cells.py", "gate/step_work.py"),
    "top": ("cells.py", "invariants.py"),
}


def make_tree(
    folder: Path,
    seconds: float = 0.004,
    step: str = "pass",
    top: str = "",
    models: tuple[str, ...] = ("vit", "cnn"),
    protocol: int = 1,
    parameters: int = 100,
    layout: str = "speed",
) -> Path:
    """Write the tree; `step` and `top` are code that runs in each step and at import; `layout`: see LAYOUTS."""
    bench = folder / "bench"
    bench.mkdir(parents=True, exist_ok=True)
    (bench / "errors.py").write_text("class UserError(Exception):\n    pass\n")
    cells, counting = LAYOUTS[layout]
    for package in {bench, (bench / cells).parent, (bench / counting).parent}:
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
    (bench / cells).write_text(
        CELLS.format(seconds=seconds, step=step, top=top, models=list(models), protocol=protocol)
    )
    (bench / counting).write_text(INVARIANTS.format(parameters=parameters))
    (folder / "suite.yaml").write_text(SUITE)
    return folder


def git(folder: Path, *arguments: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *own, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit_all(folder: Path, message: str) -> str:
    """All files as a commit, in a repository that is made if need be."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")
