"""An arm's process as its driver sees it: orders go in, answers come out, and its death is told in one line."""

import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from bench.gate.journal import Arm, Failure

WORKER = Path(__file__).with_name("worker.py")
MOST_PADDING = 4096  # bytes of environment, which move the stack: a layout is luck, so each launch draws its own


class WorkerError(Exception):
    """A worker that can't go on; what it says is for a person."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class ArmProcess:
    """A process of one arm, and the lines that pass between."""

    def __init__(self, arm: Arm, tree: Path, threads: int, answer_seconds: float, dice: random.Random) -> None:
        self.arm, self.limit = arm, answer_seconds
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._last_words, text=True, encoding="utf-8",
            cwd=tree, env=_environment(threads, dice), start_new_session=True,
        )  # fmt: skip
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert self._process.stdout
        threading.Thread(target=_pass_on, args=(self._process.stdout, self._answers), daemon=True).start()

    def send(self, do: str, **order: Any) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it has died; the answer will say so
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()

    def answer(self, cell: str | None = None) -> dict[str, Any]:
        """What it has to say.

        Raises:
            WorkerError: it died, hangs, or says that it can't.
        """
        try:
            line = self._answers.get(timeout=self.limit)
        except queue.Empty:
            raise WorkerError(
                Failure("timeout", self.arm, cell, f"{self.arm}'s worker gave no answer within {self.limit:g} s")
            ) from None
        if not line:
            raise WorkerError(Failure("crash", self.arm, cell, f"{self.arm}'s worker {self._death()}"))
        answer: dict[str, Any] = json.loads(line)
        if "crashed" in answer:
            raise WorkerError(Failure("crash", self.arm, cell, f"{self.arm}'s worker: {answer['crashed']}"))
        if "missing" in answer:
            raise WorkerError(Failure("missing", self.arm, cell, f"{self.arm}: {answer['missing']}"))
        return answer

    def ask(self, do: str, cell: str | None = None, **order: Any) -> dict[str, Any]:
        self.send(do, **order)
        return self.answer(cell)

    def close(self) -> None:
        """End it now; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # an order that a dead worker never took
                if stream:
                    stream.close()
        self._last_words.close()

    def _death(self) -> str:
        status = self._process.wait()
        self._last_words.seek(0, os.SEEK_END)
        self._last_words.seek(max(0, self._last_words.tell() - 2000))
        words = self._last_words.read().decode(errors="replace").strip().splitlines()
        how = f"died of signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{how}{': ' + words[-1].strip()[:300] if words else ''}"


def _environment(threads: int, dice: random.Random) -> dict[str, str]:
    """The user's own variables, a hash seed and a padding by chance, and threads that don't spin when idle."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return variables | {
        "PYTHONHASHSEED": str(dice.randrange(2**32)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "VIT_CNN_BENCH_PADDING": "x" * dice.randrange(MOST_PADDING),
    }


def _pass_on(stream: IO[str], answers: "queue.SimpleQueue[str]") -> None:
    """Read lines until the worker's end, which is an empty one."""
    with suppress(ValueError):  # closed by `close`
        for line in stream:
            answers.put(line)
    answers.put("")
