"""SIGKILL to a run's processes at random moments of each phase, and signals that ask for the end."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from fault_runs import SUITE, Run, kill, wait_until

PHASES = ("start", "training", "append", "report")
Line = tuple[str, str, int, str]


def kills_of_everything(work: Path, dice: random.Random, count: int) -> list[Line]:
    """`count` kills: of a driver or its whole group in each phase, with workers and fork servers killed on the way."""
    done: Counter[str] = Counter()
    phases: Counter[str] = Counter()
    suite = SUITE.replace("seeds: 4", "seeds: 8")
    runs = [Run(work / "0", suite)]
    lives = 0
    while done.total() < count:
        run, phase = runs[-1], PHASES[lives % len(PHASES)]
        lives += 1
        driver = run.start("--quiet")
        for target in ("worker", "fork server", "worker") if phase != "start" else ():
            if done.total() < count - 1:
                done[target] += _kill_within(run, driver, target, dice)
        _wait_for(phase, run, driver, dice)
        target = dice.choice(["driver", "group"])
        if driver.poll() is None:
            if target == "driver":
                driver.kill()
            else:
                os.killpg(driver.pid, signal.SIGKILL)
            done[target] += 1
            phases[phase] += 1
        driver.communicate()
        run.check()
        rows = run.rows().count(b"\n")
        print(f"  {done.total()} kills, {lives} drivers, run {len(runs)} has {rows} lines", flush=True)
        if (run.folder / "run.json").exists() and len(run.statuses()) == len(run.plan()):
            _finish(run)
            runs.append(Run(work / str(len(runs)), suite))
    _finish(runs[-1])
    spread = ", ".join(f"{phase} {times}" for phase, times in phases.items())
    return [
        (f"kill -9 of the {target}", f"random moments ({spread} for drivers and groups)", times, "nothing")
        for target, times in sorted(done.items())
    ]


def _kill_within(run: Run, driver: "subprocess.Popen[str]", target: str, dice: random.Random) -> int:
    """Kill a worker or the fork server of a driver that goes on; the worker's trial becomes a row that says so."""
    find = run.worker if target == "worker" else run.fork_server
    if not wait_until(lambda: find(driver.pid) or driver.poll() is not None, 90, 0.05):
        return 0
    time.sleep(dice.uniform(0.0, 0.6))
    pid = find(driver.pid)
    before = run.rows().count(b"\n")
    if not kill(pid):
        return 0
    moved = wait_until(lambda: run.rows().count(b"\n") > before or driver.poll() is not None, 90, 0.02)
    assert moved, f"the driver hangs after a kill of its {target}: {run.log()[-2000:]}"
    return 1


def _wait_for(phase: str, run: Run, driver: "subprocess.Popen[str]", dice: random.Random) -> None:
    """A random moment of a phase; or the driver's end, should it come first."""
    ended = lambda: driver.poll() is not None  # noqa: E731
    rows = run.rows().count(b"\n")
    if phase == "start":
        time.sleep(dice.uniform(0.05, 5.0))
    elif phase == "training":
        wait_until(lambda: ended() or run.rows().count(b"\n") > max(rows, 1), 90, 0.005)
        time.sleep(dice.uniform(0.0, 1.0))
    elif phase == "append":
        tables = [run.folder / name for name in ("journal.jsonl", "trials.csv")]
        sizes = lambda: [path.stat().st_size if path.exists() else 0 for path in tables]  # noqa: E731
        wait_until(lambda: ended() or all(sizes()), 90, 0.002)
        before = sizes()
        wait_until(lambda: ended() or sizes() != before, 90, 0.0002)
        time.sleep(dice.uniform(0.0, 0.003))
    else:
        complete = lambda: (run.folder / "run.json").exists() and len(run.statuses()) == len(run.plan())  # noqa: E731
        wait_until(lambda: ended() or complete(), 120, 0.02)
        time.sleep(dice.uniform(0.0, 2.0))


def _finish(run: Run) -> None:
    """Resume to the end: all is there, and a further resume adds nothing."""
    status = run.go_on("--quiet")
    statuses = run.check_whole()
    bad = statuses.total() - statuses["ok"]
    assert status == (1 if bad else 0), f"{status}: {statuses}\n{run.log()[-2000:]}"
    if bad:
        assert "SIGKILL" in (run.folder / "report.md").read_text()


def signals(work: Path, dice: random.Random, count: int) -> list[Line]:
    """SIGINT, SIGTERM, SIGHUP while a trial trains and while a row is written; and again while the report is."""
    lines: list[Line] = []
    run = Run(work)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for phase in ("training", "append"):
            driver = run.start("--quiet", "--set", "seeds=8")
            _wait_for(phase, run, driver, dice)
            os.killpg(driver.pid, number)
            driver.communicate(timeout=60)
            assert driver.returncode == 130, f"{driver.returncode}: {run.log()[-2000:]}"
            run.check()
            assert set(run.statuses().values()) == {"ok"}, "the trial that ran has a row"
            assert "interrupted" in (run.folder / "report.md").read_text()
        name = signal.Signals(number).name
        lines.append((name, "to the group, in a trial and in an append: status 130, report written", 2, "nothing"))
    driver = run.start("--quiet")
    _wait_for("training", run, driver, dice)
    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(dice.uniform(0.3, 1.0))
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode in (130, -signal.SIGINT), run.log()[-2000:]
    run.check()
    lines.append(("a second SIGINT", "while the report is written: ends at once", 1, "nothing"))
    assert run.go_on("--quiet") == 0, run.log()[-2000:]
    assert set(run.check_whole()) == {"ok"}
    return lines
