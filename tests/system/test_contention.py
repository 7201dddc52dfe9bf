"""Disturbances: made-up counters, exactly; and of this machine, threads that have to wait for each other."""

import gc
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.system import contention
from bench.system.contention import Disturbance, Meter, Pauses, machine_state

OpenMeter = Callable[..., Meter]

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
linux = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="/proc of Linux")


class Machine:
    """Folders like /proc and /sys of a machine with four cores, of which the process may use two and the last."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.root, self.cpus = folder / "proc", folder / "cgroup", folder / "cpus"
        self.write("proc/self/schedstat", "500 7 1")
        self.write("proc/self/task/10/schedstat", "500 7000000000 1")
        self.write("proc/self/cgroup", "0::/a")
        self.steal(0, 0, 0, 0)

    def write(self, path: str, content: str) -> None:
        place = self.proc.parent / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content + "\n")

    def steal(self, *ticks: int) -> None:
        lines = [f"cpu{core} 4705 150 1120 16250856 1 2 3 {stolen} 5 6" for core, stolen in enumerate(ticks)]
        self.write("proc/stat", "\n".join([f"cpu  1 2 3 4 5 6 7 {sum(ticks)} 9 10", *lines, "intr 9 8 7 6 5 4 3 2 1"]))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(contention, "cores", lambda: [0, 1, 3])
    return Machine(tmp_path)


@pytest.fixture
def opened() -> Iterator[OpenMeter]:
    """Opens meters, and closes them in the end."""
    meters: list[Meter] = []

    def open_meter(*roots: Path) -> Meter:
        meters.append(Meter(*roots))
        return meters[-1]

    yield open_meter
    for meter in meters:
        meter.close()


def test_difference_of_two_readings_is_each_counters_own_and_unknown_stays_unknown() -> None:
    assert Disturbance(3.0, None, 1.5).since(Disturbance(1.0, 2.0, 1.5)) == Disturbance(2.0, None, 0.0)
    assert Disturbance(None, 2.0, 1.0).since(Disturbance(1.0, 0.5, None)) == Disturbance(None, 1.5, None)


def test_threads_waits_are_added_and_a_new_thread_counts_from_its_start(machine: Machine, opened: OpenMeter) -> None:
    machine.write("proc/self/task/11/schedstat", "100 250000000 3")
    meter = opened(machine.proc, machine.root)
    before = meter.read()
    machine.write("proc/self/task/10/schedstat", "900 7500000000 4")
    machine.write("proc/self/task/12/schedstat", "100 125000000 2")
    waited, stolen, throttled = meter.read().since(before)
    assert (waited, stolen, throttled) == (0.625, 0.0, None)


def test_only_cores_that_the_process_may_use_are_stolen_from_it(machine: Machine, opened: OpenMeter) -> None:
    machine.steal(10, 20, 30, 40)
    meter = opened(machine.proc, machine.root)
    before = meter.read()
    machine.steal(11, 22, 1030, 1044)
    assert meter.read().since(before).stolen_seconds == (1 + 2 + 1004) / TICKS


@pytest.mark.parametrize(
    ("group", "place", "counter", "seconds"),
    [("0::/a", "a", "throttled_usec", 1e-6), ("3:cpu,cpuacct:/a", "cpu/a", "throttled_time", 1e-9)],
)
def test_throttled_time_is_read_in_the_units_of_each_version(
    machine: Machine, opened: OpenMeter, group: str, place: str, counter: str, seconds: float
) -> None:
    machine.write("proc/self/cgroup", group)
    machine.write(f"cgroup/{place}/cpu.stat", f"nr_periods 9\nnr_throttled 3\n{counter} 1000")
    meter = opened(machine.proc, machine.root)
    before = meter.read()
    machine.write(f"cgroup/{place}/cpu.stat", f"nr_periods 19\nnr_throttled 5\n{counter} 5001000")
    assert meter.read().since(before).throttled_seconds == pytest.approx(5_000_000 * seconds)


def test_kernel_that_keeps_no_account_of_waits_tells_nothing_instead_of_zero(
    machine: Machine, opened: OpenMeter
) -> None:
    machine.write("proc/self/schedstat", "0 0 0")
    assert opened(machine.proc, machine.root).read() == Disturbance(None, 0.0, None)


def test_other_systems_and_a_closed_meter_tell_nothing(machine: Machine, opened: OpenMeter, tmp_path: Path) -> None:
    assert opened(tmp_path / "none", tmp_path / "none").read() == Disturbance(None, None, None)
    meter = opened(machine.proc, machine.root)
    assert meter.read() == Disturbance(7.0, 0.0, None)
    meter.close()
    assert meter.read() == Disturbance(None, None, None)


def _hash_for_a_while() -> None:
    for _ in range(40):
        hashlib.sha256(bytes(2**20)).digest()  # without the GIL


@linux
def test_threads_that_share_a_core_wait_and_what_they_waited_stays_when_they_end(opened: OpenMeter) -> None:
    meter = opened()
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        before = meter.read()
        threads = [threading.Thread(target=_hash_for_a_while) for _ in range(3)]
        for thread in threads:
            thread.start()
        readings = [before]
        while any(thread.is_alive() for thread in threads):
            threads[0].join(0.002)
            readings.append(meter.read())
        for thread in threads:
            thread.join()
    finally:
        os.sched_setaffinity(0, allowed)
    readings.append(meter.read())
    waited = [reading.waited_seconds or 0.0 for reading in readings]
    assert waited == sorted(waited)
    assert waited[-1] - waited[0] > 0


def _open_files(ending: str) -> int:
    """How many files of that name this process holds."""
    names = []
    for file in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            names.append(os.readlink(f"/proc/self/fd/{file}"))
    return sum(name.endswith(ending) for name in names)


@linux
def test_files_of_threads_that_have_ended_are_closed(opened: OpenMeter) -> None:
    meter, go = opened(), threading.Event()
    threads = [threading.Thread(target=go.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    accounts = [f"task/{thread.native_id}/schedstat" for thread in threads]
    meter.read()
    assert [_open_files(account) for account in accounts] == [1] * 8
    go.set()
    for thread in threads:
        thread.join()
    while any(Path("/proc/self", account).exists() for account in accounts):  # joined, but still on their way out
        time.sleep(0.001)
    meter.read()
    assert [_open_files(account) for account in accounts] == [0] * 8


@linux
def test_files_of_a_meter_that_nobody_holds_any_more_are_closed(machine: Machine) -> None:
    counter = str(machine.proc / "stat")
    meter = Meter(machine.proc, machine.root)
    assert _open_files(counter) == 1
    del meter
    assert _open_files(counter) == 0


def test_state_of_a_machine_is_read_from_its_files(machine: Machine) -> None:
    machine.write("proc/loadavg", "3.00 9.0 9.0 5/321 4711")
    machine.write("proc/meminfo", "MemTotal: 4096 kB\nMemAvailable:   2048 kB")
    machine.write("proc/cpuinfo", "\n\n".join(f"processor\t: {n}\ncpu MHz\t\t: {1000 + 100 * n}.500" for n in range(4)))
    machine.write("cgroup/a/cpu.max", "50000 100000")
    roots = (machine.proc, machine.root, machine.cpus)
    known = {"load": 0.75, "running": 5.0, "quota": 0.5}
    assert machine_state(*roots) == known | {
        "megahertz": pytest.approx((1000.5 + 1100.5 + 1300.5) / 3),
        "available_memory_bytes": 2048 * 1024,
    }
    for core, kilohertz in enumerate((2_000_000, 2_600_000, 9_000_000, 2_600_000)):
        machine.write(f"cpus/cpu{core}/cpufreq/scaling_cur_freq", str(kilohertz))
    machine.write("cgroup/a/memory.max", "1000000")
    machine.write("cgroup/a/memory.current", "400000")
    assert machine_state(*roots) == known | {"megahertz": 2400.0, "available_memory_bytes": 600_000}


def test_state_of_a_machine_that_tells_nothing_is_unknown(tmp_path: Path) -> None:
    state = machine_state(tmp_path, tmp_path, tmp_path)
    assert set(state) == {"load", "running", "megahertz", "quota", "available_memory_bytes"}
    assert set(state.values()) == {None}


@linux
def test_this_machine_tells_its_state() -> None:
    state = machine_state()
    assert (state["running"] or 0) >= 1
    assert (state["available_memory_bytes"] or 0) > 0
    assert state["load"] is not None


def test_it_is_loaded_without_torch() -> None:
    program = "import sys, bench.system.contention; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class Clocks:
    """A thread's clocks, turned by hand: what it runs and what it sleeps, and what others take, in `schedstat`."""

    def __init__(self, schedstat: Path) -> None:
        self.passed, self.ran, self.schedstat = 100.0, 10.0, schedstat
        self.perf_counter, self.thread_time = lambda: self.passed, lambda: self.ran
        self.waited = 0.0
        self.wait(0.0)

    def work(self, seconds: float) -> None:
        self.passed, self.ran = self.passed + seconds, self.ran + seconds

    def sleep(self, seconds: float) -> None:
        self.passed += seconds

    def wait(self, seconds: float) -> None:
        """For a core that another program has."""
        self.passed, self.waited = self.passed + seconds, self.waited + seconds
        self.schedstat.write_text(f"1000 {5000 + round(1e9 * self.waited)} 7\n")

    def collect(self, seconds: float) -> None:
        for each in gc.callbacks[-1:]:
            each("start", {})
            self.work(seconds)
            each("stop", {})

    def pauses(self) -> Pauses:
        nothing = Disturbance(0.0, 0.0, 0.0)
        return Pauses(SimpleNamespace(read=lambda: nothing), own=str(self.schedstat))  # type: ignore[arg-type]


@pytest.fixture
def clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks(tmp_path / "schedstat")
    monkeypatch.setattr(contention, "time", made)
    return made


def test_pauses_are_sleep_and_collections_and_not_work(clocks: Clocks) -> None:
    with (work := clocks.pauses()):
        clocks.work(3.0)
    assert work.share == 0.0
    with (sleep := clocks.pauses()):
        clocks.sleep(1.0)
        clocks.work(3.0)
    clocks.sleep(5.0)  # outside: nobody's
    assert (sleep.ran_seconds, sleep.blocked_seconds) == (3.0, 1.0)
    assert sleep.share == 0.25
    with (litter := clocks.pauses()):
        clocks.work(6.0)
        clocks.collect(2.0)
    assert (litter.ran_seconds, litter.blocked_seconds, litter.collected_seconds) == (8.0, 0.0, 2.0)
    assert litter.share == 0.25


def test_collections_are_those_of_pythons_own_collector() -> None:
    with (litter := Pauses()):
        gc.collect()
    assert 0 < litter.collected_seconds <= litter.ran_seconds


@linux
def test_a_thread_that_really_sleeps_is_blocked_and_did_not_run_meanwhile() -> None:
    with (sleep := Pauses()):
        time.sleep(0.05)
    assert sleep.blocked_seconds > 0
    assert sleep.share is not None
    assert sleep.share > 0


def test_pauses_of_stretches_add_up_and_leave_no_callback(clocks: Clocks) -> None:
    callbacks, pauses = list(gc.callbacks), clocks.pauses()
    for seconds in (2.0, 4.0):
        with pauses:
            clocks.sleep(seconds)
            clocks.work(1.0)
    assert (pauses.ran_seconds, pauses.blocked_seconds) == (2.0, 6.0)
    assert gc.callbacks == callbacks


def test_what_others_take_is_no_pause_and_where_it_is_unknown_there_is_no_share(clocks: Clocks, tmp_path: Path) -> None:
    with (stolen := clocks.pauses()):
        clocks.wait(4.0)
        clocks.work(1.0)
    assert stolen.blocked_seconds == pytest.approx(0.0)
    with (unknown := Pauses(own=str(tmp_path / "none"))):
        clocks.sleep(1.0)
    assert unknown.share is None
