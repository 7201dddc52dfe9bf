"""Faults around a run: a second driver, foreign bytes, a wrong clock, damaged data, a full disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
from fault_runs import ROOT, Run, kill

from bench.result import TABLES

Line = tuple[str, str, int, str]

FILES = ("journal.jsonl", *TABLES)
FOREIGN = {
    "half a row": b'vit-x,abc,"torn',
    "NUL bytes": b"\0" * 512,
    "no UTF-8": b"\xff\xfe\xfa\n\x80,\x81\n",
    "a foreign row": b"a,b,c\nfoo\n",
    "an open quote": b'"never closed, 1\n2\n3\n',
}

# What tests/small_disk.py does to a run -> words of the line in which it ends, and how
DISKS = {
    "full": ("No space left", "a file system of 3 MB, full after a row: one line, status 2, as for a resume"),
    "full at the report": ("No space left", "after the last row: one line, status 2, as for a resume"),
    "read-only": ("Read-only file system", "before a row: one line, status 2, as for a resume"),
}

# Put before the C library: the clock on the wall jumps as soon as the file that the variable names is there. Python's
# own time.time can't be told apart from it, nor can pandas' or torch's; the monotonic clocks stay as they are.
CLOCK = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static time_t back(void) {
    const char *place = getenv("FAULTS_CLOCK");
    return place && access(place, F_OK) == 0 ? 365 * 86400 : 0;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    int status = syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_REALTIME) now->tv_sec -= back();
    return status;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""


def two_drivers(work: Path, dice: random.Random, count: int) -> list[Line]:
    run = Run(work)
    first = run.start("--quiet")
    run.wait_for_rows(1)
    first.send_signal(signal.SIGSTOP)  # so that it can't have ended before the second one asks
    assert run.go_on("--quiet") == 2, "a second driver entered"
    said = run.log().splitlines()[-1]
    assert said.startswith("error: "), said
    assert str(first.pid) in said, said
    kill(first.pid)
    first.communicate()
    run.check()
    assert run.go_on("--quiet") == 0, run.log()[-2000:]
    assert set(run.check_whole()) == {"ok"}
    return [
        ("two drivers on one folder", "the second is refused in a line that names the first's process", 1, "nothing"),
        ("a driver that was killed", "its lock is seen to be stale, the next driver goes on", 1, "nothing"),
    ]


def foreign_bytes(work: Path, dice: random.Random, count: int) -> list[Line]:
    lines: list[Line] = []
    run = Run(work)
    driver = run.start("--quiet")
    run.wait_for_rows(3)
    kill(driver.pid)
    driver.communicate()
    run.check()
    assert run.go_on("--quiet") == 0
    for what, data in FOREIGN.items():
        for name in FILES:
            with (run.folder / name).open("ab") as file:
                file.write(data)
        _go_on(run)
        lines.append((what, "at the end of the journal and of each table", len(FILES), "nothing"))
    for name in TABLES:
        _flip_in(run.folder / name, dice)
        _go_on(run)
        (run.folder / name).unlink()
        _go_on(run)
    lines.append(("a table changed or removed", "a bit in its middle; the file", 2 * len(TABLES), "nothing"))
    for _ in range(3):
        _flip_in(run.folder / "journal.jsonl", dice)
        run.kept = b""  # that trial's row is another's from now on
        _go_on(run, "--json")  # not quietly
        assert "1 line damaged or foreign" in run.log()
    lines.append(("a bit of the journal", "in any of its lines: set aside, said, run again", 3, "that trial's line"))
    return lines


def _go_on(run: Run, *words: str) -> None:
    (run.folder / "report.html").unlink()
    assert run.go_on(*words or ("--quiet",)) == 0, run.log()[-2000:]
    assert set(run.check_whole()) == {"ok"}


def _flip_in(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    place = dice.choice([place for place, byte in enumerate(data) if byte != ord("\n")])
    data[place] ^= 1
    path.write_bytes(data)


def clock_set_back(work: Path, dice: random.Random, count: int) -> list[Line]:
    """A year back: while a driver runs, and for the one that goes on."""
    if not shutil.which("cc"):
        return [("the clock set back a year", "not tried: no C compiler here", 0, "-")]
    place, library = work / "back", work / "clock.so"
    (work / "clock.c").write_text(CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(work / "clock.c")], check=True)
    run = Run(work, environment={"FAULTS_CLOCK": str(place), "LD_PRELOAD": str(library)})
    driver = run.start("--quiet")
    run.wait_for_rows(1)
    place.touch()
    run.wait_for_rows(4)
    kill(driver.pid)
    driver.communicate()
    run.check()
    assert run.go_on("--quiet") == 0, run.log()[-2000:]
    assert set(run.check_whole()) == {"ok"}
    frame = pd.read_csv(run.folder / "trials.csv")
    assert len({text[:4] for text in frame.started_at}) == 2, "the clock didn't jump"
    assert (frame.wall_seconds > 0).all()
    assert (frame.train_seconds > 0).all()
    return [("the clock set back a year", "during a run, and for the one that goes on", 2, "nothing")]


def damaged_cache(work: Path, dice: random.Random, count: int) -> list[Line]:
    """A bit of the cached dataset flips: fetched again where there is a source, refused where there is none."""
    cache = work / "cache"
    run = Run(work, environment={"VIT_CNN_BENCH_CACHE": str(cache)})
    driver = run.start("--quiet")
    run.wait_for_rows(2)
    damaged = _flip(cache, dice)
    kill(driver.pid)
    driver.communicate()
    run.check()
    assert run.go_on("--quiet") == 0, run.log()[-2000:]
    assert set(run.check_whole()) == {"ok"}
    assert "fetching it again" in run.log()

    given = work / "given"
    shutil.copytree(damaged.parent, given)
    second = Run(work, name="second", environment={"VIT_CNN_BENCH_CACHE": str(work / "other")})
    driver = second.start("--quiet", "--data-dir", str(given))
    second.wait_for_rows(2)
    kill(driver.pid)
    driver.communicate()
    second.check()
    sound = {path: path.read_bytes() for path in given.rglob("*") if path.is_file()}
    _flip(given, dice)
    shutil.rmtree(work / "other", ignore_errors=True)
    assert second.go_on("--quiet") == 2
    assert second.log().splitlines()[-1].startswith("error: digits: "), second.log()[-500:]
    second.check()
    for path, data in sound.items():
        path.write_bytes(data)
    assert second.go_on("--quiet") == 0, second.log()[-2000:]
    assert set(second.check_whole()) == {"ok"}
    return [
        ("a dataset's file damaged", "in the cache, while a run is on; the next fetches it again", 1, "nothing"),
        ("a dataset's file damaged", "in the folder given, between runs: one line, until it is mended", 1, "nothing"),
    ]


def _flip(folder: Path, dice: random.Random) -> Path:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 1000)
    path = dice.choice(files)
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1
    path.write_bytes(data)
    return path


def small_disks(work: Path, dice: random.Random, count: int) -> list[Line]:
    """Real small file systems, in a namespace of their own; where that isn't allowed, the table says so.

    tests/small_disk.py puts the faults in, right before or after a row of a real run; what it found is judged here.
    """
    unshare = [shutil.which("unshare") or "false", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "mount", "-t", "tmpfs", "x", str(work)], capture_output=True, check=False).returncode:
        return [("a disk", "not tried: no file system may be mounted here", 0, "-")]
    program = [*unshare, sys.executable, str(ROOT / "tests" / "small_disk.py"), str(work)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(program, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    *full, roomy = found["rows"]
    for tried in full:
        assert "No space left on device" in tried["error"], tried
        assert tried["unchanged"], tried
        assert not tried["problems"], tried
    assert {tried["kept"] for tried in full} == {True, False}, full
    assert not roomy["error"], roomy
    how = "within the journal and within the tables; freed, the next row stands whole"
    lines: list[Line] = [("a full disk", how, len(full), "nothing")]
    for name, (why, how) in DISKS.items():
        run = found[name]
        for status, error in ((run["status"], run["error"]), run["refused"]):
            assert status == 2, run
            assert error.startswith("error: "), run
            assert error.count("\n") == 1, run
            assert why in error, run
        assert run["resumed"] == [0, ""], run
        assert not set(run["kept"]) & set(run["ran_again"]), run
        assert run["rows"] == dict.fromkeys([*run["kept"], *run["ran_again"]], "ok"), run
        assert run["report"], run
        assert run["problems"] == [], run
        lines.append((f"a disk {name}", how, 2, "nothing"))
    assert found["cache"]["left"] == [], found["cache"]
    assert found["cache"]["said"].startswith("warning: "), found["cache"]
    lines.append(("a full disk under the cache", "a warning, and no half of a file", 1, "nothing"))
    return lines
