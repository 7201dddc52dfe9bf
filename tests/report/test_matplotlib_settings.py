"""matplotlib loads and draws whatever a person has set for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRAWS = """
import os
folder, environment = os.getcwd(), dict(os.environ)
import bench.report.figures
from bench.report.plots.style import canvas, house_style, save
import matplotlib, seaborn
with house_style():
    figure, axes = canvas(2.0)
    seaborn.heatmap([[1.0]], ax=axes[0, 0])
    assert save(figure, "png").startswith(b"\\x89PNG")
assert matplotlib.get_backend().lower() == "agg"
assert matplotlib.rcParams["lines.linewidth"] == 1.5  # matplotlib's own
assert (os.getcwd(), dict(os.environ)) == (folder, environment)
"""
BACKENDS = ("nonsense", "module://not_installed")
UNREADABLE, READABLE = b"font.family: caf\xe9\n", b"lines.linewidth: 9\n"


def draws(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    home = {"XDG_CONFIG_HOME": str(folder / "config"), "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MPL", "MATPLOTLIB"))}
    environment = kept | home | {"XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    return subprocess.run(
        [sys.executable, "-c", DRAWS],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["Qt4Agg", *BACKENDS])
def test_a_backend_that_is_not_there_costs_no_figure(backend: str, tmp_path: Path) -> None:
    process = draws(tmp_path, MPLBACKEND=backend)
    assert process.returncode == 0, process.stderr


@pytest.mark.slow
@pytest.mark.parametrize("content", [UNREADABLE, READABLE])
@pytest.mark.parametrize(
    "place", ["matplotlibrc", "named.rc", "config/matplotlib/matplotlibrc", "config/matplotlib/stylelib/own.mplstyle"]
)
def test_a_settings_file_changes_no_figure_even_one_that_cannot_be_read(
    place: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_bytes(content)
    process = draws(tmp_path, **({"MATPLOTLIBRC": str(tmp_path / place)} if place == "named.rc" else {}))
    assert process.returncode == 0, process.stderr
