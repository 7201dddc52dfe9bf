"""A run folder held against its own record: each change to what was written is found, and nothing makes it crash."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.errors import StoreError
from bench.result import TABLES, Result
from bench.store.journal import as_line
from bench.store.run_folder import RunFolder
from bench.store.verify import Verification, verify_run
from bench.training.checkpoint import Inputs, save_trial

JOURNAL = "journal.jsonl"
RECORD = {
    "suite": "x",
    "plan": ["vit-s0", "cnn-s0", "cnn-s1", "later"],
    "dataset": {"checksum": "abc"},
    "environment": {"cpu": "x"},
    "created_at": "2026-03-01T09:30:00Z",
}


def result(trial_id: str, **more: object) -> Result:
    evaluations = [{"epoch": i, "step": i, "train_seconds": 0.1 * i, "val_accuracy": 0.5} for i in (1, 2)]
    blocks = [{"block": i, "steps": 10, "images": 640, "seconds": 0.25 + i} for i in range(2)]
    fields = {"status": "ok", "dataset_checksum": "abc", "test_accuracy": 0.975, "train_seconds": 1.5, **more}
    return Result(trial_id, evaluations=evaluations, blocks=blocks, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    store = RunFolder.create(folder, RECORD)
    inputs = Inputs(title="x", image_size=2, in_channels=1, class_names=("a", "b", "c"), mean=(0.0,), std=(1.0,))
    state = {"weight": torch.arange(4.0)}
    for name in ("vit-s0", "cnn-s0"):
        columns = {"label": torch.tensor([0, 1])}
        save_trial(folder / "trials" / name, {"seed": 0}, state, state, columns, inputs)
        store.append(result(name))
    store.append(result("cnn-s1", status="failed", error="=boom", trace="Traceback\n  boom\n"))
    store.write_run(RECORD)
    store.close()
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def add(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def forge(run: Path, **changes: Any) -> None:
    """Change the journal's first line, and give it a digest that fits."""
    first, rest = (run / JOURNAL).read_bytes().split(b"\n", 1)
    content = json.loads(first)
    content.pop("digest")
    content = (
        {"kind": "none"} if "ok" in changes else content | changes | {"row": content["row"] | changes.get("row", {})}
    )
    (run / JOURNAL).write_bytes(as_line(content) + rest)


def test_a_whole_run_has_no_problems_and_notes_what_has_not_run(run: Path) -> None:
    found = verify_run(run)
    assert found == Verification(3, [], ["not run yet: later"])
    assert json.loads(json.dumps(vars(found))) == vars(found)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda run: edit(run / "trials.csv", "0.975", "0.995"), "trials.csv, line 2: isn't what journal.jsonl gives"),
        (lambda run: edit(run / "trials.csv", "trial_id", "trial_jd"), "trials.csv, line 1: isn't what journal.jsonl"),
        (lambda run: edit(run / "evaluations.csv", "0.5", "0.6"), "evaluations.csv, line 2: isn't what journal.jsonl"),
        (lambda run: add(run / "throughput.csv", b"ghost,0,1,2,3\n"), "throughput.csv, line 8: isn't what"),
        (lambda run: edit(run / JOURNAL, "0.975", "0.995"), "line 1: isn't what was written: its digest differs"),
        (lambda run: add(run / JOURNAL, b"half,a,row"), "journal.jsonl, line 4: torn"),
        (lambda run: add(run / JOURNAL, b"\0\0\0\n"), "journal.jsonl, line 4: not JSON"),
        (lambda run: add(run / JOURNAL, b"\n"), "journal.jsonl: holds bytes that weren't written there"),
        (lambda run: add(run / JOURNAL, b'{"kind":"trial"}\n'), "journal.jsonl, line 4: has no digest"),
        (lambda run: (run / JOURNAL).unlink(), "journal.jsonl: can't be read (No such file or directory)"),
        (lambda run: forge(run, kind="none"), "line 1: has the unknown kind 'none'"),
        (lambda run: forge(run, kind="k" * 50), f"line 1: has the unknown kind '{'k' * 40}'"),
        (lambda run: forge(run, row={"status": "s" * 50}), f"line 1: has the unknown status '{'s' * 40}'"),
        (lambda run: forge(run, row={"test_accuracy": "b" * 50}), f"row: test_accuracy is '{'b' * 40}', no number"),
        (lambda run: forge(run, row={"test_accuracy": 1.975}), "its row: test_accuracy is 1.975, not within 0 and 1"),
        (lambda run: forge(run, row={"test_accuracy": "best"}), "its row: test_accuracy is 'best', no number"),
        (lambda run: forge(run, row={"train_seconds": -1.5}), "its row: train_seconds is -1.5, less than 0"),
        (lambda run: forge(run, row={"status": "fine"}), "journal.jsonl, line 1: has the unknown status 'fine'"),
        (lambda run: forge(run, row={"dataset_checksum": "abd"}), "trial vit-s0: was measured on other contents"),
        (lambda run: forge(run, trial_id="vit-s9"), "trial vit-s9 isn't in the plan"),
        (lambda run: forge(run, trial_id="../.."), "line 1: has a trial_id that can't be the name of a file"),
        (lambda run: forge(run, blocks={}), "journal.jsonl, line 1: has rows that are none"),
        (
            lambda run: add(run / JOURNAL, (run / JOURNAL).read_bytes().split(b"\n")[1] + b"\n"),
            "journal.jsonl, line 4: trial cnn-s0 is there more than once",
        ),
        (lambda run: (run / "inference.csv").unlink(), "inference.csv: can't be read (No such file or directory)"),
        (lambda run: (run / "failures" / "cnn-s1.txt").unlink(), "failures/cnn-s1.txt is missing"),
        (lambda run: add(run / "failures" / "cnn-s1.txt", b"!"), "failures/cnn-s1.txt isn't what was written"),
        (lambda run: (run / "trials/cnn-s0/model.safetensors").unlink(), "trials/cnn-s0: model.safetensors is missing"),
        (lambda run: add(run / "trials/cnn-s0/predictions.csv", b"!"), "trials/cnn-s0: predictions.csv isn't what was"),
        (lambda run: (run / "trials/cnn-s0/SHA256SUMS").unlink(), "trials/cnn-s0/SHA256SUMS is missing"),
        (lambda run: edit(run / "trials/cnn-s0/SHA256SUMS", "data", "../.."), "SHA256SUMS, line 1: is no checksum"),
        (lambda run: edit(run / "run.json", '"x"', '"y"'), "run.json: isn't what was written"),
        (lambda run: edit(run / "run.json", '"suite"', '"sweet"'), "run.json: 'suite' is missing"),
        (lambda run: edit(run / ".run.json.previous", '"x"', '"y"'), ".run.json.previous: isn't what was written"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(run: Path, damage: Callable[[Path], None], named: str) -> None:
    damage(run)
    problems = verify_run(run).problems
    assert any(named in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_every_byte_that_changes_in_what_was_written_is_found(run: Path) -> None:
    """Of every file of the record: a flipped bit, a byte, a file cut short, a block of zeros, bytes put in between."""
    names = ("run.json", ".run.json.previous", JOURNAL, *TABLES)
    files = [*(run / name for name in names), *(run / "failures").iterdir(), *run.glob("trials/*/*")]
    chance = random.Random(6)
    for _ in range(300):
        path = chance.choice([path for path in files if path.stat().st_size])
        before = path.read_bytes()
        data, place = bytearray(before), chance.randrange(len(before))
        how = chance.choice(["bit", "byte", "cut", "zeros", "more"])
        if how == "bit":
            data[place] ^= 1 << chance.randrange(8)
        elif how == "byte":
            data[place] = chance.randrange(256)
        elif how == "cut":
            del data[place:]
        elif how == "zeros":
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        else:
            data[place:place] = chance.randbytes(5)
        path.write_bytes(data)
        found = data == before or ("run.json" in path.name and _means_the_same(data, before))
        try:
            found = found or bool(verify_run(run).problems)
        except StoreError:
            found = path.name == "run.json"
        assert found, (path.name, how, place)
        path.write_bytes(before)


def _means_the_same(data: bytearray, before: bytes) -> bool:
    try:
        return bool(json.loads(data) == json.loads(before))
    except ValueError:
        return False


def test_leftovers_are_notes(run: Path) -> None:
    (run / ".run.json.123").touch()
    (run / "trials" / ".vit-s0.partial").mkdir()
    assert verify_run(run).notes[-1] == "leftover temporary files: .run.json.123, .vit-s0.partial"


def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run"):
        verify_run(tmp_path)
