"""Going on with a run through the program itself: failures run again, nothing left to do, checked folders, --jobs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pytest

import run_bench
from bench.report import figures

Typed = Callable[..., tuple[int, str, str]]

NETS = """
    from pathlib import Path
    from torch import nn

    def moody(num_classes, image_size, in_channels):
        if Path("bad_mood").exists():
            return Grumpy(in_channels * image_size**2, num_classes)
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))

    class Grumpy(nn.Sequential):
        def __init__(self, pixels, num_classes):
            super().__init__(nn.Flatten(), nn.Linear(pixels, num_classes))
        def forward(self, images):
            if images.device.type != "meta" and self.training:
                raise RuntimeError("not today")
            return super().forward(images)
"""
SUITE = """
    dataset: digits
    models:
      - {model: cnn, depth: 1, width: 4}
      - {model: "moody_nets:moody"}
    epochs: 1
    speed_seconds: 0
"""


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """The program in this process and without pictures: words -> exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("bench.execution.local.start_fork_server", lambda: None)
    for name in ("RUN_PLOTS", "GALLERY_PLOTS"):
        monkeypatch.setattr(figures, name, ())
    (tmp_path / "moody_nets.py").write_text(dedent(NETS))
    (tmp_path / "s.yaml").write_text(dedent(SUITE))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["run_bench.py", *words])
        status = run_bench.main()
        return (status, *capsys.readouterr())

    return run


def statuses(run: str) -> dict[str, str]:
    trials = pd.read_csv(Path(run) / "trials.csv")
    return dict(zip(trials.model, trials.status, strict=True))


@pytest.mark.slow
def test_what_failed_runs_again_when_asked_and_nothing_else_does(typed: Typed) -> None:
    here = ["--executor", "in-process", "--quiet"]
    Path("bad_mood").touch()
    status, first, _ = typed("--suite", "s.yaml", "--out", "run", *here)
    assert status == 1
    assert statuses("run") == {"cnn": "ok", "moody_nets:moody": "failed"}
    (trace,) = Path("run/failures").iterdir()
    assert "RuntimeError: not today" in trace.read_text()
    assert "moody_nets.py" in trace.read_text()

    Path("bad_mood").unlink()
    tables = Path("run/trials.csv").read_bytes()
    status, again, _ = typed("--resume", "run", *here)
    assert status == 1
    assert Path("run/trials.csv").read_bytes() == tables
    assert again == first  # the answer that is there

    (kept,) = (line for line in tables.decode().splitlines() if line.startswith("cnn-"))
    status, _, error = typed("--resume", "run", "--retry", *here)
    assert status == 0, error
    assert statuses("run") == {"cnn": "ok", "moody_nets:moody": "ok"}
    assert kept in Path("run/trials.csv").read_text().splitlines()
    assert pd.read_csv("run/retried.csv").status.tolist() == ["failed"]

    status, said, _ = typed("verify", "run")
    assert (status, said.splitlines()[-1]) == (0, "run: 2 trials, whole")
    weights = next(Path("run/trials").glob("*cnn*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    status, said, _ = typed("verify", "run", "--json")
    assert status == 1
    (found,) = json.loads(said)
    assert any("model.safetensors" in problem for problem in found["problems"])


@pytest.mark.slow
def test_jobs_share_the_machine_and_the_report_speaks_of_accuracy_alone(typed: Typed) -> None:
    status, said, error = typed("--suite", "s.yaml", "--out", "run", "--jobs", "2", "--quiet")
    assert status == 0, error
    trials = pd.read_csv("run/trials.csv")
    assert trials.timed.tolist() == [False, False]
    assert trials.test_accuracy.notna().all()
    assert trials.images_per_second.isna().all()
    assert "images/s" not in said
    assert "accuracy alone" in Path("run/report.md").read_text().lower()
