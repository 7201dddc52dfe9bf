"""A process that times slices, as its driver sees it: started afresh, told what to do, ended.

Orders go to it as JSON, a line each, and answers come back likewise (worker.py is what runs there).
"""

import json
import os
import queue
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

WORKER = Path(__file__).with_name("worker.py")
PROTOCOL = 1  # of orders and answers, and of what a source tree has to have; bench/speed/cells.py says it likewise
ANSWER_SECONDS = 120.0  # a worker that says nothing for so long hangs
MOST_PADDING = 4096  # bytes of environment, which move the stack: a layout is luck, so each launch draws its own


class WorkerError(Exception):
    """A worker that can't go on.

    Attributes:
        kind: "missing" (it doesn't have what was asked for, and could go on with something else), "crash", "timeout".
        who: the worker's name.
        cell: what it was asked to do, if that was one of its cells.
        reason: for a person, in one line.
    """

    def __init__(self, kind: Literal["missing", "crash", "timeout"], who: str, cell: str | None, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.who, self.cell, self.reason = kind, who, cell, reason


class SliceWorker:
    """A process, and the lines that pass between.

    Args:
        name: what messages call it.
        tree: folder of the source that it measures.
        variables: what is set for it beside the user's own environment.
        folder: that it starts in; None: the tree.
    """

    def __init__(
        self,
        name: str,
        tree: Path,
        dice: random.Random,
        variables: Mapping[str, str],
        answer_seconds: float = ANSWER_SECONDS,
        folder: Path | None = None,
    ) -> None:
        self.name, self.limit = name, answer_seconds
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(tree)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._last_words, text=True, encoding="utf-8",
            cwd=folder or tree, env=_environment(variables, dice), start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._orders, self._told = self._process.stdin, self._process.stdout
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Pass on lines until the worker's end, which is an empty one."""
        with suppress(ValueError):  # closed by `close`
            for line in self._told:
                self._answers.put(line)
        self._answers.put("")

    def send(self, do: str, **order: Any) -> None:
        with suppress(OSError):  # it has died; the answer will say so
            self._orders.write(json.dumps({"do": do, **order}) + "\n")
            self._orders.flush()

    def answer(self, cell: str | None = None) -> dict[str, Any]:
        """What it has to say. Raises: WorkerError: it died, hangs, or says that it can't."""
        worker = f"{self.name}'s worker"
        try:
            line = self._answers.get(timeout=self.limit)
        except queue.Empty:
            reason = f"{worker} gave no answer within {self.limit:g} s"
            raise WorkerError("timeout", self.name, cell, reason) from None
        if not line:
            raise WorkerError("crash", self.name, cell, f"{worker} {self._death()}")
        answer: dict[str, Any] = json.loads(line)
        if "crashed" in answer:
            raise WorkerError("crash", self.name, cell, f"{worker}: {answer['crashed']}")
        if "missing" in answer:
            raise WorkerError("missing", self.name, cell, f"{self.name}: {answer['missing']}")
        return answer

    def ask(self, do: str, cell: str | None = None, **order: Any) -> dict[str, Any]:
        self.send(do, **order)
        return self.answer(cell)

    def close(self) -> None:
        """End it now; it has nothing to lose."""
        self._process.kill()
        self._process.wait()
        for stream in (self._orders, self._told, self._last_words):
            with suppress(OSError):  # an order that a dead worker never took
                stream.close()

    def _death(self) -> str:
        status = self._process.wait()
        self._last_words.seek(0, os.SEEK_END)
        self._last_words.seek(max(0, self._last_words.tell() - 2000))
        words = self._last_words.read().decode(errors="replace").strip().splitlines()
        how = f"died of signal {-status}" if status < 0 else f"exited with status {status}"
        return f"{how}{': ' + words[-1].strip()[:300] if words else ''}"


def _environment(variables: Mapping[str, str], dice: random.Random) -> dict[str, str]:
    """The user's own variables, and by chance a hash seed and a padding."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return own | {
        "PYTHONHASHSEED": str(dice.randrange(2**32)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "VIT_CNN_BENCH_PADDING": "x" * dice.randrange(MOST_PADDING),
        **variables,
    }
