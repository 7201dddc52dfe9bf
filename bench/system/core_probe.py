"""How fast the cores are while something is timed: a short fixed loop, every two milliseconds on each of them.

On many machines a core is half of one: another machine's thread runs on its other half and comes and goes within
milliseconds, which no account of the system shows. The loop shows it, for it takes the longer, and what is timed beside
it takes longer alike. A probe costs its core some 2% of its time.

Run as a script this is one probe: `core_probe.py CORE` writes how long each loop took, in seconds, as doubles. It ends
when nobody reads on.
"""

import array
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

PERIOD_SECONDS = 0.002
TURNS = 1000  # of the loop: some 15 microseconds
SWITCH_SECONDS = 20e-6  # that a loop takes from other work beside its own time, about
FEWEST = 3  # loops that a mean needs


class CoreProbes:
    """Probes on these cores; on a system that can't bind a process to a core there are none.

    Args:
        cores: all that this process may use. Under a CPU quota give none: probes on all of them would use it up.
    """

    def __init__(self, cores: Sequence[int]) -> None:
        self._probes = {core: _started(core) for core in cores if hasattr(os, "sched_setaffinity")}

    def clear(self) -> None:
        """Forget what was so far."""
        for core in self._probes:
            self._read(core)

    def since_clear(self, one_core: bool) -> tuple[float | None, float]:
        """Mean time of the loops since `clear`, over the cores, and what they took from other work; both in seconds.

        The mean is None where there were too few.

        Args:
            one_core: of the core alone that the calling thread runs on.
        """
        own = _current_core() if one_core else None
        found = [self._read(core) for core in self._probes if own in (None, core)]
        means = [sum(times) / len(times) for times in found if len(times) >= FEWEST]
        taken = sum(sum(times) + SWITCH_SECONDS * len(times) for times in found)
        return (sum(means) / len(means) if means else None), taken

    def close(self) -> None:
        """End them."""
        for probe in self._probes.values():
            probe.kill()
            probe.communicate()
        self._probes = {}

    def _read(self, core: int) -> "array.array[float]":
        times, pipe = array.array("d"), self._probes[core].stdout
        assert pipe
        with suppress(BlockingIOError):
            times.frombytes(os.read(pipe.fileno(), 2**16))
        return times


def _started(core: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-I", "-S", __file__, str(core)]
    probe = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert probe.stdout
    os.set_blocking(probe.stdout.fileno(), False)
    return probe


def _current_core() -> int | None:
    with suppress(OSError), open("/proc/thread-self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[36])
    return None


def main() -> None:
    os.sched_setaffinity(0, {int(sys.argv[1])})
    turns = range(TURNS)
    with suppress(BrokenPipeError, KeyboardInterrupt):
        while True:
            time.sleep(PERIOD_SECONDS)
            start = time.perf_counter()
            for _ in turns:
                pass
            os.write(1, array.array("d", [time.perf_counter() - start]))


if __name__ == "__main__":
    main()
