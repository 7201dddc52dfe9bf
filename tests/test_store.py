"""The store: what is written is there, whole and once, whatever tore it."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import StoreError
from bench.results import COLUMNS, SCHEMA_VERSION, TABLES, Result, read_rows, read_run, read_table
from bench.store import Store, write_atomically


def result(trial_id: str = "a", **more: object) -> Result:
    evaluations = [{"epoch": 0.5 * i, "step": i, "train_seconds": 0.1 * i, "val_accuracy": 0.5} for i in (1, 2)]
    blocks = [{"block": 0, "steps": 10, "images": 640, "seconds": 0.25}]
    fields = {"status": "ok", "seed": 0, "test_accuracy": 0.975, **more}
    return Result(trial_id=trial_id, evaluations=evaluations, blocks=blocks, **fields)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run", {"suite": "x"})


def test_what_is_appended_can_be_read_back(store: Store) -> None:
    store.append(result("a", error='a "quoted", odd\nerror', git_dirty=True, peak_memory_bytes=123))
    store.append(result("b", test_accuracy=None, images_per_second=float("nan")))
    frame = read_table(store.folder, "trials.csv")
    assert list(frame.trial_id) == ["a", "b"]
    assert frame.error[0] == 'a "quoted", odd error'
    assert frame.git_dirty[0] == "true"
    assert frame.peak_memory_bytes[0] == 123
    assert frame.test_accuracy.isna().tolist() == [False, True]
    assert store.finished() == {"a", "b"}
    assert len(read_table(store.folder, "evaluations.csv")) == 4
    assert len(read_table(store.folder, "throughput.csv")) == 2


def test_what_was_not_measured_is_an_empty_cell_and_never_zero(store: Store) -> None:
    store.append(Result(trial_id="a", status="failed", error="boom"))
    (row,) = read_rows(store.folder / "trials.csv")
    assert {key for key, cell in row.items() if cell} == {"trial_id", "status", "error"}


def test_tables_are_plain_csv_for_pandas(store: Store) -> None:
    store.append(result())
    for name, columns in TABLES.items():
        assert list(pd.read_csv(store.folder / name).columns) == list(columns)


@given(st.integers(min_value=1, max_value=400), st.sampled_from(sorted(TABLES)))
@settings(max_examples=40, deadline=None)
def test_a_file_cut_anywhere_loses_no_finished_trial_but_the_torn_one(tmp_path_factory, cut: int, name: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("cut") / "run"
    store = Store.create(folder, {})
    store.append(result("a"))
    sizes = {table: (folder / table).stat().st_size for table in TABLES}
    store.append(result("b"))
    store.close()
    size = (folder / name).stat().st_size
    with open(folder / name, "ab") as file:
        file.truncate(max(sizes[name], size - cut))
    store = Store.open(folder)
    whole = name != "trials.csv"  # its row is the commit
    assert store.finished() == ({"a", "b"} if whole else {"a"})
    assert {row["trial_id"] for row in read_rows(folder / "evaluations.csv")} <= store.finished()
    store.append(result("c"))
    assert pd.read_csv(folder / "trials.csv").trial_id.tolist() == (["a", "b", "c"] if whole else ["a", "c"])
    store.close()


def test_rows_of_a_trial_that_never_finished_are_cut_away(store: Store) -> None:
    store.append(result("a"))
    with open(store.folder / "evaluations.csv", "a") as file:
        file.write("ghost,0.5,1,0.1,1.0,1.0,0.5\nghost,1.0,2,0.2")
    store.close()
    store = Store.open(store.folder)
    assert {row["trial_id"] for row in read_rows(store.folder / "evaluations.csv")} == {"a"}
    assert (store.folder / "evaluations.csv").read_bytes().endswith(b"\n")


def test_foreign_bytes_are_passed_over(store: Store) -> None:
    store.append(result("a"))
    for name in TABLES:
        with open(store.folder / name, "ab") as file:
            file.write(b"\x00\xff\xfe garbage \n,,\n")
    store.append(result("b"))
    assert store.finished() == {"a", "b"}
    store.close()
    assert Store.open(store.folder).finished() == {"a", "b"}
    pd.read_csv(store.folder / "trials.csv")


def test_a_missing_table_is_made_again(store: Store) -> None:
    store.append(result("a"))
    (store.folder / "throughput.csv").unlink()
    store.close()
    store = Store.open(store.folder)
    store.append(result("b"))
    assert len(read_rows(store.folder / "throughput.csv")) == 1


def test_a_folder_is_held_by_one_process_at_a_time(store: Store) -> None:
    code = f"from bench.store import Store; from pathlib import Path; Store.open(Path({str(store.folder)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError" in other.stderr
    assert "another process" in other.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_new_run_never_enters_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(StoreError, match="already holds something"):
        Store.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
    with pytest.raises(StoreError, match="already holds something"):
        Store.create(tmp_path / "thesis.doc", {})


def test_a_run_killed_at_birth_can_be_started_again_or_resumed(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    Store.create(tmp_path, {}).close()
    for name in TABLES:
        (tmp_path / name).unlink()
    store = Store.open(tmp_path)
    store.append(result("a"))
    assert store.finished() == {"a"}


@pytest.mark.parametrize("content", [None, "", "[]", "{", "{}", '{"schema_version": 99}', "\0"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError) as refusal:
        Store.open(tmp_path)
    assert "\n" not in str(refusal.value)


def test_run_record_is_replaced_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_run({"suite": "y"})
    assert read_run(store.folder)["suite"] == "y"

    def pulled_plug(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", pulled_plug)
    with pytest.raises(OSError, match="no space"):
        store.write_run({"suite": "z" * 10_000})
    assert read_run(store.folder)["suite"] == "y"


def test_numbers_survive_the_way_to_disk_and_back_exactly(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "run", {})
    values = [0.1, 1 / 3, 1e-300, 123456789.123456789]
    for index, value in enumerate(values):
        store.append(result(str(index), train_seconds=value))
    assert read_table(store.folder, "trials.csv").train_seconds.tolist() == values


def test_columns_have_units_where_they_have_dimensions() -> None:
    for name, about in COLUMNS.items():
        if name.endswith("_seconds"):
            assert about["unit"] == "s"
        if name.endswith("_bytes"):
            assert about["unit"] == "B"
        assert about["better"] in ("", "higher", "lower")


def test_atomic_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "one")
    write_atomically(tmp_path / "a.txt", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_run_of_an_earlier_version_is_read_and_goes_on_with_new_columns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Store.create(folder, {"suite": "x"}).append(result("a"))
    older = [name for name in COLUMNS if name != "data_wait_seconds"]
    pd.read_csv(folder / "trials.csv", dtype=str)[older].to_csv(folder / "trials.csv", index=False)
    record = (folder / "run.json").read_text(encoding="utf-8")
    (folder / "run.json").write_text(
        record.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 2'), encoding="utf-8"
    )
    assert read_run(folder)["suite"] == "x"
    assert read_table(folder, "trials.csv").test_accuracy.tolist() == [0.975]
    store = Store.open(folder)
    store.append(result("b", data_wait_seconds=0.5))
    store.close()
    frame = read_table(folder, "trials.csv")
    assert frame.test_accuracy.tolist() == [0.975, 0.975]
    assert frame.data_wait_seconds.isna().tolist() == [True, False]
    assert list(pd.read_csv(folder / "trials.csv").columns) == list(COLUMNS)
