"""The store: what is written is there, whole and once, whatever tore it."""

import errno
import fcntl
import io
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
from made_up import result

from bench.analysis.summary import write_summary
from bench.errors import StoreError
from bench.result import COLUMNS, TABLES, Result
from bench.store.repair import set_aside
from bench.store.run_folder import RunFolder, read_owner, write_atomically
from bench.store.tables import SCHEMA_VERSION, again, as_cell, as_lines, parse, read_rows, read_run, read_table
from bench.store.verify import verify_run
from bench.system import files
from bench.system.process import listening

STORES = Path(__file__).parents[1] / "fixtures" / "stores"


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
    (row,) = read_rows(store.folder / "trials.csv")
    assert {key for key, cell in row.items() if cell} == {"trial_id", "status", "error", "seal"}


def test_tables_are_plain_csv_for_pandas(store: RunFolder) -> None:
    store.append(result())
    for name, columns in TABLES.items():
        assert list(pd.read_csv(store.folder / name).columns) == list(columns)


@given(st.integers(min_value=1, max_value=400), st.sampled_from(sorted(TABLES)))
@settings(max_examples=25, deadline=None)
def test_a_file_cut_anywhere_loses_no_finished_trial_but_the_torn_one(tmp_path_factory, cut: int, name: str) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("cut") / "run"
    store = RunFolder.create(folder, {})
    store.append(result("a"))
    sizes = {table: (folder / table).stat().st_size for table in TABLES}
    store.append(result("b"))
    store.close()
    size = (folder / name).stat().st_size
    with open(folder / name, "ab") as file:
        file.truncate(max(sizes[name], size - cut))
    store = RunFolder.open(folder)
    whole = name != "trials.csv"  # its row is the commit
    assert store.finished() == ({"a", "b"} if whole else {"a"})
    assert {row["trial_id"] for row in read_rows(folder / "evaluations.csv")} <= store.finished()
    store.append(result("c"))
    assert pd.read_csv(folder / "trials.csv").trial_id.tolist() == (["a", "b", "c"] if whole else ["a", "c"])
    store.close()


def test_rows_of_a_trial_that_never_finished_are_cut_away(store: RunFolder) -> None:
    store.append(result("a"))
    with open(store.folder / "evaluations.csv", "a") as file:
        file.write("ghost,0.5,1,0.1,1.0,1.0,0.5\nghost,1.0,2,0.2")
    store.close()
    store = RunFolder.open(store.folder)
    assert {row["trial_id"] for row in read_rows(store.folder / "evaluations.csv")} == {"a"}
    assert (store.folder / "evaluations.csv").read_bytes().endswith(b"\n")


def test_foreign_bytes_are_passed_over(store: RunFolder) -> None:
    store.append(result("a"))
    for name in TABLES:
        with open(store.folder / name, "ab") as file:
            file.write(b"\x00\xff\xfe garbage \n,,\n")
    store.append(result("b"))
    assert store.finished() == {"a", "b"}
    store.close()
    assert RunFolder.open(store.folder).finished() == {"a", "b"}
    pd.read_csv(store.folder / "trials.csv")


def test_a_missing_table_is_made_again(store: RunFolder) -> None:
    store.append(result("a"))
    (store.folder / "throughput.csv").unlink()
    store.close()
    store = RunFolder.open(store.folder)
    store.append(result("b"))
    assert len(read_rows(store.folder / "throughput.csv")) == 1


def test_a_folder_is_held_by_one_process_at_a_time(store: RunFolder) -> None:
    code = f"from bench.store.run_folder import RunFolder; from pathlib import Path; RunFolder.open(Path({str(store.folder)!r}))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError" in other.stderr
    assert f"another process is running here (process {os.getpid()} on " in other.stderr
    store.close()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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


def test_a_run_of_an_earlier_version_is_read_and_goes_on_with_new_columns(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    RunFolder.create(folder, {"suite": "x"}).append(result("a"))
    older = [name for name in COLUMNS if name != "data_wait_seconds"]
    pd.read_csv(folder / "trials.csv", dtype=str)[older].to_csv(folder / "trials.csv", index=False)
    record = (folder / "run.json").read_text(encoding="utf-8")
    (folder / "run.json").write_text(
        record.replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 2'), encoding="utf-8"
    )
    assert read_run(folder)["suite"] == "x"
    assert read_table(folder, "trials.csv").test_accuracy.tolist() == [0.975]
    store = RunFolder.open(folder)
    store.append(result("b", data_wait_seconds=0.5))
    store.close()
    frame = read_table(folder, "trials.csv")
    assert frame.test_accuracy.tolist() == [0.975, 0.975]
    assert frame.data_wait_seconds.isna().tolist() == [True, False]
    assert list(pd.read_csv(folder / "trials.csv").columns) == list(COLUMNS)


def mended(store: RunFolder) -> bytes:
    """All that was cut away."""
    return b"".join(path.read_bytes() for path in sorted((store.folder / "mended").glob("*")))


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


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_foreign_bytes_cost_no_finished_trial_and_are_kept(tmp_path: Path, name: str, damage: str) -> None:
    store = RunFolder.create(tmp_path / "run", {"plan": ["a", "b", "c"]})
    inference = [{"batch_size": 1, "block": 0, "images": 64, "seconds": 0.5}]
    for trial_id in ("a", "b"):
        row = result(trial_id)
        row.inference_blocks = inference
        store.append(row)
    path = store.folder / name
    header, first, *rest = path.read_bytes().split(b"\n")
    parts = {b"header": header, b"half": first[:-9], b"row": first, b"foreign": b"z" + first[1:]}
    dirt = DAMAGES[damage] % parts if b"%(" in DAMAGES[damage] else DAMAGES[damage]
    path.write_bytes(
        b"\n".join([header, first]) + b"\n" + dirt + (b"" if dirt.endswith(b"\n") else b"\n") + b"\n".join(rest)
    )
    clean = {table: read_rows(store.folder / table) for table in TABLES if table != name}
    read_table(store.folder, name)
    store = reopened(store)
    assert store.finished() == {"a", "b"}
    assert {row["trial_id"] for row in read_rows(path)} == {"a", "b"}
    assert {table: read_rows(store.folder / table) for table in clean} == clean
    assert list(pd.read_csv(path).trial_id)[:1] == ["a"]
    assert all(part in mended(store) for part in dirt.split(b"\n") if part.strip(b"\r"))
    assert [problem for problem in verify_run(store.folder).problems if "run.json" not in problem] == []
    store.append(result("c"))
    assert store.finished() == {"a", "b", "c"}
    store.close()


def test_files_that_another_program_has_saved_are_read_and_put_right(store: RunFolder) -> None:
    store.append(result("a", error="naïve"))
    before = read_rows(store.folder / "trials.csv")
    for name in TABLES:
        path = store.folder / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
        assert read_rows(path) == read_rows(path)
    assert read_rows(store.folder / "trials.csv") == before
    store = reopened(store)
    for name in TABLES:
        assert b"\r" not in (store.folder / name).read_bytes()
        assert (store.folder / name).read_bytes()[:3] != b"\xef\xbb\xbf"
    assert read_rows(store.folder / "trials.csv") == before
    assert not (store.folder / "mended").exists()


def test_zeros_before_a_row_hide_it_from_nobody(store: RunFolder) -> None:
    store.append(result("a"))
    with open(store.folder / "trials.csv", "ab") as file:
        file.write(b"\0" * 100)
    row = (store.folder / "trials.csv").read_bytes().split(b"\n")[1].replace(b"a,", b"b,", 1)
    with open(store.folder / "trials.csv", "ab") as file:
        file.write(row + b"\n")
    assert reopened(store).finished() == {"a", "b"}


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_table_without_its_header_is_told_by_the_length_of_its_rows(tmp_path: Path, version: str) -> None:
    folder = Path(shutil.copytree(STORES / version, tmp_path / "run"))
    whole = read_rows(folder / "trials.csv")
    lines = (folder / "trials.csv").read_bytes().split(b"\n")
    (folder / "trials.csv").write_bytes(b"\n".join([b"\xff" + lines[0][40:], *lines[1:]]))
    assert read_rows(folder / "trials.csv") == whole
    (folder / "trials.csv").write_bytes(b"\n".join(lines[1:]))
    assert read_rows(folder / "trials.csv") == whole
    store = RunFolder.open(folder)
    assert read_rows(folder / "trials.csv") == whole
    store.close()


def test_a_torn_line_that_appears_while_the_store_is_open_joins_no_row(store: RunFolder) -> None:
    store.append(result("a"))
    for name in TABLES:
        with open(store.folder / name, "ab") as file:
            file.write(b"b,half of")
    store.append(result("b"))
    assert [row["trial_id"] for row in read_rows(store.folder / "trials.csv")] == ["a", "b"]
    assert len(read_rows(store.folder / "evaluations.csv")) == 4
    assert mended(store).count(b"b,half of\n") == 4
    assert verify_run(store.folder).trials == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("call", range(7))
def test_an_append_that_fails_anywhere_leaves_all_as_it_was(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch, code: int, call: int
) -> None:
    store.append(result("a"))
    before = {name: (store.folder / name).read_bytes() for name in TABLES}
    calls = iter(range(100))
    plain = files.os.fsync

    def fails(descriptor: int) -> None:
        if next(calls) == call:
            raise OSError(code, os.strerror(code))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    row = result("b", status="failed", trace="Traceback")  # its file, the two folders above, and three tables
    if call < 6:
        with pytest.raises(StoreError) as refusal:
            store.append(row)
        assert os.strerror(code) in str(refusal.value)
        assert "\n" not in str(refusal.value)
        assert {name: (store.folder / name).read_bytes() for name in TABLES} == before
    store.append(row)
    assert store.finished() == {"a", "b"}
    assert [problem for problem in verify_run(store.folder).problems if "run.json" not in problem] == []


def test_appended_rows_and_replaced_files_are_flushed_with_the_folder_that_names_them(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    plain = os.fsync

    def noted(descriptor: int) -> None:
        flushed.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.append(result("a"))
    assert flushed == ["evaluations.csv", "throughput.csv", "trials.csv"]  # the row last; no file is new
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
    columns = ("trial_id", "a", "b", "c", "number")
    cells = ["x", *map(as_cell, texts), as_cell(-0.5)]
    data = as_lines([columns, cells])
    (row,) = parse(data, columns).rows
    assert list(row.values()) == ["x", *texts, "-0.5"]
    plain = list(pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False).to_numpy()[0])
    assert plain == cells
    assert not any(cell.startswith(("=", "@", "\t")) for cell in plain)
    rewritten = as_lines([columns, [again(cell) for cell in row.values()]])
    assert list(next(parse(rewritten, columns).rows).values()) == list(row.values())


@pytest.mark.parametrize("value", [-0.5, float("-inf"), -3, 1e-300, True, None, float("nan")])
def test_numbers_are_left_alone(value: object) -> None:
    cell = as_cell(value)
    assert not cell.startswith("'")
    assert again(cell) == cell


def test_what_no_line_can_hold_is_spelled_out(store: RunFolder) -> None:
    store.append(Result("a", status="failed", error="one\ntwo\0\udcff" + "x" * 200_000))
    (row,) = read_rows(store.folder / "trials.csv")
    assert row["error"].startswith("one two\\0\\udcff")
    assert len(row["error"]) == 100_000
    assert reopened(store).finished() == {"a"}


def test_an_interrupt_waits_until_the_row_is_there(store: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.fsync

    def interrupted(descriptor: int) -> None:
        plain(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("evaluations.csv"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt), listening():
        store.append(result("a"))
    assert store.finished() == {"a"}
    assert [row["trial_id"] for row in read_rows(store.folder / "trials.csv")] == ["a"]


def test_what_a_failure_left_is_a_file_beside_the_tables(store: RunFolder) -> None:
    store.append(result("a", status="failed", error="boom", trace="Traceback\n  boom \udcff\n"))
    assert (store.folder / "failures" / "a.txt").read_text() == "Traceback\n  boom \\udcff\n"
    store.append(result("../../b", status="failed", trace="x"))
    assert [path.name for path in (store.folder / "failures").iterdir()] == ["a.txt"]


def test_retrying_moves_what_did_not_end_well_out_of_the_way(store: RunFolder) -> None:
    store.append(result("a"))
    store.append(result("b", status="failed", error="=boom", trace="first"))
    store.append(result("c", status="timeout"))
    failed = [row for row in read_rows(store.folder / "trials.csv") if row["status"] != "ok"]
    assert reopened(store).finished() == {"a", "b", "c"}
    store.close()
    set_aside(store.folder)  # and killed right after
    store = RunFolder.open(store.folder, retry=True)
    assert store.finished() == {"a"}
    assert read_rows(store.folder / "retried.csv") == failed
    assert {row["trial_id"] for row in read_rows(store.folder / "evaluations.csv")} == {"a"}
    assert b"b,0.5,1," in mended(store)
    store.append(result("b", status="failed", trace="second"))
    store = reopened(store, retry=True)
    assert [row["trial_id"] for row in read_rows(store.folder / "retried.csv")] == ["b", "c", "b"]
    assert [(store.folder / "failures" / f"b.{n}.txt").read_text() for n in (1, 2)] == ["first", "second"]
    assert list(pd.read_csv(store.folder / "retried.csv").columns) == list(COLUMNS)


def test_a_driver_that_died_is_told_of_and_in_nobodys_way(store: RunFolder) -> None:
    assert store.previous_owner is None
    store.close()
    assert read_owner(store.folder) is None
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
    owner = read_owner(store.folder)
    assert owner is not None
    assert (owner.pid, owner.command) == (died.pid, "run_bench.py --resume x")
    store = RunFolder.open(store.folder)
    assert store.previous_owner == owner
    assert read_owner(store.folder).pid == os.getpid()  # type: ignore[union-attr]
    store.close()
    assert RunFolder.open(store.folder).previous_owner is None


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"[" * 9000, b'{"pid": 1}', b"\xff"])
def test_a_damaged_signature_is_nobodys(store: RunFolder, content: bytes) -> None:
    (store.folder / ".owner.json").write_bytes(content)
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


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_run_of_an_earlier_version_is_read_reported_and_goes_on(tmp_path: Path, version: str) -> None:
    folder = Path(shutil.copytree(STORES / version, tmp_path / "run"))
    before = {name: read_rows(folder / name) for name in TABLES}
    summary = write_summary(folder).summary
    assert len(summary) == 4
    assert (summary["n"] == 1).all()
    store = RunFolder.open(folder)
    assert len(store.finished()) == 4
    assert {name: read_rows(folder / name) for name in TABLES} == before
    for name, columns in TABLES.items():
        assert list(pd.read_csv(folder / name).columns) == list(columns)
    store.write_run(read_run(folder))
    assert read_run(folder)["schema_version"] == SCHEMA_VERSION
    first = next(iter(store.finished()))
    store.close()
    (folder / "trials.csv").write_text("".join(  # as if one hadn't run
        line for line in (folder / "trials.csv").read_text().splitlines(keepends=True) if not line.startswith(first)
    ))  # fmt: skip
    store = RunFolder.open(folder)
    store.append(result(first))
    assert len(store.finished()) == 4
    assert verify_run(folder).problems == []
    assert not (folder / "mended" / "trials.csv").exists()


def test_a_run_of_a_later_version_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 5}')
    with pytest.raises(
        StoreError, match=r"newer version of this program \(schema 5, .*; update the program"
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


@given(st.dictionaries(st.sampled_from([*TABLES, "retried.csv"]), st.binary(max_size=400), min_size=1))
@settings(max_examples=20, deadline=None)
def test_whatever_the_files_hold_they_are_read_mended_and_checked(tmp_path_factory, contents: dict[str, bytes]) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("any") / "run"
    store = RunFolder.create(folder, {"plan": ["a", "b"]})
    store.append(result("a"))
    for name, content in contents.items():
        with open(folder / name, "ab") as file:
            file.write(content)
    for name in contents:
        read_rows(folder / name)
    verify_run(folder)
    store = reopened(store)
    assert store.finished() == {"a"}
    store.append(result("b"))
    for name in contents:
        pd.read_csv(folder / name)
    store.close()
