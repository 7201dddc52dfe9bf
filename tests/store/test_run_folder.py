"""The store: what is written is there, whole and once, whatever tore it."""

import csv
import errno
import fcntl
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import read_table, result
from made_up_launch import made_up_launch

from bench.analysis.summary import read_tables
from bench.errors import StoreError
from bench.result import COLUMNS, TABLES, Result
from bench.store import run_folder
from bench.store.journal import as_line
from bench.store.run_folder import RunFolder, read_note
from bench.store.tables import as_cell, as_plain, as_text, read_correct, read_launches, read_rows, read_run
from bench.store.verify import verify_run
from bench.system import files
from bench.system.csv_cells import unguarded
from bench.system.files import write_atomically
from bench.system.process import listening

STORES = Path(__file__).parents[1] / "fixtures" / "stores"
FILES = ("journal.jsonl", *TABLES)


@pytest.fixture
def store(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {"suite": "x"})


def test_what_is_appended_can_be_read_back(store: RunFolder) -> None:
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


def test_what_was_not_measured_is_an_empty_cell_and_never_zero(store: RunFolder) -> None:
    store.append(Result(trial_id="a", status="failed", error="boom"))
    (row,) = read_rows(store.folder)
    assert {key for key, cell in row.items() if cell} == {"trial_id", "status", "error", "seal"}
    assert json.loads((store.folder / "journal.jsonl").read_text())["row"] == {"status": "failed", "error": "boom"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_without_a_number_is_refused_and_leaves_the_last_one(store: RunFolder, value: float) -> None:
    before = (store.folder / "run.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write_run({"suite": "y", "deep": [{"within": value}]})
    assert (store.folder / "run.json").read_bytes() == before
    assert read_run(store.folder)["suite"] == "x"


def test_tables_are_plain_csv_for_pandas(store: RunFolder) -> None:
    store.append(result())
    for name, columns in TABLES.items():
        assert list(pd.read_csv(store.folder / name).columns) == list(columns)


@given(st.integers(min_value=1, max_value=400), st.sampled_from(FILES))
@settings(max_examples=25, deadline=None)
def test_a_file_cut_anywhere_loses_no_finished_trial_but_the_torn_one(tmp_path_factory, cut: int, name: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("cut") / "run"
    store = RunFolder.create(folder, {})
    store.append(result("a"))
    sizes = {table: (folder / table).stat().st_size for table in FILES}
    store.append(result("b"))
    store.close()
    size = (folder / name).stat().st_size
    with open(folder / name, "ab") as file:
        file.truncate(max(sizes[name], size - cut))
    store = RunFolder.open(folder)
    whole = name != "journal.jsonl"
    assert store.finished() == ({"a", "b"} if whole else {"a"})
    assert {row["trial_id"] for row in read_rows(folder, "evaluations.csv")} == store.finished()
    store.append(result("c"))
    assert pd.read_csv(folder / "trials.csv").trial_id.tolist() == (["a", "b", "c"] if whole else ["a", "c"])
    store.close()
    assert of_tables(verify_run(folder).problems) == []


def test_foreign_bytes_are_passed_over(store: RunFolder) -> None:
    store.append(result("a"))
    for name in FILES:
        with open(store.folder / name, "ab") as file:
            file.write(b"\x00\xff\xfe garbage \n,,\n")
    assert len(read_table(store.folder, "trials.csv")) == 1
    store.append(result("b"))
    assert store.finished() == {"a", "b"}
    store = reopened(store)
    assert store.finished() == {"a", "b"}
    assert of_tables(verify_run(store.folder).problems) == []
    pd.read_csv(store.folder / "trials.csv")


def test_a_missing_or_changed_table_is_made_again_and_loses_nothing(store: RunFolder) -> None:
    store.append(result("a"))
    before = {name: (store.folder / name).read_bytes() for name in TABLES}
    for damage in (
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"mine,alone\n1,2\n"),
    ):
        for name in TABLES:
            damage(store.folder / name)
        store = reopened(store)
        assert {name: (store.folder / name).read_bytes() for name in TABLES} == before
    assert set_aside(store).count(b"mine,alone\n1,2\n") == len(TABLES)
    assert len([notice for notice in store.notices if "the table is as the journal has it" in notice]) == len(TABLES)


def test_whoever_only_reads_needs_no_table_and_changes_nothing(store: RunFolder) -> None:
    store.append(result("a"))
    store.close()
    for name in TABLES:
        (store.folder / name).unlink()
    before = sorted(store.folder.iterdir())
    assert len(read_table(store.folder, "evaluations.csv")) == 2
    verify_run(store.folder)
    assert sorted(store.folder.iterdir()) == before


def test_a_folder_is_held_by_one_process_at_a_time(store: RunFolder) -> None:
    code = "import pathlib, sys; from bench.store import run_folder as r; r.RunFolder.open(pathlib.Path(sys.argv[1]))"
    words = [sys.executable, "-c", code, str(store.folder)]
    other = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "StoreError" in other.stderr
    assert f"another process is running here (process {os.getpid()} on " in other.stderr
    store.close()
    assert subprocess.run(words, check=False).returncode == 0


def test_a_new_run_never_enters_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("precious")
    with pytest.raises(StoreError, match="already holds something"):
        RunFolder.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
    with pytest.raises(StoreError, match="already holds something"):
        RunFolder.create(tmp_path / "thesis.doc", {})


def test_a_run_killed_at_birth_can_be_started_again_or_resumed(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    RunFolder.create(tmp_path, {}).close()
    for name in TABLES:
        (tmp_path / name).unlink()
    store = RunFolder.open(tmp_path)
    store.append(result("a"))
    assert store.finished() == {"a"}


@pytest.mark.parametrize("content", [None, "", "[]", "{", "{}", '{"schema_version": 99}', "\0"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(StoreError) as refusal:
        RunFolder.open(tmp_path)
    assert "\n" not in str(refusal.value)


def test_run_record_is_replaced_whole(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_run({"suite": "y"})
    assert read_run(store.folder)["suite"] == "y"

    def pulled_plug(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", pulled_plug)
    with pytest.raises(StoreError, match="no space") as refusal:
        store.write_run({"suite": "z" * 10_000})
    assert "\n" not in str(refusal.value)
    assert read_run(store.folder)["suite"] == "y"
    assert not [path for path in store.folder.iterdir() if path.name.endswith(f".{os.getpid()}")]


def test_numbers_survive_the_way_to_disk_and_back_exactly(tmp_path: Path) -> None:
    store = RunFolder.create(tmp_path / "run", {})
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


def set_aside(store: RunFolder) -> bytes:
    """All that was cut away."""
    return b"".join(path.read_bytes() for path in sorted((store.folder / "set_aside").glob("*")))


def of_tables(problems: list[str]) -> list[str]:
    """Problems other than those of a record that these tests leave short."""
    return [problem for problem in problems if not problem.startswith("run.json: '")]


def reopened(store: RunFolder, **how: bool) -> RunFolder:
    store.close()
    return RunFolder.open(store.folder, **how)


DAMAGES = {
    "zeros as after a power loss": b"\0" * 700,
    "zeros, then a line's end": b"\0" * 700 + b"\n",
    "random bytes": bytes(range(256)) * 3 + b"\n",
    "a quote that is never closed": b'a,"b,c\nx,y\n',
    "a foreign header": b"PassengerId,Survived\n1,0\n",
    "its own header again": b"%(header)s\n",
    "empty lines": b"\n\n\r\n",
    "half a row": b"%(half)s",
    "a row of a foreign trial": b"%(foreign)s\n",
    "the same row again": b"%(row)s\n",
    "a lone carriage return": b"%(half)s\r%(half)s\n",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_foreign_bytes_cost_no_finished_trial_and_are_kept(tmp_path: Path, name: str, damage: str) -> None:
    store = RunFolder.create(tmp_path / "run", {"plan": ["a", "b", "c"]})
    for trial_id in ("a", "b"):
        row = result(trial_id)
        row.inference_blocks = [{"batch_size": 1, "block": 0, "images": 64, "seconds": 0.5}]
        store.append(row)
    path = store.folder / name
    header, first, *rest = path.read_bytes().split(b"\n")
    parts = {b"header": header, b"half": first[:-9], b"row": first, b"foreign": b"z" + first[1:]}
    if name == "journal.jsonl":
        parts[b"foreign"] = as_line({**json.loads(first), "trial_id": "z"}).rstrip()
    dirt = DAMAGES[damage] % parts if b"%(" in DAMAGES[damage] else DAMAGES[damage]
    clean = {table: read_rows(store.folder, table) for table in TABLES}
    path.write_bytes(
        b"\n".join([header, first]) + b"\n" + dirt + (b"" if dirt.endswith(b"\n") else b"\n") + b"\n".join(rest)
    )
    assert {table: read_rows(store.folder, table) for table in TABLES} == clean
    store = reopened(store)
    assert store.finished() == {"a", "b"}
    assert {table: read_rows(store.folder, table) for table in TABLES} == clean
    assert list(pd.read_csv(store.folder / "trials.csv").trial_id) == ["a", "b"]
    known = {header, first, *rest}
    lost = [part.strip(b"\r") for part in dirt.split(b"\n")]
    if any(lost) and (name == "journal.jsonl" or not set(lost) <= known):
        assert all(part in set_aside(store) for part in lost if part not in known)
        assert any("damaged or foreign" in notice for notice in store.notices)
    assert of_tables(verify_run(store.folder).problems) == []
    store.append(result("c"))
    assert store.finished() == {"a", "b", "c"}
    store.close()


@pytest.mark.parametrize("damaged", [0, 1, 2])
@pytest.mark.parametrize("how", ["bit", "gone", "zeros", "number"])
def test_a_damaged_line_of_the_journal_costs_that_trial_alone_and_is_kept(
    store: RunFolder, damaged: int, how: str
) -> None:
    for trial_id in "abc":
        store.append(result(trial_id))
    path = store.folder / "journal.jsonl"
    lines = path.read_bytes().split(b"\n")
    line = lines[damaged]
    changed = {"bit": b"{" + bytes([line[1] ^ 1]) + line[2:], "gone": line[:40] + line[60:], "zeros": bytes(len(line))}
    lines[damaged] = changed.get(how, line.replace(b"0.975", b"0.995"))
    path.write_bytes(b"\n".join(lines))
    assert f"journal.jsonl, line {damaged + 1}" in "".join(verify_run(store.folder).problems)
    left = {"a", "b", "c"} - {"abc"[damaged]}
    assert set(read_table(store.folder, "trials.csv").trial_id) == left
    store = reopened(store)
    assert store.finished() == left
    assert lines[damaged] in set_aside(store)
    assert any("trials that lost theirs run again" in notice for notice in store.notices)
    store.append(result("abc"[damaged]))
    store = reopened(store)
    assert store.finished() == {"a", "b", "c"}
    assert store.notices == []
    assert of_tables(verify_run(store.folder).problems) == []


def test_files_that_another_program_has_saved_are_read_and_put_right(store: RunFolder) -> None:
    store.append(result("a", error="naïve"))
    before = {name: (store.folder / name).read_bytes() for name in FILES}
    rows = read_rows(store.folder)
    for name in FILES:
        path = store.folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(store.folder) == rows
    assert "journal.jsonl: holds bytes that weren't written there" in verify_run(store.folder).problems
    store = reopened(store)
    assert {name: (store.folder / name).read_bytes() for name in FILES} == before
    assert not (store.folder / "set_aside").exists()


def test_a_row_that_is_appended_behind_torn_ones_stands_on_a_line_of_its_own(store: RunFolder) -> None:
    store.append(result("a"))
    for name in FILES:
        with open(store.folder / name, "ab") as file:
            file.write(b"b,half of")
    store.append(result("b"))
    assert [row["trial_id"] for row in read_rows(store.folder)] == ["a", "b"]
    assert pd.read_csv(store.folder / "trials.csv").trial_id.tolist() == ["a", "b"]
    assert set_aside(store).count(b"b,half of\n") == len(FILES)
    assert verify_run(store.folder).trials == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", range(5))
def test_an_append_that_fails_anywhere_leaves_all_as_it_was(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch, code: int, call: int
) -> None:
    store.append(result("a"))
    before = {name: (store.folder / name).read_bytes() for name in FILES}
    calls = iter(range(100))
    plain = files.os.fsync

    def fails(descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(code, os.strerror(code))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    row = result("b", status="failed", trace="Traceback")  # its file, the two folders above, and the journal
    if call < 4:
        with pytest.raises(StoreError) as refusal:
            store.append(row)
        assert os.strerror(code) in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert {name: (store.folder / name).read_bytes() for name in FILES} == before
    store.append(row)
    assert store.finished() == {"a", "b"}
    assert of_tables(verify_run(store.folder).problems) == []


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_written_is_told_of_and_costs_the_journal_nothing(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store.append(result("a"))
    before, plain = (store.folder / name).read_bytes(), files.append

    def full(path: Path, data: bytes, flush: bool = True) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        plain(path, data, flush)

    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "append", full)
        with pytest.raises(StoreError, match=rf"{name}: can't be written \(No space left .*2 finished trials are kept"):
            store.append(result("b"))
    assert (store.folder / name).read_bytes() == before
    assert store.finished() == {"a", "b"}
    store.append(result("c"))
    assert pd.read_csv(store.folder / "trials.csv").trial_id.tolist() == ["a", "b", "c"]
    assert of_tables(verify_run(store.folder).problems) == []


def test_a_trial_is_flushed_once_and_replaced_files_with_the_folder_that_names_them(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    plain = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.append(result("a"))
    assert flushed == ["journal.jsonl"]
    flushed.clear()
    write_atomically(store.folder / "new.txt", "text")
    assert flushed == [f".new.txt.{os.getpid()}", "run"]


def test_a_trial_whose_files_the_disk_did_not_take_leaves_no_row(store: RunFolder) -> None:
    full = files.unwritable(Path("x/trials/a"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "not kept")
    with pytest.raises(StoreError, match="No space left on device"):
        store.append(Result("a", status="failed", error=f"StoreError: {full}", unsaved=True))
    assert store.finished() == set()
    store.append(Result("a", status="failed", error="OSError: [Errno 28] of a file of its own"))
    assert store.finished() == {"a"}


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), max_size=30)
RISKY = st.builds(str.__add__, st.text("'=+-@\t\",.1e", max_size=8), TEXT)


@given(st.lists(TEXT | RISKY, min_size=3, max_size=3))
@settings(max_examples=200)
def test_text_comes_back_exactly_and_is_never_a_formula(texts: list[str]) -> None:
    cells = ["x", *map(as_cell, texts), as_cell(-0.5)]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([["trial_id", "a", "b", "c", "number"], cells])
    plain = list(pd.read_csv(io.StringIO(file.getvalue()), dtype=str, keep_default_na=False).to_numpy()[0])
    assert plain == cells
    assert [unguarded(cell) for cell in plain] == ["x", *map(as_text, texts), "-0.5"]
    assert not any(cell.startswith(("=", "@", "\t")) for cell in plain)


@pytest.mark.parametrize("value", [-0.5, float("-inf"), -3, 1e-300, True, None, float("nan")])
def test_numbers_are_left_alone(value: object) -> None:
    assert not as_cell(value).startswith("'")
    assert as_cell(as_plain(value)) == as_cell(value)
    assert json.dumps(as_plain(value), allow_nan=False)


def test_what_no_line_can_hold_is_spelled_out(store: RunFolder) -> None:
    store.append(Result("a", status="failed", error="one\ntwo\0\udcff" + "x" * 200_000))
    (row,) = read_rows(store.folder)
    assert row["error"].startswith("one two\\0\\udcff")
    assert len(row["error"]) == 100_000
    assert reopened(store).finished() == {"a"}


def test_an_interrupt_waits_until_the_row_is_there(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync

    def interrupted(descriptor: int) -> None:
        plain(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("journal.jsonl"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt), listening():
        store.append(result("a"))
    assert store.finished() == {"a"}
    assert [row["trial_id"] for row in read_rows(store.folder)] == ["a"]


def test_what_a_failure_left_is_a_file_beside_the_tables(store: RunFolder) -> None:
    store.append(result("a", status="failed", error="boom", trace="Traceback\n  boom \udcff\n"))
    assert (store.folder / "failures" / "a.txt").read_text() == "Traceback\n  boom \\udcff\n"
    with pytest.raises(StoreError, match="can't be the name of a trial's files"):
        store.append(result("../../b", status="failed", trace="x"))
    assert [path.name for path in (store.folder / "failures").iterdir()] == ["a.txt"]


def test_retrying_moves_what_did_not_end_well_out_of_the_way(store: RunFolder) -> None:
    store.append(result("a"))
    store.append(result("b", status="failed", error="=boom", trace="first"))
    store.append(result("c", status="timeout"))
    failed = pd.read_csv(store.folder / "trials.csv").query("status != 'ok'").to_csv(index=False)
    assert reopened(store).finished() == {"a", "b", "c"}
    tables = {name: (store.folder / name).read_bytes() for name in TABLES}
    store = reopened(store, retry=True)
    assert store.finished() == {"a"}
    for name, text in tables.items():  # killed before the tables were made anew
        (store.folder / name).write_bytes(text)
    store = reopened(store)
    assert store.finished() == {"a"}
    assert not (store.folder / "set_aside").exists()
    assert pd.read_csv(store.folder / "retried.csv").to_csv(index=False) == failed
    assert pd.read_csv(store.folder / "evaluations.csv").trial_id.unique().tolist() == ["a"]
    store = reopened(store)
    store.append(result("b", status="failed", trace="second"))
    store = reopened(store, retry=True)
    assert pd.read_csv(store.folder / "retried.csv").trial_id.tolist() == ["b", "c", "b"]
    assert [(store.folder / "failures" / f"b.{n}.txt").read_text() for n in (1, 2)] == ["first", "second"]
    assert list(pd.read_csv(store.folder / "retried.csv").columns) == list(COLUMNS)
    assert of_tables(verify_run(store.folder).problems) == []
    (store.folder / "failures" / "b.1.txt").write_text("third")
    assert any("an earlier failure" in problem for problem in verify_run(store.folder).problems)


def test_a_lost_line_that_asked_for_another_try_costs_neither_try(store: RunFolder) -> None:
    store.append(result("a", status="failed"))
    store = reopened(store, retry=True)
    store.append(result("a", seed=7))
    path = store.folder / "journal.jsonl"
    first, asked, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, asked[:-3], second, b""]))
    store = reopened(store)
    assert [(row["status"], row["seed"]) for row in read_rows(store.folder)] == [("ok", "7")]
    assert pd.read_csv(store.folder / "retried.csv").status.tolist() == ["failed"]


def test_a_driver_that_died_is_told_of_and_in_nobodys_way(store: RunFolder) -> None:
    assert store.notices == []
    store.close()
    assert read_note(store.folder) is None
    code = f"""
        import os, sys
        from pathlib import Path
        from bench.store.run_folder import RunFolder
        sys.argv = ["run_bench.py", "--resume", "x"]
        RunFolder.open(Path({str(store.folder)!r}))
        os._exit(9)
    """
    died = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    assert died.wait() == 9
    note = read_note(store.folder)
    assert note is not None
    assert (note["pid"], note["command"]) == (died.pid, "run_bench.py --resume x")
    store = RunFolder.open(store.folder)
    (notice,) = store.notices
    assert f"its last driver died (process {died.pid} on " in notice
    note = read_note(store.folder)
    assert note
    assert note["pid"] == os.getpid()
    assert reopened(store).notices == []


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"[" * 9000, b'{"pid": 1}', b"\xff"])
def test_a_damaged_note_of_the_lock_is_nobodys(store: RunFolder, content: bytes) -> None:
    (store.folder / ".holder.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"another process is running here; wait"):
        RunFolder.open(store.folder)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused_in_one_line(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store.close()

    def flock(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StoreError, match=r"can't be locked .* name a folder elsewhere") as refusal:
        RunFolder.open(store.folder)
    assert "\n" not in str(refusal.value)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """What a real run of schema version 5 wrote."""
    return Path(shutil.copytree(STORES / "v5", tmp_path / "run"))


RENEWED = "it was of schema version 5 and is now of 6: older programs refuse it"


def test_a_run_of_version_5_is_read_as_it_is(old: Path) -> None:
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert verify_run(old).problems == []
    assert set(read_tables(old).summary["n"]) == {2}
    assert (read_launches(old), read_correct(old)) == ([], {})
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    (old / "throughput.csv").write_bytes((old / "throughput.csv").read_bytes() + b"mine\n")
    (problem,) = verify_run(old).problems
    assert problem == "throughput.csv, line 4: isn't what journal.jsonl gives; --resume makes the table again"


def test_a_run_of_version_5_goes_on_as_one_of_version_6(old: Path) -> None:
    journal, run = (old / "journal.jsonl").read_bytes(), read_run(old)
    rows = pd.read_csv(old / "throughput.csv")
    store = RunFolder.open(old)
    assert (len(store.finished()), store.launches, store.notices) == (2, 0, [RENEWED])
    assert not (old / "set_aside").exists()
    assert (old / "journal.jsonl").read_bytes() == journal
    record = read_run(old)
    assert {**record, "digest": 0} == {**run, "schema_version": 6, "digest": 0}
    for name, columns in TABLES.items():
        assert list(pd.read_csv(old / name).columns) == list(columns)
    assert pd.read_csv(old / "throughput.csv")["seconds"].tolist() == rows["seconds"].tolist()
    store.append_launch(made_up_launch())
    store = reopened(store)
    assert (store.launches, store.notices) == (1, [])
    assert verify_run(old).problems == []


def test_lines_of_nobodys_in_tables_of_version_5_are_kept(old: Path) -> None:
    for name in FILES:
        with open(old / name, "ab") as file:
            file.write(b"mine,alone\n")
    store = RunFolder.open(old)
    kept = {path.name.partition("Z-")[2]: path.read_bytes() for path in (old / "set_aside").iterdir()}
    assert kept == dict.fromkeys(FILES, b"mine,alone\n")
    assert verify_run(old).problems == []
    store.close()


def test_a_crash_before_a_run_of_version_5_was_made_new_is_in_nobodys_way(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_run", crash)
        with pytest.raises(KeyboardInterrupt):
            RunFolder.open(old)
    assert read_run(old)["schema_version"] == 5
    assert set(read_tables(old).summary["n"]) == {2}
    store = RunFolder.open(old)
    assert store.notices == [RENEWED]
    assert not (old / "set_aside").exists()
    assert verify_run(old).problems == []
    store.close()


@pytest.mark.parametrize("odd", ["NaN", '"\\ud800"'])
def test_a_record_of_version_5_that_cannot_be_written_again_is_told_of_in_one_line(old: Path, odd: str) -> None:
    text = (old / "run.json").read_text(encoding="utf-8")
    (old / "run.json").write_text(text.replace("{", '{"odd": ' + odd + ",", 1), encoding="utf-8")
    with pytest.raises(StoreError, match=r"run\.json: can't be written again \(") as refusal:
        RunFolder.open(old)
    assert "\n" not in str(refusal.value)
    assert len(read_rows(old)) == 2


def test_a_run_of_a_later_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 7}')
    with pytest.raises(
        StoreError, match=r"newer version of this program \(schema 7, .*; update the program"
    ) as refusal:
        RunFolder.open(tmp_path)
    assert "\n" not in str(refusal.value)


def test_a_damaged_record_names_the_copy_beside_it(store: RunFolder) -> None:
    store.write_run({"suite": "y"})
    store.close()
    (store.folder / "run.json").write_bytes((store.folder / "run.json").read_bytes()[:20])
    with pytest.raises(StoreError, match=r"\.run\.json\.previous beside it is an earlier copy") as refusal:
        RunFolder.open(store.folder)
    assert "\n" not in str(refusal.value)
    shutil.copy(store.folder / ".run.json.previous", store.folder / "run.json")
    assert read_run(store.folder)["suite"] == "x"


@given(st.dictionaries(st.sampled_from([*FILES, "retried.csv"]), st.binary(max_size=400), min_size=1))
@settings(max_examples=20, deadline=None)
def test_whatever_the_files_hold_they_are_put_right_and_checked(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "run"
    store = RunFolder.create(folder, {"plan": ["a", "b"]})
    store.append(result("a"))
    for name, content in contents.items():
        with open(folder / name, "ab") as file:
            file.write(content)
    read_rows(folder)
    verify_run(folder)
    store = reopened(store)
    assert store.finished() == {"a"}
    store.append(result("b"))
    for name in contents:
        pd.read_csv(folder / name)
    store.close()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_line_of_the_journal_is_json_that_anybody_reads(number: float) -> None:
    assert json.loads(as_line({"kind": "trial", "row": {"load": 0.5}}))["row"] == {"load": 0.5}
    with pytest.raises(ValueError, match="JSON"):
        as_line({"kind": "trial", "row": {"load": number}})
