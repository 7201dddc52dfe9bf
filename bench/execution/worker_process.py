"""A worker process as its parent sees it: started, read from, ended. Whatever it does, its trial gets a result."""

import contextlib
import json
import os
import signal
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any

from bench.execution.worker_main import run_worker
from bench.result import Result
from bench.system.process import ASK_FOR_STACK, catches, cause_of_death, end_family, family, memory_kills, state
from bench.trial import Trial

LARGEST_MESSAGE = 1 << 28  # bytes; a million raw blocks are a tenth of it
GRACE_SECONDS = 5.0  # between asking a worker to stop and making it
HEADINGS = ("process ", "Stacks of ")  # lines around stacks
STACK_SECONDS = 2.0  # for a process to write its stack when asked
# Before each attempt to start it. The fork server may be killed at any moment and comes back at the next start; while
# it dies it refuses for a moment, and longer on a busy machine.
START_AFTER_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0)


class MessageReader:
    """Reads a worker's messages as they come and never waits for the rest of one: the worker may be stopped or dead.

    Attributes:
        closed: the worker's end of it is closed.
    """

    def __init__(self, receiver: Connection) -> None:
        self.receiver = receiver
        self.closed = False
        self._bytes = bytearray()
        if os.name != "nt":
            os.set_blocking(receiver.fileno(), False)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Those that are complete. Raises: ValueError: what came isn't a message."""
        try:
            if os.name == "nt":
                while self.receiver.poll():
                    data = self.receiver.recv_bytes()
                    self._bytes += struct.pack("!i", len(data)) + data
            else:
                while chunk := os.read(self.receiver.fileno(), 1 << 16):
                    self._bytes += chunk
                self.closed = True
        except BlockingIOError:
            pass
        except (OSError, EOFError):
            self.closed = True
        while len(self._bytes) >= 4:
            (size,) = struct.unpack_from("!i", self._bytes)  # the form of Connection.send_bytes
            if not 0 < size <= LARGEST_MESSAGE:
                raise ValueError("no size of a message")
            if len(self._bytes) < 4 + size:
                return
            text = bytes(self._bytes[4 : 4 + size])
            del self._bytes[: 4 + size]
            yield json.loads(text)


class WorkerProcess:
    """A process with one trial in it.

    Args:
        context: of multiprocessing.
        timeout_seconds: from its start; math.inf for none.

    Raises: OSError: no process can be started.
    """

    def __init__(
        self, context: Any, trial: Trial, folder: Path | None, data_dir: Path | None, timeout_seconds: float
    ) -> None:
        self.trial, self.timeout_seconds = trial, timeout_seconds
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.start = time.monotonic()
        self.memory_kills = memory_kills()
        self.process: Any = None
        self._death: int | None = None  # a descriptor that becomes readable when the process ends
        if hasattr(os, "memfd_create"):  # so that a full disk takes nobody's stack
            self._stacks: IO[bytes] = os.fdopen(os.memfd_create("stacks"), "w+b")
        else:
            self._stacks = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        self._done = False
        why = ""
        for pause in START_AFTER_SECONDS:
            time.sleep(pause)
            try:
                self._start(context, folder, data_dir)
                return
            except (OSError, EOFError) as error:
                why = f"{type(error).__name__}: {error}"
        self._stacks.close()
        raise OSError(f"no process could be started for it ({why})")

    def _start(self, context: Any, folder: Path | None, data_dir: Path | None) -> None:
        receiver, sender = context.Pipe(duplex=False)
        self.reader = MessageReader(receiver)
        stacks = Connection(os.dup(self._stacks.fileno()), readable=False) if ASK_FOR_STACK else None
        # Not a daemon, which may have no children: images from disk are read by processes of their own. None is
        # left behind: `stop` ends it, and it ends itself when its parent dies.
        arguments = (self.trial, folder, data_dir, sender, stacks)
        process = context.Process(target=run_worker, args=arguments, daemon=False)
        try:
            process.start()
        except (OSError, EOFError):
            self.reader.receiver.close()
            raise
        finally:
            sender.close()  # so that the worker's death ends the stream
            if stacks is not None:
                stacks.close()
        self.process = process
        with contextlib.suppress(AttributeError, OSError):
            self._death = os.pidfd_open(process.pid)  # holds, unlike the sentinel, when the fork server was killed

    def waitables(self) -> list[Any]:
        """What multiprocessing can wait for: a message, or its end."""
        death = self.process.sentinel if self._death is None else self._death
        return [death] if self.reader.closed else [self.reader.receiver, death]

    def seconds_left(self) -> float:
        return max(0.0, self.timeout_seconds - (time.monotonic() - self.start))

    def result(self, report: Callable[[dict[str, Any]], None]) -> Result | None:
        """What became of the trial, or None while it runs; messages that have come are passed on."""
        ended = self._ends_within(0)  # before the last messages are read, so that none is missed
        try:
            for message in self.reader.messages():
                if "result" in message:
                    self._done = True
                    return Result(**message["result"])
                report(message["progress"])
        except (ValueError, TypeError, KeyError):
            return self._failure("failed", "sent what isn't a message; something in it writes to others' files", True)
        if ended or (self.reader.closed and self._ends_within(GRACE_SECONDS)):
            self.process.join(GRACE_SECONDS)  # until the fork server has told how
            return self._failure(*cause_of_death(self.process.exitcode, self.memory_kills, memory_kills()))
        if self.reader.closed:
            return self._failure("failed", "closed its connection and went on without giving a result", True)
        if self.seconds_left() == 0:
            stopped = "; its process had been stopped" if state(self.process.pid) == "T" else ""
            return self._failure("timeout", f"took more than {self.timeout_seconds:g} s{stopped}", True)
        return None

    def stop(self) -> None:
        """End it and all that it started: after its result it ends by itself, else it is asked to and then made to."""
        self.reader.receiver.close()
        pid = self.process.pid
        if self._done:
            self._ends_within(GRACE_SECONDS)  # devices are given back in order
        members = family(pid)
        self._signal("SIGTERM")
        self._signal("SIGCONT")  # one that was stopped hears nothing before
        if not self._ends_within(GRACE_SECONDS):
            self._signal("SIGKILL")
        end_family(pid, members)
        self._ends_within(GRACE_SECONDS)
        self.process.join(0)
        with contextlib.suppress(ValueError):  # it lives: it waits for a device, and no signal reaches it
            self.process.close()
        if self._death is not None:
            os.close(self._death)
        self._stacks.close()

    def _failure(self, status: str, error: str, running: bool = False) -> Result:
        """`running`: it lives, so that it can be asked where it is."""
        if running:
            self._ask_for_stacks()
        row = self.trial.row()
        return Result(**row, status=status, error=error, started_at=self.started_at, trace=self._trace())

    def _ask_for_stacks(self) -> None:
        if ASK_FOR_STACK is None or not self._size():  # it hasn't come so far: the signal would kill it
            return
        pid = self.process.pid
        for member in [pid, *family(pid)]:
            if member == pid or catches(member, ASK_FOR_STACK):
                os.write(self._stacks.fileno(), f"\n{HEADINGS[1]}process {member}:\n".encode())
                before = size = self._size()
                with contextlib.suppress(OSError):
                    os.kill(member, ASK_FOR_STACK)
                    os.kill(member, signal.SIGCONT)  # one that was stopped answers first, and then goes on
                deadline, quiet = time.monotonic() + STACK_SECONDS, 0
                while quiet < 5 and time.monotonic() < deadline:  # until something is written and nothing more comes
                    time.sleep(0.05)
                    last, size = size, self._size()
                    quiet = quiet + 1 if size == last > before else 0  # it may wait for a core amid its lines

    def _size(self) -> int:
        return os.fstat(self._stacks.fileno()).st_size

    def _trace(self) -> str | None:
        """What the file of stacks holds, if that is more than the lines in which each process names itself."""
        self._stacks.seek(0)
        lines = self._stacks.read().decode(errors="replace").splitlines()
        kept = [line for line in lines if not line.startswith("Extension modules: ")]
        return "\n".join(kept) + "\n" if any(line and not line.startswith(HEADINGS) for line in kept) else None

    def _ends_within(self, seconds: float) -> bool:
        """Whether it ends in that time. multiprocessing alone would say so, too, when its fork server was killed."""
        if self._death is not None:
            return bool(wait([self._death], seconds))
        self.process.join(seconds)
        return self.process.exitcode is not None

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and not self._ends_within(0):
            with contextlib.suppress(OSError):
                os.kill(self.process.pid, getattr(signal, name))
