"""A program for test_small_disk.py, run as root of a mount namespace of its own: real small disks that fill up or
become read-only in the middle, under the store and under the whole program. It prints what happened, as JSON.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import run_bench
from bench.data import cache
from bench.errors import StoreError
from bench.report import figures
from bench.result import TABLES, Result
from bench.store.run_folder import RunFolder
from bench.store.tables import read_rows
from bench.store.verify import verify_run

SUITE = """
dataset: digits
models: [{model: cnn, depth: 1, width: 4}]
batch_size: 50
num_threads: 1
timing: whole
instrument_seconds: 0.0
epochs: 1
targets: [0.5]
"""
PAGE = 4096
FILES = ("journal.jsonl", *TABLES)


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Take all the room that is left, but for some bytes."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
        while True:
            file.write(bytes(PAGE))
    if leave:
        os.truncate(ballast, ballast.stat().st_size - leave)


def result(trial_id: str) -> Result:
    """One whose tables each take more than a page."""
    evaluations = [{"epoch": i / 10, "step": i, "train_seconds": i / 3, "val_accuracy": 0.5} for i in range(150)]
    blocks = [{"block": i, "steps": 10, "images": 640, "seconds": i / 3} for i in range(150)]
    inference = [{"batch_size": 1, **{key: row[key] for key in ("block", "images", "seconds")}} for row in blocks]
    error = "e" * 5000
    return Result(
        trial_id, status="ok", error=error, evaluations=evaluations, blocks=blocks, inference_blocks=inference
    )


def appended_until_full(scratch: Path) -> list[dict[str, object]]:
    """A store on disks that fill up at ever later places of a trial's rows."""
    tried = []
    for pages in (0, 2, 4, 6, 24):  # of the rest: none, within the journal, within the tables, and enough
        with disk(scratch / f"rows-{pages}", "1m") as mount:
            store = RunFolder.create(mount / "run", {"plan": ["a", "b", "c"]})
            store.append(result("a"))
            before = {name: (mount / "run" / name).read_bytes() for name in FILES}
            fill(mount, leave=pages * PAGE)
            error, later = "", {}
            try:
                store.append(result("b"))
            except StoreError as refused:
                error = str(refused)
                later = {name: (mount / "run" / name).read_bytes() for name in FILES}
            (mount / "ballast").unlink()
            kept = "b" in store.finished()  # the journal took it, a table didn't
            store.append(result("c"))
            store.close()
            store = RunFolder.open(mount / "run")
            rows = {name: [row["trial_id"] for row in read_rows(mount / "run", name)] for name in TABLES}
            counts = {name: {trial: rows[name].count(trial) for trial in "abc"} for name in TABLES}
            lost = (mount / "run" / "set_aside").exists()
            unchanged = all(later[name] == before[name] for name in FILES if not (kept and error)) if later else False
            problems = [each for each in verify_run(mount / "run").problems if "run.json" not in each]
            found = {"error": error, "kept": kept, "unchanged": unchanged, "counts": counts, "set_aside": lost}
            tried.append(found | {"problems": problems})
            store.close()
    return tried


def program(*words: str) -> tuple[int, str]:
    """run_bench.py with its arguments -> exit status, standard error."""
    sys.argv = ["run_bench.py", *words, "--executor", "in-process", "--quiet"]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        status = run_bench.main()
    return status, err.getvalue()


def whole_program(
    scratch: Path, name: str, fault: Callable[[Path], None], mend: Callable[[Path], None], when: int, seeds: int = 2
) -> dict[str, object]:
    """A run in which the fault comes right before the row of that number is appended; after it, if it's negative."""
    (scratch / "suite.yaml").write_text(SUITE)
    plain_append = RunFolder.append
    seen: list[str] = []

    with disk(scratch / name, "3m") as mount:
        run = mount / "run"

        def append(self: RunFolder, result: Result) -> None:
            seen.append(str(result.trial_id))
            if len(seen) == when:
                fault(mount)
            plain_append(self, result)
            if len(seen) == -when:
                fault(mount)

        RunFolder.append = append  # type: ignore[method-assign]
        try:
            suite = str(scratch / "suite.yaml")
            status, error = program("--suite", suite, "--out", str(run), "--seeds", str(seeds))
            kept = [row["trial_id"] for row in read_rows(run)]
            refused = program("--resume", str(run))
            mend(mount)
            begun = len(seen)
            resumed = program("--resume", str(run))
        finally:
            RunFolder.append = plain_append  # type: ignore[method-assign]
        rows = {row["trial_id"]: row["status"] for row in read_rows(run)}
        return {
            "status": status,
            "error": error,
            "kept": kept,
            "refused": refused,
            "resumed": resumed,
            "ran_again": seen[begun:],
            "rows": rows,
            "report": (run / "report.html").exists(),
            "problems": verify_run(run).problems,
        }


def make_read_only(mount: Path) -> None:
    """Each file that is opened from now on lies on a read-only file system; what is open stays as it is."""
    subprocess.run(["mount", "--bind", mount / "run", mount / "run"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", mount / "run"], check=True)


def make_writable(mount: Path) -> None:
    subprocess.run(["umount", "--lazy", mount / "run"], check=True)


def cache_on_a_full_disk(scratch: Path) -> dict[str, object]:
    with disk(scratch / "cache", "1m") as mount:
        os.environ["VIT_CNN_BENCH_CACHE"] = str(mount)
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            cache.save("key", {"images": np.zeros(4_000_000, dtype=np.uint8)})
            cache.save_text("text", "x" * 2_000_000)
        left = [path.name for path in mount.rglob("*") if path.is_file()]
        return {
            "said": err.getvalue(),
            "left": left,
            "loaded": cache.load("key"),
            "text": cache.load_text("text"),
        }


def main(scratch: Path) -> None:
    figures.HERO = figures.MAIN_PLOTS = figures.RUN_PLOTS = figures.MISTAKES = figures.GALLERY_PLOTS = ()

    def full(mount: Path) -> None:
        fill(mount)

    def free(mount: Path) -> None:
        (mount / "ballast").unlink()

    found = {
        "rows": appended_until_full(scratch),
        "full": whole_program(scratch, "full", full, free, when=-1),
        "full at the report": whole_program(scratch, "report", full, free, when=-1, seeds=1),
        "read-only": whole_program(scratch, "ro", make_read_only, make_writable, when=2),
        "cache": cache_on_a_full_disk(scratch),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
