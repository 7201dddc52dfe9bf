"""Launches in the journal: what is written is there, whole and once; what damages one costs no trial and no other."""

import errno
import json
import math
import os
import random
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import make_run, read_table, result
from made_up_launch import add_launches, made_up_launch, packed

from bench.errors import StoreError
from bench.result import SLICE_COLUMNS, TABLES, Launch
from bench.store import run_folder
from bench.store.journal import as_line
from bench.store.run_folder import RunFolder
from bench.store.tables import LaunchEntry, launch_entry, read_correct, read_launches, read_rows
from bench.store.verify import verify_run
from bench.system import files
from bench.system.process import listening

RECORD: dict[str, Any] = {
    "suite": "x",
    "plan": [*"abc"],
    "dataset": {},
    "environment": {},
    "created_at": "2026-03-01T09:30:00Z",
    "split": {"test": 297},
}
FILES = ("journal.jsonl", *TABLES)


def small(launch: int = 0, **how: Any) -> Launch:
    return made_up_launch(launch, rounds=1, threads=(1,), **how)


@pytest.fixture
def store(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", RECORD)


def filled(folder: Path) -> RunFolder:
    """Trials and launches by turns."""
    store = RunFolder.create(folder, RECORD)
    store.append(result("a", config_id="vit", device_name="cpu", num_threads=2))
    store.append_launch(small(0))
    store.append(result("b"))
    store.append_launch(small(1))
    store.append_launch(small(2))
    return store


def reopened(store: RunFolder, **how: bool) -> RunFolder:
    store.close()
    return RunFolder.open(store.folder, **how)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def numbers(folder: Path) -> list[int]:
    return [launch.launch for launch in read_launches(folder)]


def test_a_launch_is_read_back_as_it_was(store: RunFolder) -> None:
    launches = [made_up_launch(0, disturbed=0.3), made_up_launch(1, missing={"cnn-d2-fp32-cpu": "out of memory"})]
    assert store.launches == 0
    for launch in launches:
        store.append_launch(launch)
    assert store.launches == 2
    assert read_launches(store.folder) == launches
    assert reopened(store).launches == 2


def test_numpys_numbers_are_plain_and_what_is_no_number_was_not_measured(store: RunFolder) -> None:
    launch = small()
    launch.slices[0] |= {"seconds": np.float64(0.25), "steps": np.int64(3), "stolen_seconds": math.nan}
    launch.machine["load"] = np.float32(0.5)  # type: ignore[assignment]
    store.append_launch(launch)
    (read,) = read_launches(store.folder)
    assert {key: read.slices[0][key] for key in ("seconds", "steps", "stolen_seconds")} == {
        "seconds": 0.25,
        "steps": 3,
        "stolen_seconds": None,
    }
    assert read.machine["load"] == 0.5


def test_tables_hold_blocks_of_trials_and_slices_of_launches_each_with_its_own_identity(store: RunFolder) -> None:
    trial = result("a", config_id="vit", device_name="=odd", num_threads=2)
    trial.inference_blocks = [{"batch_size": 8, "block": 5, "images": 64, "seconds": 0.5}]
    store.append(trial)
    launch = small(device_name="=odd")
    store.append_launch(launch)
    for name, works in (("throughput.csv", ("train", "loop", "steps")), ("inference.csv", ("infer",))):
        plain = pd.read_csv(store.folder / name)
        table = read_table(store.folder, name)
        assert list(plain.columns) == list(table.columns) == list(TABLES[name])
        slices = [row for row in launch.slices if row["work"] in works]
        assert plain["trial_id"].fillna("").tolist() == table["trial_id"].tolist() == ["a", *[""] * len(slices)]
        assert plain["device_name"].unique().tolist() == ["'=odd"]
        assert table["device_name"].unique().tolist() == ["=odd"]
        assert plain["launch"].fillna(-1).tolist() == [-1, *[0] * len(slices)]
        assert plain["num_threads"].tolist() == [2, *[1] * len(slices)]
        assert plain["config_id"].tolist() == ["vit", *(row["config_id"] for row in slices)]
        for key in ("round", "slot", "steps", "images", "seconds", "waited_seconds", "stolen_seconds"):
            assert plain[key].tolist()[1:] == [row[key] for row in slices]
    training, inference = (pd.read_csv(store.folder / name) for name in ("throughput.csv", "inference.csv"))
    assert training["work"].tolist() == ["train", *(row["work"] for row in launch.slices if row["work"] != "infer")]
    assert inference["slot"][0] == 5
    single = inference["batch_size"] == 1
    assert single.sum() == 2
    assert (inference["p50_seconds"].notna() == single).all()
    assert [len(pd.read_csv(store.folder / name)) for name in ("trials.csv", "evaluations.csv")] == [1, 2]


def test_a_launch_from_before_there_were_probes_is_read() -> None:
    line = (Path(__file__).parents[1] / "fixtures" / "fuzz" / "store" / "launches").read_text().splitlines()[2]
    content = json.loads(line)
    assert "probe_seconds" not in content["slices"]
    entry = launch_entry(0, content)
    assert isinstance(entry, LaunchEntry)
    (piece,) = entry.launch().slices
    assert (piece["seconds"], piece["probe_seconds"]) == (0.5, None)


def test_every_column_of_what_was_timed_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tables.md").read_text(encoding="utf-8")
    timed = {*TABLES["throughput.csv"], *TABLES["inference.csv"]}
    described = {word for line in text.splitlines() if line.startswith("| `") for word in line.split("|")[1].split("`")}
    assert timed <= described
    assert {field.name for field in fields(Launch)} <= {*text.split("`")}


def test_tables_are_made_anew_in_the_order_of_the_journal(tmp_path: Path) -> None:
    store = filled(tmp_path / "run")
    before = contents(store.folder)
    store = reopened(store)
    assert (store.notices, store.launches) == ([], 3)
    assert contents(store.folder) == before
    for name in TABLES:
        (store.folder / name).unlink()
    store = reopened(store)
    assert contents(store.folder) == before
    found = verify_run(store.folder)
    assert (found.trials, found.launches, found.problems) == (2, 3, [])


def test_trials_that_run_again_leave_the_launches(tmp_path: Path) -> None:
    store = filled(tmp_path / "run")
    store.append(result("c", status="failed"))
    store = reopened(store, retry=True)
    assert (store.finished(), store.launches) == ({"a", "b"}, 3)
    store.append_launch(small(3))
    store.append(result("c"))
    before = contents(store.folder)
    store = reopened(store)
    assert (store.finished(), store.launches, store.notices) == ({*"abc"}, 4, [])
    assert contents(store.folder) == before
    assert verify_run(store.folder).problems == []


PLACES = {"first": 0, "a letter of the kind": 10, "middle": 0.5, "digest": -10, "last": -1}


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize(
    "how", [*PLACES, *(f"cut at: {place}" for place in PLACES), "gone", "zeros", "another number", "half gone"]
)
def test_a_damaged_line_of_a_launch_costs_that_launch_alone_and_is_kept(tmp_path: Path, lost: int, how: str) -> None:
    store = filled(tmp_path / "run")
    path = store.folder / "journal.jsonl"
    *lines, _ = path.read_bytes().split(b"\n")
    number = (1, 3, 4)[lost]
    line = lines[number]
    part = PLACES.get(how.removeprefix("cut at: "), 0)
    place = int(part * len(line)) if isinstance(part, float) else part % len(line)
    if how in PLACES:
        lines[number] = line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]
    elif how.startswith("cut at"):
        lines[number] = line[:place]
    else:
        lines[number] = {"zeros": bytes(len(line)), "half gone": line[:40] + line[90:]}.get(
            how, line.replace(b'"launch":%d' % lost, b'"launch":7')
        )
    if how == "gone":
        del lines[number]
    path.write_bytes(b"\n".join([*lines, b""]))
    assert verify_run(store.folder).problems
    left = [each for each in range(3) if each != lost]
    assert numbers(store.folder) == left
    assert [row["trial_id"] for row in read_rows(store.folder)] == ["a", "b"]
    store = reopened(store)
    assert store.finished() == {"a", "b"}
    assert store.launches == max(left) + 1  # a number is given again only where nothing comes behind it
    kept = b"".join(each.read_bytes() for each in (store.folder / "set_aside").glob("*"))
    assert how == "gone" or lines[number] in kept
    assert verify_run(store.folder).problems == []
    store.append_launch(small(store.launches))
    store.append(result("c"))
    store = reopened(store)
    assert store.notices == []
    assert numbers(store.folder) == [*left, max(left) + 1]
    assert store.finished() == {*"abc"}


@given(st.integers(min_value=1, max_value=6000), st.sampled_from(FILES))
@settings(max_examples=20, deadline=None)
def test_a_file_cut_within_a_launch_loses_that_launch_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, name: str
) -> None:
    folder = tmp_path_factory.mktemp("cut") / "run"
    store = RunFolder.create(folder, RECORD)
    store.append(result("a"))
    store.append_launch(small(0))
    sizes = {table: (folder / table).stat().st_size for table in FILES}
    store.append_launch(small(1))
    store.close()
    with open(folder / name, "ab") as file:
        file.truncate(max(sizes[name], file.tell() - cut))
    whole = name != "journal.jsonl"
    assert numbers(folder) == ([0, 1] if whole else [0])
    store = RunFolder.open(folder)
    assert (store.finished(), store.launches) == ({"a"}, 2 if whole else 1)
    store.append_launch(small(store.launches))
    assert verify_run(folder).problems == []
    assert set(pd.read_csv(folder / "throughput.csv")["launch"].dropna()) == {*range(store.launches)}
    store.close()


@pytest.mark.parametrize("again", ["the same line", "another launch of that number"])
def test_a_number_that_is_there_twice_counts_once(tmp_path: Path, again: str) -> None:
    store = filled(tmp_path / "run")
    before = contents(store.folder)
    path = store.folder / "journal.jsonl"
    line = path.read_bytes().split(b"\n")[1]
    content = {key: value for key, value in json.loads(line).items() if key != "digest"}
    extra = line + b"\n" if again == "the same line" else as_line(content | {"wall_seconds": 1.0})
    path.write_bytes(path.read_bytes() + extra)
    assert "journal.jsonl, line 6: launch 0 is there more than once" in verify_run(store.folder).problems
    store = reopened(store)
    assert contents(store.folder) == before
    assert store.launches == 3


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"launch": None}, "has no number of its launch"),
        ({"launch": -1}, "has no number of its launch"),
        ({"launch": True}, "has no number of its launch"),
        ({"device": 1}, "isn't a launch's line"),
        ({"started_at": None}, "isn't a launch's line"),
        ({"wall_seconds": "1"}, "isn't a launch's line"),
        ({"machine": []}, "isn't a launch's line"),
        ({"machine": {"load": "much"}}, "isn't a launch's line"),
        ({"peaks": {"fp32": [1]}}, "isn't a launch's line"),
        ({"missing": {"vit": None}}, "isn't a launch's line"),
        ({"slices": {}}, "has rows that are none"),
        ({"slices": {key: [1] for key in SLICE_COLUMNS} | {"seconds": []}}, "has rows that are none"),
        ({"slices": {key: [1] for key in SLICE_COLUMNS}}, "has cells of another kind than their columns"),
        ({"splits": []}, "has rows that are none"),
    ],
)
def test_a_line_that_is_no_launch_is_named_and_set_aside(store: RunFolder, change: dict[str, Any], named: str) -> None:
    store.append_launch(small())
    path = store.folder / "journal.jsonl"
    content = json.loads(path.read_bytes())
    del content["digest"]
    forged = as_line(content | {"launch": 1} | change)
    path.write_bytes(path.read_bytes() + forged)
    assert f"journal.jsonl, line 2: {named}" in verify_run(store.folder).problems
    store = reopened(store)
    assert store.launches == 1
    assert verify_run(store.folder).problems == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda launch: launch.slices[0].update(seconds=-0.5), "launch 0: its slices: seconds is -0.5, less than 0"),
        (lambda launch: launch.splits[0].update(data_seconds=-1.0), "launch 0: its splits: data_seconds is -1.0, less"),
        (lambda launch: setattr(launch, "wall_seconds", -2.0), "launch 0: its line: wall_seconds is -2.0, less than 0"),
        (lambda launch: launch.slices.append(launch.slices[0]), "launch 0: 1 of its rows in the slices are there more"),
    ],
)
def test_what_no_launch_can_have_measured_is_named(
    store: RunFolder, change: Callable[[Launch], None], named: str
) -> None:
    launch = small()
    change(launch)
    store.append_launch(launch)
    (problem,) = verify_run(store.folder).problems
    assert problem.startswith(named)


def infinite() -> Launch:
    launch = small(3)
    launch.slices[0]["seconds"] = math.inf
    return launch


@pytest.mark.parametrize(
    ("launch", "why"),
    [
        (small(2), "launch 2 comes after launch 2"),
        (small(0), "launch 0 comes after launch 2"),
        (small(3, device_name=None), "launch 3 isn't a launch's line"),
        (infinite(), "launch 3 has cells of another kind than their columns"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, launch: Launch, why: str) -> None:
    store = filled(tmp_path / "run")
    before = contents(store.folder)
    with pytest.raises(ValueError, match=why):
        store.append_launch(launch)
    assert contents(store.folder) == before
    assert store.launches == 3
    store.append_launch(small(3))
    assert numbers(store.folder) == [0, 1, 2, 3]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_launch_that_cannot_be_written_leaves_all_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = filled(tmp_path / "run")
    before = contents(store.folder)

    def fails(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(
            StoreError, match=r"journal.jsonl: can't be written .*2 finished trials are kept"
        ) as refusal:
            store.append_launch(small(3))
    assert os.strerror(code) in str(refusal.value)
    assert contents(store.folder) == before
    store.append_launch(small(3))
    assert numbers(store.folder) == [0, 1, 2, 3]
    assert verify_run(store.folder).problems == []


@pytest.mark.parametrize("name", ["throughput.csv", "inference.csv"])
def test_a_table_that_cannot_be_written_costs_the_launch_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = filled(tmp_path / "run")
    plain = files.append

    def full(path: Path, data: bytes, flush: bool = True) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        plain(path, data, flush)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "append", full)
        with pytest.raises(StoreError, match=rf"{name}: can't be written \(No space left"):
            store.append_launch(small(3))
    assert store.launches == 4
    store.append_launch(small(4))
    assert numbers(store.folder) == [*range(5)]
    assert verify_run(store.folder).problems == []


def test_an_interrupt_waits_until_the_launch_is_there(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync

    def interrupted(descriptor: int) -> None:
        plain(descriptor)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt), listening():
        store.append_launch(small())
    assert store.launches == 1
    monkeypatch.undo()
    assert verify_run(store.folder).problems == []


def test_every_byte_that_changes_in_a_launch_is_found(tmp_path: Path) -> None:
    store = filled(tmp_path / "run")
    store.close()
    chance = random.Random(3)
    for _ in range(60):
        path = store.folder / chance.choice(["journal.jsonl", "throughput.csv", "inference.csv"])
        before = path.read_bytes()
        data, place = bytearray(before), chance.randrange(len(before))
        if chance.random() < 0.7:
            data[place] ^= 1 << chance.randrange(8)
        else:
            del data[place:]
        path.write_bytes(data)
        assert verify_run(store.folder).problems, (path.name, place)
        path.write_bytes(before)


def test_launches_of_a_made_up_run_belong_to_its_configurations(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", configs=[("vit", 7, 2), ("cnn", None, 2)], dtypes=["fp32"], seeds=[0])
    launches = add_launches(folder, 2, rounds=1)
    assert read_launches(folder) == launches
    own = {row["config_id"] for row in read_rows(folder)}
    assert {row["config_id"] for row in read_rows(folder, "throughput.csv") if row["launch"]} == own
    assert verify_run(folder).problems == []


def test_which_test_images_a_trial_got_right_is_read_back_bit_by_bit(store: RunFolder) -> None:
    chance = random.Random(1)
    right = {name: [chance.random() < 0.9 for _ in range(297)] for name in "ab"}
    for name in "ab":
        store.append(result(name, correct=packed(right[name])))
    store.append(result("c"))
    found = read_correct(store.folder)
    assert {name: bits.tolist() for name, bits in found.items()} == right
    assert all(bits.dtype == bool for bits in found.values())
    *_, last = (store.folder / "journal.jsonl").read_text().splitlines()
    assert "correct" not in json.loads(last)
    store = reopened(store)
    assert verify_run(store.folder).problems == []


@pytest.mark.parametrize(
    "wrong",
    [packed([True] * 8), packed([True] * 400), packed([True] * 297)[:-8], "no base64: ü", "", "AAAA"],
    ids=["too few", "too many", "cut", "text", "nothing", "no zlib"],
)
def test_bits_that_are_not_those_of_the_test_images_are_named_and_left_out(store: RunFolder, wrong: str) -> None:
    store.append(result("a", correct=wrong))
    store.append(result("b", correct=packed([True] * 297)))
    assert [*read_correct(store.folder)] == ["b"]
    (problem,) = verify_run(store.folder).problems
    assert problem == "trial a: which test images it got right: isn't 297 bits, as many as run.json names"


def test_what_a_replaced_try_got_right_does_not_count(store: RunFolder) -> None:
    store.append(result("a", status="diverged", correct=packed([True] * 297)))
    store = reopened(store, retry=True)
    assert read_correct(store.folder) == {}
    store.append(result("a", correct=packed([False] * 297)))
    assert not read_correct(store.folder)["a"].any()


def test_without_the_number_of_test_images_nobody_knows_which_bits_are_theirs(store: RunFolder) -> None:
    store.append(result("a", correct=packed([True] * 297)))
    store.write_run({key: value for key, value in RECORD.items() if key != "split"})
    assert read_correct(store.folder) == {}
