"""The script that rebuilds reference reports: it puts a run in its place, and loses none that it can't."""

import subprocess
from pathlib import Path

import pytest
import references

MAKE_RUN = """
from pathlib import Path
run = Path("results/mnist/2026-01-01T000000Z")
(run / "trials" / "a").mkdir(parents=True)
for name in ("run.json", "report.md", "answer.json", "trials/a/model.safetensors"):
    (run / name).write_text(name)
(run.parent / "latest").symlink_to(run.name, target_is_directory=True)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where references go, of a repository whose only command makes a run without training."""
    repository = tmp_path / "repository"
    (repository / "results" / "reference" / "other").mkdir(parents=True)
    (repository / "results" / "reference" / "other" / "run.json").write_text("{}")
    (repository / "make_run.py").write_text(MAKE_RUN)
    (repository / "fail.py").write_text("raise SystemExit(3)")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for command in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "Begin")):
        subprocess.run(["git", *command], cwd=repository, check=True)
    monkeypatch.setattr(references, "ROOT", repository)
    monkeypatch.setattr(references, "REFERENCE", repository / "results" / "reference")
    monkeypatch.setattr(references.tempfile, "tempdir", str(tmp_path))
    return repository / "results" / "reference"


def test_a_run_takes_the_place_of_the_older_one_without_weights(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "COMMANDS", {"mine": ["make_run.py"]})
    (place / "mine").mkdir()
    (place / "mine" / "old.csv").write_text("")
    references.rebuild("mine")
    assert sorted(path.name for path in (place / "mine").iterdir()) == ["report.md", "run.json"]
    assert not list(place.parents[2].glob("reference-mine-*")), "nothing is left behind"


@pytest.mark.parametrize("commands", [["make_run.py", "fail.py"], ["make_run.py", "make_run.py"]])
def test_what_was_measured_stays_where_the_rest_fails(
    commands: list[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "COMMANDS", {"mine": commands})
    with pytest.raises(subprocess.CalledProcessError):
        references.rebuild("mine")
    (left,) = place.parents[2].glob("reference-mine-*")
    assert [path.name for path in references.runs_in(left / "clone" / "results")] == ["2026-01-01T000000Z"]
    assert not (place / "mine").exists()
