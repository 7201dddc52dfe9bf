"""Contention: what other work took from a stretch of this process's time, and in what state the machine is; pauses.

Linux tells it in /proc and /sys. What isn't told there, and everything on another system, is None.
"""

import gc
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from bench.system.cgroup import CGROUPS, cpu_quota, memory_left, throttling_file
from bench.system.environment import cores
from bench.system.process import PROC, line_of

CPUS = Path("/sys/devices/system/cpu")


class Disturbance(NamedTuple):
    """Time that was lost to others, seconds; None where the system doesn't tell.

    Attributes:
        waited_seconds: threads of the process were ready to run and had no core (run delay), summed over threads.
        stolen_seconds: the hypervisor ran something else on the cores that the process may use (steal), summed over
            cores; counted in ticks, which mostly are 10 ms.
        throttled_seconds: the container had used up its CPU quota, summed over cores where the kernel counts so.
    """

    waited_seconds: float | None
    stolen_seconds: float | None
    throttled_seconds: float | None

    def since(self, before: "Disturbance") -> "Disturbance":
        """What lies between an earlier reading of the same meter and this one."""
        now = zip(self, before, strict=True)
        return Disturbance(*(None if end is None or start is None else end - start for end, start in now))


class Meter:
    """Counts what disturbs the process that opened it; only differences of two readings mean something.

    Files stay open until it is closed or nobody holds it any more, so that a reading costs some 50 microseconds, a few
    more for each thread, and on a machine of many cores as much as the kernel needs for /proc/stat. What a thread
    waited between the last reading and its end is lost, and a thread that still waits is counted when it has run again.
    """

    def __init__(self, proc: Path = PROC, root: Path = CGROUPS) -> None:
        # A kernel that keeps no such account writes three zeros; of a thread that reads this, the third is at least 1.
        keeps = _words(proc / "self" / "schedstat") not in ([], ["0"] * 3)
        self._tasks = _open(proc / "self" / "task") if keeps else None
        self._threads: dict[str, tuple[int, int]] = {}  # thread -> its open file, nanoseconds that it has waited
        self._ended = 0  # nanoseconds that threads waited which are no more
        self._stat, own = _open(proc / "stat"), cores()
        self._cores = {f"cpu{core}".encode() for core in own}
        self._length = 256 * (own[-1] + 2)  # bytes of /proc/stat that hold all lines of cores, the sum's before them
        self._cpu_stat = _open(throttling_file(proc, root))

    def read(self) -> Disturbance:
        """All that was counted so far."""
        return Disturbance(self._waited(), self._stolen(), self._throttled())

    def close(self) -> None:
        """Close the files. A later reading tells nothing."""
        for file in (*(file for file, _ in self._threads.values()), self._tasks, self._stat, self._cpu_stat):
            if file is not None:
                os.close(file)
        self._threads, self._tasks, self._stat, self._cpu_stat = {}, None, None, None

    def __del__(self) -> None:
        if hasattr(self, "_cpu_stat"):  # which is opened last
            self.close()

    def _waited(self) -> float | None:
        if self._tasks is None:
            return None
        for thread, (file, _) in list(self._threads.items()):
            self._look(thread, file)
        for thread in os.listdir(self._tasks):
            if thread not in self._threads:
                with suppress(OSError):  # it came and went
                    self._look(thread, os.open(f"{thread}/schedstat", os.O_RDONLY, dir_fd=self._tasks))
        return (self._ended + sum(waited for _, waited in self._threads.values())) / 1e9

    def _look(self, thread: str, file: int) -> None:
        try:
            self._threads[thread] = file, int(os.pread(file, 64, 0).split()[1])
        except OSError:  # it has ended
            os.close(file)
            self._ended += self._threads.pop(thread, (file, 0))[1]

    def _stolen(self) -> float | None:
        if self._stat is None:
            return None
        lines = map(bytes.split, os.pread(self._stat, self._length, 0).splitlines())
        ticks = [int(words[8]) for words in lines if words and words[0] in self._cores]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None

    def _throttled(self) -> float | None:
        if self._cpu_stat is None:
            return None
        words = os.pread(self._cpu_stat, 4096, 0).split()
        found = dict(zip(words[::2], words[1::2], strict=True))
        if b"throttled_usec" in found:
            return int(found[b"throttled_usec"]) / 1e6
        return int(found[b"throttled_time"]) / 1e9


class Pauses:
    """What a thread loses while it trains: it neither runs nor waits for a core, or it collects garbage.

    Sleep, reading from disk and waiting for another thread are such pauses; what other programs take isn't. Use it in a
    `with`, in the thread in question, as often as you like: stretches add up. It means something where one thread does
    all the work, since threads that share a step wait for each other.

    Attributes:
        ran_seconds: on a core, collections included.
        blocked_seconds: neither on a core nor waiting for one.
        collected_seconds: spent by Python's garbage collector, by the thread's own clock.
    """

    def __init__(self, meter: Meter | None = None, own: str = "/proc/thread-self/schedstat") -> None:
        self.ran_seconds = self.blocked_seconds = self.collected_seconds = 0.0
        self._meter, self._own, self._is_known = meter or Meter(), own, True
        self._collecting = 0.0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._note)
        self._start = time.perf_counter(), time.thread_time(), self._lost()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall, ran, lost = self._start
        wall, ran, now = time.perf_counter() - wall, time.thread_time() - ran, self._lost()
        gc.callbacks.remove(self._note)
        if lost is None or now is None:
            self._is_known = False
            return
        self.ran_seconds += ran
        self.blocked_seconds += wall - ran - (now - lost)

    @property
    def share(self) -> float | None:
        """Of the time that others left to the thread; None where the system doesn't tell what they took."""
        own = self.ran_seconds + max(0.0, self.blocked_seconds)
        if not self._is_known or not own:
            return None
        return (max(0.0, self.blocked_seconds) + self.collected_seconds) / own

    def _lost(self) -> float | None:
        """Seconds that others have taken from this thread so far."""
        words = _words(Path(self._own))
        if words in ([], ["0"] * 3):
            return None
        _, stolen, throttled = self._meter.read()
        return int(words[1]) / 1e9 + (stolen or 0.0) + (throttled or 0.0)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self.collected_seconds += time.thread_time() - self._collecting


def machine_state(proc: Path = PROC, root: Path = CGROUPS, cpus: Path = CPUS) -> dict[str, float | None]:
    """In what state the machine is, to be noted beside what is measured on it; None for what it doesn't tell.

    Returns:
        `load` (processes a core that ran or waited, of the whole machine, average over a minute), `running` (threads
        that run or wait this moment, the asking one included), `megahertz` (mean clock of the cores that this process
        may use), `quota` (see `cpu_quota`), `available_memory_bytes` (what may still be taken, of the machine's or of
        the container's, whichever is less).
    """
    average, _, _, entities, *_ = [*_words(proc / "loadavg"), *[""] * 5]
    machine_cores = sum(line[3:4].isdigit() for line in _lines(proc / "stat") if line.startswith("cpu"))
    available = line_of(proc / "meminfo", "MemAvailable:")
    memory = [int(available[1]) * 1024 if available else None, memory_left(proc, root)]
    running = entities.partition("/")[0]
    return {
        "load": float(average) / machine_cores if average and machine_cores else None,
        "running": float(running) if running else None,
        "megahertz": _megahertz(proc, cpus),
        "quota": cpu_quota(proc, root),
        "available_memory_bytes": min((size for size in memory if size is not None), default=None),
    }


def _megahertz(proc: Path, cpus: Path) -> float | None:
    own = cores()
    governed = [_words(cpus / f"cpu{core}" / "cpufreq" / "scaling_cur_freq") for core in own]
    clocks = [int(kilohertz[0]) / 1000 for kilohertz in governed if kilohertz]
    if not clocks:
        core = None
        for line in _lines(proc / "cpuinfo"):
            name, _, value = line.partition(":")
            if name.strip() == "processor":
                core = int(value)
            elif name.strip() == "cpu MHz" and core in own:
                clocks.append(float(value))
    return sum(clocks) / len(clocks) if clocks else None


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text().splitlines()
    return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _open(path: Path | None) -> int | None:
    with suppress(OSError):
        return os.open(path, os.O_RDONLY) if path else None
    return None
