"""Trials that crash, leave, hang, diverge, chatter or eat all memory; each a row, and the next trial runs."""

import random
from pathlib import Path

import pandas as pd
from fault_runs import Run, suite_of_traps

Line = tuple[str, str, int, str]

# kind -> status, words of the error, words of the kept stack (None: there is none to keep)
ENDS_BADLY: dict[str, tuple[str, str, str | None]] = {
    "segfault": ("failed", "died of SIGSEGV", "traps.py"),
    "abort": ("failed", "died of SIGABRT", "traps.py"),
    "exit": ("failed", "exited with status 7", None),
    "sys_exit": ("failed", "SystemExit: enough", "SystemExit: enough"),
    "raise": ("failed", "ZeroDivisionError", "traps.py"),
    "diverge": ("diverged", "", None),
    "chatter": ("ok", "", None),
    "family_segfault": ("failed", "died of SIGSEGV", "traps.py"),
    "limited": ("oom", "memory", "traps.py"),
    "objects": ("oom", "MemoryError", "traps.py"),
}
HANGS: dict[str, tuple[str, str, str | None]] = {
    "sleep": ("timeout", "took more than", "traps.py"),
    "hang_in_c": ("timeout", "took more than", "traps.py"),
    "stop": ("timeout", "had been stopped", "traps.py"),
    "deaf": ("timeout", "took more than", "in deaf"),
    "family_hang": ("timeout", "took more than", "traps.py"),
    "close": ("failed", "closed its connection", None),
    "garble": ("failed", "isn't a message", "in garble"),
}
RANKS: dict[str, tuple[str, str, str | None]] = {
    "rank_hang": ("timeout", "took more than", "in deaf"),
    "rank_stop": ("timeout", "took more than", "traps.py"),
    "rank_kill": ("failed", "rank 1 of 2: killed by SIGKILL", None),
    "rank_segfault": ("failed", "rank 1 of 2: died of SIGSEGV", "traps.py"),
    "rank_raise": ("failed", "rank 1 of 2: ZeroDivisionError", "traps.py"),
}


def trials_that_end_badly(work: Path, dice: random.Random, count: int) -> list[Line]:
    run = Run(work, suite_of_traps([*ENDS_BADLY, "healthy"], 120))
    return _run(run, ENDS_BADLY)


def trials_that_hang(work: Path, dice: random.Random, count: int) -> list[Line]:
    run = Run(work, suite_of_traps([*HANGS, "healthy"], 15))
    return _run(run, HANGS)


def ranks_that_fail(work: Path, dice: random.Random, count: int) -> list[Line]:
    """The second of two processes that train one model."""
    run = Run(work, suite_of_traps([*RANKS, "healthy"], 60, world_size=2))
    return [(f"one of two ranks{line[0].removeprefix('a trial')}", *line[1:]) for line in _run(run, RANKS)]


def _run(run: Run, kinds: dict[str, tuple[str, str, str | None]], *words: str) -> list[Line]:
    assert run.go_on("--quiet", *words, seconds=600) == 1, run.log()[-2000:]
    check_rows(run, kinds)
    before = run.rows()
    assert run.go_on("--quiet") == 1
    assert run.rows() == before, "a resume ran trials again that had failed"
    run.check_whole()
    return [
        (f"a trial: {kind}", f"status {status}{', stack kept' if stack else ''}", 1, "nothing")
        for kind, (status, _, stack) in kinds.items()
    ]


def check_rows(run: Run, kinds: dict[str, tuple[str, str, str | None]]) -> None:
    """Each kind's row, what is kept of it, and that the report names it."""
    run.check()
    frame = pd.read_csv(run.folder / "trials.csv", keep_default_na=False).set_index("settings")
    report = (run.folder / "report.md").read_text()
    for kind, (status, error, stack) in kinds.items():
        row = frame.loc[f'{{"kind": "{kind}"}}']
        assert row.status == status, f"{kind}: {row.status}: {row.error}"
        assert error in row.error, f"{kind}: {row.error}"
        kept = run.folder / "failures" / f"{row.trial_id}.txt"
        assert kept.exists() == bool(stack), f"{kind}: {kept} {kept.exists()}"
        if stack:
            assert stack in kept.read_text(), f"{kind}: {kept.read_text()}"
        if status != "ok":
            assert status in report
    healthy = frame.loc['{"kind": "healthy"}'] if '{"kind": "healthy"}' in frame.index else frame.iloc[0]
    assert healthy.status == "ok", healthy.error


def memory_limits(work: Path, dice: random.Random, count: int) -> list[Line]:
    """A limit on the whole run's address space, as `ulimit -v` sets it, and a trial that takes all there is."""
    run = Run(work, suite_of_traps(["hoard", "healthy"], 120))
    assert run.go_on("--quiet", before="ulimit -v 12000000") == 1, run.log()[-2000:]
    check_rows(run, {"hoard": ("oom", "memory", "traps.py")})
    run.check_whole()
    return [("a trial under `ulimit -v`", "takes memory until it is refused: status oom", 1, "nothing")]
